//! The service: built once, served by whoever owns the listener, drained at the end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bus::clock::SharedClock;
use bus::{Bus, Producer, SendError};
use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use schemas::access::KeyRing;
use schemas::cloudevents::Rules;
use schemas::time::Timestamp;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::config::Config;
use crate::http;
use crate::metrics::Metrics;
use crate::throttle::Throttle;

/// How long records in flight may take to be acknowledged at the end.
const DRAIN: Duration = Duration::from_secs(4);

/// What the service stands on.
pub struct Deps {
    pub bus: Bus,
    pub clock: SharedClock,
    pub keys: Arc<RwLock<KeyRing>>,
}

/// Why the service cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error("[ingest] {0} must be above zero")]
    Zero(&'static str),
    #[error("[ingest] csp_tokens: `{token}` names the tenant `{tenant}`, which is no tenant's id")]
    CspTenant { token: String, tenant: String },
}

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) bus: Bus,
    pub(crate) producer: Producer,
    pub(crate) clock: SharedClock,
    pub(crate) keys: Arc<RwLock<KeyRing>>,
    pub(crate) budget: Budget,
    pub(crate) throttle: Mutex<Throttle>,
    pub(crate) metrics: Metrics,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// What events that come in now must keep to.
    pub(crate) fn rules(&self, now: Timestamp) -> Rules {
        Rules {
            future_max: Duration::from_secs(self.config.future_seconds_max),
            past_max: Duration::from_secs(self.config.past_seconds_max),
            events_max: self.config.batch_events_max,
            ..Rules::at(now)
        }
    }
}

/// Ingest, ready to serve.
pub struct Service {
    app: App,
}

impl Service {
    pub async fn build(
        config: Config,
        deps: Deps,
        registry: &mut Registry,
    ) -> Result<Self, BuildError> {
        check(&config)?;
        let app = Shared {
            producer: deps.bus.producer(),
            bus: deps.bus,
            clock: deps.clock,
            keys: deps.keys,
            budget: Budget::new(config.in_flight_bytes_max),
            throttle: Mutex::new(Throttle::new(config.csp_reports_per_second_max)),
            metrics: Metrics::register(registry),
            config,
        };
        Ok(Self {
            app: App(Arc::new(app)),
        })
    }

    /// Its part of the data plane.
    pub fn router(&self) -> Router {
        http::router(self.app.clone())
    }

    /// Ready as long as the log answers: what cannot be acknowledged should go elsewhere.
    pub fn readiness(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let app = self.app.clone();
        move || app.bus.available()
    }

    /// Waits for the end, then for what is in flight.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), SendError> {
        shutdown.cancelled().await;
        self.app.producer.flush(DRAIN).await
    }
}

fn check(config: &Config) -> Result<(), BuildError> {
    let bounds = [
        ("body_bytes_max", config.body_bytes_max),
        ("inflated_bytes_max", config.inflated_bytes_max),
        ("batch_events_max", config.batch_events_max),
        ("in_flight_bytes_max", config.in_flight_bytes_max),
        ("csp_body_bytes_max", config.csp_body_bytes_max),
        (
            "csp_reports_per_second_max",
            config.csp_reports_per_second_max as usize,
        ),
    ];
    if let Some((name, _)) = bounds.into_iter().find(|(_, bound)| *bound == 0) {
        return Err(BuildError::Zero(name));
    }
    let bad = config
        .csp_tokens
        .iter()
        .find(|(_, tenant)| !http::is_tenant_id(tenant));
    bad.map_or(Ok(()), |(token, tenant)| {
        Err(BuildError::CspTenant {
            token: token.clone(),
            tenant: tenant.clone(),
        })
    })
}
