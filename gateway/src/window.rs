//! The gateway's own exact count of what it admitted, per limit and subject.
//!
//! A limit refuses once what was used reaches its hard number, and admits whole below it: one request for 500 tokens
//! at 59,999 of 60,000 is admitted, since mode `block` refuses after the fact. The slices are the aggregator's, so
//! that both say the same `Retry-After`.
//!
//! Memory is bounded in bytes. A counter that holds nothing any more goes first. When that does not suffice, the
//! counter that would end soonest of a few goes: its subject starts from zero here, while the aggregator counts on
//! and its decision still blocks. Each such loss is counted ([`Windows::dropped`]).

pub(crate) mod counter;
#[cfg(test)]
pub(crate) mod model;
pub(crate) mod rule;
mod shares;
mod slices;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono_tz::Tz;
use parking_lot::{Mutex, MutexGuard};
use schemas::time::Timestamp;
use smallvec::SmallVec;

pub use counter::Tally;
use counter::{Ask, Counter, Taken};
pub use rule::Rule;
use shares::Leases;
pub use shares::Part;
pub(crate) use shares::Place;
use table::Table;

/// Parts of the table, each behind a lock of its own. At most 64, so that a set of them is one word.
pub const SHARDS: usize = 64;

/// What one counter takes in its table at most, just after that has grown. Its slices come on top.
pub const COUNTER_BYTES: usize = size_of::<Counter>() * 2;

/// Counters that are looked at to drop one of them.
const DROP_SAMPLE: usize = 8;

/// A full shard looks for idle counters at most this often.
const SWEEP_MICROS: i64 = 1_000_000;

/// One limit that a request falls under. `L` is a [`Rule`], or what has one.
#[derive(Clone, Debug)]
pub struct Item<'l, L> {
    /// The hash of the subject plus that of the limit.
    pub key: u128,
    pub limit: &'l L,
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
    /// Where other gateways count under the same number: what this one has of it.
    pub share: Option<Part>,
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
    counters: Table<Counter>,
    /// Of those counters that any units are lent of.
    leases: BTreeMap<u64, Leases>,
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
    pub fn take<L: AsRef<Rule>>(
        &self,
        items: &mut [Item<'_, L>],
        now: Timestamp,
        intent: Intent,
    ) -> bool {
        let (admitted, dropped) = match items {
            [] => (true, 0),
            [item] => {
                let mut shard = self.shards[shard_of(item.key)].0.lock();
                let admitted = shard.take(item, now, intent);
                (admitted, shard.fit(self.shard_bytes_max, now))
            }
            items => self.take_all(items, now, intent),
        };
        if 0 < dropped {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        admitted
    }

    fn take_all<L: AsRef<Rule>>(
        &self,
        items: &mut [Item<'_, L>],
        now: Timestamp,
        intent: Intent,
    ) -> (bool, u64) {
        let set = items
            .iter()
            .fold(0_u64, |set, item| set | 1 << shard_of(item.key));
        let mut guards = self.lock(set);
        let mut admitted = true;
        for item in items.iter_mut() {
            admitted &= guards[position(set, item.key)].take(item, now, Intent::Look);
        }
        if admitted && intent == Intent::Charge {
            for item in items.iter_mut() {
                guards[position(set, item.key)].take(item, now, Intent::Charge);
            }
        }
        let shards = guards.iter_mut();
        let dropped = shards.map(|shard| shard.fit(self.shard_bytes_max, now));
        (admitted, dropped.sum())
    }

    /// What was counted under `key` counts no more; what is lent of it stays lent.
    pub(crate) fn clear(&self, key: u128) {
        let mut shard = self.shards[shard_of(key)].0.lock();
        if let Some(counter) = shard.counters.take(table_key(key)) {
            shard.bytes -= COUNTER_BYTES + counter.heap_bytes();
        }
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

fn shard_of(key: u128) -> usize {
    (key >> 122) as usize
}

/// Where the guard of `key`'s shard stands among those of `set`.
fn position(set: u64, key: u128) -> usize {
    let before = (1_u64 << shard_of(key)) - 1;
    (set & before).count_ones() as usize
}

/// What an item is known by in its shard. With the bits that chose the shard these are 70 of its key: two of a
/// million have all in common with a probability below 10^-9, and are then counted as one.
fn table_key(key: u128) -> u64 {
    key as u64
}

// === impl Shard ===

impl Shard {
    /// Judges one item by itself, and counts it if that is intended and it is admitted.
    fn take<L: AsRef<Rule>>(
        &mut self,
        item: &mut Item<'_, L>,
        now: Timestamp,
        intent: Intent,
    ) -> bool {
        let rule = item.limit.as_ref();
        let ask = Ask {
            amount: item.amount,
            refuses: item.refuses,
            charges: intent == Intent::Charge,
            zone: item.zone,
            room: item.share.map(|share| self.room(item.key, share.base, now)),
        };
        let Some(counter) = self.counters.get_mut(table_key(item.key)) else {
            let taken = self.insert(item.key, rule, ask, now);
            (item.full, item.tally) = (taken.full, taken.tally);
            self.tell(item, ask, taken, now);
            return !(item.refuses && item.full);
        };
        let before = counter.heap_bytes();
        let taken = counter.take(rule, ask, now);
        self.bytes = self.bytes + counter.heap_bytes() - before;
        (item.full, item.tally) = (taken.full, taken.tally);
        self.tell(item, ask, taken, now);
        !(item.refuses && item.full)
    }

    fn insert(&mut self, key: u128, rule: &Rule, ask: Ask, now: Timestamp) -> Taken {
        let empty = Taken::of(rule, 0, ask);
        if ask.amount == 0 || !empty.admits(ask) {
            return empty;
        }
        let mut counter = Counter::new(table_key(key), rule, now, ask.zone);
        let taken = counter.take(rule, ask, now);
        self.bytes += COUNTER_BYTES + counter.heap_bytes();
        self.counters.insert(counter);
        taken
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
                Some(counter) => dropped += u64::from(now.second() < counter.idle_at().into()),
                None => break,
            }
        }
        dropped
    }

    /// Drops the one of a few counters that ends soonest.
    fn drop_one(&mut self) -> Option<Counter> {
        let slots = self.counters.slots();
        let mut sample = SmallVec::<[(u32, usize); DROP_SAMPLE]>::new();
        for _ in 0..slots {
            self.cursor = (self.cursor + 1) % slots;
            if let Some(counter) = self.counters.at(self.cursor) {
                sample.push((counter.idle_at(), self.cursor));
            }
            if sample.len() == DROP_SAMPLE {
                break;
            }
        }
        let (_, soonest) = sample.into_iter().min()?;
        let counter = self.counters.remove(soonest)?;
        self.bytes -= COUNTER_BYTES + counter.heap_bytes();
        Some(counter)
    }

    fn sweep(&mut self, now: Timestamp) {
        self.leases.retain(|_, leases| leases.tidy(now));
        let mut freed = 0;
        self.swept_at = now.as_micros();
        self.counters.retain(|counter| {
            let stays = now.second() < counter.idle_at().into();
            if !stays {
                freed += COUNTER_BYTES + counter.heap_bytes();
            }
            stays
        });
        self.bytes -= freed;
    }
}
