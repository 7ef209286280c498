//! Reading: the lock is held only to find the file and the place, never while reading it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::batch::{HEADER_BYTES, Header};
use super::checkpoint::{Checkpoint, CheckpointFile, Index};
use super::handles::Handle;
use super::records::{Record, Records};
use super::{PartitionLog, Segment};

/// Read beyond what was asked for, because a place is known only to the nearest index entry.
const SLACK_BYTES: u64 = 33 << 10;

/// A stretch of one segment that holds what is looked for, if anything does.
struct Place {
    handle: Arc<Handle>,
    start: Start,
    end: u64,
    /// Where the next segment goes on; the end of the log if there is none.
    next: i64,
    is_last: bool,
}

/// Where to start reading.
enum Start {
    At(u64),
    /// The index says, which is in this checkpoint. It is opened under the log's lock, together
    /// with the segment, so that the two belong together, and read without.
    InIndex(Checkpoint, Wanted),
}

/// What is looked for in an index.
#[derive(Clone, Copy)]
enum Wanted {
    /// Counted from the start of the segment.
    Offset(i64),
    Time(i64),
}

impl Wanted {
    fn seek(self, index: &Index) -> u64 {
        match self {
            Wanted::Offset(delta) => index.seek(delta),
            Wanted::Time(timestamp) => index.seek_time(timestamp),
        }
    }
}

impl Place {
    fn position(&self) -> io::Result<u64> {
        Ok(match &self.start {
            Start::At(position) => *position,
            // Without an index everything is found as well, only later.
            Start::InIndex(checkpoint, wanted) => {
                checkpoint.index()?.map_or(0, |index| wanted.seek(&index))
            }
        })
    }
}

impl PartitionLog {
    fn place(&self, i: usize, wanted: Wanted) -> io::Result<Place> {
        let segment = &self.segments[i];
        let is_last = i + 1 == self.segments.len();
        let handle = match is_last {
            true => self.active()?,
            false => self.handles.get(segment.id, || segment.open_to_read())?,
        };
        let stopped_at = match wanted {
            Wanted::Offset(delta) => handle.position(segment.base + delta),
            Wanted::Time(_) => None,
        };
        let start = match (stopped_at, segment.held_index()) {
            (Some(position), _) => Start::At(position),
            (None, Some(index)) => Start::At(wanted.seek(index)),
            (None, None) => match segment.open_checkpoint()? {
                CheckpointFile::Intact(checkpoint) => Start::InIndex(checkpoint, wanted),
                CheckpointFile::Missing | CheckpointFile::Damaged => Start::At(0),
            },
        };
        // Closed segments of a compacted log may end in a gap: the next one starts where it starts.
        Ok(Place {
            handle,
            start,
            end: segment.bytes,
            next: segment.next,
            is_last,
        })
    }

    /// The first place at or after `offset` that has batches.
    fn place_of(&self, offset: i64) -> io::Result<Option<Place>> {
        let from = self.segments.partition_point(|s| s.next <= offset);
        let Some(i) = (from..self.segments.len()).find(|i| self.segments[*i].bytes > 0) else {
            return Ok(None);
        };
        let delta = offset - self.segments[i].base;
        self.place(i, Wanted::Offset(delta)).map(Some)
    }

    /// The first place at or after offset `from` that may have a record as new as `timestamp`.
    fn place_of_time(&self, from: i64, timestamp: i64) -> io::Result<Option<Place>> {
        let new_enough = |s: &Segment| s.next > from && s.bytes > 0 && s.max_timestamp >= timestamp;
        let Some(i) = self.segments.iter().position(new_enough) else {
            return Ok(None);
        };
        self.place(i, Wanted::Time(timestamp)).map(Some)
    }

    /// The newest timestamp in the log, -1 if it is empty.
    fn max_timestamp(&self) -> i64 {
        self.segments
            .iter()
            .map(|s| s.max_timestamp)
            .max()
            .unwrap_or(-1)
    }
}

/// Whole batches from the one that holds `from` (or the first after it, in a compacted log) to
/// before `limit`: about `bytes_max`, and at least one batch if there is any.
pub(crate) fn read(
    log: &Mutex<PartitionLog>,
    mut from: i64,
    limit: i64,
    bytes_max: usize,
) -> io::Result<Bytes> {
    while from < limit {
        let Some(place) = log.lock().place_of(from)? else {
            break;
        };
        let found = read_place(&place, from, limit, bytes_max)?;
        if !found.is_empty() || place.is_last {
            return Ok(found);
        }
        from = place.next.max(from + 1);
    }
    Ok(Bytes::new())
}

