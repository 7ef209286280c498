//! All that was ever counted: what is spent of what was paid in. No time takes anything out of it.

use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::sum::Sum;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wallet {
    spent: Sum,
}

impl Wallet {
    pub(super) fn spent(&self) -> i128 {
        self.spent.get()
    }

    pub(super) fn add(&mut self, amount: i128) {
        self.spent = (self.spent.get() + amount).into();
    }

    pub(super) fn clear(&mut self) {
        self.spent = Sum::default();
    }

    /// What was spent stays spent, however long ago that was.
    pub(super) fn forgettable_from(&self) -> Timestamp {
        match self.spent() {
            0 => Timestamp::MIN,
            _ => Timestamp::MAX,
        }
    }
}
