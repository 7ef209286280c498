//! One file of consecutive batches, named after the first offset it may hold, and its sparse index.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::batch::Header;
use super::sequence::Producers;
use crate::files;

/// One index entry for about this many bytes of batches.
const INDEX_EVERY_BYTES: u64 = 32 << 10;

/// Where a batch starts, and the newest timestamp of everything before it in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    offset_delta: u32,
    position: u32,
    max_timestamp_before: i64,
}

/// What is known of a segment without reading it. `bytes` is the intact part: nothing behind it counts.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) base: i64,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// The offset after the last batch; `base` while empty.
    pub(crate) next: i64,
    /// -1 while empty.
    pub(crate) max_timestamp: i64,
    /// When the file was made, for `segment.ms`.
    pub(crate) created_ms: i64,
    /// Compaction has looked at everything before this offset.
    pub(crate) clean_to: i64,
    /// When the first of its marked tombstones may go.
    pub(crate) horizon: Option<i64>,
    index: Vec<Entry>,
}

/// What a checkpoint file keeps, so that opening a log reads only what was written since.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) bytes: u64,
    pub(crate) next: i64,
    max_timestamp: i64,
    pub(crate) clean_to: i64,
    horizon: Option<i64>,
    index: Vec<Entry>,
    producers: Producers,
}

/// What became of a segment's checkpoint.
#[derive(Debug)]
pub(crate) enum CheckpointFile {
    Missing,
    Damaged,
    Intact(Checkpoint),
}

impl Segment {
    pub(crate) fn new(folder: &Path, base: i64, created_ms: i64) -> Segment {
        Segment {
            base,
            path: folder.join(format!("{base:020}.log")),
            bytes: 0,
            next: base,
            max_timestamp: -1,
            created_ms,
            clean_to: base,
            horizon: None,
            index: vec![],
        }
    }

    /// Notes a batch that was written at `position`, the end so far.
    pub(crate) fn note(&mut self, header: &Header, position: u64) {
        debug_assert_eq!(position, self.bytes);
        let indexed_to = self.index.last().map(|e| u64::from(e.position));
        if indexed_to.is_none_or(|at| position >= at + INDEX_EVERY_BYTES) {
            // Segments stay below 2 GiB and 2^31 offsets: see `has_room_for`.
            self.index.push(Entry {
                offset_delta: (header.base_offset - self.base) as u32,
                position: position as u32,
                max_timestamp_before: self.max_timestamp,
            });
        }
        self.bytes = position + header.bytes as u64;
        self.next = header.next_offset();
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        if let Some(horizon) = header.delete_horizon() {
            self.horizon = Some(self.horizon.map_or(horizon, |h| h.min(horizon)));
        }
    }

    /// Whether a batch of `bytes` that ends before offset `next` fits the limit (and the index).
    pub(crate) fn has_room_for(&self, bytes: u64, next: i64, limit: u64) -> bool {
        let fits = self.bytes + bytes <= limit.min(u64::from(u32::MAX >> 1));
        (fits || self.bytes == 0) && next - self.base <= i64::from(i32::MAX)
    }

    /// Compaction has nothing new to see in it.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean_to >= self.next
    }

    /// A position at or before the batch that holds `offset`, not far from it.
    pub(crate) fn seek(&self, offset: i64) -> u64 {
        let delta = u32::try_from(offset - self.base).unwrap_or(0);
        let after = self.index.partition_point(|e| e.offset_delta <= delta);
        after
            .checked_sub(1)
            .map_or(0, |i| u64::from(self.index[i].position))
    }

    /// A position at or before the first batch with a record as new as `timestamp`, not far from it.
    pub(crate) fn seek_time(&self, timestamp: i64) -> u64 {
        let after = self
            .index
            .partition_point(|e| e.max_timestamp_before < timestamp);
        after
            .checked_sub(1)
            .map_or(0, |i| u64::from(self.index[i].position))
    }

    pub(crate) fn open_to_read(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    pub(crate) fn open_to_append(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&self.path)
    }

    pub(crate) fn checkpoint_path(&self) -> PathBuf {
        self.path.with_extension("checkpoint")
    }

    /// Remembers what is known of the segment; its bytes must be synced before.
    pub(crate) fn save_checkpoint(&self, producers: &Producers) -> io::Result<()> {
        let checkpoint = Checkpoint {
            bytes: self.bytes,
            next: self.next,
            max_timestamp: self.max_timestamp,
            clean_to: self.clean_to,
            horizon: self.horizon,
            index: self.index.clone(),
            producers: producers.clone(),
        };
        files::replace(&self.checkpoint_path(), &files::checked_line(&checkpoint)?)
    }

    pub(crate) fn read_checkpoint(&self) -> io::Result<CheckpointFile> {
        let Some(content) = files::read_if_any(&self.checkpoint_path())? else {
            return Ok(CheckpointFile::Missing);
        };
        let line = content.strip_suffix(b"\n").unwrap_or(&content);
        let known = files::parse_checked::<Checkpoint>(line);
        Ok(known.map_or(CheckpointFile::Damaged, CheckpointFile::Intact))
    }

    /// Takes up what the checkpoint knows.
    pub(crate) fn adopt(&mut self, known: Checkpoint) -> Producers {
        self.bytes = known.bytes;
        self.next = known.next;
        self.max_timestamp = known.max_timestamp;
        self.clean_to = known.clean_to;
        self.horizon = known.horizon;
        self.index = known.index;
        known.producers
    }

    /// Removes the files; a reader that has them open still reads to the end.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.remove_checkpoint()?;
        fs::remove_file(&self.path)
    }

    pub(crate) fn remove_checkpoint(&self) -> io::Result<()> {
        match fs::remove_file(self.checkpoint_path()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Compares a checkpoint with the batches that it was made of, as they come by.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    known: &'a Checkpoint,
    entries_seen: usize,
    has_end: bool,
}

impl Comparison<'_> {
    pub(crate) fn new(known: &Checkpoint) -> Comparison<'_> {
        Comparison {
            known,
            entries_seen: 0,
            has_end: known.bytes == 0,
        }
    }

    pub(crate) fn batch(&mut self, base: i64, header: &Header, at: u64) {
        if let Some(entry) = self.known.index.get(self.entries_seen)
            && u64::from(entry.position) == at
            && base + i64::from(entry.offset_delta) == header.base_offset
        {
            self.entries_seen += 1;
        }
        self.has_end |=
            self.known.bytes == at + header.bytes as u64 && self.known.next == header.next_offset();
    }

    /// Whether every place that the checkpoint knows came by.
    pub(crate) fn fits(&self) -> bool {
        self.has_end && self.entries_seen == self.known.index.len()
    }
}
