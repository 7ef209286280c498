//! One process: the parts asked for, built on each other in order, started, and stopped in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use broker::Broker;
use bus::clock::{SharedClock, SystemClock};
use bus::{Bus, BusError};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use schemas::access::KeyRing;
use schemas::topic;
use serde::{Deserialize, Serialize};
use sqlx::AnyPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Fsync, FsyncName, LogSection};
use crate::credentials::{Credentials, follow_keys};
use crate::folder::{self, Held};
use crate::plane::{self, Keys, Ready, Status};
use crate::serve::serve;
use crate::store;
use crate::supervise::{Stage, Supervisor, asked_to_stop};

/// A stop takes less than the ten seconds that most supervisors grant.
const STOP_DEADLINE: Duration = Duration::from_secs(9);
/// How often a start looks whether all parts are ready.
const READY_PAUSE: Duration = Duration::from_millis(10);
const LISTENING: &str = "listening.json";

/// Which services run in this process.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    ingest: bool,
    aggregator: bool,
    /// With the policy's file.
    enforcer: Option<PathBuf>,
    notifier: bool,
    gateway: bool,
}

impl Parts {
    #[must_use]
    pub fn all(policy: PathBuf) -> Self {
        Self {
            ingest: true,
            aggregator: true,
            enforcer: Some(policy),
            notifier: true,
            gateway: true,
        }
    }

