//! How much an engine holds.

use super::{Engine, is_open};
use crate::owner::Owner;
use crate::room::Refused;

/// How much a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) owners: usize,
    pub(crate) counters: usize,
    pub(crate) cells: usize,
    pub(crate) seen: usize,
    /// What all of these take in memory, about.
    pub(crate) bytes: usize,
    pub(crate) refused: Refused,
}

impl Engine {
    /// What all that makes a difference takes in memory, without the memory of duplicates. The same whenever
    /// [`Engine::forget`] was called last.
    pub(super) fn bytes(&self) -> usize {
        let (state, now) = (&self.state, self.state.now);
        let is_open = is_open(&state.owners, (now, self.settings.patience));
        let owners = state.owners.values();
        let patience = self.settings.patience;
        owners
            .map(|owner| owner.bytes() + owner.sketch_bytes(now, patience))
            .sum::<usize>()
            + state.rollups.bytes(is_open)
            + state.contributions.bytes(now)
            + state.parts.bytes(now)
    }

    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            owners: self.state.owners.len(),
            counters: self.state.owners.values().map(Owner::counters).sum(),
            cells: self.state.rollups.len(),
            seen: self.state.seen.len(),
            bytes: self.state.room.bytes() + self.state.seen.bytes(),
            refused: self.state.room.refused(),
        }
    }
}