fn read_place(place: &Place, from: i64, limit: i64, bytes_max: usize) -> io::Result<Bytes> {
    let mut position = place.position()?;
    while position < place.end {
        let wanted = (bytes_max.max(HEADER_BYTES) as u64 + SLACK_BYTES).min(place.end - position);
        let mut buffer = BytesMut::zeroed(wanted as usize);
        place.handle.file.read_exact_at(&mut buffer, position)?;
        match select(&buffer, from, limit, bytes_max) {
            Selected::Range { start, end, next } => {
                place.handle.stopped(next, position + end as u64);
                return Ok(buffer.freeze().slice(start..end));
            }
            Selected::Larger { at, bytes } => {
                let mut buffer = BytesMut::zeroed(bytes);
                let file = &place.handle.file;
                file.read_exact_at(&mut buffer, position + at as u64)?;
                return Ok(buffer.freeze());
            }
            Selected::Beyond(at) => position += at as u64,
            Selected::Nothing => return Ok(Bytes::new()),
        }
    }
    Ok(Bytes::new())
}

enum Selected {
    /// These bytes of the buffer are the answer; offset `next` comes after them.
    Range { start: usize, end: usize, next: i64 },
    /// The answer is one batch that the buffer does not hold whole.
    Larger { at: usize, bytes: usize },
    /// Nothing yet: go on at this byte of the buffer.
    Beyond(usize),
    /// The limit comes first.
    Nothing,
}

fn select(buffer: &[u8], from: i64, limit: i64, bytes_max: usize) -> Selected {
    let mut at = 0;
    let mut chosen: Option<(usize, usize, i64)> = None;
    let answer = |(start, end, next)| Selected::Range { start, end, next };
    while let Some(header) = Header::parse(&buffer[at..]) {
        if header.base_offset >= limit {
            return chosen.map_or(Selected::Nothing, answer);
        }
        let end = at + header.bytes;
        if header.last_offset() >= from {
            let next = header.next_offset();
            match chosen {
                None if end > buffer.len() => {
                    return Selected::Larger {
                        at,
                        bytes: header.bytes,
                    };
                }
                None => chosen = Some((at, end, next)),
                Some((first, ..)) if end > buffer.len() || end - first > bytes_max => break,
                Some((first, ..)) => chosen = Some((first, end, next)),
            }
        } else if end > buffer.len() {
            return Selected::Beyond(end);
        }
        at = end;
    }
    match chosen {
        Some(chosen) => answer(chosen),
        // Less than a header is left of the buffer. A buffer always holds one whole header, so this moves on.
        None if at > 0 => Selected::Beyond(at),
        None => Selected::Nothing,
    }
}

/// A record's place in the log and in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

/// The first record whose timestamp is `timestamp` or later.
pub(crate) fn first_since(log: &Mutex<PartitionLog>, timestamp: i64) -> io::Result<Option<Stamp>> {
    let (mut from, limit) = {
        let log = log.lock();
        (log.start(), log.visible_end())
    };
    while from < limit {
        let Some(place) = log.lock().place_of_time(from, timestamp)? else {
            break;
        };
        let mut position = place.position()?;
        while position < place.end {
            let (header, batch) = read_batch(&place.handle.file, position)?;
            position += header.bytes as u64;
            if header.max_timestamp < timestamp || header.last_offset() < from {
                continue;
            }
            if let Some(stamp) = first_in(&header, &batch, timestamp, from..limit) {
                return Ok(Some(stamp));
            }
        }
        from = place.next.max(from + 1);
    }
    Ok(None)
}

/// The first record of a batch that is as new and within the offsets. Of a batch that cannot be
/// looked into, only the whole can be named.
fn first_in(
    header: &Header,
    batch: &Bytes,
    timestamp: i64,
    offsets: std::ops::Range<i64>,
) -> Option<Stamp> {
    let Ok(mut records) = Records::of(header, batch) else {
        let offset = header.base_offset.max(offsets.start);
        return Some(Stamp {
            offset,
            timestamp: header.max_timestamp,
        });
    };
    let is_wanted = |r: &Record| r.timestamp >= timestamp && offsets.contains(&r.offset);
    let record = records.find_map(|r| r.ok().filter(is_wanted))?;
    Some(Stamp {
        offset: record.offset,
        timestamp: record.timestamp,
    })
}

/// The first record with the newest timestamp of the log.
pub(crate) fn newest(log: &Mutex<PartitionLog>) -> io::Result<Option<Stamp>> {
    let newest = log.lock().max_timestamp();
    if newest < 0 {
        Ok(None)
    } else {
        first_since(log, newest)
    }
}

/// The batch at `position`, where one is known to start.
pub(super) fn read_batch(file: &File, position: u64) -> io::Result<(Header, Bytes)> {
    let mut head = [0; HEADER_BYTES];
    file.read_exact_at(&mut head, position)?;
    let header = Header::parse(&head)
        .ok_or_else(|| io::Error::other(format!("no batch at position {position}")))?;
    let mut batch = BytesMut::zeroed(header.bytes);
    file.read_exact_at(&mut batch, position)?;
    Ok((header, batch.freeze()))
}
