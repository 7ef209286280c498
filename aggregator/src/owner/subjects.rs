//! The subjects of an owner, and the counters of each.

use std::hash::BuildHasher as _;

use hashbrown::DefaultHashBuilder;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use crate::dense::{Dense, Named, item_bytes};

const INLINE_BYTES: usize = 22;

/// The rest of a subject's path behind its owner's: nothing for the owner itself, or `/user/u_9`.
///
/// Most are short, and lie where they are compared.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(super) enum Name {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<str>),
}

impl Name {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(name) => name.as_bytes(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.bytes()).expect("it was made of text")
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match bytes.get_mut(..name.len()) {
            Some(place) => {
                place.copy_from_slice(name.as_bytes());
                let len = name.len() as u8;
                Self::Inline { len, bytes }
            }
            None => Self::Heap(name.into()),
        }
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: Name,
    counters: Counters,
}

/// Its counters: together they have one window for each series that counts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Counters {
    One(Kept),
    Many(Vec<Kept>),
}

impl Entry {
    pub(super) fn new(name: Name, kept: Kept) -> Self {
        Self {
            name,
            counters: Counters::One(kept),
        }
    }

    pub(super) fn counters(&self) -> &[Kept] {
        match &self.counters {
            Counters::One(kept) => std::slice::from_ref(kept),
            Counters::Many(kept) => kept,
        }
    }

    /// The number of the counter whose windows are of exactly these series, which is probably `hint`.
    pub(super) fn number_of_all(&self, series: &[u32], hint: usize) -> Option<usize> {
        let counters = self.counters();
        let is_it = |kept: &Kept| kept.counter.series() == series;
        if counters.get(hint).is_some_and(is_it) {
            return Some(hint);
        }
        counters.iter().position(is_it)
    }

    /// The number of the counter that has a window of this series.
    pub(super) fn number(&self, series: u32) -> Option<usize> {
        let mut counters = self.counters().iter();
        counters.position(|kept| kept.counter.is_of(series))
    }

    /// Its name, and its counter of this number.
    pub(super) fn numbered(&mut self, number: usize) -> (&Name, &mut Kept) {
        let counters = match &mut self.counters {
            Counters::One(kept) => std::slice::from_mut(kept),
            Counters::Many(kept) => kept,
        };
        (&self.name, &mut counters[number])
    }

    /// Its name, and its counter that has a window of this series.
    pub(super) fn named(&mut self, series: u32) -> (&str, &mut Kept) {
        let number = self.number(series);
        let (name, kept) = self.numbered(number.expect("the series counts this subject"));
        (name.as_str(), kept)
    }

    /// Puts a counter in the place of those that have windows of its series. Returns its number.
    pub(super) fn put(&mut self, kept: Kept) -> usize {
        let series = kept.counter.series();
        let is_replaced = |old: &Kept| series.iter().any(|series| old.counter.is_of(*series));
        match &mut self.counters {
            Counters::One(old) if is_replaced(old) => {
                *old = kept;
                return 0;
            }
            Counters::One(_) => {}
            Counters::Many(counters) => counters.retain(|old| !is_replaced(old)),
        }
        self.push(kept);
        self.counters().len() - 1
    }

    fn push(&mut self, kept: Kept) {
        let counters = match &mut self.counters {
            Counters::Many(counters) => counters,
            Counters::One(_) => {
                let one = std::mem::replace(&mut self.counters, Counters::Many(Vec::new()));
                let (Counters::One(one), Counters::Many(counters)) = (one, &mut self.counters)
                else {
                    unreachable!("one counter has become many");
                };
                counters.push(one);
                counters
            }
        };
        if counters.len() == counters.capacity() {
            counters.reserve_exact((counters.len() / 4).max(1));
        }
        counters.push(kept);
    }

    /// Drops the window of a series, and its counter if it was the only one there.
    pub(super) fn remove(&mut self, series: u32) {
        let (_, kept) = self.named(series);
        if kept.counter.series() != [series] {
            return kept.remove(series);
        }
        match &mut self.counters {
            Counters::One(_) => self.counters = Counters::Many(Vec::new()),
            Counters::Many(counters) => counters.retain(|kept| !kept.counter.is_of(series)),
        }
    }

    /// Drops counters that are not to be kept, and says whether any is left.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Kept) -> bool) -> bool {
        match &mut self.counters {
            Counters::One(kept) => keep(kept),
            Counters::Many(counters) => {
                counters.retain_mut(keep);
                !counters.is_empty()
            }
        }
    }
}

impl Entry {
    /// What a subject of this name takes in memory with one counter, without what that takes beside itself.
    pub(super) fn new_bytes(name: &str) -> usize {
        let name = if name.len() <= INLINE_BYTES {
            0
        } else {
            name.len()
        };
        item_bytes::<Self>() + name
    }

    /// What it takes in memory, with all that belongs to it.
    pub(super) fn bytes(&self) -> usize {
        let counters = self.counters();
        let heap: usize = counters.iter().map(Kept::heap_bytes).sum();
        let others = counters.len().saturating_sub(1) * size_of::<Kept>();
        Self::new_bytes(self.name.as_str()) + others + heap
    }
}

impl Named for Entry {
    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        hash(self.name.bytes(), hasher)
    }
}

fn hash(name: &[u8], hasher: &DefaultHashBuilder) -> u64 {
    hasher.hash_one(name)
}

/// The subjects of one owner.
pub(super) type Subjects = Dense<Entry>;

impl Subjects {
    /// The place of the subject of this name.
    pub(super) fn place(&self, name: &str) -> Option<u32> {
        let name = name.as_bytes();
        let hash = hash(name, self.hasher());
        self.find(hash, |entry| entry.name.bytes() == name)
    }

    pub(super) fn add(&mut self, name: &str, kept: Kept) -> u32 {
        let hash = hash(name.as_bytes(), self.hasher());
        self.push(hash, Entry::new(name.into(), kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_with_one_counter_is_small() {
        // With its place in the index: at most 150 bytes for one whose name is short.
        assert_eq!(size_of::<Entry>(), 112);
        assert!(item_bytes::<Entry>() <= 150);
    }

    #[test]
    fn names_of_any_length_are_what_was_put_in() {
        for length in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 300] {
            let text = "ü".repeat(length / 2) + &"x".repeat(length % 2);
            let name = Name::from(text.as_str());
            assert_eq!(name.as_str(), text);
            assert_eq!(Name::from(String::from(name.clone())), name);
        }
    }
}
