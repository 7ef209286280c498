//! A log, a store, a policy file and an enforcer of a test's own.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::{Extension, Router};
use broker::Broker;
use bus::Bus;
use bus::clock::{SharedClock, SystemClock};
use enforcer::{BuildError, Config, Deps, RunError, Service};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use schemas::access::Caller;
use schemas::policy::{Meter, Mode, Window};
use schemas::record::{Amount, Crossing, Direction, Origin, Role, Signal};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use schemas::topic;
use serde_json::Value;
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A limit of 100 requests a minute on each tenant.
pub(crate) const POLICY: &str = "[[limit]]\nname = \"rpm\"\nsubject = \"tenant/*\"\nmeter = \"requests\"\n\
                                 window = \"sliding 60s\"\nsoft = [\"80%\"]\nhard = 100\n";

/// How long anything may take before a test gives up.
const WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Home {
    pub(crate) bus: Bus,
    store: AnyPool,
    folder: TempDir,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    log: JoinSet<Result<(), broker::RunError>>,
}

impl Home {
    /// An empty log, an empty store, and `policy` in a file.
    pub(crate) async fn new(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = broker::Config::new(folder.path().join("log"));
        let log = Broker::open(config).await.unwrap();
        let address = log.address();
        let (stop, log) = run(log);
        let config = bus::Config {
            bootstrap: address.to_string(),
            partitions: 3,
            delivery_within: Duration::from_secs(1),
            ..bus::Config::default()
        };
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}/store.db?mode=rwc", folder.path().display());
        let home = Self {
            bus: Bus::connect(config, clock()).await.unwrap(),
            store: AnyPoolOptions::new().connect(&url).await.unwrap(),
            folder,
            address,
            stop: Some(stop),
            log,
        };
        home.write(policy);
        home
    }

    pub(crate) async fn log_off(&mut self) {
        drop(self.stop.take());
        self.log.join_next().await.unwrap().unwrap().unwrap();
    }

    pub(crate) async fn log_on(&mut self) {
        let mut config = broker::Config::new(self.folder.path().join("log"));
        config.listen = self.address;
        let (stop, log) = run(Broker::open(config).await.unwrap());
        (self.stop, self.log) = (Some(stop), log);
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("policy.toml")
    }

    pub(crate) fn write(&self, policy: &str) {
        fs::write(self.path(), policy).unwrap();
    }

    pub(crate) async fn build(&self) -> Result<(Service, Registry), BuildError> {
        let deps = Deps {
            bus: self.bus.clone(),
            clock: clock(),
            store: self.store.clone(),
            policy: self.path(),
        };
        let config = Config {
            ttl_s: 4,
            watch_interval_ms: 50,
            expiry_interval_ms: 50,
            ..Config::default()
        };
        let mut registry = Registry::default();
        let service = Service::build(config, deps, &mut registry).await?;
        Ok((service, registry))
    }

    /// A running enforcer that is ready.
    pub(crate) async fn start(&self) -> Enforcer {
        let (service, registry) = self.build().await.unwrap();
        let ready = service.readiness();
        let router = service.router();
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(service.run(stop.clone()));
        eventually("the enforcer is ready", async || ready().then_some(())).await;
        Enforcer {
            registry,
            router,
            stop,
            running,
        }
    }

    /// Says an upward crossing of `rpm` by `acme` that lasts for `seconds` from now, and gives its end.
    pub(crate) async fn cross(&self, level: &str, offset: i64, seconds: i64) -> Timestamp {
        let now = clock().now();
        let end = Timestamp::from_micros(now.as_micros() + seconds * 1_000_000);
        let crossing = Crossing {
            id: format!("{level}-{offset}"),
            subject: Subject::tenant("acme"),
            limit: "rpm".to_owned(),
            policy_version: 1,
            meter: Meter::Requests,
            window: Window::Sliding { seconds: 60 },
            mode: Mode::Block,
            level: level.to_owned(),
            threshold: Amount(100),
            direction: Direction::Up,
            at: now,
            sum: Amount(100),
            max: Amount(100),
            falls_at: Some(end),
            event_source: None,
            event_id: None,
            origin: Origin {
                topic: topic::USAGE.name().to_owned(),
                partition: 0,
                offset,
            },
        };
        let producer = self.bus.producer();
        producer
            .send(&topic::SIGNALS, "acme", &Signal::Crossing(crossing))
            .await
            .unwrap();
        end
    }
}

/// Runs a log until the sender is dropped, at the latest by the end of the test.
fn run(log: Broker) -> (oneshot::Sender<()>, JoinSet<Result<(), broker::RunError>>) {
    let (stop, stopped) = oneshot::channel();
    let mut running = JoinSet::new();
    running.spawn(log.run(async {
        let _ = stopped.await;
    }));
    (stop, running)
}

pub(crate) fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

/// Somebody of this role, who speaks for `tenant` or for all.
pub(crate) fn caller(role: Role, tenant: Option<&str>) -> Caller {
    Caller {
        key_id: "operator-1".to_owned(),
        role,
        tenant: tenant.map(str::to_owned),
    }
}

/// What the management plane answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// A running enforcer. Ends with the test.
pub(crate) struct Enforcer {
    pub(crate) registry: Registry,
    router: Router,
    stop: CancellationToken,
    running: JoinSet<Result<(), RunError>>,
}

impl Enforcer {
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.running.join_next().await.unwrap().unwrap().unwrap();
    }

    /// What an operator of the whole platform is answered.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.get_as(path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// What somebody who speaks for `tenant` (none: for all) is answered.
    pub(crate) async fn get_as(&self, path: &str, tenant: Option<&str>) -> (u16, Value) {
        let role = if tenant.is_some() {
            Role::Tenant
        } else {
            Role::Operator
        };
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = self.send(request, caller(role, tenant)).await;
        (answer.status, answer.json())
    }

    /// What somebody who speaks for `tenant` is answered who sends `body`.
    pub(crate) async fn post(
        &self,
        path: &str,
        tenant: Option<&str>,
        body: &Value,
    ) -> (u16, Value) {
        let role = if tenant.is_some() {
            Role::Tenant
        } else {
            Role::Operator
        };
        let request = Request::post(path).body(Body::from(body.to_string()));
        let answer = self.send(request.unwrap(), caller(role, tenant)).await;
        (answer.status, answer.json())
    }

    pub(crate) async fn send(&self, request: Request<Body>, caller: Caller) -> Answer {
        let router = self.router.clone().layer(Extension(caller));
        let response = router.oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// A metric's value, 0 when it was never counted.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let line = lines.find(|(found, _)| *found == name);
        line.map_or(0.0, |(_, value)| value.parse().unwrap())
    }
}

/// Waits until `look` sees something.
pub(crate) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let seen = tokio::time::timeout(WITHIN, seen).await;
    seen.unwrap_or_else(|_| panic!("not after {WITHIN:?}: {what}"))
}
