//! The decisions that stand, by subject.
//!
//! A lookup takes one hash per shape (set of dimensions) that any decision stands for, and no more: a request is not
//! asked about keys when no key is blocked, and a decision about a subject that no limit names is found as well.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Guard};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::{Mutex, RwLock};
use schemas::policy::{Meter, Mode, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use crate::hash::{Hasher, Hashes, SHAPES, Shape};

/// Parts of the table, each behind a lock of its own.
pub const SHARDS: usize = 64;

/// What a gateway does with a request, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Allow,
    Throttle,
    Challenge,
    Block,
}

impl Verdict {
    /// Every verdict but `allow`.
    #[must_use]
    pub fn refuses(self) -> bool {
        self != Verdict::Allow
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Throttle => "throttle",
            Verdict::Challenge => "challenge",
            Verdict::Block => "block",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A decision that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub id: String,
    pub subject: Subject,
    pub verdict: Verdict,
    /// The most severe first.
    pub causes: Vec<Cause>,
    /// The HTTP status of a refusal.
    pub status: u16,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// Waiting does not help.
    pub terminal: bool,
    pub seq: i64,
    pub issued_at: Timestamp,
    /// By when its owner must have said it again, if it is to last beyond.
    pub fresh_until: Timestamp,
}

/// One reason of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub limit: String,
    pub policy_version: i64,
    pub meter: Meter,
    pub window: Window,
    pub mode: Mode,
    /// What it asks for; in mode `open`, what it would have asked for.
    pub verdict: Verdict,
    pub used: i128,
    pub max: i128,
    pub reset_at: Option<Timestamp>,
}

impl Standing {
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// For how long its owner has owed a word. One that ends by itself in time owes none.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Option<std::time::Duration> {
        let over = self.fresh_until < now && !self.has_ended(now);
        over.then(|| now.since(self.fresh_until))
    }
}

/// What came of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Stands,
    Lifted,
    /// It had ended before it was read.
    Ended,
    /// Something newer stands, or there was nothing to lift.
    Ignored,
}

struct Kept {
    hash: u128,
    shape: Shape,
    offset: i64,
    standing: Arc<Standing>,
}

/// The shapes of all standing decisions.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    list: Vec<Shape>,
    /// All their dimensions.
    pub(crate) dimensions: Shape,
}

/// Holds every decision that stands. What it is told comes in the log's order, subject by subject.
pub struct Cache {
    shards: Box<[RwLock<HashTable<Kept>>]>,
    shapes: ArcSwap<Shapes>,
    /// How many decisions stand for each shape.
    counts: Mutex<Box<[u32]>>,
    len: AtomicUsize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            shapes: ArcSwap::default(),
            counts: Mutex::new(vec![0; SHAPES].into()),
            len: AtomicUsize::new(0),
        }
    }
}

// === impl Cache ===

impl Cache {
    /// Takes a decision in, unless a newer one (by `seq`, then by offset) stands.
    pub fn put(&self, hasher: &Hasher, standing: Standing, offset: i64, now: Timestamp) -> Applied {
        let (shape, hash) = hasher.subject(&standing.subject);
        let mut shard = self.shard(hash).write();
        let entry = shard.entry(
            table_hash(hash),
            |kept| kept.hash == hash,
            |kept| table_hash(kept.hash),
        );
        let ended = standing.has_ended(now);
        let newer = Kept {
            hash,
            shape,
            offset,
            standing: Arc::new(standing),
        };
        match entry {
            Entry::Occupied(mut entry) => {
                let kept = entry.get_mut();
                if (newer.standing.seq, offset) < (kept.standing.seq, kept.offset) {
                    return Applied::Ignored;
                }
                if ended {
                    entry.remove();
                    self.count(shape, -1);
                    return Applied::Ended;
                }
                *kept = newer;
            }
            Entry::Vacant(_) if ended => return Applied::Ended,
            Entry::Vacant(entry) => {
                self.count(shape, 1);
                entry.insert(newer);
            }
        }
        Applied::Stands
    }

