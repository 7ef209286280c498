//! What the notifier counts. Channels are the operator's, so their names are bounded.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::route::Plan;

/// What became of an alert as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlertOutcome {
    /// At least one channel hears it.
    Heard,
    /// No channel does.
    Unheard,
    /// Known already.
    Repeated,
    /// Nobody could read it; it is in `weir.dead.v1`.
    Unreadable,
}

impl AlertOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Heard => "heard",
            Self::Unheard => "unheard",
            Self::Repeated => "repeated",
            Self::Unreadable => "unreadable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlertLabels {
    outcome: &'static str,
}

/// What became of an alert or a digest on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// Placed in the outbox to be sent on its own; later counted once more as sent or failed.
    Queued,
    /// A digest that was opened; later counted once more as sent or failed.
    Digest,
    /// Told as a part of a digest.
    Folded,
    /// Too old to be told.
    Suppressed,
    Sent,
    /// A try that failed; another one follows.
    Retried,
    /// Given up, or refused for good.
    Failed,
    /// Settled by somebody else, since the lease had ended.
    Lost,
}

impl DeliveryOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Digest => "digest",
            Self::Folded => "folded",
            Self::Suppressed => "suppressed",
            Self::Sent => "sent",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    channel: String,
    outcome: &'static str,
}

/// The counters; a clone counts into the same ones.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    alerts: Family<AlertLabels, Counter>,
    deliveries: Family<DeliveryLabels, Counter>,
    pending: Gauge,
    store_errors: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "weir_notifier_alerts",
            "Alerts taken from the log, by what became of them",
            metrics.alerts.clone(),
        );
        registry.register(
            "weir_notifier_deliveries",
            "Messages by channel and outcome: queued + digest = sent + failed + pending",
            metrics.deliveries.clone(),
        );
        registry.register(
            "weir_notifier_pending_messages",
            "Messages that wait in the outbox for their first or next try",
            metrics.pending.clone(),
        );
        registry.register(
            "weir_notifier_store_errors",
            "Times that the store did not answer as it should",
            metrics.store_errors.clone(),
        );
        metrics
    }

    pub(crate) fn alert(&self, outcome: AlertOutcome) {
        let outcome = outcome.name();
        self.alerts.get_or_create(&AlertLabels { outcome }).inc();
    }

    pub(crate) fn delivery(&self, channel: &str, outcome: DeliveryOutcome) {
        self.deliveries(channel, outcome, 1);
    }

    pub(crate) fn deliveries(&self, channel: &str, outcome: DeliveryOutcome, count: u64) {
        let labels = DeliveryLabels {
            channel: channel.to_owned(),
            outcome: outcome.name(),
        };
        self.deliveries.get_or_create(&labels).inc_by(count);
    }

    /// Counts where an alert was placed on one channel.
    pub(crate) fn plan(&self, channel: &str, plan: &Plan) {
        match plan {
            Plan::Send => self.delivery(channel, DeliveryOutcome::Queued),
            Plan::Join { .. } => self.delivery(channel, DeliveryOutcome::Folded),
            Plan::Open { .. } => {
                self.delivery(channel, DeliveryOutcome::Digest);
                self.delivery(channel, DeliveryOutcome::Folded);
            }
            Plan::Suppress { .. } => self.delivery(channel, DeliveryOutcome::Suppressed),
        }
    }

    pub(crate) fn set_pending(&self, messages: i64) {
        self.pending.set(messages);
    }

    pub(crate) fn store_error(&self) {
        self.store_errors.inc();
    }
}
