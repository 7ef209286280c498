//! Accounts that begin anew because somebody ordered it: what was spent counts no more, what is outstanding stays.

use schemas::time::Timestamp;

use super::{Ledger, Line};

/// An order that has cleared an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of two orders the one with the higher number is newer.
    pub seq: i64,
    /// When it was given.
    pub at: Timestamp,
    /// What was spent before it counts no more from then on anyway.
    pub until: Timestamp,
}

impl Ledger {
    /// Forgets what was spent in the account of `line`, unless this order or a newer one was obeyed there before.
    pub fn clear(&mut self, line: &Line, mark: Mark, now: Timestamp) {
        self.advance(now);
        let now = self.now;
        if self.note_cleared(line.key, mark)
            && let Some(account) = self.accounts.get_mut(&line.key)
        {
            account.clear(line, now);
        }
    }

    /// Takes note of an order from before this ledger was: what is restored from before it is left out. Says whether it is
    /// news.
    pub(crate) fn note_cleared(&mut self, key: u128, mark: Mark) -> bool {
        let known = self.cleared.get(&key);
        let is_news = known.is_none_or(|known| known.seq < mark.seq);
        if is_news {
            self.cleared.insert(key, mark);
        }
        is_news
    }

    /// Whether what was spent in an account at `at` was cleared.
    pub(super) fn is_cleared(&self, key: u128, at: Timestamp) -> bool {
        self.cleared.get(&key).is_some_and(|mark| at < mark.at)
    }
}
