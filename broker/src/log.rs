//! One partition: a folder of segment files that hold record batches byte for byte.
//!
//! Offsets only grow and are never given twice. A batch is checked before it is stored (checksum,
//! size, producer sequence), gets its offset, and lies in the page cache before the call returns.
//! Nothing here reads a clock; nothing here is asynchronous. The caller holds the lock around
//! [`PartitionLog`], except for reading ([`read`]) and compaction ([`compact`]), which take it
//! only for moments.

pub(crate) mod batch;
mod checkpoint;
pub(crate) mod compact;
pub(crate) mod durable;
pub(crate) mod handles;
mod inflate;
pub(crate) mod read;
pub(crate) mod records;
mod recover;
mod retain;
mod scan;
mod segment;
mod sequence;
mod swap;
#[cfg(test)]
pub(crate) mod testing;
mod times;
pub(crate) mod verify;

use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use batch::Header;
use handles::{Handle, Handles};
use records::Records;
use segment::Segment;
use sequence::{Producers, Verdict};

/// What a topic's configuration means for each of its logs. Sizes in bytes, times in milliseconds;
/// -1 is "no limit" where Kafka says so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogSettings {
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
    pub(crate) retention_ms: i64,
    pub(crate) retention_bytes: i64,
    pub(crate) batch_bytes_max: usize,
    pub(crate) compact: bool,
    pub(crate) delete: bool,
    pub(crate) delete_retention_ms: i64,
    pub(crate) dirty_ratio_min: f64,
    pub(crate) compaction_lag_min_ms: i64,
    pub(crate) compaction_lag_max_ms: i64,
    pub(crate) stamp_on_append: bool,
    /// How far a record's own time may lie behind the append, and before it.
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
    /// Readers see only what [`PartitionLog::mark_synced`] was told of.
    pub(crate) show_synced_only: bool,
}

/// Why a produced batch was not stored. Nothing of it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error(transparent)]
    Batch(#[from] batch::BatchError),
    #[error("the batch's record count or offsets are not those of a new batch")]
    Count,
    #[error("control and transactional batches are not accepted: there are no transactions here")]
    Transactional,
    #[error("the batch of {bytes} bytes is larger than max.message.bytes, {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(
        "a record's time, {timestamp}, is too far from now, {now_ms}, for the topic's settings"
    )]
    Time { timestamp: i64, now_ms: i64 },
    #[error("a record without a key cannot be kept in a compacted topic")]
    KeyMissing,
    #[error("the records cannot be read: {0}")]
    Records(#[from] records::RecordsError),
    #[error("the sequence number does not follow the producer's last one")]
    OutOfOrder,
    #[error("a newer epoch of the producer has written")]
    Fenced,
    #[error("cannot write the log: {0}")]
    Storage(#[source] io::Error),
    #[error("an earlier sync failed: what is on the disk is unknown until a restart")]
    Failed,
}

/// A batch is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// The append time, if the topic stamps records with it; else -1.
    pub(crate) append_time_ms: i64,
}

/// The state of one partition. See the module's page for who may call what under which lock.
#[derive(Debug)]
pub(crate) struct PartitionLog {
    folder: PathBuf,
    settings: LogSettings,
    /// In order; the last one is written to.
    segments: Vec<Segment>,
    handles: Arc<Handles>,
    start: i64,
    /// The offset the next record gets.
    next: i64,
    synced: i64,
    /// Bytes of the last segment that its checkpoint covers.
    checkpointed: u64,
    /// Held while a checkpoint is written. Taken after the log's own lock, never before it.
    saving: Arc<Mutex<()>>,
    producers: Producers,
    failed: bool,
}

/// What all logs of a broker share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) handles: Arc<Handles>,
    /// The machine has not restarted since the logs were last open.
    pub(crate) kept_running: bool,
}

impl PartitionLog {
    /// The first offset that is still there.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset up to which readers may see.
    pub(crate) fn visible_end(&self) -> i64 {
        if self.settings.show_synced_only {
            self.synced
        } else {
            self.next
        }
    }

