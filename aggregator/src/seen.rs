//! Which events were seen: a source that retries is counted once.
//!
//! An event is one by its tenant, source and id, kept as a 128-bit hash. Hashes are kept for a stated span of append
//! time (the time at which the log took the record), in generations of at most an hour. When there are more than the
//! bound allows, the oldest generation goes first, and the span that holds from then on is shorter: a metric tells it.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};

/// The hash's key. It is the same everywhere and kept in no secret: two shards, and two runs of one log, must call
/// the same events duplicates. Who makes events so that two of them share a hash loses one of its own.
const HASH_KEY: [u8; 16] = *b"weir.event.seen1";

const GENERATION: Duration = Duration::from_secs(3_600);

/// A generation holds at most this part of all entries, so that dropping one costs little of the span.
const GENERATIONS_MIN: usize = 24;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(crate) struct Seen {
    /// Oldest first. Each has a number, one more than the one before it.
    hashes: VecDeque<u128>,
    /// How the hashes are divided; oldest first.
    generations: VecDeque<Generation>,
    /// The number of the oldest hash.
    #[serde(skip)]
    first: u32,
    /// The numbers of all hashes, found by the hash: a quarter of what they would take themselves.
    #[serde(skip)]
    index: HashTable<u32>,
    /// With a secret of this process: whoever makes events may know the hashes.
    #[serde(skip)]
    hasher: DefaultHashBuilder,
}

/// What a snapshot keeps: the rest follows from it.
#[derive(Deserialize)]
struct Stored {
    hashes: VecDeque<u128>,
    generations: VecDeque<Generation>,
}

impl From<Stored> for Seen {
    fn from(stored: Stored) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut index = HashTable::with_capacity(stored.hashes.len());
        for (number, hash) in (0..).zip(&stored.hashes) {
            let key = |number: &u32| hasher.hash_one(stored.hashes[*number as usize]);
            index.insert_unique(hasher.hash_one(hash), number, key);
        }
        Self {
            hashes: stored.hashes,
            generations: stored.generations,
            first: 0,
            index,
            hasher,
        }
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.hashes == other.hashes && self.generations == other.generations
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Generation {
    /// Append times of its first entry and of its last.
    from: Timestamp,
    to: Timestamp,
    entries: usize,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeenBounds {
    pub(crate) span: Duration,
    pub(crate) entries_max: usize,
}

/// The hash that stands for an event.
pub(crate) fn event_hash(tenant: &str, source: &str, id: &str) -> u128 {
    let mut hasher = SipHasher13::new_with_key(&HASH_KEY);
    for part in [tenant, source, id] {
        // The length first: no two events become one by moving a letter from one part to the next.
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part.as_bytes());
    }
    hasher.finish128().into()
}

impl Seen {
    /// Takes note of an event, and says whether it is new. `now` is append time, and never goes back.
    pub(crate) fn insert(&mut self, hash: u128, now: Timestamp, bounds: SeenBounds) -> bool {
        self.drop_while(|oldest, _| bounds.span < now.since(oldest.to));
        let key = self.hasher.hash_one(hash);
        let (hashes, first) = (&self.hashes, self.first);
        let hash_of = |number: &u32| hashes[number.wrapping_sub(first) as usize];
        if self.index.find(key, |n| hash_of(n) == hash).is_some() {
            return false;
        }
        self.drop_while(|_, entries| bounds.entries_max <= entries);
        self.push(key, hash);
        let size_max = (bounds.entries_max / GENERATIONS_MIN).max(1);
        match self.generations.back_mut() {
            Some(last) if now.since(last.from) < GENERATION && last.entries < size_max => {
                last.entries += 1;
                last.to = now;
            }
            _ => self.generations.push_back(Generation {
                from: now,
                to: now,
                entries: 1,
            }),
        }
        true
    }

    fn push(&mut self, key: u64, hash: u128) {
        let count = u32::try_from(self.hashes.len()).expect("fewer than 2^32 events are known");
        self.hashes.push_back(hash);
        let (hashes, hasher, first) = (&self.hashes, &self.hasher, self.first);
        let key_of = |n: &u32| hasher.hash_one(hashes[n.wrapping_sub(first) as usize]);
        let number = first.wrapping_add(count);
        self.index.insert_unique(key, number, key_of);
    }

