//! The whole notifier: a real log, a real store, a real HTTP server.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::routing::post;
use axum::{Extension, Router};
use broker::Broker;
use bus::clock::SystemClock;
use bus::clock::{Clock as _, SharedClock};
use bus::producer::RawRecord;
use bus::{Bus, Followed};
use http_body_util::BodyExt as _;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use schemas::access::Caller;
use schemas::record::{Alert, AlertKind, Amount, Role};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use schemas::topic::{ALERTS, DEAD};
use serde_json::Value;
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{ChannelConfig, Config, Deps, Secret, Service};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A log, a store and a receiver, which outlive any one notifier.
struct Bench {
    bus: Bus,
    store: AnyPool,
    heard: Heard,
    address: SocketAddr,
    stop: CancellationToken,
    log: tokio::task::JoinHandle<()>,
    _folder: TempDir,
}

/// What the receiver heard: `webhook-id` to the alerts' ids, in order.
type Heard = Arc<Mutex<Vec<(String, Value)>>>;

impl Bench {
    async fn start() -> Self {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let mut config = broker::Config::new(folder.path().join("log"));
        config.listen = "127.0.0.1:0".parse().unwrap();
        let broker = Broker::open(config).await.unwrap();
        let bootstrap = broker.address().to_string();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let log = tokio::task::spawn_blocking(move || {
            let run = async { broker.run(stopped).await.unwrap() };
            tokio::runtime::Handle::current().block_on(run);
        });
        let config = bus::Config {
            bootstrap,
            partitions: 2,
            ..bus::Config::default()
        };
        let url = format!("sqlite://{}/store.db?mode=rwc", folder.path().display());
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            bus: Bus::connect(config, Arc::new(SystemClock)).await.unwrap(),
            store: AnyPoolOptions::new().connect(&url).await.unwrap(),
            heard: Heard::default(),
            address: unused.local_addr().unwrap(),
            stop,
            log,
            _folder: folder,
        }
    }

    async fn stop(self) {
        drop(self.bus);
        self.stop.cancel();
        self.log.await.unwrap();
    }

    /// A notifier with one channel, and what it counts.
    async fn notifier(&self, messages_max: usize) -> (Service, Registry) {
        let mut registry = Registry::default();
        let channel = ChannelConfig {
            name: "ops".to_owned(),
            url: Some(format!("http://{}/hook", self.address)),
            secret: Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
            kinds: vec!["soft".to_owned(), "hard".to_owned()],
            messages_max: Some(messages_max),
            ..ChannelConfig::default()
        };
        let config = Config {
            channel: vec![channel],
            retry_base_ms: 20,
            poll_interval_ms: 20,
            flood_window_s: 2,
            ..Config::default()
        };
        let deps = Deps {
            bus: self.bus.clone(),
            clock: Arc::new(SystemClock) as SharedClock,
            store: self.store.clone(),
        };
        let service = Service::build(config, deps, &mut registry).await.unwrap();
        (service, registry)
    }

    /// Runs `service` while `work` goes on, then stops it.
    async fn during<T>(&self, service: Service, work: impl Future<Output = T>) -> T {
        let stop = CancellationToken::new();
        let work = async {
            let done = tokio::time::timeout(PATIENCE, work).await;
            stop.cancel();
            done.expect("in time")
        };
        let (done, ran) = tokio::join!(work, service.run(stop.clone()));
        ran.unwrap();
        done
    }

    /// Serves the receiver while `work` goes on.
    async fn receiving<T>(&self, work: impl Future<Output = T>) -> T {
        async fn hear(State(heard): State<Heard>, headers: http::HeaderMap, body: String) {
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            heard
                .lock()
                .await
                .push((id, serde_json::from_str(&body).unwrap()));
        }
        let listener = TcpListener::bind(self.address).await.unwrap();
        let app = Router::new()
            .route("/hook", post(hear))
            .with_state(Arc::clone(&self.heard));
        tokio::select! {
            biased;
            done = work => done,
            ended = async { axum::serve(listener, app).await } => panic!("the receiver ended: {ended:?}"),
        }
    }

    async fn publish(&self, id: &str, kind: AlertKind) {
        let alert = alert(id, kind);
        self.bus
            .producer()
            .send(&ALERTS, "acme", &alert)
            .await
            .unwrap();
    }

    /// Waits until the receiver heard `messages`.
    async fn heard(&self, messages: usize) {
        while self.heard.lock().await.len() < messages {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kinds and ids of what was heard.
    async fn told(&self) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for (_, body) in self.heard.lock().await.iter() {
            let name = format!("{} {}", body["type"], body["data"]["id"]).replace('"', "");
            *told.entry(name).or_default() += 1;
        }
        told
    }
}

fn alert(id: &str, kind: AlertKind) -> Alert {
    Alert {
        id: id.to_owned(),
        kind,
        tenant: Some("acme".to_owned()),
        subject: Subject::tenant("acme"),
        title: format!("acme: {id}"),
        body: "Something happened.".to_owned(),
        at: SystemClock.now(),
        limit: Some("tokens-a-minute".to_owned()),
        level: Some("100%".to_owned()),
        used: Some(Amount(60_000)),
        max: Some(Amount(60_000)),
        decision: None,
        until: None,
    }
}

