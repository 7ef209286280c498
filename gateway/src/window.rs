//! The gateway's own exact count of what it admitted, per limit and subject.
//!
//! A limit refuses once what was used reaches its hard number, and admits whole below it: one request for 500 tokens
//! at 59,999 of 60,000 is admitted, since mode `block` refuses after the fact. The slices are the aggregator's, so
//! that both say the same `Retry-After`.
//!
//! Memory is bounded in bytes. A counter that holds nothing any more goes first. When that does not suffice, the
//! counter that would end soonest of a few goes: its subject starts from zero here, while the aggregator counts on
//! and its decision still blocks. Each such loss is counted ([`Windows::dropped`]).

mod counter;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use chrono_tz::Tz;
use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use schemas::time::Timestamp;
use smallvec::SmallVec;

use counter::Counter;
pub use counter::{Rule, Tally};

/// Parts of the table, each behind a lock of its own. At most 64, so that a set of them is one word.
pub const SHARDS: usize = 64;

/// What one counter takes at most in its table, which may be grown to four times its content by churn. Its slices
/// come on top.
pub const COUNTER_BYTES: usize = 4 * (size_of::<Counter>() + 1);

/// Counters that are looked at to drop one of them.
const DROP_SAMPLE: usize = 8;

/// A full shard looks for idle counters at most this often.
const SWEEP_MICROS: i64 = 1_000_000;

/// One limit that a request falls under.
#[derive(Clone, Debug)]
pub struct Item<'r> {
    /// The hash of the subject plus that of the limit.
    pub key: u128,
    pub rule: &'r Rule,
    /// What the request adds.
    pub amount: u64,
    /// Whether being full refuses; in mode `open` it is only counted and told.
    pub refuses: bool,
    /// The tenant's, for calendar windows.
    pub zone: Tz,
    /// Out: what the counter says after the request, or before it if that was not admitted.
    pub tally: Tally,
    /// Out: whether the limit was full before the request, and so refused it, or would have in mode `block`.
    pub full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Count the request if all limits admit it.
    Charge,
    /// Only look.
    Look,
}

#[derive(Default)]
struct Shard {
    counters: HashTable<Counter>,
    /// [`COUNTER_BYTES`] a counter, and the slices.
    bytes: usize,
    /// Where the search for a counter to drop goes on.
    cursor: usize,
    swept_at: i64,
}

/// On a cache line of its own, so that neighbours' locks do not disturb one another.
#[derive(Default)]
#[repr(align(64))]
struct Slot(Mutex<Shard>);

/// All counters of one gateway.
pub struct Windows {
    shards: Box<[Slot]>,
    shard_bytes_max: usize,
    dropped: AtomicU64,
}

type Guards<'a> = SmallVec<[MutexGuard<'a, Shard>; 4]>;

// === impl Windows ===

