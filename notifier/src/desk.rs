//! What the loop does with what happens: stores alerts, keeps deliveries going, tells of trouble once.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::SendError;
use bus::consumer::{Batch, Consumer};
use schemas::time::Timestamp;
use schemas::topic::DEAD;
use thiserror::Error;

use crate::ChannelConfig;
use crate::alert::Alert;
use crate::metrics::{AlertOutcome, DeliveryOutcome};
use crate::run::Service;
use crate::store::{Job, Recorded, StoreError};
use crate::wire::{self, Dead};

/// How often old alerts are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// A try that ended.
pub(crate) struct Carried {
    channel: String,
    result: Result<(), StoreError>,
}

/// What the loop knows beside what is stored.
pub(crate) struct Desk<'a> {
    service: &'a Service,
    /// A batch that is not yet stored. While there is one, no more are taken.
    pub(crate) held: Option<Batch>,
    /// Tries on the way, by channel.
    busy: BTreeMap<&'a str, usize>,
    /// The last word from the store or the log was an error.
    in_trouble: bool,
    forgot_at: Option<Timestamp>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(service: &'a Service) -> Self {
        let channel = |channel: &'a ChannelConfig| (channel.name.as_str(), 0);
        Self {
            service,
            held: None,
            busy: service.config.channel.iter().map(channel).collect(),
            in_trouble: false,
            forgot_at: None,
        }
    }

    pub(crate) async fn fail_strays(&mut self) {
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
    pub(crate) async fn take(&mut self, consumer: &Consumer) -> bool {
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

    async fn bury(&self, dead: &Dead) -> Result<(), SendError> {
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

    pub(crate) fn carried(&mut self, carried: Carried) -> bool {
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

    pub(crate) async fn tick(&mut self, consumer: &Consumer) -> bool {
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
    pub(crate) async fn claim(&mut self) -> Vec<impl Future<Output = Carried> + use<'a>> {
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
        let carry = |job: Job| async move {
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
