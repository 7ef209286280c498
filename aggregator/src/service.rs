//! The aggregator as a service: counting, recording and queries, built together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bus::clock::SharedClock;
use bus::{Bus, BusError};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use sqlx::AnyPool;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::http::{self, App};
use crate::metrics::Metrics;
use crate::recorder::{Recorder, RecorderError};
use crate::rules::Rules;
use crate::run::{self, CountError, Parts};
use crate::snapshot::{SnapshotError, SnapshotPlace, Snapshots, SnapshotsError};
use crate::store::{Store, StoreError};

/// What the aggregator needs from outside.
pub struct Deps {
    pub bus: Bus,
    pub clock: SharedClock,
    /// SQLite or PostgreSQL. The pool's drivers must be installed.
    pub store: AnyPool,
    /// Where snapshots are kept. Whoever takes partitions over needs the same place.
    pub snapshots: SnapshotPlace,
}

/// Why an aggregator cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error("the aggregator's store cannot be used: {0}")]
    Store(String),
}

/// Why a running aggregator stopped.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct RunError(Failure);

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Count(#[from] CountError),
    #[error("usage can no longer be recorded: {0}")]
    Record(#[from] RecorderError),
    #[error("usage cannot be recorded: {0}")]
    Bus(#[from] BusError),
}

/// An aggregator that is ready to run.
pub struct Service {
    parts: Parts,
    store: Store,
    rules: Arc<RwLock<Rules>>,
}

impl Service {
    /// Checks the configuration, makes the folder of snapshots or asks for their bucket, and brings the store's tables up to date. Reads nothing
    /// from the log yet.
    pub async fn build(
        config: Config,
        deps: Deps,
        registry: &mut Registry,
    ) -> Result<Self, BuildError> {
        config.check()?;
        let unusable = |error: SnapshotError| BuildError::Snapshots(error.into());
        let snapshots = Snapshots::new(&deps.snapshots, &config.s3).map_err(unusable)?;
        snapshots.prepare().await.map_err(unusable)?;
        let unusable = |error: StoreError| BuildError::Store(error.to_string());
        let store = Store::open(deps.store).await.map_err(unusable)?;
        let parts = Parts {
            config,
            bus: deps.bus,
            clock: deps.clock,
            snapshots,
            metrics: Metrics::register(registry),
            ready: Arc::new(AtomicBool::new(false)),
        };
        Ok(Self {
            parts,
            store,
            rules: Arc::default(),
        })
    }

    /// Usage, sketches, limits, crossings, refusals and groups of violations, for the management plane.
    pub fn router(&self) -> axum::Router {
        http::router(App {
            store: self.store.clone(),
            clock: Arc::clone(&self.parts.clock),
            rules: Arc::clone(&self.rules),
        })
    }

    /// Whether partitions were taken over and are counted.
    pub fn readiness(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let ready = Arc::clone(&self.parts.ready);
        move || ready.load(Ordering::Relaxed)
    }

    /// Counts and records until `shutdown`; then leaves snapshots from which the next start goes on.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        self.work(shutdown).await.map_err(RunError)
    }

    async fn work(self, shutdown: CancellationToken) -> Result<(), Failure> {
        let recorder = Recorder::new(&self.parts.bus, self.store, self.rules)?;
        let count = async {
            run::run(&self.parts, &shutdown)
                .await
                .map_err(Failure::from)
        };
        let record = async { recorder.run(shutdown.clone()).await.map_err(Failure::from) };
        tokio::try_join!(count, record)?;
        Ok(())
    }
}
