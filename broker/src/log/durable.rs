//! What of a log is on the disk: syncing, checkpoints, and the change from one segment to the next.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::PartitionLog;
use super::handles::Handle;
use super::segment::Segment;
use crate::files;

/// After so many bytes the segment that is written to gets a new checkpoint, so that opening after
/// a crash has little to read.
const CHECKPOINT_EVERY_BYTES: u64 = 8 << 20;

impl PartitionLog {
    /// Closes the active segment for good and starts the next at the end of the log, unless that
    /// is where the active one starts.
    pub(super) fn roll(&mut self, now_ms: i64) -> io::Result<()> {
        if self.failed || self.segments.last().is_some_and(|s| s.base == self.next) {
            return Ok(());
        }
        self.sync()?;
        let segment = Segment::new(&self.folder, self.next, now_ms);
        // The file exists from now on, so that its name keeps the end of the log even if compaction
        // takes everything before it.
        files::touch(&segment.path)?;
        files::sync_folder(&self.folder)?;
        self.seal_last();
        self.segments.push(segment);
        self.checkpointed = 0;
        Ok(())
    }

    pub(crate) fn is_unsynced(&self) -> bool {
        self.synced < self.next && !self.segments.is_empty()
    }

    /// Gives the last segment, which is whole and synced, its last checkpoint. Where there is no
    /// room for one, opening reads the segment instead: the log need not wait for that room.
    fn seal_last(&mut self) {
        let saved = self.save_checkpoint();
        let Some(closed) = self.segments.last_mut() else {
            return;
        };
        match saved {
            Ok(()) => closed.release_index(),
            Err(e) => {
                let file = closed.path.display();
                tracing::warn!(%file, "a closed segment has no checkpoint: {e}");
            }
        }
    }

    /// What a sync outside the lock needs: the file, and the offset up to which it then holds.
    pub(crate) fn unsynced(&self) -> io::Result<Option<(Arc<Handle>, i64)>> {
        match self.is_unsynced() {
            true => Ok(Some((self.active()?, self.next))),
            false => Ok(None),
        }
    }

    /// A sync of what [`PartitionLog::unsynced`] gave has succeeded.
    pub(crate) fn mark_synced(&mut self, to: i64) {
        self.synced = self.synced.max(to);
    }

    /// A sync has failed. The kernel may have dropped what it could not write, so no later success
    /// would mean anything: the log takes no more writes until it is opened and checked again.
    pub(crate) fn mark_failed(&mut self) {
        self.failed = true;
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some((handle, to)) = self.unsynced()? else {
            return Ok(());
        };
        if let Err(e) = handle.file.sync_data() {
            self.failed = true;
            return Err(e);
        }
        self.mark_synced(to);
        Ok(())
    }

    /// Writes the checkpoint of the last segment, whose bytes are synced.
    fn save_checkpoint(&mut self) -> io::Result<()> {
        let Some(segment) = self.segments.last() else {
            return Ok(());
        };
        if let Some(content) = segment.checkpoint(&self.producers)? {
            let _saving = self.saving.lock();
            segment.save_checkpoint(&content)?;
        }
        self.checkpointed = segment.bytes;
        Ok(())
    }

    /// Syncs, and remembers what is known so that the next opening need not read the log again.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier sync failed"));
        }
        self.sync()?;
        let covers_all = self
            .segments
            .last()
            .is_none_or(|s| s.bytes == self.checkpointed);
        if covers_all {
            Ok(())
        } else {
            self.save_checkpoint()
        }
    }
}

/// Gives the active segment a checkpoint if enough was written since its last one. Syncs and
/// writes outside the log's lock. Blocks.
pub(crate) fn checkpoint_if_due(log: &Mutex<PartitionLog>) -> io::Result<()> {
    let saving = log.lock().saving.clone();
    let (draft, saving) = {
        let log = log.lock();
        let Some(draft) = Draft::of(&log)? else {
            return Ok(());
        };
        // Whoever closes the segment meanwhile waits, and then writes a newer checkpoint over this one.
        (draft, saving.lock())
    };
    if let Err(e) = draft.handle.file.sync_data() {
        drop(saving);
        log.lock().mark_failed();
        return Err(e);
    }
    let saved = draft.segment.save_checkpoint(&draft.content);
    drop(saving);
    saved?;
    let mut log = log.lock();
    log.mark_synced(draft.segment.next);
    if log
        .segments
        .last()
        .is_some_and(|s| s.id == draft.segment.id)
    {
        log.checkpointed = log.checkpointed.max(draft.segment.bytes);
    }
    Ok(())
}

/// The checkpoint of a moment.
struct Draft {
    handle: Arc<Handle>,
    segment: Segment,
    content: Vec<u8>,
}

impl Draft {
    fn of(log: &PartitionLog) -> io::Result<Option<Draft>> {
        let Some(segment) = log.segments.last() else {
            return Ok(None);
        };
        if log.failed || segment.bytes < log.checkpointed + CHECKPOINT_EVERY_BYTES {
            return Ok(None);
        }
        let content = segment.checkpoint(&log.producers)?;
        Ok(Some(Draft {
            handle: log.active()?,
            segment: segment.clone(),
            content: content.unwrap_or_default(),
        }))
    }
}
