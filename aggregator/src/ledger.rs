//! The conservation of records: what a shard was given equals what it made of it, always.

use serde::{Deserialize, Serialize};

use crate::event::Outcome;

/// How many records a shard was given since its log began, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Counted, late, duplicate or dead: all but markers and what was moved.
    pub(crate) accepted: u64,
    pub(crate) counted: u64,
    pub(crate) late: u64,
    pub(crate) duplicate: u64,
    pub(crate) dead: u64,
    /// Sent on to the partition where they belong, and accepted there.
    pub(crate) moved: u64,
    pub(crate) markers: u64,
}

impl Ledger {
    pub(crate) fn note(&mut self, outcome: Outcome) {
        let (column, is_accepted) = match outcome {
            Outcome::Counted => (&mut self.counted, true),
            Outcome::Late => (&mut self.late, true),
            Outcome::Duplicate => (&mut self.duplicate, true),
            Outcome::Dead(_) => (&mut self.dead, true),
            Outcome::Misplaced { .. } => (&mut self.moved, false),
            Outcome::Marker => (&mut self.markers, false),
        };
        *column += 1;
        self.accepted += u64::from(is_accepted);
        assert!(self.is_balanced(), "records were lost or made up: {self:?}");
    }

    pub(crate) fn is_balanced(&self) -> bool {
        self.accepted == self.counted + self.late + self.duplicate + self.dead
    }
}
