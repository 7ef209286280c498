//! What four gateways in four processes admit of 100 requests in 60 s when ten times as many come: a table, with a
//! two-cell sliding window beside it.
//!
//! Unless they are set, `SHARE_SECONDS` (2) says for how long requests come, a thousand of them in the first 60 s or in
//! all, and `SHARE_STOPPED_SECONDS` (6) for how long Redis and Kafka are away.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::Method;
use bus::clock::{Clock, Stopwatch, SystemClock};
use futures_util::{StreamExt, stream};
use serde_json::json;
use tests::client::{Client, send};
use tests::eventually;
use tests::kafka::Kafka;
use tests::redis::Redis;
use tests::setting;
use tests::wall_clock::WallClock;
use tests::weir::{Options, Weir};

const LIMIT: usize = 100;
/// What mode `block` may admit: a twentieth over, the goal.
const BLOCK_MAX: usize = LIMIT + LIMIT / 20;
const SPAN: Duration = Duration::from_secs(60);
/// Ten times the limit.
const BURST: usize = 1_000;
/// Of the one clock that is wrong.
const AHEAD: Duration = Duration::from_secs(5);
const CALLERS: usize = 64;
const SOON: Duration = Duration::from_secs(60);
const GATEWAYS: usize = 4;
const MODES: [&str; 2] = ["block", "strict"];

fn policy() -> String {
    let limits = MODES.map(|mode| {
        format!(
            "[[limit]]\nname = \"{mode}\"\nsubject = \"tenant/*/user/{mode}\"\nmeter = \"requests\"\n\
             window = \"sliding 60s\"\nhard = {LIMIT}\nmode = \"{mode}\"\n"
        )
    });
    limits.concat()
}

/// Four gateways that know one another.
struct Gateways {
    processes: Vec<Weir>,
    clients: Vec<Client>,
}

impl Gateways {
    /// One of them with all other services. The last one's clock is `clock`.
    async fn start(kafka: &Kafka, redis: &Redis, clock: Option<&WallClock>) -> Self {
        let config = redis.ledger();
        let options = Options::up(&policy())
            .with_config(&config)
            .on(Some(kafka.bootstrap()));
        let mut processes = vec![Weir::start(options.clone()).await];
        for n in 1..GATEWAYS {
            let clock = clock.filter(|_| n + 1 == GATEWAYS);
            let options = Options {
                command: "gateway",
                environment: clock.map(WallClock::environment).unwrap_or_default(),
                ..options.clone()
            };
            processes.push(Weir::start(options).await);
        }
        let first = &processes[0];
        let others = processes[1..].iter().map(|other| first.client_at(other));
        let clients: Vec<Client> = [first.client()].into_iter().chain(others).collect();
        let gateways = Self { processes, clients };
        gateways.settled().await;
        gateways
    }

    /// Waits until each reckons with all, and the ledger answers.
    async fn settled(&self) {
        for client in &self.clients {
            eventually("all gateways know one another", SOON, async || {
                let metrics = client.metrics().await;
                match metrics.sum("weir_gateway_share_members", &[]) {
                    members if members == GATEWAYS as f64 => Ok(()),
                    members => Err(format!("{members} of {GATEWAYS}")),
                }
            })
            .await;
            self.answers(client).await;
        }
    }

    async fn answers(&self, client: &Client) {
        eventually("the ledger", SOON, async || {
            let body = json!({ "tenant": "nobody", "user": "strict", "consume": {} });
            let looked = client.check(&body).await;
            match &looked["status"] {
                status if *status == 503 => Err(looked.to_string()),
                _ => Ok(()),
            }
        })
        .await;
    }
}

/// When requests come, and to which gateways in turn.
#[derive(Clone, Copy)]
struct Traffic<'a> {
    tenant: &'a str,
    at: &'a [usize],
    seconds: u64,
}

impl Traffic<'_> {
    /// When each request comes.
    fn times(&self) -> Vec<Duration> {
        let seconds = Duration::from_secs(self.seconds);
        let gap = seconds.min(SPAN) / BURST as u32;
        let times = (0..).map(|n| gap * n);
        times.take_while(|at| *at < seconds).collect()
    }
}