impl Windows {
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Slot::default()).collect(),
            shard_bytes_max: bytes_max / SHARDS,
            dropped: AtomicU64::new(0),
        }
    }

    /// Judges a request against all its limits at once, and counts it under all of them or none. Returns whether
    /// it was admitted; the items' tallies say by how much or until when. Keys must differ from one another.
    pub fn take(&self, items: &mut [Item<'_>], now: Timestamp, intent: Intent) -> bool {
        let set = items
            .iter()
            .fold(0_u64, |set, item| set | 1 << shard_of(item.key));
        let mut guards = self.lock(set);
        let mut slots: SmallVec<[Option<usize>; 4]> = SmallVec::with_capacity(items.len());
        let mut admitted = true;
        for item in items.iter_mut() {
            let slot = guards[position(set, item.key)].look(item, now);
            slots.push(slot);
            item.full = item.tally.is_full(item.rule);
            admitted &= !(item.refuses && item.full);
        }
        if !admitted || intent == Intent::Look {
            return admitted;
        }
        // Counters that exist first: a new one may move all others.
        for (item, slot) in items.iter_mut().zip(&slots) {
            if let Some(slot) = *slot {
                guards[position(set, item.key)].charge(slot, item, now);
            }
        }
        for (item, slot) in items.iter_mut().zip(&slots) {
            if slot.is_none() && 0 < item.amount {
                guards[position(set, item.key)].insert(item, now);
            }
        }
        for guard in &mut guards {
            let dropped = guard.fit(self.shard_bytes_max, now);
            if 0 < dropped {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
        true
    }

    /// Drops the counters of one shard that hold nothing any more.
    ///
    /// # Panics
    /// When `shard` is not below [`SHARDS`].
    pub fn sweep(&self, shard: usize, now: Timestamp) {
        self.shards[shard].0.lock().sweep(now);
    }

    /// Counters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.0.lock().counters.len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counters that were dropped for want of memory while they still held something.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Locks a set of shards in ascending order, which is every caller's: nobody waits in a circle.
    fn lock(&self, mut set: u64) -> Guards<'_> {
        let mut guards = Guards::new();
        while set != 0 {
            guards.push(self.shards[set.trailing_zeros() as usize].0.lock());
            set &= set - 1;
        }
        guards
    }
}

fn shard_of(key: u128) -> u32 {
    (key >> 122) as u32
}

/// Where the guard of `key`'s shard stands among those of `set`.
fn position(set: u64, key: u128) -> usize {
    let before = (1_u64 << shard_of(key)) - 1;
    (set & before).count_ones() as usize
}

fn table_hash(key: u128) -> u64 {
    key as u64
}

// === impl Shard ===

impl Shard {
    /// Tells the item what its counter holds, and returns where that is.
    fn look(&mut self, item: &mut Item<'_>, now: Timestamp) -> Option<usize> {
        let found = self
            .counters
            .find_bucket_index(table_hash(item.key), |counter| counter.key() == item.key);
        let counter = found.and_then(|index| self.counters.get_bucket_mut(index));
        item.tally = match counter {
            Some(counter) => {
                let before = counter.heap_bytes();
                counter.advance(item.rule, now, item.zone);
                self.bytes -= before - counter.heap_bytes();
                counter.tally(item.rule, now)
            }
            None => Tally::default(),
        };
        found
    }

    fn charge(&mut self, slot: usize, item: &mut Item<'_>, now: Timestamp) {
        let Some(counter) = self.counters.get_bucket_mut(slot) else {
            debug_assert!(false, "nothing moves between look and charge");
            return;
        };
        let before = counter.heap_bytes();
        counter.add(item.rule, item.amount, now);
        self.bytes += counter.heap_bytes() - before;
        item.tally = counter.tally(item.rule, now);
    }

    fn insert(&mut self, item: &mut Item<'_>, now: Timestamp) {
        let mut counter = Counter::new(item.key, item.rule, now, item.zone);
        counter.add(item.rule, item.amount, now);
        item.tally = counter.tally(item.rule, now);
        self.bytes += COUNTER_BYTES;
        self.counters
            .insert_unique(table_hash(item.key), counter, |c| table_hash(c.key()));
    }

    /// Drops counters until the shard is within its bound; returns how many of them held something.
    fn fit(&mut self, bytes_max: usize, now: Timestamp) -> u64 {
        if self.bytes <= bytes_max {
            return 0;
        }
        if SWEEP_MICROS <= now.as_micros().saturating_sub(self.swept_at) {
            self.sweep(now);
        }
        let mut dropped = 0;
        while bytes_max < self.bytes {
            match self.drop_one() {
                Some(counter) => dropped += u64::from(now.as_micros() < counter.idle_at()),
                None => break,
            }
        }
        dropped
    }

    /// Drops the one of a few counters that ends soonest.
    fn drop_one(&mut self) -> Option<Counter> {
        let buckets = self.counters.num_buckets();
        let mut sample = SmallVec::<[(i64, usize); DROP_SAMPLE]>::new();
        for _ in 0..buckets {
            self.cursor = (self.cursor + 1) % buckets;
            if let Some(counter) = self.counters.get_bucket(self.cursor) {
                sample.push((counter.idle_at(), self.cursor));
            }
            if sample.len() == DROP_SAMPLE {
                break;
            }
        }
        let (_, soonest) = sample.into_iter().min()?;
        let entry = self.counters.get_bucket_entry(soonest).ok()?;
        let counter = entry.remove().0;
        self.bytes -= COUNTER_BYTES + counter.heap_bytes();
        Some(counter)
    }

    fn sweep(&mut self, now: Timestamp) {
        let mut freed = 0;
        self.swept_at = now.as_micros();
        self.counters.retain(|counter| {
            let stays = now.as_micros() < counter.idle_at();
            if !stays {
                freed += COUNTER_BYTES + counter.heap_bytes();
            }
            stays
        });
        self.bytes -= freed;
        if self.counters.len() < self.counters.capacity() / 8 {
            self.counters.shrink_to_fit(|c| table_hash(c.key()));
        }
    }
}
