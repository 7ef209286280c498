//! The service: follows decisions and policy into memory, and reports what was judged.
//!
//! After a restart the own windows are empty: what this gateway admitted before is known to the aggregator, whose
//! decision still blocks what had crossed its limit, and no more than one limit's worth can pass twice. Only the ledger
//! of strict limits is read back from the log (`rebuild`).

mod rebuild;
mod sender;
mod sharing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use bus::clock::SharedClock;
use bus::{Bus, BusError, Followed, Follower};
use futures_util::future::{self, Either};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use schemas::access::KeyRing;
use schemas::codec::Wire;
use schemas::time::Timestamp;
use schemas::topic;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cache::Applied;
use crate::check::{Feed, Freshness, Gate};
use crate::config::{Config, ConfigError};
use crate::handle::{Handle, Shared};
use crate::http;
use crate::ledger::Bounds;
use crate::metrics::{Metrics, level};
use crate::place::Place;
use crate::place::redis::RedisLedger;
use crate::recent::Recent;
use crate::redis::{Changes, Mirror};
use crate::reports::Reports;
use crate::wire::{self, Decision, PolicyRecord, Ruled, Share};
use sender::{Sender, Sent};
use sharing::Sharing;

/// How often memory is tidied and gauges are set.
const TICK: Duration = Duration::from_millis(250);
/// How often gateways that share limits look what is to be told.
const SHARE_TICK: Duration = Duration::from_millis(20);
/// How long a commit waits until the log has it.
const LOGGED_WITHIN: Duration = Duration::from_secs(5);
/// Parts of each table that are tidied at a tick: all of them within four seconds.
const SHARDS_A_TICK: usize = 4;

/// What the service stands on.
pub struct Deps {
    pub bus: Bus,
    pub clock: SharedClock,
    pub keys: Arc<RwLock<KeyRing>>,
}

/// Why the service cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("[gateway] redis_url: {0}")]
    Redis(#[source] redis::RedisError),
    #[error("[gateway] ledger_url: {0}")]
    Ledger(#[source] redis::RedisError),
}

/// Why the service stopped by itself.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("cannot follow {topic}: {source}")]
    Follow {
        topic: &'static str,
        source: BusError,
    },
}

/// The gateway, ready to serve.
pub struct Service {
    config: Config,
    bus: Bus,
    handle: Handle,
    keys: Arc<RwLock<KeyRing>>,
    mirror: Option<Mirror>,
    started_at: Timestamp,
}

impl Service {
    /// Follows nothing yet.
    #[expect(
        clippy::unused_async,
        reason = "every service is built in the same way, and others ask their store"
    )]
    pub async fn build(
        config: Config,
        deps: Deps,
        registry: &mut Registry,
    ) -> Result<Self, BuildError> {
        config.check()?;
        let started_at = deps.clock.now();
        let stale_after = Duration::from_secs(config.stale_after_seconds);
        let remembered = Duration::from_secs(config.remember_seconds);
        let handle = Handle::new(Shared {
            gate: Gate::new(
                rand::random(),
                config.windows_bytes_max,
                Freshness::new(started_at, stale_after),
            ),
            clock: deps.clock,
            recent: Recent::new(config.remember_requests_max, remembered),
            reports: Reports::new(config.reports_queued_max),
            metrics: Metrics::register(registry),
            ledger: ledger(&config)?,
            has_share: AtomicBool::new(config.share != Some(true)),
        });
        let mirror = config
            .redis_url
            .as_deref()
            .map(|url| Mirror::new(url, handle.clone()))
            .transpose()
            .map_err(BuildError::Redis)?;
        Ok(Self {
            config,
            bus: deps.bus,
            handle,
            keys: deps.keys,
            mirror,
            started_at,
        })
    }

    /// Answers requests in this process, for [`crate::layer::WeirLayer`].
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The check endpoints, on the data plane.
    pub fn router(&self) -> Router {
        let app = http::App {
            handle: self.handle.clone(),
            keys: Arc::clone(&self.keys),
            logged_within: LOGGED_WITHIN,
        };
        http::router(app, self.config.body_bytes_max)
    }

    /// Ready once decisions and policy were read to their ends, what was spent under strict limits is known, and the
    /// gateways that are there have made room for this one.
    pub fn readiness(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let handle = self.handle.clone();
        move || {
            let shared = handle.shared();
            let has_share = shared.has_share.load(Ordering::Acquire);
            shared.gate.freshness.is_ready() && shared.ledger.is_ready() && has_share
        }
    }

    /// Follows and reports until `shutdown`, then waits a little for reports to be acknowledged.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), RunError> {
        let mut decisions = self.follow(&topic::DECISIONS)?;
        let mut policies = self.follow(&topic::POLICIES)?;
        let mut shares = match self.config.share {
            Some(true) => Some(self.follow(&topic::SHARES)?),
            _ => None,
        };
        let changes = Changes::default();
        let mirror = match self.mirror.take() {
            Some(mirror) => Either::Left(mirror.run(&changes)),
            None => Either::Right(future::pending()),
        };
        tokio::pin!(mirror);
        let rebuild = rebuild::rebuild(&self.handle, &self.bus);
        tokio::pin!(rebuild);
        let mut rebuilt = false;
        let mut state = Loop::new(&self, &changes);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut share_tick = interval(SHARE_TICK);
        share_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let work = state.sender.work();
            let event = tokio::select! {
                () = shutdown.cancelled() => break,
                followed = decisions.next() => Event::Decision(followed),
                followed = policies.next() => Event::Policy(followed),
                Some(followed) = next(&mut shares) => Event::Share(followed),
                _ = share_tick.tick(), if state.shares_with_others() => Event::ShareTick,
                _ = tick.tick() => Event::Tick,
                Some(sent) = state.sender.sent() => Event::Sent(sent),
                () = work => Event::Send,
                () = &mut mirror => Event::Tick,
                () = &mut rebuild, if !rebuilt => {
                    rebuilt = true;
                    Event::Tick
                }
            };
            state.step(event)?;
        }
        if let Some(sharing) = &state.sharing {
            sharing.leave().await;
        }
        state.sender.drain().await;
        Ok(())
    }

    fn follow<V: Wire>(&self, topic: &topic::Topic<V>) -> Result<Follower<V>, RunError> {
        self.bus.follow(topic).map_err(|source| RunError::Follow {
            topic: topic.name(),
            source,
        })
    }
}