/// Sends `traffic`, and says when which were admitted.
async fn drive(clients: &[Client], mode: &str, traffic: Traffic<'_>) -> Vec<Duration> {
    let since = Stopwatch::start();
    let asked = traffic.times().into_iter().enumerate().map(|(n, at)| {
        let since = &since;
        async move {
            tokio::time::sleep(at.saturating_sub(since.elapsed())).await;
            let client = &clients[traffic.at[n % traffic.at.len()]];
            let body = json!({ "tenant": traffic.tenant, "user": mode });
            let request = client.data(Method::POST, "/v1/check").json(&body);
            // A gateway that was killed admits nothing.
            let answer = send(request).await.ok()?;
            let admitted = answer.status == 200 && answer.json()["verdict"] == "allow";
            admitted.then(|| since.elapsed())
        }
    });
    let answers: Vec<Option<Duration>> = stream::iter(asked)
        .buffer_unordered(CALLERS)
        .collect()
        .await;
    let mut admitted: Vec<Duration> = answers.into_iter().flatten().collect();
    admitted.sort();
    admitted
}

/// The most of `times` that lie within one span of the window's length.
fn busiest(times: impl IntoIterator<Item = Duration>) -> usize {
    let mut window = VecDeque::new();
    let mut most = 0;
    for at in times {
        window.push_back(at);
        while window.front().is_some_and(|first| *first + SPAN <= at) {
            window.pop_front();
        }
        most = most.max(window.len());
    }
    most
}

/// What the well-known estimate admits of these requests: this cell's count, and of the last cell's as much as still lies in
/// the window if it came evenly. One counter for all gateways, and the worst that cells can begin.
fn two_cells(times: &[Duration]) -> usize {
    let cell = SPAN.as_micros();
    let admitted = |begin: u128| {
        let (mut counts, mut current) = ([0_f64; 2], 0);
        times.iter().copied().filter(move |at| {
            let at = at.as_micros() + begin;
            let number = at / cell;
            if current < number {
                let last = if number == current + 1 {
                    counts[1]
                } else {
                    0.0
                };
                (counts, current) = ([last, 0.0], number);
            }
            let left = 1.0 - (at % cell) as f64 / cell as f64;
            let admits = counts[0] * left + counts[1] < LIMIT as f64;
            counts[1] += f64::from(u8::from(admits));
            admits
        })
    };
    let begins = (0..SPAN.as_secs()).map(|second| u128::from(second) * 1_000_000);
    begins
        .map(|begin| busiest(admitted(begin)))
        .max()
        .unwrap_or(0)
}

/// One row: its name, what was admitted by mode, and what two cells would have.
struct Row(&'static str, [Option<usize>; 2], usize);

/// Both modes at the same time.
async fn both(clients: &[Client], name: &'static str, traffic: Traffic<'_>, least: usize) -> Row {
    let (block, strict) = tokio::join!(
        drive(clients, MODES[0], traffic),
        drive(clients, MODES[1], traffic)
    );
    let (block, strict) = (busiest(block), busiest(strict));
    assert!(
        (least..=BLOCK_MAX).contains(&block),
        "{name}: {block} in block"
    );
    assert!(strict <= LIMIT, "{name}: {strict} in strict");
    Row(
        name,
        [Some(block), Some(strict)],
        two_cells(&traffic.times()),
    )
}

/// For how long requests come, and servers are away.
#[derive(Clone, Copy)]
struct Settings {
    seconds: u64,
    stopped: Duration,
}

impl Settings {
    /// Requests that come before a server goes away, while it is away, and after.
    fn around(self, tenant: &str) -> Traffic<'_> {
        Traffic {
            tenant,
            at: &ALL,
            seconds: self.stopped.as_secs() + self.seconds.max(6),
        }
    }
}

const ALL: [usize; GATEWAYS] = [0, 1, 2, 3];
/// After this a server is stopped: in the middle of what is admitted.
const BEGUN: Duration = Duration::from_millis(200);

async fn redis_away(gateways: &Gateways, redis: &mut Redis, settings: Settings) -> Row {
    let (clients, traffic) = (&gateways.clients, settings.around("redis"));
    let (strict, ()) = tokio::join!(drive(clients, MODES[1], traffic), async {
        tokio::time::sleep(BEGUN).await;
        redis.kill9();
        tokio::time::sleep(settings.stopped).await;
        redis.start_again().await;
    });
    for client in clients {
        gateways.answers(client).await;
    }
    let strict = busiest(strict);
    assert!(strict <= LIMIT, "{strict} around a Redis that was away");
    Row(
        "Redis away",
        [None, Some(strict)],
        two_cells(&traffic.times()),
    )
}

