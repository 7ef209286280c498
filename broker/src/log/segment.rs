//! One file of consecutive batches, named after the first offset it may hold.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::batch::Header;
use super::checkpoint::{self, Checkpoint, CheckpointFile, Index};
use super::handles::FileId;
use super::sequence::Producers;
use crate::files;

/// What is known of a segment without reading it. `bytes` is the intact part: nothing behind it counts.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) id: FileId,
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
    /// Segments that started before this offset are part of it since a compaction.
    pub(crate) merged_to: i64,
    /// Where its checkpoint lies.
    pub(super) checkpoint_path: PathBuf,
    /// Held while the segment is written to. That of a closed one lies in its checkpoint.
    index: Option<Index>,
}

pub(super) fn segment_path(folder: &Path, base: i64) -> PathBuf {
    folder.join(format!("{base:020}.log"))
}

impl Segment {
    pub(crate) fn new(folder: &Path, base: i64, created_ms: i64) -> Segment {
        let path = segment_path(folder, base);
        Segment {
            id: FileId::new(),
            base,
            checkpoint_path: path.with_extension("checkpoint"),
            path,
            bytes: 0,
            next: base,
            max_timestamp: -1,
            created_ms,
            clean_to: base,
            horizon: None,
            merged_to: base,
            index: Some(Index::default()),
        }
    }

    /// Notes a batch that was written at `position`, the end so far.
    pub(crate) fn note(&mut self, header: &Header, position: u64) {
        debug_assert_eq!(position, self.bytes);
        if let Some(index) = &mut self.index {
            index.note(self.base, header, position, self.max_timestamp);
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

    /// All its batches lie before this offset, where the next segment starts at `following`, if at all.
    pub(super) fn offset_limit(&self, following: Option<i64>) -> i64 {
        let spanned = self.base.saturating_add(i64::from(i32::MAX));
        following.map_or(spanned, |f| f.min(spanned))
    }

    /// Compaction has nothing new to see in it.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean_to >= self.next
    }

    pub(super) fn held_index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// Writes the checkpoint of a closed and synced segment, and leaves the index in it.
    pub(super) fn seal(&mut self, producers: &Producers) -> io::Result<()> {
        if let Some(content) = self.checkpoint(producers)? {
            self.save_checkpoint(&content)?;
            self.index = None;
        }
        Ok(())
    }

    /// A closed segment needs its index seldom: it is left in the checkpoint.
    pub(super) fn release_index(&mut self) {
        self.index = None;
    }

    pub(crate) fn open_to_read(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    pub(crate) fn open_to_append(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.path)
    }

    pub(super) fn open_checkpoint(&self) -> io::Result<CheckpointFile> {
        CheckpointFile::open(&self.checkpoint_path)
    }

    /// What [`Segment::save_checkpoint`] will write; nothing if the index is not held, because it was written then.
    pub(super) fn checkpoint(&self, producers: &Producers) -> io::Result<Option<Vec<u8>>> {
        let encode = |index| checkpoint::encode(self, index, producers);
        self.index.as_ref().map(encode).transpose()
    }

    /// Remembers what is known of the segment; its bytes must be synced before.
    pub(super) fn save_checkpoint(&self, content: &[u8]) -> io::Result<()> {
        files::replace(&self.checkpoint_path, content)
    }

    /// Takes up what the checkpoint knows, but for the index.
    pub(super) fn adopt(&mut self, known: &Checkpoint) {
        self.bytes = known.head.bytes;
        self.next = known.head.next;
        self.max_timestamp = known.head.max_timestamp;
        self.clean_to = known.head.clean_to;
        self.horizon = known.head.horizon;
        self.merged_to = known.head.merged_to;
        self.index = None;
    }

    pub(super) fn hold_index(&mut self, index: Index) {
        self.index = Some(index);
    }

    /// Removes the files; a reader that has them open still reads to the end.
    pub(crate) fn remove(&self) -> io::Result<()> {
        files::remove_if_any(&self.checkpoint_path)?;
        files::remove_if_any(&self.path)
    }
}