/// What a follower sees next; `None` where there is none.
async fn next<V: Wire>(
    follower: &mut Option<Follower<V>>,
) -> Option<Result<Followed<V>, BusError>> {
    match follower {
        Some(follower) => Some(follower.next().await),
        None => None,
    }
}

fn ledger(config: &Config) -> Result<Place, BuildError> {
    let remembered = Duration::from_secs(config.remember_seconds);
    let Some(url) = &config.ledger_url else {
        return Ok(Place::in_process(Bounds {
            accounts_max: config.strict_accounts_max,
            reservations_max: config.reservations_max,
            remembered,
        }));
    };
    let ledger = RedisLedger::new(url, remembered, config.reservations_max);
    ledger
        .map(|ledger| Place::Redis(Box::new(ledger)))
        .map_err(BuildError::Ledger)
}

/// All that can happen.
enum Event {
    Decision(Result<Followed<Decision>, BusError>),
    Policy(Result<Followed<PolicyRecord>, BusError>),
    Share(Result<Followed<Share>, BusError>),
    Tick,
    /// A little time has passed, and others share limits.
    ShareTick,
    /// The log has spoken of a report.
    Sent(Sent),
    /// Reports can be sent.
    Send,
}

struct Loop<'a> {
    handle: &'a Handle,
    changes: &'a Changes,
    mirrors: bool,
    started_at: Timestamp,
    sender: Sender<'a>,
    sharing: Option<Sharing<'a>>,
    /// Ticks so far.
    ticks: usize,
    dropped_before: u64,
    expired_before: u64,
}

impl<'a> Loop<'a> {
    fn new(service: &'a Service, changes: &'a Changes) -> Self {
        Self {
            handle: &service.handle,
            changes,
            mirrors: service.config.redis_url.is_some(),
            started_at: service.started_at,
            sender: Sender::new(&service.handle, service.bus.producer(), &service.config),
            sharing: (service.config.share == Some(true))
                .then(|| Sharing::new(&service.handle, service.bus.producer(), &service.config)),
            ticks: 0,
            dropped_before: 0,
            expired_before: 0,
        }
    }

    fn step(&mut self, event: Event) -> Result<(), RunError> {
        match event {
            Event::Decision(followed) => {
                self.decision(followed.map_err(follow_error(&topic::DECISIONS))?)
            }
            Event::Policy(followed) => {
                self.policy(followed.map_err(follow_error(&topic::POLICIES))?)
            }
            Event::Share(followed) => {
                let followed = followed.map_err(follow_error(&topic::SHARES))?;
                if let Some(sharing) = &mut self.sharing {
                    sharing.followed(followed);
                }
            }
            Event::Tick => {
                self.tick();
                self.share_tick();
                if let Some(sharing) = &self.sharing {
                    sharing.set_gauges();
                }
            }
            Event::ShareTick => self.share_tick(),
            Event::Sent(sent) => self.sender.settle(sent),
            Event::Send => self.sender.send(),
        }
        Ok(())
    }

    fn shares_with_others(&self) -> bool {
        self.sharing.as_ref().is_some_and(Sharing::has_others)
    }