async fn kafka_away(gateways: &Gateways, kafka: &mut Kafka, settings: Settings) -> Row {
    let traffic = settings.around("kafka");
    let (row, ()) = tokio::join!(both(&gateways.clients, "Kafka away", traffic, 0), async {
        tokio::time::sleep(BEGUN).await;
        kafka.kill9().await;
        tokio::time::sleep(settings.stopped).await;
        kafka.restart().await;
    });
    row
}

/// It has borrowed of all others by then; they go on with what is left.
async fn one_killed(gateways: &mut Gateways, settings: Settings) -> Row {
    let before = Traffic {
        tenant: "killed",
        at: &[2],
        seconds: settings.seconds.min(2),
    };
    let after = Traffic {
        at: &[0, 1, 3],
        seconds: settings.seconds,
        ..before
    };
    let clients = &gateways.clients;
    let since = Stopwatch::start();
    let (mut block, mut strict) = tokio::join!(
        drive(clients, MODES[0], before),
        drive(clients, MODES[1], before)
    );
    gateways.processes[2].kill9();
    let then = since.elapsed();
    let later = tokio::join!(
        drive(clients, MODES[0], after),
        drive(clients, MODES[1], after)
    );
    block.extend(later.0.iter().map(|at| *at + then));
    strict.extend(later.1.iter().map(|at| *at + then));
    let mut times = before.times();
    times.extend(after.times().iter().map(|at| *at + then));
    let (block, strict) = (busiest(block), busiest(strict));
    assert!(block <= BLOCK_MAX, "{block} around a kill in block");
    assert!(strict <= LIMIT, "{strict} around a kill in strict");
    Row("one killed", [Some(block), Some(strict)], two_cells(&times))
}

#[tokio::test]
async fn four_gateways_share_a_limit() {
    let settings = Settings {
        seconds: setting("SHARE_SECONDS", 2_u64),
        stopped: Duration::from_secs(setting("SHARE_STOPPED_SECONDS", 6_u64)),
    };
    let traffic = |tenant, at| Traffic {
        tenant,
        at,
        seconds: settings.seconds,
    };
    let (mut kafka, mut redis) = (Kafka::start().await, Redis::start_installed().await);
    let mut gateways = Gateways::start(&kafka, &redis, None).await;
    let clients = &gateways.clients;
    let mut rows = vec![
        both(clients, "evenly", traffic("evenly", &ALL), LIMIT - 5).await,
        both(clients, "all on one", traffic("on-one", &[2]), LIMIT - 10).await,
        redis_away(&gateways, &mut redis, settings).await,
        kafka_away(&gateways, &mut kafka, settings).await,
    ];
    rows.push(one_killed(&mut gateways, settings).await);
    drop((gateways, kafka, redis));

    let (kafka, redis) = (Kafka::start().await, Redis::start_installed().await);
    let clock = WallClock::running_from(SystemClock.now().plus(AHEAD));
    let gateways = Gateways::start(&kafka, &redis, Some(&clock)).await;
    for (name, tenant, at) in [
        ("a clock 5 s ahead, evenly", "clock", &ALL[..]),
        ("a clock 5 s ahead, all on it", "on-clock", &ALL[3..]),
    ] {
        let (clients, traffic) = (&gateways.clients, traffic(tenant, at));
        rows.push(both(clients, name, traffic, LIMIT - 10).await);
    }
    print(&rows, settings);
}

#[expect(clippy::print_stderr, reason = "a test's figures")]
fn print(rows: &[Row], Settings { seconds, stopped }: Settings) {
    eprintln!(
        "admitted of {LIMIT} in the worst 60 s, {GATEWAYS} gateways, {BURST} requests in {} s, for {seconds} s; away for {stopped:?}",
        seconds.min(SPAN.as_secs())
    );
    eprintln!("| requests | block | strict | two cells |\n| --- | --- | --- | --- |");
    for Row(name, admitted, two_cells) in rows {
        let [block, strict] = admitted.map(|n| n.map_or("-".to_owned(), |n| n.to_string()));
        eprintln!("| {name} | {block} | {strict} | {two_cells} |");
    }
}
