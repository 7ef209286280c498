//! Compaction: the closed segments keep the last record of each key.
//!
//! One pass maps the keys of the segments written since the last pass to their newest offsets (as
//! many as fit the bound; the next pass goes on from there), then copies the segments from the
//! first on without the records that the map outdates. Offsets never change, so a reader in the
//! middle only meets gaps. A tombstone outlives the first pass that meets it by
//! `delete.retention.ms`, so that a reader who has seen the old value also sees it go; as in
//! Kafka, the batch itself carries that moment.
//!
//! The lock is taken to list the segments and to put the copies in their place, group by group
//! from the oldest on: a crash in between leaves older values, never a gap or a value whose
//! tombstone is gone.

use std::collections::HashMap;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::batch::{self, Header};
use super::read::read_batch;
use super::records::{self, Record, Records};
use super::{LogSettings, PartitionLog, Segment, swap};
use crate::files;

/// 128 bits of a key's hash and its newest offset: about 26 MB when full.
const KEYS_MAX: usize = 900_000;

/// The newest offset of each key in the stretch that one pass looks at.
struct Newest {
    offsets: HashMap<(u64, u64), i64>,
    keys_max: usize,
    seed: (u64, u64),
    /// Batches from here on have not been looked at.
    mapped_to: i64,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compacted {
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
}

/// One pass, if there is enough to do. `seed` keeps key hashes from being predicted.
/// `stop` is asked between batches; a stopped pass leaves the log as it was.
pub(crate) fn compact(
    log: &Mutex<PartitionLog>,
    now_ms: i64,
    seed: (u64, u64),
    stop: &dyn Fn() -> bool,
) -> io::Result<Compacted> {
    compact_with(log, now_ms, Newest::new(seed, KEYS_MAX), stop)
}

fn compact_with(
    log: &Mutex<PartitionLog>,
    now_ms: i64,
    mut newest: Newest,
    stop: &dyn Fn() -> bool,
) -> io::Result<Compacted> {
    let (closed, settings) = {
        let log = log.lock();
        let closed = log
            .segments
            .split_last()
            .map_or(&[][..], |(_, closed)| closed);
        let old = closed
            .iter()
            .take_while(|s| is_old_enough(s, &log.settings, now_ms));
        (old.cloned().collect::<Vec<_>>(), log.settings.clone())
    };
    let mut done = Compacted::default();
    if !is_worth_it(&closed, &settings, now_ms) {
        return Ok(done);
    }
    newest.map(&closed, stop)?;
    let reached = closed.partition_point(|s| s.base < newest.mapped_to);
    let pass = Pass {
        newest: &newest,
        settings: &settings,
        now_ms,
    };
    let mut rest = &closed[..reached];
    while !rest.is_empty() {
        let copied = pass.copy(rest, stop);
        if !matches!(copied, Ok(Some(_))) {
            // Half a copy only takes up room.
            files::remove_if_any(&swap::cleaned_path(&rest[0]))?;
        }
        let Some((copy, count)) = copied? else {
            break;
        };
        let (group, others) = rest.split_at(count);
        done.bytes_before += group.iter().map(|s| s.bytes).sum::<u64>();
        done.bytes_after += copy.bytes;
        if !put_in_place(&mut log.lock(), group, copy)? {
            break;
        }
        rest = others;
    }
    Ok(done)
}

/// Whether all its records have been there for `min.compaction.lag.ms`, by their own times as in Kafka.
fn is_old_enough(segment: &Segment, settings: &LogSettings, now_ms: i64) -> bool {
    let lag = settings.compaction_lag_min_ms;
    lag == 0 || segment.max_timestamp <= now_ms.saturating_sub(lag)
}

fn is_worth_it(closed: &[Segment], settings: &LogSettings, now_ms: i64) -> bool {
    let total: u64 = closed.iter().map(|s| s.bytes).sum();
    let dirty: u64 = closed
        .iter()
        .filter(|s| !s.is_clean())
        .map(|s| s.bytes)
        .sum();
    let oldest_dirty = closed.iter().find(|s| !s.is_clean() && s.bytes > 0);
    let is_late = |s: &Segment| now_ms - s.created_ms > settings.compaction_lag_max_ms;
    let has_expired_tombstones = closed
        .iter()
        .any(|s| s.horizon.is_some_and(|h| h <= now_ms));
    (dirty > 0 && dirty as f64 >= settings.dirty_ratio_min * total as f64)
        || oldest_dirty.is_some_and(is_late)
        || has_expired_tombstones
}

impl Newest {
    fn new(seed: (u64, u64), keys_max: usize) -> Newest {
        Newest {
            offsets: HashMap::new(),
            keys_max,
            seed,
            mapped_to: 0,
        }
    }

