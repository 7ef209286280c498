//! A ledger's accounts from what the log tells of the past.

use std::collections::BTreeMap;

use schemas::time::Timestamp;

use super::{Id, Ledger, Line};

/// What was spent before a ledger was, gathered in any order and counted in the order of time.
///
/// What falls into one slice of an account is one sum, so memory goes by accounts and slices, not by events.
#[derive(Debug, Default)]
pub struct Restoring {
    sums: BTreeMap<(Timestamp, u128), Line>,
}

impl Restoring {
    /// Takes in what `id` spent at `at`, unless `ledger` has counted that already: by a commit that came meanwhile, or
    /// since the log tells of it twice. What no window holds any more at `now` is left out.
    pub fn add(
        &mut self,
        ledger: &mut Ledger,
        id: Id,
        at: Timestamp,
        lines: impl IntoIterator<Item = Line>,
        now: Timestamp,
    ) {
        if !ledger.restore_id(id, at) {
            return;
        }
        for line in lines {
            if at < line.rule.reaches_to(line.zone, now) {
                continue;
            }
            let grain = line.rule.grain(at);
            let sum = self.sums.entry((grain, line.key));
            let sum = sum.or_insert_with(|| Line {
                amount: 0,
                ..line.clone()
            });
            sum.amount = sum.amount.saturating_add(line.amount);
        }
    }

    /// Counts all of it.
    pub fn finish(self, ledger: &mut Ledger) {
        for ((at, _), line) in self.sums {
            ledger.restore(&line, at);
        }
    }
}
