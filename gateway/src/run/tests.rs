//! The gateway on a log of its own.

mod shares;
mod strict;

use std::net::SocketAddr;
use std::path::Path;

use broker::Broker;
use bus::clock::{Clock, SystemClock};
use schemas::policy::{Mode, Stale};
use schemas::record::{
    Amount, LimitRecord, PolicyRecord, PolicyVersion, Recorded, Refusal, Usage, Verdict,
};
use schemas::subject::{Dimension, Subject};
use tokio::task::JoinSet;

use super::*;
use crate::reply::Reply;
use crate::request::Ask;

struct Log {
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Log {
    async fn start(folder: &Path, listen: SocketAddr) -> Self {
        let mut config = broker::Config::new(folder);
        config.listen = listen;
        let broker = Broker::open(config).await.unwrap();
        let address = broker.address();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let mut running = JoinSet::new();
        running.spawn(async { broker.run(stopped).await.unwrap() });
        Self {
            address,
            stop,
            running,
        }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.running.join_next().await.unwrap().unwrap();
    }
}

struct Scene {
    log: Option<Log>,
    bus: Bus,
    handle: Handle,
    ready: Box<dyn Fn() -> bool>,
    stop: CancellationToken,
    running: JoinSet<Result<(), RunError>>,
    folder: tempfile::TempDir,
}

async fn gateway(bus: &Bus) -> Service {
    let deps = Deps {
        bus: bus.clone(),
        clock: Arc::new(SystemClock),
        keys: Arc::default(),
    };
    let config = Config {
        name: "g1".to_owned(),
        stale_after_seconds: 0,
        ..Config::default()
    };
    let mut registry = Registry::default();
    let built = Service::build(config, deps, &mut registry);
    built.await.unwrap()
}

impl Scene {
    /// A gateway of which nothing runs yet, on an empty log.
    async fn new() -> (Self, Service) {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::start(folder.path(), "127.0.0.1:0".parse().unwrap()).await;
        let config = bus::Config {
            bootstrap: log.address.to_string(),
            partitions: 3,
            lost_after: Duration::from_secs(1),
            ..bus::Config::default()
        };
        let clock: SharedClock = Arc::new(SystemClock);
        let bus = Bus::connect(config, Arc::clone(&clock)).await.unwrap();
        let service = gateway(&bus).await;
        let scene = Self {
            log: Some(log),
            bus,
            handle: service.handle(),
            ready: Box::new(service.readiness()),
            stop: CancellationToken::new(),
            running: JoinSet::new(),
            folder,
        };
        (scene, service)
    }

    async fn run(&mut self, service: Service) {
        assert!(!(self.ready)());
        self.running.spawn(service.run(self.stop.clone()));
        eventually(|| (self.ready)()).await;
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.running.join_next().await.unwrap().unwrap().unwrap();
        drop((self.handle, self.bus));
        if let Some(log) = self.log {
            log.stop().await;
        }
    }

    async fn put_policy(&self, version: i64, hard: i128) {
        self.put_policy_in(Mode::Block, version, hard).await;
    }

