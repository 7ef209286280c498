//! How a log that is in doubt is asked.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use schemas::topic::{self, POLICIES};

use super::NOT_OURS;
use super::delivery::{Deliveries, Delivery, Pending};
use crate::error::SendError;
use crate::filler::FILLER;
use crate::health::{PROBE_WITHIN, Probe};
use crate::metrics::Metrics;

/// Partitions that are asked at once: one of them may be without a server while the others are not.
const PLACES: usize = 3;

/// Asks through the producer itself: what it can do is the question.
pub(super) struct LogProbe {
    native: ThreadedProducer<Deliveries>,
    metrics: Metrics,
    on_their_way: Vec<Delivery>,
    /// Counts the questions: each goes to another partition than the one before.
    asked: usize,
}

impl LogProbe {
    pub(super) fn new(native: ThreadedProducer<Deliveries>, metrics: &Metrics) -> Self {
        Self {
            native,
            metrics: metrics.clone(),
            on_their_way: Vec::new(),
            asked: 0,
        }
    }

    /// How many partitions the topic has, if a server says so.
    fn partitions(&self, topic: &str) -> Option<usize> {
        let client = self.native.client();
        let metadata = client.fetch_metadata(Some(topic), PROBE_WITHIN).ok()?;
        let counts = metadata.topics().iter().map(|t| t.partitions().len());
        counts.max().filter(|count| *count != 0)
    }

    /// Sends a filler, which nobody is handed. `None` when the client library has no room: what waits there is
    /// answered as well.
    fn send(&self, topic: &str, partition: usize) -> Option<Delivery> {
        let produced = self.metrics.produced(label(topic));
        let (pending, delivery) = Pending::question(produced, FILLER.len());
        let named: Header<'_, &[u8]> = Header {
            key: FILLER,
            value: None,
        };
        let record: BaseRecord<'_, str, [u8], _> = BaseRecord::with_opaque_to(topic, pending)
            .partition(i32::try_from(partition).ok()?)
            .key(FILLER)
            .headers(OwnedHeaders::new().insert(named));
        // Before sending: the answer may come before this returns.
        self.metrics.queued.inc();
        let sent = self.native.send(record);
        if sent.is_err() {
            self.metrics.queued.dec();
        }
        sent.ok().map(|()| delivery)
    }

    /// Forgets what was answered; says whether any answer was that it will never do.
    fn refused(&mut self) -> bool {
        let mut refused = false;
        self.on_their_way.retain_mut(|delivery| {
            let Some(outcome) = delivery.settled() else {
                return true;
            };
            if let Err(error) = outcome
                && (!error.is_retriable() || matches!(error, SendError::Denied(_)))
            {
                tracing::debug!(%error, "the log refuses a record that is to show whether it answers");
                refused = true;
            }
            false
        });
        refused
    }
}

/// As the other records of this topic are counted.
fn label(topic: &str) -> &str {
    let ours = topic::ALL.iter().any(|spec| spec.name == topic);
    if ours { topic } else { NOT_OURS }
}

impl Probe for LogProbe {
    fn reaches(&mut self) -> bool {
        let client = self.native.client();
        let asked = client.fetch_metadata(Some(POLICIES.name()), PROBE_WITHIN);
        asked.is_ok()
    }

    fn write(&mut self, topic: &str) -> bool {
        if self.refused() {
            return true;
        }
        let Some(partitions) = self.partitions(topic) else {
            return false;
        };
        for _ in 0..PLACES.min(partitions) {
            if partitions <= self.on_their_way.len() {
                break;
            }
            self.asked += 1;
            let sent = self.send(topic, self.asked % partitions);
            self.on_their_way.extend(sent);
        }
        false
    }
}