    /// Forgets what stands for `subject`, if that is older than `offset`.
    pub fn lift(&self, hasher: &Hasher, subject: &Subject, offset: i64) -> Applied {
        let (shape, hash) = hasher.subject(subject);
        let mut shard = self.shard(hash).write();
        let found = shard.find_entry(table_hash(hash), |kept| kept.hash == hash);
        match found {
            Ok(entry) if entry.get().offset < offset => {
                entry.remove();
                self.count(shape, -1);
                Applied::Lifted
            }
            _ => Applied::Ignored,
        }
    }

    /// What stands for the request's subjects is found through these.
    pub fn shapes(&self) -> Guard<Arc<Shapes>> {
        self.shapes.load()
    }

    /// Calls `found` with each decision that stands at `now` for a subject of the request.
    pub fn find(
        &self,
        shapes: &Shapes,
        hashes: &Hashes,
        now: Timestamp,
        mut found: impl FnMut(&Arc<Standing>),
    ) {
        for hash in shapes
            .list
            .iter()
            .filter_map(|shape| hashes.subject(*shape))
        {
            let shard = self.shard(hash).read();
            if let Some(kept) = shard.find(table_hash(hash), |kept| kept.hash == hash)
                && !kept.standing.has_ended(now)
            {
                found(&kept.standing);
            }
        }
    }

    /// What stands for `subject` itself at `now`.
    #[must_use]
    pub fn get(&self, hasher: &Hasher, subject: &Subject, now: Timestamp) -> Option<Arc<Standing>> {
        let (_, hash) = hasher.subject(subject);
        let shard = self.shard(hash).read();
        let kept = shard.find(table_hash(hash), |kept| kept.hash == hash)?;
        (!kept.standing.has_ended(now)).then(|| Arc::clone(&kept.standing))
    }

    /// All that one shard holds.
    ///
    /// # Panics
    /// When `shard` is not below [`SHARDS`].
    #[must_use]
    pub fn all(&self, shard: usize) -> Vec<Arc<Standing>> {
        let shard = self.shards[shard].read();
        shard
            .iter()
            .map(|kept| Arc::clone(&kept.standing))
            .collect()
    }

    /// Forgets those of one shard that have ended. Until then they are kept, and not found.
    ///
    /// # Panics
    /// When `shard` is not below [`SHARDS`].
    pub fn sweep(&self, shard: usize, now: Timestamp) {
        let mut shard = self.shards[shard].write();
        shard.retain(|kept| {
            let ended = kept.standing.has_ended(now);
            if ended {
                self.count(kept.shape, -1);
            }
            !ended
        });
        if shard.len() < shard.capacity() / 8 {
            shard.shrink_to_fit(|kept| table_hash(kept.hash));
        }
    }

    /// Decisions that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, hash: u128) -> &RwLock<HashTable<Kept>> {
        &self.shards[(hash >> 122) as usize]
    }

    /// Keeps the shapes in step. The caller holds the shard's lock for writing, so that a decision is found as soon
    /// as it is put.
    fn count(&self, shape: Shape, change: i32) {
        let mut counts = self.counts.lock();
        let count = &mut counts[shape.index()];
        let before = *count;
        *count = before.saturating_add_signed(change);
        self.len.store(
            self.len().saturating_add_signed(change as isize),
            Ordering::Relaxed,
        );
        if (before == 0) == (*count == 0) {
            return;
        }
        let standing = counts.iter().enumerate().filter(|(_, count)| **count != 0);
        let list: Vec<Shape> = standing
            .map(|(index, _)| Shape::from_index(index))
            .collect();
        let dimensions = list
            .iter()
            .fold(Shape::PLATFORM, |all, shape| all.with(*shape));
        self.shapes.store(Arc::new(Shapes { list, dimensions }));
    }
}

fn table_hash(hash: u128) -> u64 {
    hash as u64
}

#[cfg(test)]
mod tests;