    fn map(&mut self, closed: &[Segment], stop: &dyn Fn() -> bool) -> io::Result<()> {
        for segment in closed.iter().filter(|s| !s.is_clean()) {
            for batch in batches(segment)? {
                let (header, bytes) = batch?;
                if header.base_offset < segment.clean_to {
                    continue;
                }
                if self.offsets.len() >= self.keys_max || stop() {
                    return Ok(());
                }
                self.mapped_to = header.next_offset();
                let records = readable(&header, &bytes).into_iter().flatten().flatten();
                for record in records {
                    if let Some(key) = &record.key {
                        self.offsets.insert(self.hash(key), record.offset);
                    }
                }
            }
        }
        self.mapped_to = closed.last().map_or(0, |s| s.next.max(s.base + 1));
        Ok(())
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write(key);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }

    fn is_newest(&self, key: &[u8], offset: i64) -> bool {
        self.offsets
            .get(&self.hash(key))
            .is_none_or(|newest| *newest <= offset)
    }
}

/// The batches of a closed segment, one after the other.
fn batches(segment: &Segment) -> io::Result<impl Iterator<Item = io::Result<(Header, Bytes)>>> {
    let file = segment.open_to_read()?;
    let end = segment.bytes;
    let mut position = 0;
    Ok(std::iter::from_fn(move || {
        (position < end).then(|| {
            let (header, bytes) = read_batch(&file, position)?;
            position += header.bytes as u64;
            Ok((header, bytes))
        })
    }))
}

/// The records of a batch that compaction may judge, all of them whole; control batches and what
/// cannot be read, or would be too large to read, stay as they are.
fn readable(header: &Header, bytes: &Bytes) -> Option<Records> {
    if header.is_control() {
        return None;
    }
    let records = Records::of(header, bytes).and_then(|r| r.check().map(|()| r));
    records
        .inspect_err(|e| {
            tracing::warn!(offset = header.base_offset, "a batch is kept as it is: {e}")
        })
        .ok()
}

struct Pass<'a> {
    newest: &'a Newest,
    settings: &'a LogSettings,
    now_ms: i64,
}

impl Pass<'_> {
    /// Writes what is kept of the first segment beside it, and of as many that follow as fit, so
    /// that many small ones become one. Returns the copy, and of how many it is one; `None` if it
    /// was stopped.
    fn copy(
        &self,
        segments: &[Segment],
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Option<(Segment, usize)>> {
        let first = &segments[0];
        let path = swap::cleaned_path(first);
        let mut file = BufWriter::new(files::create(&path)?);
        let mut copy = Segment::new(path.parent().unwrap_or(&path), first.base, first.created_ms);
        let mut count = 0;
        for segment in segments {
            let limit = self.settings.segment_bytes;
            if count > 0 && !copy.has_room_for(segment.bytes, segment.next, limit) {
                break;
            }
            count += 1;
            copy.created_ms = segment.created_ms;
            for batch in batches(segment)? {
                if stop() {
                    return Ok(None);
                }
                let (header, bytes) = batch?;
                let Some(kept) = self.keep(&header, bytes)? else {
                    continue;
                };
                let header = Header::checked(&kept).map_err(io::Error::other)?;
                let position = copy.bytes;
                file.write_all(&kept)?;
                copy.note(&header, position);
            }
        }
        files::sync(&file.into_inner()?, &path)?;
        copy.clean_to = self.newest.mapped_to;
        Ok(Some((copy, count)))
    }

    /// The batch as it is, a smaller one, or nothing.
    fn keep(&self, header: &Header, bytes: Bytes) -> io::Result<Option<Bytes>> {
        if header.base_offset >= self.newest.mapped_to {
            return Ok(Some(bytes));
        }
        let Some(records) = readable(header, &bytes) else {
            return Ok(Some(bytes));
        };
        let had = header.delete_horizon();
        let is_past = had.is_some_and(|at| at <= self.now_ms);
        let is_kept = |r: &Record| {
            r.key
                .as_ref()
                .is_some_and(|key| self.newest.is_newest(key, r.offset))
                && !(r.is_tombstone && is_past)
        };
        let kept = records.flatten().filter(is_kept);
        let Some(summary) = Summary::of(kept.clone()) else {
            return Ok(None);
        };
        let horizon = summary.has_tombstones.then(|| {
            had.unwrap_or(
                self.now_ms
                    .saturating_add(self.settings.delete_retention_ms),
            )
        });
        if summary.count == header.count && horizon == had {
            return Ok(Some(bytes));
        }
        rewrite(header, kept, &summary, horizon).map(Some)
    }
}

