//! The service: builds everything, then runs one loop over what can happen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::clock::SharedClock;
use bus::consumer::{Event, Start, Subscription};
use bus::{Bus, BusError};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use prometheus_client::registry::Registry;
use schemas::topic::ALERTS;
use sqlx::AnyPool;
use thiserror::Error;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::courier::Courier;
use crate::deliver::Transport;
use crate::desk::{Carried, Desk};
use crate::http;
use crate::metrics::Metrics;
use crate::route::Rules;
use crate::store::{Store, StoreError};

/// The consumer group of all notifiers.
const GROUP: &str = "weir-notifier";

/// Alerts that one transaction stores at most.
const BATCH_RECORDS_MAX: usize = 200;

/// What the notifier needs from outside.
pub struct Deps {
    pub bus: Bus,
    pub clock: SharedClock,
    /// SQLite or PostgreSQL. The pool's drivers must be installed.
    pub store: AnyPool,
}

/// Why a notifier cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the notifier's store cannot be used: {0}")]
    Store(String),
}

/// Why a running notifier stopped.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("the notifier can no longer read alerts: {0}")]
    Bus(#[from] BusError),
}

/// A notifier that is ready to run.
pub struct Service {
    pub(crate) config: Config,
    pub(crate) bus: Bus,
    pub(crate) rules: Rules,
    pub(crate) courier: Courier,
    pub(crate) ready: Arc<AtomicBool>,
}

impl Service {
    /// Checks the configuration and brings the store's tables up to date. Connects to nobody else.
    pub async fn build(
        config: Config,
        deps: Deps,
        registry: &mut Registry,
    ) -> Result<Self, BuildError> {
        let rules = config.rules()?;
        // The HTTP client takes the process's provider of cryptography; it may have been chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut transports = BTreeMap::new();
        for channel in &config.channel {
            let transport = Transport::build(channel, config.delivery_timeout())?;
            transports.insert(channel.name.clone(), transport);
        }
        let unusable = |error: StoreError| BuildError::Store(error.to_string());
        let store = Store::open(deps.store).await.map_err(unusable)?;
        let courier = Courier {
            store,
            transports,
            backoff: config.backoff(),
            lease: config.lease(),
            clock: deps.clock,
            metrics: Metrics::register(registry),
        };
        Ok(Self {
            config,
            bus: deps.bus,
            rules,
            courier,
            ready: Arc::new(AtomicBool::new(false)),
        })
    }

    /// `GET /v1/alerts`, for the management plane.
    pub fn router(&self) -> axum::Router {
        http::router(self.courier.store.clone())
    }

    /// Whether alerts are being taken and stored.
    pub fn readiness(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let ready = Arc::clone(&self.ready);
        move || ready.load(Ordering::Relaxed)
    }

    /// Takes alerts and delivers messages until `shutdown`; then waits a bounded time for what is on the way.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let mut consumer = self.bus.consume(Subscription {
            group: GROUP.to_owned(),
            topics: vec![ALERTS.spec()],
            start: Start::Committed,
            batch_records_max: BATCH_RECORDS_MAX,
        })?;
        let mut tick = tokio::time::interval(Duration::from_millis(self.config.poll_interval_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut on_the_way = FuturesUnordered::new();
        let mut desk = Desk::new(&self);
        desk.fail_strays().await;
        let ended = loop {
            let input = tokio::select! {
                biased;
                () = shutdown.cancelled() => Input::Stop,
                Some(done) = on_the_way.next(), if !on_the_way.is_empty() => Input::Carried(done),
                _ = tick.tick() => Input::Tick,
                event = consumer.next(), if desk.held.is_none() => Input::Log(event),
            };
            let look = match input {
                Input::Stop => break Ok(()),
                Input::Carried(carried) => desk.carried(carried),
                Input::Tick => desk.tick(&consumer).await,
                Input::Log(Event::Records(batch)) => {
                    desk.held = Some(batch);
                    desk.take(&consumer).await
                }
                Input::Log(Event::Assigned(assigned)) => {
                    assigned.start(&[]);
                    false
                }
                // Nothing is kept between batches, so there is nothing to hand over.
                Input::Log(Event::Revoked(revoked)) => {
                    revoked.done();
                    false
                }
                Input::Log(Event::CaughtUp(_)) => false,
                Input::Log(Event::Failed(error)) => break Err(RunError::Bus(error)),
            };
            if look {
                on_the_way.extend(desk.claim().await);
            }
        };
        self.ready.store(false, Ordering::Relaxed);
        let drained = async { while on_the_way.next().await.is_some() {} };
        let drain = Duration::from_secs(self.config.drain_s);
        if tokio::time::timeout(drain, drained).await.is_err() {
            tracing::warn!(
                "messages still on the way at the end; they are sent again when their leases end"
            );
        }
        consumer.close().await;
        ended
    }
}

/// What can happen to a running notifier.
enum Input {
    Stop,
    Carried(Carried),
    Tick,
    Log(Event),
}
