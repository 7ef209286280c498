//! A ledger's accounts from what the log tells of the past.

use std::collections::BTreeMap;

use schemas::time::Timestamp;

use super::{Id, Ledger, Line};

/// What was spent before a ledger was, gathered in any order and counted in the order of time.
///
/// What falls into one slice of an account is one sum, so memory goes by accounts and slices, not by events.
#[derive(Debug)]
pub struct Restoring {
    now: Timestamp,
    sums: BTreeMap<(Timestamp, u128), Sum>,
}

#[derive(Debug)]
struct Sum {
    /// With all of it.
    line: Line,
    /// When the first of it was spent.
    first: Timestamp,
}

impl Restoring {
    /// What no window holds any more at `now` is left out.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let sums = BTreeMap::new();
        Self { now, sums }
    }

    /// Takes in what `id` spent at `at`, unless `ledger` has counted that already: by a commit that came meanwhile, or
    /// since the log tells of it twice. What was cleared since is left out.
    pub fn add(
        &mut self,
        ledger: &mut Ledger,
        id: Id,
        at: Timestamp,
        lines: impl IntoIterator<Item = Line>,
    ) {
        if !ledger.restore_id(id, at) {
            return;
        }
        for line in lines {
            if !line.rule.reaches(at, line.zone, self.now) || ledger.is_cleared(line.key, at) {
                continue;
            }
            let grain = line.rule.grain(at);
            let sum = self.sums.entry((grain, line.key));
            let sum = sum.or_insert_with(|| Sum {
                line: Line {
                    amount: 0,
                    ..line.clone()
                },
                first: at,
            });
            sum.line.amount = sum.line.amount.saturating_add(line.amount);
            sum.first = sum.first.min(at);
        }
    }

    /// Counts all of it, but for what was cleared meanwhile.
    pub fn finish(self, ledger: &mut Ledger) {
        for ((at, key), sum) in self.sums {
            if !ledger.is_cleared(key, sum.first) {
                ledger.restore(&sum.line, at);
            }
        }
    }
}
