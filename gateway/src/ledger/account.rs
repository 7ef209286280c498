//! One account: what one subject has spent and what is outstanding under one limit.

use std::time::Duration;

use chrono_tz::Tz;
use schemas::time::Timestamp;

use crate::window::counter::{self, Counter};
use crate::window::{Rule, Tally};

/// After this a refused request may try again where only what is outstanding stands in its way: that ends at any time.
pub(crate) const OUTSTANDING_RETRY: Duration = Duration::from_secs(1);

/// One account that a request falls under: a limit's, for one subject.
#[derive(Clone, Debug)]
pub struct Line {
    pub key: u128,
    pub rule: Rule,
    /// The tenant's, for calendar windows.
    pub zone: Tz,
    pub amount: u64,
    /// Out: what is used and outstanding, and when there is room for the request, or for more than now.
    pub tally: Tally,
    /// Out: whether the request does not fit.
    pub full: bool,
}

#[derive(Debug)]
pub(super) struct Account {
    counter: Counter,
    pub(super) outstanding: u128,
}

// === impl Account ===

impl Account {
    pub(super) fn new(line: &Line, now: Timestamp) -> Self {
        Self {
            counter: Counter::new(line.key as u64, &line.rule, now, line.zone),
            outstanding: 0,
        }
    }

    /// What was spent, without what is outstanding.
    pub(super) fn look(&mut self, line: &Line, now: Timestamp) -> Tally {
        self.counter.take(&line.rule, looking(line), now).tally
    }

    /// Counts what `line` adds, whatever there is already.
    pub(super) fn charge(&mut self, line: &Line, now: Timestamp) -> Tally {
        self.counter.take(&line.rule, charging(line), now).tally
    }

    /// Forgets what was spent.
    pub(super) fn clear(&mut self, line: &Line, now: Timestamp) {
        self.counter = Counter::new(line.key as u64, &line.rule, now, line.zone);
    }

    pub(super) fn is_idle(&self, second: i64) -> bool {
        self.outstanding == 0 && i64::from(self.counter.idle_at()) <= second
    }
}

// === impl Line ===

impl Line {
    /// Fills in what `account` says at `now`.
    pub(super) fn weigh(&mut self, account: Option<&mut Account>, now: Timestamp) {
        let hard = self.rule.hard();
        let amount = u128::from(self.amount);
        let Some(account) = account else {
            self.tally = Tally::default();
            // What never fits waits for nothing.
            self.full = hard < amount;
            return;
        };
        let spent = account.look(self, now);
        let used = spent.used;
        let taken_up = used + account.outstanding;
        // Asked for nothing, it says whether anything would fit.
        self.full = hard < taken_up + amount.max(1);
        let frees_at = match hard.checked_sub(amount.max(1)) {
            _ if !self.full => spent.frees_at,
            None => None,
            Some(room) if used <= room => Some(now.plus(OUTSTANDING_RETRY)),
            Some(room) => account.counter.falls_to(&self.rule, room),
        };
        self.tally = Tally {
            used: taken_up,
            frees_at,
        };
    }
}

fn looking(line: &Line) -> counter::Ask {
    counter::Ask {
        amount: 0,
        refuses: false,
        charges: false,
        zone: line.zone,
        room: None,
    }
}

fn charging(line: &Line) -> counter::Ask {
    counter::Ask {
        amount: line.amount,
        refuses: false,
        charges: true,
        zone: line.zone,
        room: None,
    }
}