/// What a batch's header says of its records.
struct Summary {
    count: i32,
    first_timestamp: i64,
    max_timestamp: i64,
    has_tombstones: bool,
}

impl Summary {
    /// `None` if there is no record.
    fn of(records: impl Iterator<Item = Record>) -> Option<Summary> {
        let mut summary: Option<Summary> = None;
        for record in records {
            let all = summary.get_or_insert(Summary {
                count: 0,
                first_timestamp: record.timestamp,
                max_timestamp: record.timestamp,
                has_tombstones: false,
            });
            all.count += 1;
            all.max_timestamp = all.max_timestamp.max(record.timestamp);
            all.has_tombstones |= record.is_tombstone;
        }
        summary
    }
}

/// The batch with the kept records only.
fn rewrite(
    header: &Header,
    kept: impl Iterator<Item = Record>,
    summary: &Summary,
    horizon: Option<i64>,
) -> io::Result<Bytes> {
    let mut header = *header;
    if !header.is_stamped_on_append() {
        header.max_timestamp = summary.max_timestamp;
    }
    header.base_timestamp = summary.first_timestamp;
    let codec = header
        .codec()
        .ok_or_else(|| io::Error::other("unknown compression"))?;
    let base_timestamp = horizon.unwrap_or(header.base_timestamp);
    let body = records::encode(codec, base_timestamp, kept).map_err(io::Error::other)?;
    Ok(batch::rebuild(&header, summary.count, horizon, &body).into())
}

/// Puts the copy in the place of its group. `false` if the group is no longer there (retention or
/// an administrator deleted some of it); the copy is then thrown away.
fn put_in_place(log: &mut PartitionLog, group: &[Segment], mut copy: Segment) -> io::Result<bool> {
    let at = log.segments.iter().position(|s| s.base == group[0].base);
    let is_there = |at: &usize| {
        log.segments.get(*at..at + group.len()).is_some_and(|now| {
            now.iter()
                .zip(group)
                .all(|(a, b)| a.base == b.base && a.bytes == b.bytes)
        })
    };
    let Some(at) = at.filter(is_there) else {
        files::remove_if_any(&swap::cleaned_path(&copy))?;
        return Ok(false);
    };
    let group_end = at + group.len();
    copy.merged_to = log.segments.get(group_end).map_or(copy.next, |s| s.base);
    if let Err(e) = swap::begin(&copy, &log.producers) {
        files::remove_if_any(&swap::cleaned_path(&copy))?;
        return Err(e);
    }
    if let Err(e) = swap::finish(&log.folder, copy.base, copy.merged_to) {
        // The files are no longer those that are known: only opening finds out what there is.
        log.mark_failed();
        return Err(e);
    }
    for old in group {
        log.handles.forget(old.id);
    }
    copy.release_index();
    log.segments.splice(at..group_end, [copy]);
    Ok(true)
}

#[cfg(test)]
mod load;
#[cfg(test)]
mod tests;