async fn get(router: &Router, uri: &str, tenant: Option<&str>) -> (u16, Value) {
    let caller = Caller {
        key_id: "k".to_owned(),
        role: Role::Operator,
        tenant: tenant.map(str::to_owned),
    };
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let router = router.clone().layer(Extension(caller));
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
}

/// Waits until `GET /v1/alerts` shows so many deliveries in `state`.
async fn until_listed(router: &Router, state: &str, count: usize) -> Value {
    loop {
        let (_, listed) = get(router, "/v1/alerts", None).await;
        let alerts = listed.as_array().unwrap();
        let in_state = |alert: &&Value| alert["deliveries"][0]["state"] == state;
        if alerts.iter().filter(in_state).count() == count {
            return listed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn metric(registry: &Registry, line: &str) -> bool {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text.lines().any(|l| l == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crossing_is_told_once_though_the_receiver_was_down_and_the_notifier_died() {
    let bench = Bench::start().await;
    let (first, _) = bench.notifier(20).await;
    let router = first.router();
    let down = async {
        bench.publish("soft", AlertKind::Soft).await;
        bench.publish("hard", AlertKind::Hard).await;
        // The log says the same again, as after a crash of whoever wrote it.
        bench.publish("hard", AlertKind::Hard).await;
        bench.publish("lifted", AlertKind::Lifted).await;
        until_listed(&router, "pending", 2).await;
    };
    bench.during(first, down).await;
    assert_eq!(bench.told().await, BTreeMap::new());

    let (second, registry) = bench.notifier(20).await;
    let router = second.router();
    let up = async {
        bench.heard(2).await;
        until_listed(&router, "sent", 2).await;
        // What comes later is told later, and shows that nothing else came before it.
        bench.publish("last", AlertKind::Hard).await;
        bench.heard(3).await;
        until_listed(&router, "sent", 3).await
    };
    let listed = bench.receiving(bench.during(second, up)).await;
    let once =
        ["hard hard", "hard last", "soft soft"].map(|name| (format!("weir.alert.{name}"), 1));
    assert_eq!(bench.told().await, BTreeMap::from(once));
    let unheard = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|alert| alert["id"] == "lifted");
    assert_eq!(unheard.unwrap()["deliveries"], serde_json::json!([]));
    let sent = r#"weir_notifier_deliveries_total{channel="ops",outcome="sent"} 3"#;
    assert!(metric(&registry, sent));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_folded_into_a_digest() {
    let bench = Bench::start().await;
    let (service, _) = bench.notifier(2).await;
    let router = service.router();
    let flood = async {
        for n in 0..5 {
            bench.publish(&format!("a{n}"), AlertKind::Hard).await;
        }
        bench.heard(3).await;
        until_listed(&router, "folded", 3).await;
    };
    bench.receiving(bench.during(service, flood)).await;
    let heard = bench.heard.lock().await;
    let (_, digest) = &heard[2];
    assert_eq!(digest["type"], "weir.alert.digest");
    assert_eq!(digest["data"]["count"], 3);
    assert_eq!(digest["data"]["alerts"].as_array().unwrap().len(), 3);
    drop(heard);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_goes_to_the_dead_and_stops_nothing() {
    let bench = Bench::start().await;
    let (service, registry) = bench.notifier(20).await;
    let partition = bench.bus.partition_of(ALERTS.spec(), "acme");
    let raw = RawRecord {
        topic: ALERTS.name(),
        partition,
        key: Some(b"acme"),
        value: Some(b"{}"),
        headers: &[],
    };
    bench
        .bus
        .producer()
        .enqueue_raw(raw)
        .unwrap()
        .await
        .unwrap();
    let work = async {
        bench.publish("hard", AlertKind::Hard).await;
        bench.heard(1).await;
    };
    bench.receiving(bench.during(service, work)).await;
    let mut dead = bench.bus.follow(&DEAD).unwrap();
    let Followed::Put { key, value, .. } = dead.next().await.unwrap() else {
        panic!("nothing among the dead");
    };
    assert_eq!(key, "weir.alerts.v1");
    assert_eq!(value.value.as_deref(), Some(b"{}".as_slice()));
    assert_eq!(
        (value.origin.partition, value.origin.offset),
        (partition, 0)
    );
    let counted = r#"weir_notifier_alerts_total{outcome="unreadable"} 1"#;
    assert!(metric(&registry, counted));
    drop(dead);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_see_what_is_theirs() {
    let bench = Bench::start().await;
    let (service, _) = bench.notifier(20).await;
    let router = service.router();
    let work = async {
        bench.publish("hard", AlertKind::Hard).await;
        until_listed(&router, "pending", 1).await;
    };
    bench.during(service, work).await;
    let (status, listed) = get(
        &router,
        "/v1/alerts?subject=tenant/acme&kind=hard",
        Some("acme"),
    )
    .await;
    assert_eq!((status, listed.as_array().unwrap().len()), (200, 1));
    assert_eq!(listed[0]["used"], 60_000);
    assert!(Timestamp::parse(listed[0]["at"].as_str().unwrap()).is_some());
    assert_eq!(
        get(&router, "/v1/alerts", Some("other")).await,
        (200, serde_json::json!([]))
    );
    assert_eq!(
        get(&router, "/v1/alerts?subject=tenant/acme", Some("other")).await,
        (200, serde_json::json!([]))
    );
    assert_eq!(get(&router, "/v1/alerts?colour=red", None).await.0, 400);
    bench.stop().await;
}
