//! A log, a store, a folder of snapshots, and an aggregator on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aggregator::{Config, Deps, RunError, Service};
use axum::body::{Body, to_bytes};
use axum::{Extension, Router};
use broker::Broker;
use bus::Bus;
use bus::clock::{SharedClock, SystemClock};
use http::Request;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use schemas::access::Caller;
use schemas::codec::Wire;
use schemas::policy::{Mode, Stale};
use schemas::record::{
    Amount, Auth, LimitRecord, Marker, Outcome, PolicyRecord, PolicyVersion, Recorded, Role, Usage,
};
use schemas::time::Timestamp;
use schemas::topic::{self, Topic};
use serde_json::Value;
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long anything may take before a test gives up.
const WITHIN: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 2;

pub(crate) fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

pub(crate) fn now() -> Timestamp {
    clock().now()
}

pub(crate) struct Home {
    pub(crate) bus: Bus,
    store: AnyPool,
    folder: TempDir,
    _stop: oneshot::Sender<()>,
    _log: JoinSet<Result<(), broker::RunError>>,
}

impl Home {
    /// An empty log and store, and a policy marked in every partition: `name subject meter hard : window`, one a line.
    pub(crate) async fn new(limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Broker::open(broker::Config::new(folder.path().join("log")))
            .await
            .unwrap();
        let config = bus::Config {
            bootstrap: log.address().to_string(),
            partitions: PARTITIONS,
            ..bus::Config::default()
        };
        let (stop, stopped) = oneshot::channel();
        let mut running = JoinSet::new();
        running.spawn(log.run(async {
            // A test that ends drops the sender, which stops the log.
            let _ = stopped.await;
        }));
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}/rows.db?mode=rwc", folder.path().display());
        let home = Self {
            bus: Bus::connect(config, clock()).await.unwrap(),
            store: AnyPoolOptions::new().connect(&url).await.unwrap(),
            folder,
            _stop: stop,
            _log: running,
        };
        home.publish(limits).await;
        home
    }

    async fn publish(&self, limits: &str) {
        let version = PolicyVersion {
            version: 1,
            at: now(),
            author: "test".to_owned(),
            reason: String::new(),
            source: String::new(),
            limits: limits.lines().map(limit).collect(),
            tenants: BTreeMap::new(),
            overrides: Vec::new(),
            default_tier: None,
            default_zone: None,
            weights: Vec::new(),
            sets: Vec::new(),
        };
        let producer = self.bus.producer();
        let record = PolicyRecord::Policy(version.clone());
        producer
            .send(&topic::POLICIES, PolicyVersion::KEY, &record)
            .await
            .unwrap();
        let marker = Marker {
            policy: Some(version),
            tick: None,
            order: None,
        };
        for partition in 0..PARTITIONS {
            self.mark(&topic::USAGE, partition, &marker).await;
            self.mark(&topic::AUTH, partition, &marker).await;
            self.mark(&topic::CSP, partition, &marker).await;
            self.mark(&topic::PARTIALS, partition, &marker).await;
        }
    }

    async fn mark<E>(&self, topic: &Topic<Recorded<E>>, partition: i32, marker: &Marker)
    where
        Recorded<E>: Wire,
    {
        let marker = Recorded::Marker(marker.clone());
        let producer = self.bus.producer();
        producer
            .enqueue_to(topic, partition, "", &marker)
            .unwrap()
            .await
            .unwrap();
    }

    pub(crate) async fn send<V: Wire>(&self, topic: &Topic<V>, key: &str, value: V) {
        self.bus.producer().send(topic, key, &value).await.unwrap();
    }

    /// A running aggregator that is ready, with no patience for late events.
    pub(crate) async fn start(&self) -> Aggregator {
        let config = Config {
            lateness_s: 0,
            flush_interval_ms: 50,
            snapshot_interval_s: 1,
            ..Config::default()
        };
        let deps = Deps {
            bus: self.bus.clone(),
            clock: clock(),
            store: self.store.clone(),
            snapshots: self.folder.path().join("snapshots").into(),
        };
        let mut registry = Registry::default();
        let service = Service::build(config, deps, &mut registry).await.unwrap();
        let (ready, router) = (service.readiness(), service.router());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(service.run(stop.clone()));
        eventually("the aggregator is ready", async || ready().then_some(())).await;
        Aggregator {
            registry,
            router,
            stop,
            running,
        }
    }
}

