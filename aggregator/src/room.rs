//! How much a shard may keep in memory, and what is refused when that is reached.
//!
//! What is charged follows from the log alone, never from when something was dropped: each new thing when it is made,
//! and everything anew once in every minute of append time ([`Room::count_anew`]). A counter or a scope that could be
//! dropped, whether it was or not, is new when it comes again. So every run of one log refuses the same. The windows of
//! one counter are refused together, and stay as long as one of them holds what makes a difference.
//!
//! The order, from what is missed least:
//! 1. *New ids in sketches.* From a half on, one takes the place of the least busy of its list, as in a list that is full,
//!    and no distinct count takes more memory; what each says of its own error stays true. The first of a list is taken
//!    always.
//! 2. *Detail of usage.* From three quarters on, a new minute of usage is told for its tenant alone. Totals stay whole.
//! 3. *New scopes and new subjects.* When all is taken, no counter is made for one that has none. What is counted already
//!    goes on being counted, to the end, though its slices may grow beyond the bound; and the event counts elsewhere.
//!
//! Tenants are never refused: who they are is not up to who sends events.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Room {
    #[serde(skip)]
    bytes_max: usize,
    /// What is charged.
    bytes: usize,
    refused: Refused,
}

/// What was refused for want of room since the log began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Amounts that no counter was made for, one for each window that it would have.
    pub(crate) counters: u64,
    /// Events whose usage is told for their tenant alone.
    pub(crate) details: u64,
    /// Amounts for scopes wider than a tenant that were not taken.
    pub(crate) scopes: u64,
    /// Ids that made room for another in a sketch, or found none: it was full, or could not grow.
    pub(crate) displaced: u64,
}

impl Room {
    /// Sets the bound, which is a setting and not state.
    pub(crate) fn set_bound(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn refused(&self) -> Refused {
        self.refused
    }

    /// Charges what takes so much, and cannot be refused.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Charges the difference when something took `before` and takes `after`.
    pub(crate) fn resize(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes.saturating_add(after).saturating_sub(before);
    }

    /// All that is charged, counted anew.
    pub(crate) fn count_anew(&mut self, bytes: usize) {
        self.bytes = bytes;
    }

    /// Charges a new counter of so many windows that takes so much; says whether there is room for it.
    pub(crate) fn admits_counter(&mut self, bytes: usize, windows: usize) -> bool {
        let admitted = self.admits(bytes, self.bytes_max);
        if !admitted {
            self.refused.counters += windows as u64;
        }
        admitted
    }

    /// As [`Room::admits_counter`], for a scope wider than a tenant.
    pub(crate) fn admits_scope(&mut self, bytes: usize) -> bool {
        let admitted = self.admits(bytes, self.bytes_max);
        self.refused.scopes += u64::from(!admitted);
        admitted
    }

    /// As [`Room::admits_counter`], for a minute of usage that is told apart by more than its tenant.
    pub(crate) fn admits_detail(&mut self, bytes: usize) -> bool {
        let admitted = self.admits(bytes, self.bytes_max / 4 * 3);
        self.refused.details += u64::from(!admitted);
        admitted
    }

    /// As [`Room::admits_counter`], for an id in a sketch; one that is not admitted is counted by
    /// [`Room::note_displaced`].
    pub(crate) fn admits_sketched(&mut self, bytes: usize) -> bool {
        self.admits(bytes, self.bytes_max / 2)
    }

    pub(crate) fn note_displaced(&mut self) {
        self.refused.displaced += 1;
    }

    fn admits(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let after = self.bytes.saturating_add(bytes);
        let fits = after <= bytes_max;
        if fits {
            self.bytes = after;
        }
        fits
    }
}

impl Default for Room {
    /// Nothing is charged, and there is no bound yet.
    fn default() -> Self {
        Self {
            bytes_max: usize::MAX,
            bytes: 0,
            refused: Refused::default(),
        }
    }
}