    /// Drops the oldest generation for as long as `is_surplus` says so of it and of the number of all entries.
    fn drop_while(&mut self, is_surplus: impl Fn(&Generation, usize) -> bool) {
        while let Some(oldest) = self.generations.front() {
            if !is_surplus(oldest, self.hashes.len()) {
                break;
            }
            for hash in self.hashes.drain(..oldest.entries) {
                let (key, number) = (self.hasher.hash_one(hash), self.first);
                let found = self.index.find_entry(key, |n| *n == number);
                found.expect("every hash has its number").remove();
                self.first = number.wrapping_add(1);
            }
            self.generations.pop_front();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// What it takes in memory: the hashes, and an index that is at most half empty.
    pub(crate) fn bytes(&self) -> usize {
        self.len() * (size_of::<u128>() + 2 * (size_of::<u32>() + 1))
    }

    /// For how long events are remembered at `now`: the age of the oldest.
    pub(crate) fn reaches_back(&self, now: Timestamp) -> Duration {
        let oldest = self.generations.front();
        oldest.map_or(Duration::ZERO, |oldest| now.since(oldest.from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::cases;

    const HOUR: u64 = 3_600;

    fn check(entries_max: usize, seen_at_hours: &[(u128, u64)], expected: &[bool]) {
        let bounds = SeenBounds {
            span: Duration::from_secs(24 * HOUR),
            entries_max,
        };
        let mut seen = Seen::default();
        let new: Vec<bool> = seen_at_hours
            .iter()
            .map(|(hash, hour)| {
                let now = Timestamp::from_seconds((hour * HOUR) as i64);
                seen.insert(*hash, now, bounds)
            })
            .collect();
        assert_eq!(new, expected);
        assert!(seen.len() <= entries_max);
        let listed = seen.generations.iter().map(|g| g.entries);
        assert_eq!(listed.sum::<usize>(), seen.len());
        assert_eq!(seen.index.len(), seen.len());
    }

    #[test]
    fn an_event_is_new_once_within_the_span() {
        check(
            100,
            &[(1, 0), (1, 0), (2, 0), (1, 24)],
            &[true, false, true, false],
        );
        check(100, &[(1, 0), (1, 25), (1, 25)], &[true, true, false]);
        // Seeing it again does not make it younger.
        check(100, &[(1, 0), (1, 20), (1, 25)], &[true, false, true]);
    }

    #[test]
    fn the_oldest_goes_first_when_there_is_no_room() {
        check(
            2,
            &[(1, 0), (2, 0), (3, 0), (2, 0)],
            &[true, true, true, false],
        );
        check(
            2,
            &[(1, 0), (2, 0), (3, 0), (1, 0)],
            &[true, true, true, true],
        );
    }

    proptest! {
        #![proptest_config(cases(300))]

        /// Lists of hashes, with the times of the first and the last of each.
        #[test]
        fn it_agrees_with_lists(
            events in prop::collection::vec((0..60_u128, 0..7_200_u64, 0..20_u8), 1..300),
            entries_max in 1..80_usize,
        ) {
            let span = Duration::from_secs(12 * HOUR);
            let bounds = SeenBounds { span, entries_max };
            // The numbers of entries begin anew on the way.
            let mut seen = Seen {
                first: u32::MAX - 20,
                ..Seen::default()
            };
            let mut lists: VecDeque<(Timestamp, Timestamp, Vec<u128>)> = VecDeque::new();
            let mut now = Timestamp::from_seconds(0);
            for (hash, wait_s, restart) in events {
                now = now.plus(Duration::from_secs(wait_s));
                if restart == 0 {
                    let stored = postcard::to_stdvec(&seen).unwrap();
                    seen = postcard::from_bytes(&stored).unwrap();
                }
                lists.retain(|(_, to, _)| now.since(*to) <= span);
                let is_new = lists.iter().all(|(_, _, list)| !list.contains(&hash));
                let count = |lists: &VecDeque<(_, _, Vec<u128>)>| -> usize {
                    lists.iter().map(|(_, _, list)| list.len()).sum()
                };
                if is_new {
                    while entries_max <= count(&lists) {
                        lists.pop_front();
                    }
                    let size_max = (entries_max / GENERATIONS_MIN).max(1);
                    match lists.back_mut() {
                        Some((from, to, list))
                            if now.since(*from) < GENERATION && list.len() < size_max =>
                        {
                            list.push(hash);
                            *to = now;
                        }
                        _ => lists.push_back((now, now, vec![hash])),
                    }
                }
                prop_assert_eq!(seen.insert(hash, now, bounds), is_new);
                prop_assert_eq!(seen.len(), count(&lists));
            }
        }
    }

    #[test]
    fn an_event_is_told_by_all_three_parts() {
        let hash = event_hash("acme", "app", "1");
        assert_eq!(hash, event_hash("acme", "app", "1"));
        for other in [
            ("acme", "app", "2"),
            ("acme", "ap", "p1"),
            ("acm", "eapp", "1"),
        ] {
            assert_ne!(hash, event_hash(other.0, other.1, other.2));
        }
    }
}