fn limit(line: &str) -> LimitRecord {
    let (words, window) = line.trim().split_once(" : ").unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    LimitRecord {
        name: words[0].to_owned(),
        subject: words[1].to_owned(),
        meter: words[2].parse().unwrap(),
        window: window.parse().unwrap(),
        soft: Vec::new(),
        hard: Amount(words[3].parse().unwrap()),
        keep: None,
        mode: Mode::Block,
        stale: Stale::LastKnown,
        tier: None,
        status: None,
        headers: true,
    }
}

pub(crate) struct Aggregator {
    registry: Registry,
    router: Router,
    stop: CancellationToken,
    running: JoinSet<Result<(), RunError>>,
}

impl Aggregator {
    pub(crate) async fn ask(&self, path: &str) -> Value {
        let operator = Caller {
            key_id: "op".to_owned(),
            role: Role::Operator,
            tenant: None,
        };
        let request = Request::get(path).body(Body::empty()).unwrap();
        let router = self.router.clone().layer(Extension(operator));
        let response = router.oneshot(request).await.unwrap();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Waits until the answer has this value at this place.
    pub(crate) async fn shows(&self, path: &str, pointer: &str, value: Value) {
        let what = format!("{path} has {value} at {pointer}");
        eventually(&what, async || {
            (self.ask(path).await.pointer(pointer) == Some(&value)).then_some(())
        })
        .await;
    }

    /// A metric's sum over all partitions.
    pub(crate) fn sum(&self, metric: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("{metric}{{")));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Waits until so many events are counted, and so many were there twice; nothing may be anything else.
    pub(crate) async fn counted(&self, counted: u64, duplicate: u64) {
        let sums = || {
            ["accepted", "counted", "late", "duplicate", "dead"]
                .map(|name| self.sum(&format!("weir_aggregator_events_{name}_total")))
        };
        let expected = [counted + duplicate, counted, 0, duplicate, 0];
        let what = format!("{expected:?} are accepted, counted, late, duplicate, dead");
        eventually(&what, async || {
            assert!(
                sums().iter().zip(expected).all(|(sum, most)| *sum <= most),
                "{:?}",
                sums()
            );
            (sums() == expected).then_some(())
        })
        .await;
    }

    /// Ends at once, wherever it is.
    pub(crate) async fn crash(mut self) {
        self.running.shutdown().await;
    }

    /// Stops in order.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(WITHIN, self.running.join_next()).await;
        ended
            .expect("it stops in time")
            .expect("it was running")
            .unwrap()
            .unwrap();
    }
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(WITHIN, found).await {
        Ok(found) => found,
        Err(_) => panic!("gave up waiting until {what}"),
    }
}

pub(crate) fn usage(tenant: &str, id: &str, tokens: i64) -> Recorded<Usage> {
    Recorded::Event(Usage {
        event_source: "app".to_owned(),
        event_id: id.to_owned(),
        tenant: tenant.to_owned(),
        at: now(),
        received_at: now(),
        requests: 1,
        input_tokens: tokens,
        ..Usage::default()
    })
}

pub(crate) fn auth(tenant: &str, account: &str, id: &str, outcome: Outcome) -> Recorded<Auth> {
    Recorded::Event(Auth {
        event_source: "app".to_owned(),
        event_id: id.to_owned(),
        tenant: tenant.to_owned(),
        at: now(),
        received_at: now(),
        account: Some(account.to_owned()),
        source: Some("192.0.2.1".to_owned()),
        outcome,
        surface: None,
        reason: None,
    })
}
