//! What the gateway counts. Labels are few and fixed; a tenant, key or address is never one.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use schemas::time::Timestamp;

use crate::cache::Verdict;
use crate::ledger::Commit;
use crate::reply::Reply;
use crate::reports::Kind;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// A clone counts into the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// By verdict, in the order of [`Verdict`]: on the path of every check, so found without a lookup.
    checks: [Counter; 4],
    pub(crate) stale_checks: Counter,
    pub(crate) repeated_checks: Counter,
    bad_requests: Family<ReasonLabel, Counter>,
    pub(crate) decisions: Gauge,
    pub(crate) counters: Gauge,
    pub(crate) counters_dropped: Counter,
    pub(crate) stale_seconds: Gauge,
    latency: Histogram,
    unusable: Family<KindLabel, Counter>,
    reported: Family<KindLabel, Counter>,
    reports_dropped: Family<KindLabel, Counter>,
    pub(crate) reports_tenantless: Counter,
    pub(crate) reports_queued: Gauge,
    pub(crate) mirror_failures: Counter,
    reservations: Family<OutcomeLabel, Counter>,
    pub(crate) reservations_outstanding: Gauge,
    pub(crate) ledger_accounts: Gauge,
    pub(crate) share_members: Gauge,
    pub(crate) share_borrowed: Gauge,
    pub(crate) share_lent: Gauge,
    pub(crate) share_overshoot: Gauge<f64, AtomicU64>,
    shares_told: Family<KindLabel, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let verdicts = [
            Verdict::Allow,
            Verdict::Throttle,
            Verdict::Challenge,
            Verdict::Block,
        ];
        let checks = Family::<VerdictLabel, Counter>::default();
        let by_verdict = verdicts.map(|verdict| {
            let verdict = verdict.name();
            checks.get_or_create(&VerdictLabel { verdict }).clone()
        });
        let metrics = Self {
            checks: by_verdict,
            stale_checks: Counter::default(),
            repeated_checks: Counter::default(),
            bad_requests: Family::default(),
            decisions: Gauge::default(),
            counters: Gauge::default(),
            counters_dropped: Counter::default(),
            stale_seconds: Gauge::default(),
            latency: Histogram::new(latency_buckets()),
            unusable: Family::default(),
            reported: Family::default(),
            reports_dropped: Family::default(),
            reports_tenantless: Counter::default(),
            reports_queued: Gauge::default(),
            mirror_failures: Counter::default(),
            reservations: Family::default(),
            reservations_outstanding: Gauge::default(),
            ledger_accounts: Gauge::default(),
            share_members: Gauge::default(),
            share_borrowed: Gauge::default(),
            share_lent: Gauge::default(),
            share_overshoot: Gauge::default(),
            shares_told: Family::default(),
        };
        registry.register("weir_gateway_checks", "Requests judged, by verdict", checks);
        metrics.register_checks(registry);
        metrics.register_state(registry);
        metrics.register_reports(registry);
        metrics.register_ledger(registry);
        metrics.register_shares(registry);
        metrics
    }

    fn register_ledger(&self, registry: &mut Registry) {
        registry.register(
            "weir_gateway_reservations",
            "Reservations by what became of them: reserved, repeated, refused, committed, released, expired; and of those committed the late (ended before) and the over (more than the estimate)",
            self.reservations.clone(),
        );
        registry.register(
            "weir_gateway_reservations_outstanding",
            "Reservations that hold something",
            self.reservations_outstanding.clone(),
        );
        registry.register(
            "weir_gateway_ledger_accounts",
            "Accounts of strict limits in memory",
            self.ledger_accounts.clone(),
        );
    }

    fn register_shares(&self, registry: &mut Registry) {
        registry.register(
            "weir_gateway_share_members",
            "Gateways that share limits, this one included; 0 where they are not shared",
            self.share_members.clone(),
        );
        registry.register(
            "weir_gateway_share_borrowed_units",
            "Units of limits that other gateways have lent this one",
            self.share_borrowed.clone(),
        );
        registry.register(
            "weir_gateway_share_lent_units",
            "Units of limits that this gateway has lent others, until they can count there no more",
            self.share_lent.clone(),
        );
        registry.register(
            "weir_gateway_share_overshoot_ratio",
            "What all gateways together may admit beyond a shared limit now, at the most, in parts of that limit; 0 unless one came within the longest shared window",
            self.share_overshoot.clone(),
        );
        registry.register(
            "weir_gateway_shares_told",
            "Records told to the gateways that share limits, by kind: beat, ack, want, gift, return, left",
            self.shares_told.clone(),
        );
    }

    fn register_checks(&self, registry: &mut Registry) {
        registry.register(
            "weir_gateway_checks_stale",
            "Requests judged by a view that was out of date",
            self.stale_checks.clone(),
        );
        registry.register(
            "weir_gateway_checks_repeated",
            "Checks answered as before, since their request id was admitted already",
            self.repeated_checks.clone(),
        );
        registry.register(
            "weir_gateway_requests_refused",
            "Calls of the check endpoints that could not be answered, by reason",
            self.bad_requests.clone(),
        );
    }

    fn register_state(&self, registry: &mut Registry) {
        registry.register(
            "weir_gateway_decisions",
            "Decisions in memory",
            self.decisions.clone(),
        );
        registry.register(
            "weir_gateway_counters",
            "Counters of own windows in memory",
            self.counters.clone(),
        );
        registry.register(
            "weir_gateway_counters_dropped",
            "Counters that held something and were dropped for want of memory: those subjects start from zero here",
            self.counters_dropped.clone(),
        );
        registry.register(
            "weir_gateway_stale_seconds",
            "For how long the view has been out of date; zero while it is not",
            self.stale_seconds.clone(),
        );
        registry.register(
            "weir_gateway_decision_latency_seconds",
            "From a decision's issue to its place in this gateway's memory",
            self.latency.clone(),
        );
        registry.register(
            "weir_gateway_records_unusable",
            "Decisions and policies from the log that could not be used; what stood before still does",
            self.unusable.clone(),
        );
        registry.register(
            "weir_gateway_mirror_failures",
            "Attempts to bring Redis up to date that failed and are made again",
            self.mirror_failures.clone(),
        );
    }

    fn register_reports(&self, registry: &mut Registry) {
        registry.register(
            "weir_gateway_reports_sent",
            "Reports that the log acknowledged, by kind",
            self.reported.clone(),
        );
        registry.register(
            "weir_gateway_reports_dropped",
            "Reports that never reached the log: usage not counted by the aggregator, refusals not kept",
            self.reports_dropped.clone(),
        );
        registry.register(
            "weir_gateway_reports_tenantless",
            "Admissions counted here only, since they name no tenant",
            self.reports_tenantless.clone(),
        );
        registry.register(
            "weir_gateway_reports_queued",
            "Reports that wait for the log",
            self.reports_queued.clone(),
        );
    }

    pub(crate) fn checked(&self, reply: &Reply) {
        self.checks[reply.verdict as usize].inc();
        if reply.stale_s.is_some() {
            self.stale_checks.inc();
        }
    }

    pub(crate) fn reservation(&self, outcome: &'static str) {
        self.reservations_by(outcome, 1);
    }

    pub(crate) fn reservations_by(&self, outcome: &'static str, count: u64) {
        let outcome = OutcomeLabel { outcome };
        self.reservations.get_or_create(&outcome).inc_by(count);
    }

    pub(crate) fn reserved(&self, repeated: bool) {
        self.reservation(if repeated { "repeated" } else { "reserved" });
    }

    pub(crate) fn committed(&self, commit: Commit) {
        self.reservation("committed");
        if commit.late.is_some() {
            self.reservation("late");
        }
        if commit.over {
            self.reservation("over");
        }
    }

    pub(crate) fn bad_request(&self, reason: &'static str) {
        self.bad_requests
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }

    /// A decision that was just put into memory.
    pub(crate) fn applied(&self, issued_at: Timestamp, now: Timestamp) {
        self.latency.observe(now.since(issued_at).as_secs_f64());
    }

    /// `decision` or `policy`.
    pub(crate) fn unusable(&self, kind: &'static str) {
        self.unusable.get_or_create(&KindLabel { kind }).inc();
    }

    pub(crate) fn share_told(&self, kind: &'static str) {
        self.shares_told.get_or_create(&KindLabel { kind }).inc();
    }

    pub(crate) fn report_sent(&self, kind: &Kind) {
        self.reported.get_or_create(&label(kind)).inc();
    }

    pub(crate) fn report_dropped(&self, kind: &Kind) {
        self.reports_dropped.get_or_create(&label(kind)).inc();
    }
}

fn label(kind: &Kind) -> KindLabel {
    KindLabel {
        kind: match kind {
            Kind::Admitted | Kind::Spent { .. } => "usage",
            Kind::Refused(_) => "refusal",
        },
    }
}

/// 1 ms to 16 s.
fn latency_buckets() -> impl Iterator<Item = f64> {
    (0..15).map(|power| 0.001 * f64::from(1 << power))
}

/// A number of things, as a gauge takes it.
pub(crate) fn level(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
