//! A hash table whose entries carry their own hash and lie where it says, so that a look costs one line of memory. A
//! table with separate control bytes costs two, which at a million counters is most of a check's time.
//!
//! Linear probing; removal moves later entries back instead of leaving marks, so churn does not slow it down.

/// What knows its own hash.
pub(super) trait Keyed {
    fn key(&self) -> u64;
}

/// The smallest table that holds anything.
const SLOTS_MIN: usize = 8;

/// At most four fifths full, and more than half just after it has grown.
#[derive(Debug)]
pub(super) struct Table<T> {
    /// Any number of them: doubling would leave more empty memory between the entries than it saves in work.
    slots: Vec<Option<T>>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Keyed> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Places for entries, taken or not.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// What lies in one place.
    pub(super) fn at(&self, slot: usize) -> Option<&T> {
        self.slots.get(slot)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let slot = self.slot_of(key)?;
        self.slots[slot].as_mut()
    }

    /// Adds what is not there yet.
    pub(super) fn insert(&mut self, entry: T) {
        if self.slots.len() * 4 < (self.len + 1) * 5 {
            self.resize((self.slots.len() * 3 / 2).max(SLOTS_MIN));
        }
        self.place(entry);
        self.len += 1;
    }

    /// Removes the entry of this key.
    pub(super) fn take(&mut self, key: u64) -> Option<T> {
        let slot = self.slot_of(key)?;
        self.remove(slot)
    }

    /// Removes what lies in `slot`.
    pub(super) fn remove(&mut self, slot: usize) -> Option<T> {
        let removed = self.slots.get_mut(slot)?.take()?;
        self.len -= 1;
        self.close(slot);
        Some(removed)
    }

    /// Keeps those for which `keep` says so, and gives memory back when few are left.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        // Backwards from an empty place: what closing a gap moves was judged before.
        let Some(empty) = self.slots.iter().position(Option::is_none) else {
            return;
        };
        let before = (0..empty).rev();
        for slot in before.chain((empty + 1..self.slots.len()).rev()) {
            while self.slots[slot].as_ref().is_some_and(|entry| !keep(entry)) {
                self.remove(slot);
            }
        }
        if self.len == 0 {
            self.slots = Vec::new();
        } else if SLOTS_MIN < self.slots.len() && self.len * 8 <= self.slots.len() {
            self.resize((self.len * 2).max(SLOTS_MIN));
        }
    }

    /// Where an entry belongs: its hash's share of the table.
    #[inline]
    fn home(&self, key: u64) -> usize {
        let share = u128::from(key) * self.slots.len() as u128;
        (share >> 64) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() {
            0
        } else {
            slot + 1
        }
    }

    /// Steps from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to {
            to - from
        } else {
            to + self.slots.len() - from
        }
    }

    #[inline]
    fn slot_of(&self, key: u64) -> Option<usize> {
        let mut slot = self.home(key);
        loop {
            // An empty place ends the search; there is always one, but in a table without any places.
            let entry = self.slots.get(slot)?.as_ref()?;
            if entry.key() == key {
                return Some(slot);
            }
            slot = self.after(slot);
        }
    }

    fn place(&mut self, entry: T) {
        let mut slot = self.home(entry.key());
        while self.slots[slot].is_some() {
            slot = self.after(slot);
        }
        self.slots[slot] = Some(entry);
    }

    /// Moves entries back into the gap at `gap`, each no further than to its own place.
    fn close(&mut self, mut gap: usize) {
        let mut slot = gap;
        loop {
            slot = self.after(slot);
            let Some(entry) = &self.slots[slot] else {
                return;
            };
            let from_home = self.distance(self.home(entry.key()), slot);
            if self.distance(gap, slot) <= from_home {
                self.slots[gap] = self.slots[slot].take();
                gap = slot;
            }
        }
    }

    fn resize(&mut self, slots: usize) {
        let mut empty = Vec::new();
        empty.resize_with(slots, || None);
        let entries = std::mem::replace(&mut self.slots, empty);
        for entry in entries.into_iter().flatten() {
            self.place(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for u64 {
        fn key(&self) -> u64 {
            *self
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(u64),
        RetainOdd,
    }

    /// Crowds in the middle, and at the end and the start of the table.
    fn keyed(high: u64, low: u64) -> u64 {
        let place = if low.is_multiple_of(2) {
            1 << 63
        } else {
            u64::MAX
        };
        place.wrapping_add(low) ^ (high << 8)
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = (0..6_u64, 0..12_u64).prop_map(|(high, low)| keyed(high, low));
        prop_oneof![
            4 => key.clone().prop_map(Step::Insert),
            3 => key.prop_map(Step::Remove),
            1 => Just(Step::RetainOdd),
        ]
    }

    proptest! {
        #[test]
        fn holds_what_a_set_holds(steps in prop::collection::vec(step(), 0..200)) {
            let (mut table, mut set) = (Table::default(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Insert(key) => if set.insert(key) { table.insert(key) },
                    Step::Remove(key) => {
                        prop_assert_eq!(table.take(key).is_some(), set.remove(&key));
                    }
                    Step::RetainOdd => {
                        table.retain(|key| key % 2 == 1);
                        set.retain(|key| key % 2 == 1);
                    }
                }
                prop_assert_eq!(table.len(), set.len());
                prop_assert!(table.len() * 5 <= table.slots() * 4);
                for key in (0..6).flat_map(|high| (0..12).map(move |low| keyed(high, low))) {
                    prop_assert_eq!(table.get_mut(key).is_some(), set.contains(&key));
                }
            }
        }
    }
}
