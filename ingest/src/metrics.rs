//! What ingest counts. Labels are few and fixed; a tenant or key is never one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabel {
    stream: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// A clone counts into the same numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    accepted: Family<StreamLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    bytes: Counter,
    in_progress: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "weir_ingest_events_accepted",
            "Events that the log acknowledged, by stream",
            metrics.accepted.clone(),
        );
        registry.register(
            "weir_ingest_requests_refused",
            "Requests of which nothing was taken, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "weir_ingest_body_bytes",
            "Bytes of events read, inflated",
            metrics.bytes.clone(),
        );
        registry.register(
            "weir_ingest_requests_in_progress",
            "Requests that are not answered yet",
            metrics.in_progress.clone(),
        );
        metrics
    }

    pub(crate) fn accepted(&self, stream: &'static str, events: u64) {
        self.accepted
            .get_or_create(&StreamLabel { stream })
            .inc_by(events);
    }

    pub(crate) fn refused(&self, reason: &'static str, requests: u64) {
        self.refused
            .get_or_create(&ReasonLabel { reason })
            .inc_by(requests);
    }

    /// Counts a request as in progress until the guard is dropped, which also happens when its client goes away.
    pub(crate) fn enter(&self) -> InProgress {
        self.in_progress.inc();
        InProgress(self.in_progress.clone())
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.bytes.inc_by(bytes as u64);
    }
}

/// One request in progress.
pub(crate) struct InProgress(Gauge);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_dropped_is_no_longer_in_progress() {
        let metrics = Metrics::default();
        let (one, two) = (metrics.enter(), metrics.enter());
        assert_eq!(metrics.in_progress.get(), 2);
        drop(one);
        drop(two);
        assert_eq!(metrics.in_progress.get(), 0);
    }
}