    pub(crate) fn compacts(&self) -> bool {
        self.settings.compact
    }

    pub(crate) fn deletes(&self) -> bool {
        self.settings.delete
    }

    pub(crate) fn set_settings(&mut self, settings: LogSettings) {
        self.settings = settings;
    }

    /// Checks a produced batch and stores it, or finds that it is stored already.
    pub(crate) fn append(&mut self, batch: &Bytes, now_ms: i64) -> Result<Appended, AppendError> {
        if self.failed {
            return Err(AppendError::Failed);
        }
        let mut header = self.check(batch, now_ms)?;
        let append_time_ms = if self.settings.stamp_on_append {
            now_ms
        } else {
            -1
        };
        if header.producer_id >= 0 {
            match self.producers.judge(&header) {
                Verdict::Append => {}
                Verdict::Duplicate { base_offset } => {
                    return Ok(Appended {
                        base_offset,
                        append_time_ms,
                    });
                }
                Verdict::OutOfOrder => return Err(AppendError::OutOfOrder),
                Verdict::Fenced => return Err(AppendError::Fenced),
            }
        }
        let mut placed = batch.to_vec();
        batch::place(&mut placed, self.next);
        if self.settings.stamp_on_append {
            batch::stamp(&mut placed, header.attributes, now_ms);
            header.max_timestamp = now_ms;
        }
        header.base_offset = self.next;
        self.write(&header, &placed, now_ms)
            .map_err(AppendError::Storage)?;
        Ok(Appended {
            base_offset: header.base_offset,
            append_time_ms,
        })
    }

    /// Everything that can be said of a batch without knowing what came before it.
    fn check(&self, batch: &Bytes, now_ms: i64) -> Result<Header, AppendError> {
        let bytes_max = self.settings.batch_bytes_max;
        if batch.len() > bytes_max {
            return Err(AppendError::TooLarge {
                bytes: batch.len(),
                bytes_max,
            });
        }
        let header = Header::checked(batch)?;
        if header.is_control() || header.is_transactional() {
            return Err(AppendError::Transactional);
        }
        let whole = header.bytes == batch.len() && header.count == header.last_delta + 1;
        if !whole || (header.producer_id >= 0 && header.base_sequence < 0) {
            return Err(AppendError::Count);
        }
        self.settings.check_times(&header, batch, now_ms)?;
        if self.settings.compact {
            for record in Records::of(&header, batch)? {
                if record?.key.is_none() {
                    return Err(AppendError::KeyMissing);
                }
            }
        }
        Ok(header)
    }

    fn write(&mut self, header: &Header, batch: &[u8], now_ms: i64) -> io::Result<()> {
        let limit = self.settings.segment_bytes;
        let is_full = self.segments.last().is_none_or(|s| {
            s.next != self.next
                || !s.has_room_for(batch.len() as u64, header.next_offset(), limit)
                || (s.bytes > 0 && now_ms - s.created_ms > self.settings.segment_ms)
        });
        if is_full {
            self.roll(now_ms)?;
        }
        let handle = self.active()?;
        let segment = self
            .segments
            .last_mut()
            .expect("rolling leaves a segment to write to");
        let position = segment.bytes;
        if let Err(e) = handle.file.write_all_at(batch, position) {
            // Half a batch may be there (a full disk): the next write goes over it, or recovery cuts it.
            let _ = handle.file.set_len(position);
            return Err(e);
        }
        segment.note(header, position);
        self.next = header.next_offset();
        self.producers.note(header, now_ms);
        Ok(())
    }

    /// The open file of the segment that is written to.
    fn active(&self) -> io::Result<Arc<Handle>> {
        let segment = self
            .segments
            .last()
            .expect("a log with no segment has been rolled first");
        self.handles.get(segment.id, || segment.open_to_append())
    }
}

#[cfg(test)]
mod tests;
