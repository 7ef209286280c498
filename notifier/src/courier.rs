//! Carries one leased message: reads its text, delivers it, settles its row.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::clock::SharedClock;

use crate::deliver::{DeliverError, Transport};
use crate::message::Message;
use crate::metrics::{DeliveryOutcome, Metrics};
use crate::retry::{Backoff, Failure, Next};
use crate::store::{Ending, Form, Job, Store, StoreError};

/// What it takes to carry any message.
pub(crate) struct Courier {
    pub(crate) store: Store,
    pub(crate) transports: BTreeMap<String, Transport>,
    pub(crate) backoff: Backoff,
    pub(crate) lease: Duration,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Metrics,
}

impl Courier {
    /// Leases what is due on `channel`, at most `limit`.
    pub(crate) async fn claim(&self, channel: &str, limit: usize) -> Result<Vec<Job>, StoreError> {
        let now = self.clock.now();
        self.store.claim(channel, self.lease, limit, now).await
    }

    /// One try of `job`, settled and counted. After an error the lease ends by itself and the message is tried
    /// again, so it is sent at least once.
    pub(crate) async fn carry(&self, job: &Job) -> Result<(), StoreError> {
        let tried = match self.compose(job).await? {
            Some(message) => self.deliver(job, &message).await,
            None => Err(DeliverError::Unwritable(
                "its alert is no longer kept".to_owned(),
            )),
        };
        let ending = match tried {
            Ok(()) => Ending::Sent,
            Err(error) => self.after(job, &error),
        };
        let settled = self.store.settle(job, &ending, self.clock.now()).await?;
        let outcome = match &ending {
            _ if !settled => DeliveryOutcome::Lost,
            Ending::Sent => DeliveryOutcome::Sent,
            Ending::Again { .. } => DeliveryOutcome::Retried,
            Ending::Failed { .. } => DeliveryOutcome::Failed,
        };
        self.metrics.delivery(&job.channel, outcome);
        Ok(())
    }

    async fn compose(&self, job: &Job) -> Result<Option<Message>, StoreError> {
        match job.form {
            Form::Alert => {
                let alert = self.store.alert(&job.message).await?;
                Ok(alert.map(|alert| Message::of_alert(&alert, &job.channel)))
            }
            Form::Digest => {
                let (alerts, count) = self.store.folded(&job.message, &job.channel).await?;
                let digest = || Message::of_digest(&job.message, &job.channel, &alerts, count);
                Ok((0 < count).then(digest))
            }
        }
    }

    async fn deliver(&self, job: &Job, message: &Message) -> Result<(), DeliverError> {
        match self.transports.get(&job.channel) {
            Some(transport) => transport.deliver(message, self.clock.now()).await,
            None => Err(DeliverError::Unwritable("no such channel".to_owned())),
        }
    }

    fn after(&self, job: &Job, error: &DeliverError) -> Ending {
        let failure = Failure {
            attempts: job.attempts.saturating_add(1),
            queued_at: job.queued_at,
            now: self.clock.now(),
            retry_after: error.retry_after(),
        };
        let text = error.to_string();
        let next = match error.is_final() {
            true => Next::GiveUp,
            false => self.backoff.after(failure, rand::random()),
        };
        match next {
            Next::At(at) => {
                tracing::debug!(
                    channel = job.channel,
                    attempts = failure.attempts,
                    error = text,
                    "will try again"
                );
                Ending::Again { at, error: text }
            }
            Next::GiveUp => {
                tracing::error!(
                    channel = job.channel,
                    attempts = failure.attempts,
                    error = text,
                    "gave up a message"
                );
                Ending::Failed { error: text }
            }
        }
    }
}

#[cfg(test)]
mod tests;