    async fn put_policy_in(&self, mode: Mode, version: i64, hard: i128) {
        let policy = PolicyVersion {
            version,
            at: SystemClock.now(),
            author: "test".to_owned(),
            reason: String::new(),
            source: String::new(),
            limits: vec![LimitRecord {
                name: "rate".to_owned(),
                subject: "tenant/*".to_owned(),
                meter: "requests".parse().unwrap(),
                window: "sliding 60s".parse().unwrap(),
                soft: Vec::new(),
                hard: Amount(hard),
                keep: None,
                mode,
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
        };
        let record = PolicyRecord::Policy(policy);
        let sent = self
            .bus
            .producer()
            .send(&topic::POLICIES, PolicyVersion::KEY, &record)
            .await;
        sent.unwrap();
    }

    async fn put_decision(&self, subject: &str, seq: i64) {
        let now = SystemClock.now();
        let decision = Decision {
            id: format!("d{seq}"),
            subject: Subject::parse(subject).unwrap(),
            verdict: Verdict::Block,
            causes: Vec::new(),
            status: Some(403),
            until: Some(now.plus(Duration::from_secs(600))),
            terminal: false,
            seq,
            issued_at: now,
            ttl_seconds: 600,
        };
        let sent = self
            .bus
            .producer()
            .send(&topic::DECISIONS, subject, &decision)
            .await;
        sent.unwrap();
    }

    fn ask(&self, tenant: &str) -> Arc<Reply> {
        self.handle
            .decide(Ask::default().with(Dimension::Tenant, tenant))
    }

    /// What a topic holds from its start on, once there are `count`.
    async fn logged<V: schemas::codec::Wire>(
        &self,
        topic: &topic::Topic<V>,
        count: usize,
    ) -> Vec<(String, V)> {
        let mut follower = self.bus.follow(topic).unwrap();
        let mut values = Vec::new();
        while values.len() < count {
            if let Followed::Put { key, value, .. } = follower.next().await.unwrap() {
                values.push((key, value));
            }
        }
        values
    }
}

async fn eventually(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not so within 20 s");
}

fn events(records: Vec<(String, schemas::record::UsageRecord)>) -> Vec<(String, Usage)> {
    let events = records.into_iter().map(|(key, record)| match record {
        Recorded::Event(usage) => (key, usage),
        Recorded::Marker(marker) => panic!("{marker:?}"),
    });
    events.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn obeys_what_stands_before_it_is_ready_and_what_comes_after() {
    let (mut scene, service) = Scene::new().await;
    scene.put_policy(1, 2).await;
    scene.put_decision("tenant/acme", 1).await;
    scene.run(service).await;
    let reply = scene.ask("acme");
    assert_eq!((reply.status, reply.decision.as_deref()), (403, Some("d1")));
    assert_eq!(reply.stale_s, None);
    // Decisions come and go.
    scene.put_decision("source/192.0.2.7", 7).await;
    let source = || {
        let ask = Ask::default().with(Dimension::Source, "192.0.2.7");
        scene.handle.decide(ask).is_refused()
    };
    eventually(source).await;
    let lifted = scene
        .bus
        .producer()
        .lift(&topic::DECISIONS, "tenant/acme")
        .await;
    lifted.unwrap();
    eventually(|| !scene.ask("acme").is_refused()).await;
    // So do policies; one that cannot be used leaves the one before.
    scene.put_policy(2, 1).await;
    scene.put_policy(0, 5).await;
    eventually(|| {
        scene.ask("fresh");
        scene
            .ask("fresh")
            .limits
            .iter()
            .any(|left| left.limit.max == 1)
    })
    .await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_what_it_judged() {
    let (mut scene, service) = Scene::new().await;
    scene.put_policy(1, 2).await;
    scene.run(service).await;
    let ask = |id: &str| {
        let mut ask = Ask::default()
            .with(Dimension::Tenant, "acme")
            .with(Dimension::Route, "GET /");
        ask.request_id = Some(id.to_owned());
        scene.handle.decide(ask)
    };
    let verdicts = ["r1", "r1", "r2", "r3"].map(|id| ask(id).is_refused());
    assert_eq!(verdicts, [false, false, false, true]);
    let usage = events(scene.logged(&topic::USAGE, 2).await);
    let told: Vec<_> = usage
        .iter()
        .map(|(key, u)| (key.as_str(), u.event_id.as_str()))
        .collect();
    assert_eq!(told, [("acme", "r1"), ("acme", "r2")]);
    let usage = &usage[0].1;
    assert_eq!(usage.event_source, "weir-gateway/g1");
    assert_eq!((usage.requests, usage.route.as_deref()), (1, Some("GET /")));
    let refusals: Vec<(String, Refusal)> = scene.logged(&topic::REFUSALS, 1).await;
    let (key, refusal) = &refusals[0];
    assert_eq!((key.as_str(), refusal.request_id.as_str()), ("acme", "r3"));
    assert_eq!(
        (refusal.status, refusal.limits.as_slice()),
        (429, ["rate".to_owned()].as_slice())
    );
    assert_eq!((refusal.gateway.as_str(), &refusal.decision), ("g1", &None));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_without_the_log_and_reports_when_it_is_back() {
    let (mut scene, service) = Scene::new().await;
    scene.put_policy(1, 1_000).await;
    scene.put_decision("tenant/blocked", 1).await;
    scene.run(service).await;
    let log = scene.log.take().unwrap();
    let address = log.address;
    log.stop().await;
    eventually(|| scene.ask("acme").stale_s.is_some()).await;
    // As last known.
    assert_eq!(scene.ask("blocked").status, 403);
    let admitted = 1_000 - scene.ask("acme").limits[0].limit.remaining;
    scene.log = Some(Log::start(scene.folder.path(), address).await);
    let usage = events(
        scene
            .logged(&topic::USAGE, usize::try_from(admitted).unwrap())
            .await,
    );
    assert!(usage.iter().all(|(_, usage)| usage.tenant == "acme"));
    eventually(|| scene.ask("other").stale_s.is_none()).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_only_after_its_reports_are_told() {
    let (mut scene, service) = Scene::new().await;
    scene.run(service).await;
    for n in 0..500 {
        scene.ask(&format!("t{n}"));
    }
    scene.stop.cancel();
    scene.running.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(scene.logged(&topic::USAGE, 500).await.len(), 500);
    scene.running.spawn(async { Ok(()) });
    scene.end().await;
}