    #[must_use]
    pub fn ingest() -> Self {
        Self {
            ingest: true,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn aggregator() -> Self {
        Self {
            aggregator: true,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn enforcer(policy: PathBuf) -> Self {
        Self {
            enforcer: Some(policy),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn notifier() -> Self {
        Self {
            notifier: true,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn gateway() -> Self {
        Self {
            gateway: true,
            ..Self::default()
        }
    }

    const fn serves_data(&self) -> bool {
        self.ingest || self.gateway
    }

    const fn keeps_rows(&self) -> bool {
        self.aggregator || self.enforcer.is_some() || self.notifier
    }
}

/// Where a process listens: printed and left in the data folder once it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Absent in a process without ingest and gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    pub management: String,
    /// Absent where the log is a Kafka cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

impl Listening {
    pub fn read(data_folder: &Path) -> anyhow::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(
            data_folder.join(LISTENING),
        )?)?)
    }
}

/// Runs until asked to stop, or until a part fails.
pub async fn run(config: Config, parts: Parts) -> anyhow::Result<()> {
    use std::io::Write;
    let asked = asked_to_stop();
    tokio::pin!(asked);
    let running = tokio::select! {
        running = start(config, parts) => running?,
        signal = &mut asked => {
            tracing::info!(signal = signal?, "stopped before it was ready");
            return Ok(());
        }
    };
    writeln!(
        std::io::stdout(),
        "{}",
        serde_json::to_string(&running.listening)?
    )?;
    running.until(asked).await
}

/// A process at work.
pub struct Running {
    pub listening: Listening,
    /// In a process that makes keys: the one with the enforcer.
    pub credentials: Option<Credentials>,
    supervisor: Supervisor,
    data_folder: PathBuf,
    _held: Held,
}

impl Running {
    /// Works until `asked` resolves, or a part fails; then stops in order.
    pub async fn until(
        mut self,
        asked: impl Future<Output = anyhow::Result<&'static str>>,
    ) -> anyhow::Result<()> {
        let failure = tokio::select! {
            signal = asked => {
                tracing::info!(signal = signal?, "stopping");
                None
            }
            failure = self.supervisor.failure() => Some(failure),
        };
        let stopped = self.stop().await;
        failure.map_or(stopped, Err)
    }

    /// Stops in order: intake, services, log.
    pub async fn stop(self) -> anyhow::Result<()> {
        // A reader must not find addresses at which nobody listens any more.
        let _ = std::fs::remove_file(self.data_folder.join(LISTENING));
        self.supervisor.stop(STOP_DEADLINE).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Builds and starts `parts`, and returns when all are ready.
pub async fn start(config: Config, parts: Parts) -> anyhow::Result<Running> {
    let held = folder::hold(&config.data)?;
    // One that died without a word has left its addresses behind.
    let _ = std::fs::remove_file(config.data.join(LISTENING));
    let mut supervisor = Supervisor::default();
    match build(config, parts, &mut supervisor).await {
        Ok(built) => Ok(Running {
            listening: built.listening,
            credentials: built.credentials,
            supervisor,
            data_folder: built.data_folder,
            _held: held,
        }),
        Err(error) => {
            if let Err(stopping) = supervisor.stop(STOP_DEADLINE).await {
                tracing::warn!("{stopping:#}");
            }
            Err(error)
        }
    }
}

struct Built {
    listening: Listening,
    credentials: Option<Credentials>,
    data_folder: PathBuf,
}

/// Listeners are bound before anything is begun: a busy port is found at once.
struct Listeners {
    data: Option<TcpListener>,
    management: TcpListener,
}

impl Listeners {
    async fn bind(config: &Config, parts: &Parts) -> anyhow::Result<Self> {
        let data = match parts.serves_data() {
            true => Some(bind("data", config.listen.data, "--port-data").await?),
            false => None,
        };
        let management = bind("management", config.listen.management, "--port-management").await?;
        Ok(Self { data, management })
    }

    fn addresses(&self, log: Option<String>) -> anyhow::Result<Listening> {
        let data = match &self.data {
            Some(listener) => Some(listener.local_addr()?.to_string()),
            None => None,
        };
        Ok(Listening {
            data,
            management: self.management.local_addr()?.to_string(),
            log,
        })
    }
}

async fn bind(
    plane: &str,
    address: std::net::SocketAddr,
    flag: &str,
) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for the {plane} plane; choose another port with {flag}")
    })
}

async fn build(config: Config, parts: Parts, supervisor: &mut Supervisor) -> anyhow::Result<Built> {
    let listeners = Listeners::bind(&config, &parts).await?;
    let clock: SharedClock = Arc::new(SystemClock);
    let mut bus_config = config.bus.clone();
    let log = match &config.log {
        None => None,
        Some(section) => Some(start_log(&config.data, section, supervisor).await?),
    };
    if let Some(address) = &log {
        bus_config.bootstrap.clone_from(address);
    }
    let bus = Bus::connect(bus_config, Arc::clone(&clock)).await?;
    let stop = supervisor.token(Stage::Service);
    supervisor.start(
        Stage::Service,
        "the log's client",
        until_it_fails(bus.clone(), stop),
    );
    let credentials = match parts.enforcer {
        Some(_) => Some(Credentials::load_or_make(&config.data)?),
        None => None,
    };
    if let Some(credentials) = &credentials {
        credentials.publish(&bus, &clock).await?;
    }
    let store = match parts.keeps_rows() {
        true => Some(store::open(&config.store_url, supervisor).await?),
        false => None,
    };
    let keys: Keys = Arc::new(RwLock::new(KeyRing::default()));
    for (id, key) in bus.read_all(&topic::KEYS).await? {
        keys.write().apply(&id, Some(key));
    }
    let follower = bus.follow(&topic::KEYS)?;
    let stop = supervisor.token(Stage::Service);
    supervisor.start(
        Stage::Service,
        "keys",
        follow_keys(follower, Arc::clone(&keys), stop),
    );

    let data_folder = config.data.clone();
    let connections_max = config.listen.connections_max;
    let mut assembly = Assembly::new(bus, clock, keys, store, supervisor);
    assembly.add(config, parts).await?;
    let listening = listeners.addresses(log)?;
    let status = assembly.serve(listeners, connections_max);
    wait_until_ready(&status, supervisor).await?;
    let mut json = serde_json::to_vec(&listening)?;
    json.push(b'\n');
    folder::write_atomically(&data_folder, LISTENING, &json, 0o644)?;
    tracing::info!(
        data = listening.data,
        management = listening.management,
        log = listening.log,
        "ready"
    );
    Ok(Built {
        listening,
        credentials,
        data_folder,
    })
}

/// Ends when nothing can be sent any more for good, which ends the process: only a new one can go on.
async fn until_it_fails(bus: Bus, stop: CancellationToken) -> Result<(), BusError> {
    tokio::select! {
        error = bus.failure() => Err(error),
        () = stop.cancelled() => Ok(()),
    }
}

async fn start_log(
    data: &Path,
    section: &LogSection,
    supervisor: &mut Supervisor,
) -> anyhow::Result<String> {
    let mut config = broker::Config::new(data.join("log"));
    config.listen = section.listen;
    config.fsync = fsync(section.fsync);
    let log = Broker::open(config)
        .await
        .context("cannot open the log; --port-log chooses its port")?;
    let address = log.address().to_string();
    let stop = supervisor.token(Stage::Ground);
    supervisor.start(Stage::Ground, "log", log.run(stop.cancelled_owned()));
    Ok(address)
}

/// What the configuration says, in the log's words.
pub(crate) const fn fsync(setting: Fsync) -> broker::Fsync {
    match setting {
        Fsync::Named(FsyncName::Always) => broker::Fsync::Always,
        Fsync::Named(FsyncName::Never) => broker::Fsync::Never,
        Fsync::EveryMillis(millis) => broker::Fsync::Every(Duration::from_millis(millis)),
    }
}

async fn wait_until_ready(status: &Status, supervisor: &mut Supervisor) -> anyhow::Result<()> {
    let ready = async {
        while !status.waiting_for().is_empty() {
            tokio::time::sleep(READY_PAUSE).await;
        }
    };
    tokio::select! {
        () = ready => Ok(()),
        failure = supervisor.failure() => Err(failure),
    }
}

/// The services of a process as they are added one by one.
struct Assembly<'a> {
    bus: Bus,
    clock: SharedClock,
    keys: Keys,
    store: Option<AnyPool>,
    registry: Registry,
    data: Router,
    management: Router,
    parts: Vec<(&'static str, Ready)>,
    supervisor: &'a mut Supervisor,
}

/// Adds one service: builds it, takes its routes and readiness, and starts its loop.
macro_rules! add {
    ($assembly:ident, $name:literal, $service:expr, $plane:ident) => {{
        let service = $service
            .await
            .context(concat!("cannot start the ", $name))?;
        $assembly.$plane = std::mem::take(&mut $assembly.$plane).merge(service.router());
        $assembly.parts.push(($name, Box::new(service.readiness())));
        let stop = $assembly.supervisor.token(Stage::Service);
        $assembly
            .supervisor
            .start(Stage::Service, $name, service.run(stop));
    }};
}

impl<'a> Assembly<'a> {
    fn new(
        bus: Bus,
        clock: SharedClock,
        keys: Keys,
        store: Option<AnyPool>,
        supervisor: &'a mut Supervisor,
    ) -> Self {
        let mut registry = Registry::default();
        bus.register_metrics(&mut registry);
        let allowed = bus.clone();
        let allowed: Ready = Box::new(move || allowed.denials().is_empty());
        Self {
            bus,
            clock,
            keys,
            store,
            registry,
            data: Router::new(),
            management: Router::new(),
            parts: vec![("what the log allows", allowed)],
            supervisor,
        }
    }

    /// The enforcer first: its policy must stand in the log before the first event does.
    async fn add(&mut self, config: Config, parts: Parts) -> anyhow::Result<()> {
        let (bus, clock) = (self.bus.clone(), Arc::clone(&self.clock));
        let (bus, clock) = (|| bus.clone(), || Arc::clone(&clock));
        if let Some(policy) = parts.enforcer {
            let deps = enforcer::Deps {
                bus: bus(),
                clock: clock(),
                store: self.rows()?,
                policy,
            };
            let service = enforcer::Service::build(config.enforcer, deps, &mut self.registry);
            add!(self, "enforcer", service, management);
        }
        if parts.aggregator {
            let snapshots = config.aggregator.snapshots.clone();
            let snapshots = snapshots.unwrap_or_else(|| config.data.join("snapshots").into());
            let deps = aggregator::Deps {
                bus: bus(),
                clock: clock(),
                store: self.rows()?,
                snapshots,
            };
            let service = aggregator::Service::build(config.aggregator, deps, &mut self.registry);
            add!(self, "aggregator", service, management);
        }
        if parts.notifier {
            let deps = notifier::Deps {
                bus: bus(),
                clock: clock(),
                store: self.rows()?,
            };
            let service = notifier::Service::build(config.notifier, deps, &mut self.registry);
            add!(self, "notifier", service, management);
        }
        if parts.gateway {
            let deps = gateway::Deps {
                bus: bus(),
                clock: clock(),
                keys: Arc::clone(&self.keys),
            };
            let service = gateway::Service::build(config.gateway, deps, &mut self.registry);
            add!(self, "gateway", service, data);
        }
        if parts.ingest {
            let deps = ingest::Deps {
                bus: bus(),
                clock: clock(),
                keys: Arc::clone(&self.keys),
            };
            let service = ingest::Service::build(config.ingest, deps, &mut self.registry);
            add!(self, "ingest", service, data);
        }
        Ok(())
    }

    fn rows(&self) -> anyhow::Result<AnyPool> {
        self.store
            .clone()
            .context("a service that keeps rows runs without a store: a bug")
    }

    /// Starts the HTTP planes.
    fn serve(self, listeners: Listeners, connections_max: usize) -> Status {
        let status = Status::new(self.registry, self.parts);
        let management = plane::management(self.management, self.keys, self.clock, status.clone());
        let planes = [
            ("management plane", Some(listeners.management), management),
            ("data plane", listeners.data, plane::data(self.data)),
        ];
        for (name, listener, router) in planes {
            let Some(listener) = listener else { continue };
            let stop = self.supervisor.token(Stage::Front);
            self.supervisor.start(
                Stage::Front,
                name,
                serve(listener, router, connections_max, stop),
            );
        }
        status
    }
}
