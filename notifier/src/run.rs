//! The service: builds everything, then runs one loop over what can happen.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::clock::SharedClock;
use bus::consumer::{Batch, Consumer, Event, Start, Subscription};
use bus::{Bus, BusError, SendError};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use prometheus_client::registry::Registry;
use schemas::time::Timestamp;
use schemas::topic::{ALERTS, DEAD};
use sqlx::AnyPool;
use thiserror::Error;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::alert::Alert;
use crate::config::{Config, ConfigError};
use crate::courier::Courier;
use crate::deliver::Transport;
use crate::metrics::{AlertOutcome, DeliveryOutcome, Metrics};
use crate::route::Rules;
use crate::store::{Recorded, Store, StoreError};
use crate::{http, wire};

/// The consumer group of all notifiers.
const GROUP: &str = "weir-notifier";

/// Alerts that one transaction stores at most.
const BATCH_RECORDS_MAX: usize = 200;

/// How often old alerts are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

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
    config: Config,
    bus: Bus,
    rules: Rules,
    courier: Courier,
    ready: Arc<AtomicBool>,
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

/// A try that ended.
struct Carried {
    channel: String,
    result: Result<(), StoreError>,
}

/// The loop's own state.
struct Desk<'a> {
    service: &'a Service,
    /// A batch that is not yet stored. While there is one, no more are taken.
    held: Option<Batch>,
    /// Tries on the way, by channel.
    busy: BTreeMap<&'a str, usize>,
    /// The last word from the store or the log was an error.
    in_trouble: bool,
    forgot_at: Option<Timestamp>,
}

impl<'a> Desk<'a> {
    fn new(service: &'a Service) -> Self {
        let channel = |channel: &'a crate::ChannelConfig| (channel.name.as_str(), 0);
        Self {
            service,
            held: None,
            busy: service.config.channel.iter().map(channel).collect(),
            in_trouble: false,
            forgot_at: None,
        }
    }

    async fn fail_strays(&mut self) {
        let courier = &self.service.courier;
        let channels: Vec<&str> = self.busy.keys().copied().collect();
        match courier
            .store
            .fail_strays(&channels, courier.clock.now())
            .await
        {
            Ok(0) => {}
            Ok(messages) => {
                tracing::warn!(
                    messages,
                    "messages waited for channels that are no longer configured; they have failed"
                );
                courier
                    .metrics
                    .deliveries("(removed)", DeliveryOutcome::Failed, messages);
            }
            Err(error) => self.trouble(&error),
        }
    }

    /// Stores the batch in hand, then commits its offset. Says whether there may be something to deliver.
    async fn take(&mut self, consumer: &Consumer) -> bool {
        let Some(batch) = self.held.take() else {
            return false;
        };
        match self.store(&batch).await {
            Ok(()) => {
                let next = batch.records.last().map_or(0, |record| record.offset + 1);
                consumer.commit(batch.partition, next);
                self.fine();
                true
            }
            Err(error) => {
                self.trouble(&error);
                self.held = Some(batch);
                false
            }
        }
    }

    async fn store(&self, batch: &Batch) -> Result<(), TakeError> {
        let courier = &self.service.courier;
        let now = courier.clock.now();
        let mut alerts = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            match wire::read(record, batch.partition, now) {
                Ok(alert) => alerts.push(alert),
                Err(unreadable) => self.bury(&unreadable.dead).await?,
            }
        }
        let recorded = courier
            .store
            .record(&alerts, &self.service.rules, now)
            .await?;
        self.count(&alerts, &recorded);
        Ok(())
    }

    async fn bury(&self, dead: &schemas::record::Dead) -> Result<(), SendError> {
        let origin = &dead.origin;
        tracing::error!(
            partition = origin.partition,
            offset = origin.offset,
            reason = dead.reason,
            "an alert cannot be read; it goes to the dead"
        );
        let producer = self.service.bus.producer();
        match producer.send(&DEAD, &origin.topic, dead).await {
            Err(error) if error.is_retriable() => return Err(error),
            // The log never takes it; waiting for that would hold up every alert behind it.
            Err(error) => tracing::error!(error = %error, "the dead do not take it either"),
            Ok(_) => {}
        }
        self.service.courier.metrics.alert(AlertOutcome::Unreadable);
        Ok(())
    }

    fn count(&self, alerts: &[Alert], recorded: &[Recorded]) {
        debug_assert_eq!(alerts.len(), recorded.len());
        let metrics = &self.service.courier.metrics;
        for recorded in recorded {
            let outcome = match recorded {
                Recorded::Repeated => AlertOutcome::Repeated,
                Recorded::New(plans) if plans.is_empty() => AlertOutcome::Unheard,
                Recorded::New(plans) => {
                    plans
                        .iter()
                        .for_each(|(channel, plan)| metrics.plan(channel, plan));
                    AlertOutcome::Heard
                }
            };
            metrics.alert(outcome);
        }
    }

    fn carried(&mut self, carried: Carried) -> bool {
        if let Some(busy) = self.busy.get_mut(carried.channel.as_str()) {
            *busy = busy.saturating_sub(1);
        }
        match carried.result {
            Ok(()) => self.fine(),
            Err(error) => {
                self.trouble(&error);
                return false;
            }
        }
        true
    }

    async fn tick(&mut self, consumer: &Consumer) -> bool {
        self.take(consumer).await;
        match self.look_after().await {
            Ok(()) => self.fine(),
            Err(error) => self.trouble(&error),
        }
        true
    }

    async fn look_after(&mut self) -> Result<(), StoreError> {
        let courier = &self.service.courier;
        courier.metrics.set_pending(courier.store.pending().await?);
        let now = courier.clock.now();
        if self
            .forgot_at
            .is_none_or(|at| FORGET_EVERY <= now.since(at))
        {
            let kept = Duration::from_secs(u64::from(self.service.config.keep_days) * 86_400);
            courier.store.forget(now.minus(kept)).await?;
            self.forgot_at = Some(now);
        }
        Ok(())
    }

    /// Leases what is due, as far as channels have room, and starts carrying it.
    async fn claim(&mut self) -> Vec<impl Future<Output = Carried> + use<'a>> {
        let courier = &self.service.courier;
        let room_max = self.service.config.in_flight_max as usize;
        let mut jobs = Vec::new();
        let mut failed = None;
        for (channel, busy) in &mut self.busy {
            if room_max <= *busy {
                continue;
            }
            match courier.claim(channel, room_max - *busy).await {
                Ok(claimed) => {
                    *busy += claimed.len();
                    jobs.extend(claimed);
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            self.trouble(&error);
        }
        let carry = |job: crate::store::Job| async move {
            let result = courier.carry(&job).await;
            let channel = job.channel;
            Carried { channel, result }
        };
        jobs.into_iter().map(carry).collect()
    }

    fn fine(&mut self) {
        if self.held.is_some() {
            return;
        }
        if self.in_trouble {
            tracing::info!("the notifier works again");
        }
        self.in_trouble = false;
        self.service.ready.store(true, Ordering::Relaxed);
    }

    /// Tells once; what failed is tried again on the next tick.
    fn trouble(&mut self, error: &dyn std::error::Error) {
        self.service.courier.metrics.store_error();
        if !self.in_trouble {
            tracing::warn!(error = %error, "the notifier cannot go on for now; it tries again");
        }
        self.in_trouble = true;
        self.service.ready.store(false, Ordering::Relaxed);
    }
}

/// Why a batch could not be taken yet.
#[derive(Debug, Error)]
enum TakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an unreadable alert cannot be put among the dead: {0}")]
    Dead(#[from] SendError),
}
