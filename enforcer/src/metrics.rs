//! What the enforcer counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::alert::AlertKind;
use crate::decide::{Outcome, Output, Reason};
use crate::decision::Decision;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    verdict: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// The counters; a clone counts into the same ones.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    signals: Family<OutcomeLabels, Counter>,
    commands: Family<OutcomeLabels, Counter>,
    orders: Family<OutcomeLabels, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    lifts: Family<ReasonLabels, Counter>,
    alerts: Family<KindLabels, Counter>,
    standing: Gauge,
    policy_version: Gauge,
    policy_published: Counter,
    policy_refused: Counter,
    log_retries: Counter,
    recorded: Family<OutcomeLabels, Counter>,
    store_errors: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "weir_enforcer_signals",
            "Signals taken from the log, by what came of them",
            metrics.signals.clone(),
        );
        registry.register(
            "weir_enforcer_commands",
            "Commands taken from the log, by what came of them",
            metrics.commands.clone(),
        );
        registry.register(
            "weir_enforcer_orders",
            "Orders on single subjects' limits, given and ended",
            metrics.orders.clone(),
        );
        registry.register(
            "weir_enforcer_decisions",
            "Decisions said, by verdict and by why they were said",
            metrics.decisions.clone(),
        );
        registry.register(
            "weir_enforcer_lifts",
            "Decisions lifted, by why",
            metrics.lifts.clone(),
        );
        registry.register(
            "weir_enforcer_alerts",
            "Alerts told, by kind",
            metrics.alerts.clone(),
        );
        registry.register(
            "weir_enforcer_standing_decisions",
            "Subjects of this process for which a decision stands",
            metrics.standing.clone(),
        );
        registry.register(
            "weir_enforcer_policy_version",
            "The version of the policy in force",
            metrics.policy_version.clone(),
        );
        registry.register(
            "weir_enforcer_policy_published",
            "Versions of the policy that this process published",
            metrics.policy_published.clone(),
        );
        registry.register(
            "weir_enforcer_policy_refused",
            "Edits of the policy file that were refused because something is wrong with them",
            metrics.policy_refused.clone(),
        );
        registry.register(
            "weir_enforcer_log_retries",
            "Times that what was to be told had to be sent again because the log did not answer",
            metrics.log_retries.clone(),
        );
        registry.register(
            "weir_enforcer_recorded",
            "Records of decisions read for the history, by what came of them",
            metrics.recorded.clone(),
        );
        registry.register(
            "weir_enforcer_store_errors",
            "Times that the history's store did not answer as it should",
            metrics.store_errors.clone(),
        );
        metrics
    }

    pub(crate) fn signal(&self, outcome: Outcome) {
        let outcome = outcome_name(outcome);
        self.signals.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A signal that nobody can read; it is in `weir.dead.v1`.
    pub(crate) fn unreadable_signal(&self) {
        let outcome = "unreadable";
        self.signals.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts what the log has acknowledged.
    pub(crate) fn told(&self, output: &Output) {
        match output {
            Output::Put(Decision { verdict, .. }, why) => {
                let labels = DecisionLabels {
                    verdict: verdict.name(),
                    reason: name(*why),
                };
                self.decisions.get_or_create(&labels).inc();
            }
            Output::Lift(_, why) => {
                let reason = name(*why);
                self.lifts.get_or_create(&ReasonLabels { reason }).inc();
            }
            Output::Alert(alert) => {
                let kind = match alert.kind {
                    AlertKind::Soft => "soft",
                    AlertKind::Hard => "hard",
                    AlertKind::Lifted => "lifted",
                    AlertKind::CspGroup => "csp_group",
                    AlertKind::Asked => "asked",
                    AlertKind::Answered => "answered",
                    AlertKind::Cleared => "cleared",
                };
                self.alerts.get_or_create(&KindLabels { kind }).inc();
            }
            Output::Order(_) => self.order("given"),
            Output::OrderEnded(..) => self.order("ended"),
        }
    }

    fn order(&self, outcome: &'static str) {
        self.orders.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// What came of a command.
    pub(crate) fn command(&self, outcome: Outcome) {
        let outcome = outcome_name(outcome);
        self.commands
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// A command that nobody can read; it goes to the dead.
    pub(crate) fn unreadable_command(&self) {
        let outcome = "unreadable";
        self.commands
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    pub(crate) fn standing(&self, decisions: usize) {
        self.standing
            .set(i64::try_from(decisions).unwrap_or(i64::MAX));
    }

    pub(crate) fn policy_in_force(&self, version: u64) {
        self.policy_version
            .set(i64::try_from(version).unwrap_or(i64::MAX));
    }

    pub(crate) fn policy_published(&self) {
        self.policy_published.inc();
    }

    pub(crate) fn policy_refused(&self) {
        self.policy_refused.inc();
    }

    pub(crate) fn log_retry(&self) {
        self.log_retries.inc();
    }

    pub(crate) fn recorded(&self, records: usize) {
        let outcome = "recorded";
        let counter = self.recorded.get_or_create(&OutcomeLabels { outcome });
        counter.inc_by(records as u64);
    }

    /// A decision or command that nobody can read; it stays in the log.
    pub(crate) fn not_recorded(&self) {
        let outcome = "unreadable";
        self.recorded
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    pub(crate) fn store_error(&self) {
        self.store_errors.inc();
    }
}

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Decided => "decided",
        Outcome::Told => "told",
        Outcome::Stale => "stale",
        Outcome::Ended => "ended",
    }
}

fn name(why: Reason) -> &'static str {
    match why {
        Reason::Crossing => "crossing",
        Reason::Expiry => "expiry",
        Reason::Policy => "policy",
        Reason::Command => "command",
        Reason::Reassert => "reassert",
        Reason::Takeover => "takeover",
    }
}
