//! What the slices of one sliding window hold, oldest first. Slices are numbered from 1970 on; those that hold nothing
//! are not kept.

use std::collections::VecDeque;

/// Runs that a counter keeps in itself.
const FEW: usize = 6;

/// Bits of a small run's amount; the rest is its distance from the base.
const AMOUNT_BITS: u32 = 6;
const AMOUNT_MAX: u64 = (1 << AMOUNT_BITS) - 1;
const DISTANCE_MAX: i64 = (1 << (16 - AMOUNT_BITS)) - 1;

/// What a slice holds. One slice may have several runs, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) slice: i64,
    pub(super) amount: u64,
}

/// A few small runs in 16 bytes. Most subjects of a million need no more, and so no second look into memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Few {
    /// The slice that distances are told from.
    base: u32,
    /// Distance and amount; zero where there is none, since no run is empty.
    runs: [u16; FEW],
}

/// Any number of runs.
#[derive(Debug)]
pub(super) struct Many {
    sum: u128,
    runs: VecDeque<Run>,
}

// === impl Few ===

impl Few {
    #[inline]
    pub(super) fn sum(&self) -> u128 {
        let sum: u64 = self.runs.iter().map(|run| amount_of(*run)).sum();
        sum.into()
    }

    #[inline]
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let runs = self.runs.iter().take_while(|run| **run != 0);
        runs.map(|run| Run {
            slice: i64::from(self.base) + distance_of(*run),
            amount: amount_of(*run),
        })
    }

    /// Lets go of slices before `oldest`.
    #[inline]
    pub(super) fn expire(&mut self, oldest: i64) {
        if oldest <= i64::from(self.base) {
            return;
        }
        let ended = self.runs().take_while(|run| run.slice < oldest).count();
        self.runs.copy_within(ended.., 0);
        self.runs[FEW - ended..].fill(0);
        let forward = self.runs[0] >> AMOUNT_BITS;
        self.base += u32::from(forward);
        for run in self.runs.iter_mut().take_while(|run| **run != 0) {
            *run -= forward << AMOUNT_BITS;
        }
    }

    /// Counts `amount` in `head`, or in the newest slice should time have gone back; `None` when that does not fit.
    /// Returns the slice.
    #[inline]
    pub(super) fn add(&mut self, head: i64, amount: u64) -> Option<i64> {
        let len = self.runs.iter().take_while(|run| **run != 0).count();
        let Some(newest) = len.checked_sub(1).map(|last| self.runs[last]) else {
            self.base = u32::try_from(head).ok()?;
            self.runs[0] = pack(0, amount)?;
            return Some(head);
        };
        let base = i64::from(self.base);
        let distance = distance_of(newest).max(head - base);
        let same = distance == distance_of(newest);
        let sum = amount_of(newest).checked_add(amount)?;
        match pack(distance, sum).filter(|_| same) {
            Some(run) => self.runs[len - 1] = run,
            None if amount == 0 => {}
            None => *self.runs.get_mut(len)? = pack(distance, amount)?,
        }
        Some(base + distance)
    }
}

fn pack(distance: i64, amount: u64) -> Option<u16> {
    let fits = distance <= DISTANCE_MAX && amount <= AMOUNT_MAX;
    fits.then_some(((distance as u16) << AMOUNT_BITS) | amount as u16)
}

fn amount_of(run: u16) -> u64 {
    u64::from(run) & AMOUNT_MAX
}

fn distance_of(run: u16) -> i64 {
    i64::from(run >> AMOUNT_BITS)
}

// === impl Many ===

impl Many {
    pub(super) fn of(few: &Few) -> Self {
        Self {
            sum: few.sum(),
            runs: few.runs().collect(),
        }
    }

    /// The same, if it has become so little that there is room for as much again.
    pub(super) fn as_few(&self) -> Option<Few> {
        if FEW / 2 < self.runs.len() {
            return None;
        }
        let mut few = Few::default();
        for run in &self.runs {
            few.add(run.slice, run.amount)?;
        }
        Some(few)
    }

    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.iter().copied()
    }

    /// Lets go of slices before `oldest`, and says whether there were any.
    pub(super) fn expire(&mut self, oldest: i64) -> bool {
        let before = self.runs.len();
        while let Some(run) = self.runs.front().filter(|run| run.slice < oldest) {
            self.sum -= u128::from(run.amount);
            self.runs.pop_front();
        }
        self.runs.len() < before
    }

    /// Counts `amount` in `head`, or in the newest slice should time have gone back. Returns the slice.
    pub(super) fn add(&mut self, head: i64, amount: u64) -> i64 {
        self.sum += u128::from(amount);
        let newest = self.runs.back_mut();
        let slice = newest.as_ref().map_or(head, |run| run.slice.max(head));
        let same = newest.filter(|run| run.slice == slice);
        match same.and_then(|run| Some((run.amount.checked_add(amount)?, run))) {
            Some((sum, run)) => run.amount = sum,
            None if amount == 0 => {}
            None => self.runs.push_back(Run { slice, amount }),
        }
        slice
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.runs.capacity() * size_of::<Run>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(runs: impl Iterator<Item = Run>) -> Vec<(i64, u64)> {
        let mut merged: Vec<(i64, u64)> = Vec::new();
        for run in runs {
            match merged.last_mut().filter(|(slice, _)| *slice == run.slice) {
                Some((_, amount)) => *amount += run.amount,
                None => merged.push((run.slice, run.amount)),
            }
        }
        merged
    }

    #[test]
    fn few_hold_what_is_small() {
        let mut few = Few::default();
        assert_eq!(few.add(100, AMOUNT_MAX), Some(100));
        assert_eq!(few.add(100, 1), Some(100));
        assert_eq!(few.add(99, 1), Some(100));
        assert_eq!(few.add(100 + DISTANCE_MAX, 5), Some(100 + DISTANCE_MAX));
        assert_eq!(few.add(101 + DISTANCE_MAX, 5), None);
        assert_eq!(few.add(100 + DISTANCE_MAX, AMOUNT_MAX + 1), None);
        assert_eq!(few.sum(), u128::from(AMOUNT_MAX) + 7);
        few.expire(101);
        assert_eq!(runs(few.runs()), [(100 + DISTANCE_MAX, 5)]);
        assert_eq!(few.add(101 + DISTANCE_MAX, 5), Some(101 + DISTANCE_MAX));
    }

    proptest! {
        /// Both forms hold the same, whatever is counted and let go of, for as long as it fits.
        #[test]
        fn few_and_many_agree(steps in prop::collection::vec((0..300_i64, 0..40_u64, any::<bool>()), 0..60)) {
            let (mut few, mut many) = (Few::default(), Many::of(&Few::default()));
            let mut slice = 1_700_000_000;
            for (wait, amount, expires) in steps {
                slice += wait;
                if expires {
                    few.expire(slice - 720);
                    many.expire(slice - 720);
                }
                let Some(added) = few.add(slice, amount) else { break };
                prop_assert_eq!(many.add(slice, amount), added);
                prop_assert_eq!(few.sum(), many.sum());
                prop_assert_eq!(runs(few.runs()), runs(many.runs()));
                prop_assert_eq!(runs(Many::of(&few).runs()), runs(few.runs()));
                if let Some(small) = many.as_few() {
                    prop_assert_eq!(runs(small.runs()), runs(many.runs()));
                }
            }
        }
    }
}
