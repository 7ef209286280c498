//! The decisions that stand, by subject.
//!
//! A lookup asks once per shape (set of dimensions) that any decision stands for, and no more: a request is not asked
//! about keys when no key is blocked, and a decision about a subject that no limit names is found as well. Most
//! questions end at a filter, without a lock. Subjects that name sets of the policy, which no id of a request does, are
//! asked about beside the others, and only while a decision stands for any.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::{Mutex, RwLock};
use schemas::policy::{Meter, Mode, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use crate::hash::{Form, Hasher, Hashes, SHAPES, SetId, Shape};

/// Parts of the table, each behind a lock of its own.
pub const SHARDS: usize = 64;

/// Bits of the filter, a power of two: 8 KiB, of which 1,000 decisions set 1.5 %.
const FILTER_BITS: usize = 1 << 16;

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
    form: Form,
    offset: i64,
    standing: Arc<Standing>,
}

/// The shapes of all standing decisions.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    list: Vec<Shape>,
    /// Of those whose subjects name sets.
    forms: Vec<Form>,
    /// All their dimensions.
    pub(crate) dimensions: Shape,
}

impl Shapes {
    pub(crate) fn have_sets(&self) -> bool {
        !self.forms.is_empty()
    }
}

/// Holds every decision that stands. What it is told comes in the log's order, subject by subject.
pub struct Cache {
    shards: Box<[RwLock<HashTable<Kept>>]>,
    /// A bit that is not set: nothing stands for any subject whose hash leads to it.
    filter: Box<[AtomicU64]>,
    counts: Mutex<Counts>,
    /// Changes of the shapes so far.
    shapes_version: AtomicU64,
    len: AtomicUsize,
}

/// How many decisions stand.
struct Counts {
    by_shape: Box<[u32]>,
    /// Those whose subjects name sets.
    by_form: HashMap<Form, u32>,
    by_bit: Box<[u32]>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            filter: (0..FILTER_BITS / 64).map(|_| AtomicU64::new(0)).collect(),
            counts: Mutex::new(Counts {
                by_shape: vec![0; SHAPES].into(),
                by_form: HashMap::new(),
                by_bit: vec![0; FILTER_BITS].into(),
            }),
            shapes_version: AtomicU64::new(0),
            len: AtomicUsize::new(0),
        }
    }
}

// === impl Cache ===

