//! A gateway without a log or a clock, for those who try a policy out: decisions in, answers and reports out.

use std::time::Duration;

use schemas::orders::Order;
use schemas::policy::Policy;
use schemas::record::{Decision, UsageRecord};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use crate::check::{Feed, Freshness, Gate};
use crate::handle::kind;
use crate::reply::Reply;
use crate::reports::Report;
use crate::request::Ask;
use crate::wire::{self, Outgoing};

/// What the own windows may take: as much as any set of cases needs.
const WINDOWS_BYTES_MAX: usize = 64 << 20;

/// One gateway whose view is never stale.
pub struct DryRun {
    gate: Gate,
    /// Of decisions heard: each is newer than the one before.
    next_offset: i64,
    checks: u64,
}

impl DryRun {
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let freshness = Freshness::new(Timestamp::MIN, Duration::MAX);
        freshness.caught_up(Feed::Decisions);
        freshness.caught_up(Feed::Policies);
        // Nobody can aim at a table that lasts as long as a case.
        let gate = Gate::new([0, 0], WINDOWS_BYTES_MAX, freshness);
        gate.set_policy(policy);
        Self {
            gate,
            next_offset: 0,
            checks: 0,
        }
    }

    /// Obeys a decision from here on.
    ///
    /// # Errors
    /// Why nobody could obey it.
    pub fn put(&mut self, decision: Decision, now: Timestamp) -> Result<(), String> {
        let key = decision.subject.as_str().to_owned();
        let standing = wire::standing(&key, decision).map_err(|error| error.to_string())?;
        let offset = self.offset();
        self.gate.put(standing, offset, now);
        Ok(())
    }

    /// Obeys an order from here on.
    pub fn put_order(&self, order: Order) {
        self.gate.put_order(order);
    }

    /// Forgets what stands for `subject`.
    pub fn lift(&mut self, subject: &Subject) {
        let offset = self.offset();
        self.gate.lift(subject, offset);
    }

    /// Judges a request. What it admits comes with the usage that it would report.
    pub fn check(&mut self, ask: &Ask, now: Timestamp) -> (Reply, Option<UsageRecord>) {
        self.checks += 1;
        let view = self.gate.view(now);
        let mut ask = ask.clone();
        ask.weigh(view.policy());
        let answer = self.gate.check(&view, &ask.request(), now);
        let request_id = self.checks.to_string();
        let reply = Reply::new(&answer, &view, &ask, request_id, now);
        let usage = kind(&answer, &reply, &ask).and_then(|kind| {
            let report = Report {
                request_id: reply.request_id.clone(),
                at: now,
                ask,
                kind,
            };
            match wire::outgoing("dry-run", &report)? {
                Outgoing::Usage(_, usage) => Some(*usage),
                Outgoing::Refusal(..) => None,
            }
        });
        (reply, usage)
    }

    fn offset(&mut self) -> i64 {
        self.next_offset += 1;
        self.next_offset
    }
}

#[cfg(test)]
mod tests {
    use schemas::policy::{Level, Limit, Mode, Stale};
    use schemas::record::{Recorded, Verdict};
    use schemas::subject::{Dimension, Pattern};

    use super::*;

    fn policy() -> Policy {
        let limit = Limit {
            name: "rpm".to_owned(),
            pattern: Pattern::parse("tenant/*").unwrap(),
            meter: "requests".parse().unwrap(),
            window: "sliding 60s".parse().unwrap(),
            levels: vec![Level {
                name: "hard".to_owned(),
                threshold: 2,
            }],
            keep: 0,
            mode: Mode::Block,
            stale: Stale::default(),
            tier: None,
            replaced_in: Vec::new(),
            status: None,
            headers: true,
        };
        Policy {
            version: 1,
            limits: vec![limit],
            ..Policy::default()
        }
    }

    #[test]
    fn counts_reports_and_obeys() {
        let mut gateway = DryRun::new(policy());
        let now = Timestamp::from_seconds(1_000);
        let acme = Ask::default().with(Dimension::Tenant, "acme");
        for _ in 0..2 {
            let (reply, usage) = gateway.check(&acme, now);
            assert!(!reply.is_refused());
            assert!(matches!(usage, Some(Recorded::Event(usage)) if usage.requests == 1));
        }
        let (reply, usage) = gateway.check(&acme, now);
        assert_eq!((reply.status, usage), (429, None));

        let beta = Ask::default().with(Dimension::Tenant, "beta");
        let decision = Decision {
            id: "d".to_owned(),
            subject: Subject::tenant("beta"),
            verdict: Verdict::Block,
            causes: Vec::new(),
            status: Some(402),
            until: None,
            terminal: false,
            seq: 1,
            issued_at: now,
            ttl_seconds: 60,
        };
        gateway.put(decision, now).unwrap();
        assert_eq!(gateway.check(&beta, now).0.status, 402);
        gateway.lift(&Subject::tenant("beta"));
        assert_eq!(gateway.check(&beta, now).0.status, 200);
    }
}
