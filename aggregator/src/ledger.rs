//! The conservation of records: what a shard was given equals what it made of it, always.

use serde::{Deserialize, Serialize};

use crate::event::Outcome;

/// How many records a shard was given since its log began, and what became of them:
/// accepted = counted + late + duplicate + dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Counted, late, duplicate or dead: all but markers and what was moved.
    pub accepted: u64,
    pub counted: u64,
    pub late: u64,
    pub duplicate: u64,
    pub dead: u64,
    /// Sent on to the partition where they belong, and accepted there.
    pub moved: u64,
    pub markers: u64,
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

    /// Adds what another shard was given.
    pub(crate) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.counted += other.counted;
        self.late += other.late;
        self.duplicate += other.duplicate;
        self.dead += other.dead;
        self.moved += other.moved;
        self.markers += other.markers;
    }

    pub(crate) fn is_balanced(&self) -> bool {
        self.accepted == self.counted + self.late + self.duplicate + self.dead
    }
}
