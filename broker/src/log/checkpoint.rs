//! What is known of a segment, in a file beside it, so that opening a log reads only what was written since, and a
//! closed segment's index lies on the disk until it is needed.
//!
//! Two checked lines (what opening needs, and the producers), then the index: 16 bytes for each entry.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::batch::Header;
use super::segment::Segment;
use super::sequence::Producers;
use crate::files;

/// One index entry for about this many bytes of batches.
const INDEX_EVERY_BYTES: u64 = 32 << 10;
const ENTRY_BYTES: usize = 16;
/// The first line is a few numbers. What is longer is something else.
const HEAD_BYTES_MAX: u64 = 4096;

/// Where a batch starts, and the newest timestamp of everything before it in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    offset_delta: u32,
    position: u32,
    max_timestamp_before: i64,
}

/// A sparse index of the batches of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(Vec<Entry>);

impl Index {
    /// Notes a batch at the end of a segment that starts at offset `base`.
    pub(super) fn note(&mut self, base: i64, header: &Header, at: u64, max_timestamp_before: i64) {
        let indexed_to = self.0.last().map(|e| u64::from(e.position));
        if indexed_to.is_none_or(|last| at >= last + INDEX_EVERY_BYTES) {
            // Segments stay below 2 GiB and 2^31 offsets: see `Segment::has_room_for`.
            self.0.push(Entry {
                offset_delta: (header.base_offset - base) as u32,
                position: at as u32,
                max_timestamp_before,
            });
        }
    }

    /// A position at or before the batch that holds the offset, not far from it.
    pub(super) fn seek(&self, offset_delta: i64) -> u64 {
        let is_before = |e: &Entry| i64::from(e.offset_delta) <= offset_delta;
        self.position_before(self.0.partition_point(is_before))
    }

    /// A position at or before the first batch with a record as new as `timestamp`, not far from it.
    pub(super) fn seek_time(&self, timestamp: i64) -> u64 {
        let is_before = |e: &Entry| e.max_timestamp_before < timestamp;
        self.position_before(self.0.partition_point(is_before))
    }

    fn position_before(&self, after: usize) -> u64 {
        after
            .checked_sub(1)
            .map_or(0, |i| u64::from(self.0[i].position))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * ENTRY_BYTES);
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.offset_delta.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
            bytes.extend_from_slice(&entry.max_timestamp_before.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Index {
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let entry = |e: &[u8; ENTRY_BYTES]| {
            let all = u128::from_be_bytes(*e);
            Entry {
                offset_delta: (all >> 96) as u32,
                position: (all >> 64) as u32,
                max_timestamp_before: all as u64 as i64,
            }
        };
        Index(entries.iter().map(entry).collect())
    }
}

/// What opening needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) bytes: u64,
    pub(super) next: i64,
    pub(super) max_timestamp: i64,
    pub(super) clean_to: i64,
    pub(super) horizon: Option<i64>,
    pub(super) merged_to: i64,
    producers_bytes: u64,
    index_bytes: u64,
    index_crc: u32,
}

/// The content of the checkpoint of a segment with its whole index.
pub(super) fn encode(
    segment: &Segment,
    index: &Index,
    producers: &Producers,
) -> io::Result<Vec<u8>> {
    let producers = files::checked_line(producers)?;
    let index = index.to_bytes();
    let mut content = files::checked_line(&Head {
        bytes: segment.bytes,
        next: segment.next,
        max_timestamp: segment.max_timestamp,
        clean_to: segment.clean_to,
        horizon: segment.horizon,
        merged_to: segment.merged_to,
        producers_bytes: producers.len() as u64,
        index_bytes: index.len() as u64,
        index_crc: crc32c::crc32c(&index),
    })?;
    content.extend_from_slice(&producers);
    content.extend_from_slice(&index);
    Ok(content)
}

/// What became of a segment's checkpoint.
#[derive(Debug)]
pub(super) enum CheckpointFile {
    Missing,
    Damaged,
    Intact(Checkpoint),
}

/// An open checkpoint whose first line is intact. The rest is read, and checked, when it is needed.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) head: Head,
    file: File,
    head_bytes: u64,
}

impl CheckpointFile {
    pub(super) fn open(path: &Path) -> io::Result<CheckpointFile> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(CheckpointFile::Missing),
            Err(e) => return Err(e),
        };
        let mut line = vec![];
        BufReader::new((&file).take(HEAD_BYTES_MAX)).read_until(b'\n', &mut line)?;
        let head = line.strip_suffix(b"\n").and_then(files::parse_checked);
        Ok(match head {
            None => CheckpointFile::Damaged,
            Some(head) => CheckpointFile::Intact(Checkpoint {
                head,
                file,
                head_bytes: line.len() as u64,
            }),
        })
    }
}

impl Checkpoint {
    /// The producers as they were at the end of what the checkpoint covers; `None` if they are not intact.
    pub(super) fn producers(&self) -> io::Result<Option<Producers>> {
        let line = self.part(self.head_bytes, self.head.producers_bytes)?;
        Ok(line.strip_suffix(b"\n").and_then(files::parse_checked))
    }

    /// The index; `None` if it is not intact.
    pub(super) fn index(&self) -> io::Result<Option<Index>> {
        let from = self.head_bytes + self.head.producers_bytes;
        let bytes = self.part(from, self.head.index_bytes)?;
        let is_whole = bytes.len() as u64 == self.head.index_bytes;
        let is_intact = is_whole && crc32c::crc32c(&bytes) == self.head.index_crc;
        Ok(is_intact.then(|| Index::from_bytes(&bytes)))
    }

    /// Whether all that follows the first line is intact.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        Ok(self.producers()?.is_some() && self.index()?.is_some())
    }

    fn part(&self, from: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut part = vec![];
        (&self.file).seek(SeekFrom::Start(from))?;
        (&self.file).take(bytes).read_to_end(&mut part)?;
        Ok(part)
    }
}

/// Compares a checkpoint with the batches that it was made of, as they come by.
#[derive(Debug)]
pub(super) struct Comparison {
    head: Head,
    /// What the batches give; `None` once the checkpoint's end has come by.
    index: Option<Index>,
    expected: Index,
    max_timestamp: i64,
    fits: bool,
}

impl Comparison {
    /// `None` if the checkpoint is not whole.
    pub(super) fn new(known: &Checkpoint) -> io::Result<Option<Comparison>> {
        let (Some(expected), Some(_)) = (known.index()?, known.producers()?) else {
            return Ok(None);
        };
        let is_empty = known.head.bytes == 0;
        Ok(Some(Comparison {
            head: known.head.clone(),
            index: (!is_empty).then(Index::default),
            expected,
            max_timestamp: -1,
            fits: is_empty,
        }))
    }

    pub(super) fn batch(&mut self, base: i64, header: &Header, at: u64) {
        let Some(index) = &mut self.index else {
            return;
        };
        index.note(base, header, at, self.max_timestamp);
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        if at + header.bytes as u64 >= self.head.bytes {
            self.fits = at + header.bytes as u64 == self.head.bytes
                && header.next_offset() == self.head.next
                && self.max_timestamp == self.head.max_timestamp
                && *index == self.expected;
            self.index = None;
        }
    }

    /// Whether the checkpoint says what the batches do.
    pub(super) fn fits(&self) -> bool {
        self.fits
    }
}
