//! How a log that is in doubt is asked.

use prometheus_client::metrics::counter::Counter;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use schemas::topic::POLICIES;

use super::delivery::{Deliveries, Delivery, Pending};
use crate::error::SendError;
use crate::health::{PROBE_WITHIN, Probe};
use crate::metrics::Metrics;

/// Nothing ever stands under this key of `weir.policies.v1`, so lifting it says nothing.
const KEY: &str = "probe";

/// Asks through the producer itself: what it can do is the question.
pub(super) struct LogProbe {
    native: ThreadedProducer<Deliveries>,
    metrics: Metrics,
    produced: Counter,
    on_its_way: Option<Delivery>,
}

impl LogProbe {
    pub(super) fn new(native: ThreadedProducer<Deliveries>, metrics: &Metrics) -> Self {
        Self {
            native,
            metrics: metrics.clone(),
            produced: metrics.produced(POLICIES.name()),
            on_its_way: None,
        }
    }

    /// `None` when the client library has no room: what waits there is answered as well.
    fn send(&self) -> Option<Delivery> {
        let (pending, delivery) = Pending::question(self.produced.clone(), KEY.len());
        let record: BaseRecord<'_, str, [u8], _> =
            BaseRecord::with_opaque_to(POLICIES.name(), pending)
                .partition(0)
                .key(KEY);
        // Before sending: the answer may come before this returns.
        self.metrics.queued.inc();
        let sent = self.native.send(record);
        if sent.is_err() {
            self.metrics.queued.dec();
        }
        sent.ok().map(|()| delivery)
    }
}

impl Probe for LogProbe {
    fn reaches(&mut self) -> bool {
        let client = self.native.client();
        let asked = client.fetch_metadata(Some(POLICIES.name()), PROBE_WITHIN);
        asked.is_ok()
    }

    fn write(&mut self) -> bool {
        let outcome = match &mut self.on_its_way {
            None => None,
            Some(delivery) => match delivery.settled() {
                None => return false,
                settled => settled,
            },
        };
        if let Some(Err(error)) = outcome
            && (!error.is_retriable() || matches!(error, SendError::Denied(_)))
        {
            tracing::debug!(%error, "the log refuses a record that is to show whether it answers");
            self.on_its_way = None;
            return true;
        }
        self.on_its_way = self.send();
        false
    }
}