impl Cache {
    /// Takes a decision in, unless a newer one (by `seq`, then by offset) stands.
    pub fn put(&self, hasher: &Hasher, standing: Standing, offset: i64, now: Timestamp) -> Applied {
        let (form, hash) = hasher.form(&standing.subject);
        let mut shard = self.shard(hash).write();
        let entry = shard.entry(
            table_hash(hash),
            |kept| kept.hash == hash,
            |kept| table_hash(kept.hash),
        );
        let ended = standing.has_ended(now);
        let newer = Kept {
            hash,
            form,
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
                    self.count(&newer.form, hash, -1);
                    return Applied::Ended;
                }
                *kept = newer;
            }
            Entry::Vacant(_) if ended => return Applied::Ended,
            Entry::Vacant(entry) => {
                self.count(&newer.form, hash, 1);
                entry.insert(newer);
            }
        }
        Applied::Stands
    }

    /// Forgets what stands for `subject`, if that is older than `offset`.
    pub fn lift(&self, hasher: &Hasher, subject: &Subject, offset: i64) -> Applied {
        let (form, hash) = hasher.form(subject);
        let mut shard = self.shard(hash).write();
        let found = shard.find_entry(table_hash(hash), |kept| kept.hash == hash);
        match found {
            Ok(entry) if entry.get().offset < offset => {
                entry.remove();
                self.count(&form, hash, -1);
                Applied::Lifted
            }
            _ => Applied::Ignored,
        }
    }

    /// The shapes of all decisions that stand.
    #[must_use]
    pub fn shapes(&self) -> Shapes {
        let counts = self.counts.lock();
        let standing = counts.by_shape.iter().enumerate();
        let standing = standing.filter(|(_, count)| **count != 0);
        let list: Vec<Shape> = standing.map(|(n, _)| Shape::from_index(n)).collect();
        let forms: Vec<Form> = counts.by_form.keys().cloned().collect();
        let shapes = list.iter().chain(forms.iter().map(|form| &form.shape));
        let dimensions = shapes.fold(Shape::PLATFORM, |all, shape| all.with(*shape));
        Shapes {
            list,
            forms,
            dimensions,
        }
    }

    /// Becomes another number whenever the shapes change.
    #[must_use]
    pub fn shapes_version(&self) -> u64 {
        self.shapes_version.load(Ordering::Acquire)
    }

    /// Calls `found` with each decision that stands at `now` for a subject of the request.
    pub fn find(
        &self,
        shapes: &Shapes,
        hashes: &Hashes,
        now: Timestamp,
        mut found: impl FnMut(Arc<Standing>),
    ) {
        for shape in &shapes.list {
            let Some(hash) = hashes.subject(*shape) else {
                continue;
            };
            if self.may_stand(hash)
                && let Some(standing) = self.standing(hash, now)
            {
                found(standing);
            }
        }
    }

    /// As [`Cache::find`], for the subjects of the request that name sets: `is_in` says whether it is in one.
    pub(crate) fn find_in_sets(
        &self,
        shapes: &Shapes,
        (hashes, is_in): (&Hashes, impl Fn(SetId) -> bool),
        now: Timestamp,
        mut found: impl FnMut(Arc<Standing>),
    ) {
        let forms = shapes.forms.iter();
        for form in forms.filter(|form| form.sets.iter().all(|set| is_in(*set))) {
            let hash = hashes.with(&form.sets).subject(form.shape);
            if let Some(hash) = hash.filter(|hash| self.may_stand(*hash))
                && let Some(standing) = self.standing(hash, now)
            {
                found(standing);
            }
        }
    }

    /// What stands for `subject` itself at `now`.
    #[must_use]
    pub fn get(&self, hasher: &Hasher, subject: &Subject, now: Timestamp) -> Option<Arc<Standing>> {
        let (_, hash) = hasher.subject(subject);
        self.standing(hash, now)
    }

    fn standing(&self, hash: u128, now: Timestamp) -> Option<Arc<Standing>> {
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
                self.count(&kept.form, kept.hash, -1);
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

    fn may_stand(&self, hash: u128) -> bool {
        let bit = filter_bit(hash);
        self.filter[bit / 64].load(Ordering::Relaxed) & (1 << (bit % 64)) != 0
    }

    /// Keeps counts, filter and shapes in step. The caller holds the shard's lock for writing.
    fn count(&self, form: &Form, hash: u128, change: i32) {
        let mut counts = self.counts.lock();
        let len = self.len().saturating_add_signed(change as isize);
        self.len.store(len, Ordering::Relaxed);
        let bit = filter_bit(hash);
        if turns(&mut counts.by_bit[bit], change) {
            self.filter[bit / 64].fetch_xor(1 << (bit % 64), Ordering::Relaxed);
        }
        let is_turn = match form.sets.is_empty() {
            true => turns(&mut counts.by_shape[form.shape.index()], change),
            false => {
                let count = counts.by_form.entry(form.clone()).or_default();
                let is_turn = turns(count, change);
                if *count == 0 {
                    counts.by_form.remove(form);
                }
                is_turn
            }
        };
        if is_turn {
            self.shapes_version.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Changes a count, and says whether it became zero or ceased to be.
fn turns(count: &mut u32, change: i32) -> bool {
    let before = *count;
    *count = before.saturating_add_signed(change);
    (before == 0) != (*count == 0)
}

/// Other bits than those that choose the shard and the place in its table.
fn filter_bit(hash: u128) -> usize {
    (hash >> 64) as usize % FILTER_BITS
}

fn table_hash(hash: u128) -> u64 {
    hash as u64
}

#[cfg(test)]
mod tests;