    fn share_tick(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.tick();
        }
    }

    fn decision(&self, followed: Followed<Decision>) {
        match followed {
            Followed::Put {
                key, value, offset, ..
            } => self.put(&key, value, offset),
            Followed::Lifted { key, offset, .. } => self.lift(&key, offset),
            Followed::Unreadable {
                key,
                partition,
                offset,
                reason,
            } => {
                self.handle.shared().metrics.unusable("decision");
                tracing::warn!(key, partition, offset, reason, "a decision cannot be read");
            }
            Followed::CaughtUp => {
                self.handle
                    .shared()
                    .gate
                    .freshness
                    .caught_up(Feed::Decisions);
                self.changes.note_all();
                tracing::info!(
                    decisions = self.handle.shared().gate.decisions().len(),
                    "decisions are in memory"
                );
            }
            Followed::Lost => self.lost(Feed::Decisions),
            Followed::Back => self.handle.shared().gate.freshness.back(Feed::Decisions),
        }
    }

    fn put(&self, key: &str, decision: Decision, offset: i64) {
        let standing = match wire::standing(key, decision) {
            Ok(standing) => standing,
            Err(error) => {
                self.handle.shared().metrics.unusable("decision");
                tracing::warn!(key, offset, %error, "a decision cannot be obeyed");
                return;
            }
        };
        let now = self.handle.shared().clock.now();
        let (subject, issued_at) = (standing.subject.clone(), standing.issued_at);
        let gate = &self.handle.shared().gate;
        let applied = gate.put(standing, offset, now);
        // What is replayed at start says nothing of how long decisions take.
        if applied == Applied::Stands && self.started_at <= issued_at {
            self.handle.shared().metrics.applied(issued_at, now);
        }
        if self.mirrors && applied != Applied::Ignored {
            self.changes.note(subject);
        }
    }

    fn lift(&self, key: &str, offset: i64) {
        let gate = &self.handle.shared().gate;
        match wire::subject(key) {
            Ok(subject) => {
                let applied = gate.lift(&subject, offset);
                if self.mirrors && applied == Applied::Lifted {
                    self.changes.note(subject);
                }
            }
            Err(error) => {
                self.handle.shared().metrics.unusable("decision");
                tracing::warn!(key, offset, %error, "a lifted decision is about no subject");
            }
        }
    }

    fn policy(&self, followed: Followed<PolicyRecord>) {
        match followed {
            Followed::Put { key, value, .. } => match wire::ruled(&key, &value) {
                Ok(Ruled::Policy(policy)) => {
                    tracing::info!(version = policy.version, "a new policy holds");
                    self.handle.shared().gate.set_policy(*policy);
                }
                Ok(Ruled::Order(order)) => self.handle.obey(*order),
                Ok(Ruled::Other) => {}
                Err(error) => {
                    self.handle.shared().metrics.unusable("policy");
                    tracing::warn!(%error, "a policy or order cannot be used; the one before stays");
                }
            },
            Followed::Lifted { key, .. } if wire::is_policy(&key) => {
                self.handle.shared().metrics.unusable("policy");
                tracing::warn!("the policy was removed from the log; the one before stays");
            }
            Followed::Unreadable { key, reason, .. } => {
                self.handle.shared().metrics.unusable("policy");
                tracing::warn!(key, reason, "a policy cannot be read; the one before stays");
            }
            Followed::Lifted { key, .. } => {
                if let Some(key) = wire::order_key(&key) {
                    self.handle.shared().gate.end_order(&key);
                }
            }
            Followed::CaughtUp => self
                .handle
                .shared()
                .gate
                .freshness
                .caught_up(Feed::Policies),
            Followed::Lost => self.lost(Feed::Policies),
            Followed::Back => self.handle.shared().gate.freshness.back(Feed::Policies),
        }
    }

    fn lost(&self, feed: Feed) {
        tracing::warn!(
            ?feed,
            "the log does not answer; going on with what is known"
        );
        let now = self.handle.shared().clock.now();
        self.handle.shared().gate.freshness.lost(feed, now);
    }

    fn tick(&mut self) {
        let now = self.handle.shared().clock.now();
        let (gate, metrics) = (&self.handle.shared().gate, &self.handle.shared().metrics);
        for n in 0..SHARDS_A_TICK {
            let shard = self.ticks * SHARDS_A_TICK + n;
            gate.sweep(shard, now);
        }
        self.ticks = self.ticks.wrapping_add(1);
        let dropped = gate.windows.dropped();
        metrics
            .counters_dropped
            .inc_by(dropped - self.dropped_before);
        self.dropped_before = dropped;
        metrics.counters.set(level(gate.windows.len()));
        metrics.decisions.set(level(gate.decisions().len()));
        metrics
            .reports_queued
            .set(level(self.handle.shared().reports.len()));
        self.tidy_ledger(now);
        let stale = gate.freshness.stale_for(now).map_or(0, |age| age.as_secs());
        metrics
            .stale_seconds
            .set(i64::try_from(stale).unwrap_or(i64::MAX));
    }
}

impl Loop<'_> {
    fn tidy_ledger(&mut self, now: Timestamp) {
        let shared = self.handle.shared();
        let counts = shared.ledger.sweep(now);
        let metrics = &shared.metrics;
        metrics.reservations_by("expired", counts.expired - self.expired_before);
        self.expired_before = counts.expired;
        metrics
            .reservations_outstanding
            .set(level(counts.outstanding));
        metrics.ledger_accounts.set(level(counts.accounts));
    }
}

fn follow_error<V>(topic: &topic::Topic<V>) -> impl FnOnce(BusError) -> RunError {
    let topic = topic.name();
    move |source| RunError::Follow { topic, source }
}
