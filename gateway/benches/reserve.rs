//! Reserve and commit, as a Rust service calls them, with the ledger in the process and in Redis: how long each takes at
//! 1, 32 and 256 callers, and how many there are in a second. Everything else is as in earnest: a log, the gateway that
//! follows it and tells it what was committed; only a commit's wait for the log is left out.
//!
//! `CALLS` sets how many reservations each line makes (50,000 unless it does).

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use bus::Bus;
use bus::clock::{SharedClock, Stopwatch, SystemClock};
use gateway::{Config, Deps, Handle, Service};
use prometheus_client::registry::Registry;
use schemas::policy::{Mode, Stale};
use schemas::record::{Amount, LimitRecord, PolicyRecord, PolicyVersion};
use schemas::subject::Dimension;
use schemas::time::Timestamp;
use schemas::topic;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use gateway::request::{Ask, Consume};

const CALLERS: [usize; 3] = [1, 32, 256];
const TTL: Duration = Duration::from_secs(60);

/// With its address.
struct Redis(Child, String);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn redis() -> Redis {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let mut server = Command::new("redis-server");
    server.args(["--bind", "127.0.0.1", "--save", "", "--port"]);
    server.arg(port.to_string()).stdout(Stdio::null());
    let child = server.spawn().expect("redis-server is installed");
    Redis(child, format!("redis://127.0.0.1:{port}/"))
}

fn policy() -> PolicyRecord {
    PolicyRecord::Policy(PolicyVersion {
        version: 1,
        at: Timestamp::from_seconds(0),
        author: "bench".to_owned(),
        reason: String::new(),
        source: String::new(),
        limits: vec![LimitRecord {
            name: "tokens".to_owned(),
            subject: "tenant/*".to_owned(),
            meter: "tokens".parse().expect("a meter"),
            window: "sliding 60s".parse().expect("a window"),
            soft: Vec::new(),
            keep: None,
            hard: Amount(1 << 50),
            mode: Mode::Strict,
            stale: Stale::LastKnown,
            tier: None,
            status: None,
            headers: true,
        }],
        tenants: Default::default(),
        overrides: Vec::new(),
        default_tier: None,
        default_zone: None,
        weights: Vec::new(),
        sets: Vec::new(),
    })
}

fn tokens(tokens: u64) -> Consume {
    Consume {
        tokens: Some(tokens),
        ..Consume::ONE_REQUEST
    }
}

/// Each reservation of a tenant of its own among a thousand, with how long both calls took.
async fn caller(handle: Handle, calls: usize, seed: usize) -> Vec<[Duration; 2]> {
    let mut took = Vec::with_capacity(calls);
    for n in 0..calls {
        let tenant = format!("tenant-{}", (seed * 7_919 + n * 31) % 1_000);
        let ask = Ask::default()
            .with(Dimension::Tenant, tenant)
            .using(tokens(500));
        let since = Stopwatch::start();
        let held = handle.reserve(ask, TTL).await.expect("there is room");
        let reserved = since.elapsed();
        let since = Stopwatch::start();
        let _ = handle.commit(&held.reservation, &tokens(300)).await;
        took.push([reserved, since.elapsed()]);
    }
    took
}

#[expect(clippy::print_stdout, reason = "a bench's figures")]
async fn measure(name: &str, handle: &Handle) {
    let calls = std::env::var("CALLS").map_or(50_000, |calls| calls.parse().expect("a number"));
    for callers in CALLERS {
        let since = Stopwatch::start();
        let mut running = JoinSet::new();
        for seed in 0..callers {
            running.spawn(caller(handle.clone(), calls / callers, seed));
        }
        let took: Vec<[Duration; 2]> = running.join_all().await.into_iter().flatten().collect();
        let per_second = took.len() as f64 / since.elapsed().as_secs_f64();
        let micros = |which: usize, share: usize| {
            let mut all: Vec<Duration> = took.iter().map(|both| both[which]).collect();
            all.sort_unstable();
            all[(all.len() - 1) * share / 100].as_secs_f64() * 1e6
        };
        println!(
            "{name:8} {callers:4} callers: {per_second:9.0} reserved and committed/s; reserve p50 {:8.1} µs, p99 {:8.1} µs; \
             commit p50 {:8.1} µs, p99 {:8.1} µs",
            micros(0, 50),
            micros(0, 99),
            micros(1, 50),
            micros(1, 99),
        );
    }
}

async fn with_gateway(name: &str, bus: &Bus, ledger_url: Option<String>) {
    let clock: SharedClock = Arc::new(SystemClock);
    let deps = Deps {
        bus: bus.clone(),
        clock,
        keys: Arc::default(),
    };
    let config = Config {
        ledger_url,
        reports_queued_max: 1 << 20,
        ..Config::default()
    };
    let mut registry = Registry::default();
    let service = Service::build(config, deps, &mut registry).await;
    let service = service.expect("a configuration that is right");
    let (handle, ready) = (service.handle(), service.readiness());
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(service.run(stop.clone()));
    let ask = || Ask::default().with(Dimension::Tenant, "first");
    while !ready() || handle.reserve(ask().using(tokens(1)), TTL).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    measure(name, &handle).await;
    stop.cancel();
    let _ = running.join_next().await;
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = broker::Config::new(folder.path());
    config.listen = "127.0.0.1:0".parse().expect("an address");
    let broker = Broker::open(config).await.expect("a log");
    let config = bus::Config {
        bootstrap: broker.address().to_string(),
        ..bus::Config::default()
    };
    let stop = CancellationToken::new();
    let mut log = JoinSet::new();
    log.spawn(broker.run(stop.clone().cancelled_owned()));
    let clock: SharedClock = Arc::new(SystemClock);
    let bus = Bus::connect(config, clock).await.expect("the log answers");
    let sent = bus
        .producer()
        .send(&topic::POLICIES, PolicyVersion::KEY, &policy())
        .await;
    sent.expect("the policy is in the log");
    with_gateway("process", &bus, None).await;
    let server = redis();
    with_gateway("redis", &bus, Some(server.1.clone())).await;
    drop(bus);
    stop.cancel();
    let _ = log.join_next().await;
}
