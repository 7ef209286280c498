//! A gateway without a log or a clock, for those who try a policy out: decisions in, answers and reports out. Its ledger
//! of strict limits lives in the process.

use std::sync::Arc;
use std::time::Duration;

use bus::clock::{ManualClock, SharedClock};
use futures_util::FutureExt;
use prometheus_client::registry::Registry;
use schemas::orders::Order;
use schemas::policy::Policy;
use schemas::record::{Decision, UsageRecord};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use crate::check::{Feed, Freshness, Gate};
use crate::config::Config;
use crate::handle::{Handle, Held, NotHeld, Shared};
use crate::ledger::{Bounds, Commit, Ending};
use crate::metrics::Metrics;
use crate::place::Place;
use crate::recent::Recent;
use crate::reply::Reply;
use crate::reports::Reports;
use crate::request::{Ask, Consume};
use crate::reservation::Reservation;
use crate::wire::{self, Outgoing};

/// What the own windows may take: as much as any set of cases needs.
const WINDOWS_BYTES_MAX: usize = 64 << 20;
/// Each call is told of before the next one comes.
const REPORTS_MAX: usize = 16;
const AT_ONCE: &str = "a ledger in the process answers at once";

/// One gateway whose view is never stale.
pub struct DryRun {
    handle: Handle,
    clock: Arc<ManualClock>,
    /// Of decisions heard: each is newer than the one before.
    next_offset: i64,
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
        let config = Config::default();
        let remembered = Duration::from_secs(config.remember_seconds);
        let ledger = Place::in_process(Bounds {
            accounts_max: config.strict_accounts_max,
            reservations_max: config.reservations_max,
            remembered,
        });
        // There is no past to read back.
        if let Place::Process(ledger) = &ledger {
            ledger.set_complete(true);
        }
        let clock = Arc::new(ManualClock::new(Timestamp::MIN));
        let handle = Handle::new(Shared {
            gate,
            clock: Arc::clone(&clock) as SharedClock,
            recent: Recent::new(config.remember_requests_max, remembered),
            reports: Reports::new(REPORTS_MAX),
            metrics: Metrics::register(&mut Registry::default()),
            ledger,
            has_share: true.into(),
        });
        Self {
            handle,
            clock,
            next_offset: 0,
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
        self.gate().put(standing, offset, now);
        Ok(())
    }

    /// Obeys an order from here on.
    pub fn put_order(&self, order: Order) {
        self.gate().put_order(order);
    }

    /// Forgets what stands for `subject`.
    pub fn lift(&mut self, subject: &Subject) {
        let offset = self.offset();
        self.gate().lift(subject, offset);
    }

    /// Judges a request. What it admits comes with the usage that it would report.
    pub fn check(&mut self, ask: &Ask, now: Timestamp) -> (Reply, Option<UsageRecord>) {
        self.clock.set(now);
        let reply = self.handle.decide(ask.clone());
        (Arc::unwrap_or_clone(reply), self.usage())
    }

    /// Holds room for a request, for `ttl`.
    ///
    /// # Errors
    /// As [`Handle::reserve`].
    ///
    /// # Panics
    /// Never: its ledger answers at once.
    pub fn reserve(&mut self, ask: Ask, ttl: Duration, now: Timestamp) -> Result<Held, NotHeld> {
        self.clock.set(now);
        let held = self.handle.reserve(ask, ttl).now_or_never();
        // What is refused is nobody's usage.
        self.usage();
        held.expect(AT_ONCE)
    }

    /// Counts what was spent under a reservation, with the usage that it would report.
    ///
    /// # Panics
    /// Never: its ledger answers at once.
    pub fn commit(
        &mut self,
        reservation: &Reservation,
        actual: &Consume,
        now: Timestamp,
    ) -> (Commit, Option<UsageRecord>) {
        self.clock.set(now);
        let committed = self.handle.commit(reservation, actual).now_or_never();
        (committed.expect(AT_ONCE).commit, self.usage())
    }

    /// Gives back what a reservation holds, and says how it ended. `None`: it is not known any more.
    ///
    /// # Panics
    /// Never: its ledger answers at once.
    pub fn release(&mut self, reservation: &Reservation, now: Timestamp) -> Option<Ending> {
        self.clock.set(now);
        let released = self.handle.release(reservation).now_or_never();
        released.expect(AT_ONCE)
    }

    fn gate(&self) -> &Gate {
        &self.handle.shared().gate
    }

    /// What is to be reported as usage since this was asked last.
    fn usage(&self) -> Option<UsageRecord> {
        let reports = self.handle.shared().reports.take(REPORTS_MAX);
        let mut outgoing = reports
            .iter()
            .filter_map(|report| wire::outgoing("dry-run", report));
        outgoing.find_map(|outgoing| match outgoing {
            Outgoing::Usage(_, usage) => Some(*usage),
            Outgoing::Refusal(..) => None,
        })
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
        policy_of("sliding 60s", Mode::Block)
    }

    /// Two requests of a tenant.
    fn policy_of(window: &str, mode: Mode) -> Policy {
        let limit = Limit {
            name: "rpm".to_owned(),
            pattern: Pattern::parse("tenant/*").unwrap(),
            meter: "requests".parse().unwrap(),
            window: window.parse().unwrap(),
            levels: vec![Level {
                name: "hard".to_owned(),
                threshold: 2,
            }],
            keep: 0,
            mode,
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

    fn requests(usage: Option<UsageRecord>) -> Option<i64> {
        match usage? {
            Recorded::Event(usage) => Some(usage.requests),
            Recorded::Marker(_) => None,
        }
    }

    #[test]
    fn reserves_commits_and_releases() {
        const TTL: Duration = Duration::from_secs(30);
        let mut gateway = DryRun::new(policy_of("sliding 60s", Mode::Strict));
        let at = |seconds: i64| Timestamp::from_seconds(1_000 + seconds);
        let acme = Ask::default().with(Dimension::Tenant, "acme");
        let first = gateway
            .reserve(acme.clone(), TTL, at(0))
            .unwrap()
            .reservation;
        let second = gateway
            .reserve(acme.clone(), TTL, at(0))
            .unwrap()
            .reservation;
        let third = gateway.reserve(acme.clone(), TTL, at(0));
        assert!(matches!(third, Err(NotHeld::Refused(reply)) if reply.status == 429));
        assert_eq!(gateway.release(&second, at(1)), Some(Ending::Released));
        let (reply, usage) = gateway.check(&acme, at(1));
        assert_eq!((reply.status, requests(usage)), (200, Some(1)));
        let (commit, usage) = gateway.commit(&first, &Consume::default(), at(2));
        assert_eq!((commit, requests(usage)), (Commit::default(), Some(1)));
        let (reply, usage) = gateway.check(&acme, at(2));
        assert_eq!((reply.status, requests(usage)), (429, None));
    }

    #[test]
    fn what_is_in_flight_ends_by_the_time_that_it_is_told() {
        let mut gateway = DryRun::new(policy_of("concurrent", Mode::Strict));
        let at = |seconds: i64| Timestamp::from_seconds(1_000 + seconds);
        let acme = Ask::default().with(Dimension::Tenant, "acme");
        let mut enter = |seconds| {
            let ttl = Duration::from_secs(30);
            gateway.reserve(acme.clone(), ttl, at(seconds)).is_ok()
        };
        assert!(enter(0) && enter(0));
        assert!(!enter(29));
        assert!(enter(30) && enter(30) && !enter(30));
    }
}
