//! Which events were seen: a source that retries is counted once.
//!
//! An event is one by its tenant, source and id, kept as a 128-bit hash. Hashes are kept for a stated span of append
//! time (the time at which the log took the record), in generations of at most an hour. When there are more than the
//! bound allows, the oldest generation goes first, and the span that holds from then on is shorter: a metric tells it.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::time::Duration;

use hashbrown::HashSet;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};

/// The hash's key. It is the same everywhere and kept in no secret: two shards, and two runs of one log, must call
/// the same events duplicates. Who makes events so that two of them share a hash loses one of its own.
const HASH_KEY: [u8; 16] = *b"weir.event.seen1";

const GENERATION: Duration = Duration::from_secs(3_600);

/// A generation holds at most this part of all entries, so that dropping one costs little of the span.
const GENERATIONS_MIN: usize = 24;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(crate) struct Seen {
    /// All that the generations hold.
    #[serde(skip)]
    hashes: HashSet<u128>,
    /// Oldest first.
    generations: VecDeque<Generation>,
}

/// What a snapshot keeps: the rest follows from it.
#[derive(Deserialize)]
struct Stored {
    generations: VecDeque<Generation>,
}

impl From<Stored> for Seen {
    fn from(Stored { generations }: Stored) -> Self {
        let hashes = generations.iter().flat_map(|generation| &generation.hashes);
        Self {
            hashes: hashes.copied().collect(),
            generations,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Generation {
    /// Append times of its first entry and of its last.
    from: Timestamp,
    to: Timestamp,
    hashes: Vec<u128>,
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
        // Looked up once: it is in no generation yet, so that none takes it along when it is dropped.
        if !self.hashes.insert(hash) {
            return false;
        }
        self.drop_while(|_, entries| bounds.entries_max < entries);
        let size_max = (bounds.entries_max / GENERATIONS_MIN).max(1);
        match self.generations.back_mut() {
            Some(last) if now.since(last.from) < GENERATION && last.hashes.len() < size_max => {
                last.hashes.push(hash);
                last.to = now;
            }
            _ => self.generations.push_back(Generation {
                from: now,
                to: now,
                hashes: vec![hash],
            }),
        }
        true
    }

    /// Drops the oldest generation for as long as `is_surplus` says so of it and of the number of all entries.
    fn drop_while(&mut self, is_surplus: impl Fn(&Generation, usize) -> bool) {
        while let Some(oldest) = self.generations.front() {
            if !is_surplus(oldest, self.hashes.len()) {
                break;
            }
            for hash in &oldest.hashes {
                self.hashes.remove(hash);
            }
            self.generations.pop_front();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// For how long events are remembered at `now`: the age of the oldest.
    pub(crate) fn reaches_back(&self, now: Timestamp) -> Duration {
        let oldest = self.generations.front();
        oldest.map_or(Duration::ZERO, |oldest| now.since(oldest.from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let listed = seen.generations.iter().map(|g| g.hashes.len());
        assert_eq!(listed.sum::<usize>(), seen.len());
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
