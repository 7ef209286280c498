//! Items in one piece of memory, in the order in which they came, found by a hash of what names them.
//!
//! A hash map keeps its items between gaps, which are a third of it and more. Here only the index has gaps, of eight
//! bytes each, and it is rebuilt without looking at an item.

use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An item that is found by its name.
pub(crate) trait Named {
    /// The hash of its name: two items of one [`Dense`] have different names.
    fn hash(&self, hasher: &DefaultHashBuilder) -> u64;
}

#[derive(Clone, Debug)]
pub(crate) struct Dense<T> {
    items: Vec<T>,
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
}

/// Where an item lies.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Half of its name's hash: enough to tell it from others without looking at them.
    hash: u32,
    place: u32,
}

impl Slot {
    fn new(hash: u64, place: usize) -> Self {
        Self {
            hash: half(hash),
            place: place_of(place),
        }
    }

    /// By what the index finds it.
    fn key(&self) -> u64 {
        key(self.hash)
    }
}

fn half(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

fn key(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

fn place_of(place: usize) -> u32 {
    u32::try_from(place).expect("fewer than 2^32 items are in memory")
}

/// What an item takes in memory, without what belongs to it elsewhere: itself with an eighth of room to grow, and its
/// place in the index, which is at most half empty.
pub(crate) const fn item_bytes<T>() -> usize {
    size_of::<T>() + size_of::<T>() / 8 + 2 * (size_of::<Slot>() + 1)
}

/// What became of the places of a [`Dense`] from which items were dropped.
pub(crate) struct Moves(Vec<Option<u32>>);

impl Moves {
    /// Where the item lies that lay at `place`; `None` when it was dropped.
    pub(crate) fn of(&self, place: u32) -> Option<u32> {
        self.0[place as usize]
    }
}

impl<T: Named> Dense<T> {
    pub(crate) fn hasher(&self) -> &DefaultHashBuilder {
        &self.hasher
    }

    /// The place of the item whose name has this hash, and that `is_it`.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<u32> {
        let half = half(hash);
        let found = self.slots.find(key(half), |slot| {
            slot.hash == half && is_it(&self.items[slot.place as usize])
        });
        found.map(|slot| slot.place)
    }

    /// Adds an item that is not there yet, and returns its place.
    pub(crate) fn push(&mut self, hash: u64, item: T) -> u32 {
        let slot = Slot::new(hash, self.items.len());
        if self.items.len() == self.items.capacity() {
            // An eighth more, and not twice as much: half of it would be empty for long.
            let len = self.items.len();
            self.items.reserve_exact((len / 8).max(len.min(4)).max(1));
        }
        self.items.push(item);
        self.slots.insert_unique(slot.key(), slot, Slot::key);
        slot.place
    }

    pub(crate) fn get(&self, place: u32) -> &T {
        &self.items[place as usize]
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> &mut T {
        &mut self.items[place as usize]
    }

    /// Items and their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.items)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Drops what is not to be kept. The others stay in order; when any was dropped their new places are returned.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) -> Option<Moves> {
        let first = self.items.iter_mut().position(|item| !keep(item))?;
        let mut moves: Vec<Option<u32>> = (0..place_of(first)).map(Some).collect();
        moves.reserve_exact(self.items.len() - first);
        moves.push(None);
        let (mut seen, mut next) = (0, place_of(first));
        self.items.retain_mut(|item| {
            seen += 1;
            if seen <= first {
                return true;
            }
            let is_kept = seen - 1 != first && keep(item);
            if seen - 1 != first {
                moves.push(is_kept.then_some(next));
            }
            next += u32::from(is_kept);
            is_kept
        });
        self.slots.retain(|slot| match moves[slot.place as usize] {
            Some(place) => {
                slot.place = place;
                true
            }
            None => false,
        });
        let len = self.items.len();
        if 2 * len < self.items.capacity() {
            self.items.shrink_to(len + len / 8);
            self.slots.shrink_to(len + len / 8, Slot::key);
        }
        Some(Moves(moves))
    }
}

impl<T> Default for Dense<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            slots: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<T: Named> From<Vec<T>> for Dense<T> {
    fn from(items: Vec<T>) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut slots = HashTable::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let slot = Slot::new(item.hash(&hasher), place);
            slots.insert_unique(slot.key(), slot, Slot::key);
        }
        Self {
            items,
            slots,
            hasher,
        }
    }
}

impl<T: PartialEq> PartialEq for Dense<T> {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl<T: Eq> Eq for Dense<T> {}

impl<T: Serialize> Serialize for Dense<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl<'de, T: Named + Deserialize<'de>> Deserialize<'de> for Dense<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use proptest::prelude::*;

    use super::*;
    use crate::model::cases;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Number(u16);

    impl Named for Number {
        fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
            // Half of all pairs share a hash.
            hasher.hash_one(self.0 / 2)
        }
    }

    fn place(dense: &Dense<Number>, number: u16) -> Option<u32> {
        let hash = Number(number).hash(dense.hasher());
        dense.find(hash, |item| item.0 == number)
    }

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn it_agrees_with_a_list(
            turns in prop::collection::vec((prop::collection::vec(0..300_u16, 0..80), 1..9_u16), 0..8),
        ) {
            let (mut dense, mut list) = (Dense::default(), Vec::new());
            for (numbers, divisor) in turns {
                for number in numbers {
                    if place(&dense, number).is_none() {
                        let hash = Number(number).hash(dense.hasher());
                        let place = dense.push(hash, Number(number));
                        prop_assert_eq!(place as usize, list.len());
                        list.push(number);
                    }
                }
                let before = list.clone();
                let moves = dense.retain(|item| item.0 % divisor != 0);
                list.retain(|number| number % divisor != 0);
                prop_assert_eq!(moves.is_some(), list.len() < before.len());
                for (place, number) in (0..).zip(&before) {
                    let now = list.iter().position(|n| n == number).map(|now| now as u32);
                    prop_assert_eq!(moves.as_ref().map_or(Some(place), |moves| moves.of(place)), now);
                }
                let loaded: Dense<Number> = dense.items.clone().into();
                for number in 0..300 {
                    let expected = list.iter().position(|n| *n == number).map(|p| p as u32);
                    prop_assert_eq!(place(&dense, number), expected);
                    prop_assert_eq!(place(&loaded, number), expected);
                }
            }
        }
    }
}
