//! A partition as its users share it: the log behind its lock, and who waits for it to grow.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;
use crate::error::OpenError;
use crate::log::compact::{Compacted, compact};
use crate::log::durable::checkpoint_if_due;
use crate::log::{AppendError, Appended, LogSettings, PartitionLog, Shared};
use crate::trouble::Trouble;

/// One partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) log: Mutex<PartitionLog>,
    /// Told whenever readers may see more than before.
    pub(crate) grown: Notify,
    /// Waits for its sync already.
    is_dirty: AtomicBool,
    writing: Trouble,
    upkeep: Trouble,
    folder: PathBuf,
}

impl Partition {
    /// Where readers may see only what is on the disk, what a crash left in the page cache is
    /// brought there first.
    pub(super) fn open(
        folder: PathBuf,
        settings: LogSettings,
        shared: &Shared,
    ) -> Result<Arc<Partition>, OpenError> {
        let syncs_first = settings.show_synced_only;
        let (log, cuts) = PartitionLog::open(folder.clone(), settings, shared)?;
        for cut in cuts {
            tracing::warn!(
                file = %cut.path.display(),
                at = cut.at,
                bytes = cut.bytes,
                "cut a torn end off: the last write before a crash was not complete"
            );
        }
        let partition = Partition {
            log: Mutex::new(log),
            grown: Notify::new(),
            is_dirty: AtomicBool::new(false),
            writing: Trouble::default(),
            upkeep: Trouble::default(),
            folder,
        };
        if syncs_first {
            let failed = |e| OpenError::folder(partition.folder(), e);
            partition.sync().map_err(failed)?;
        }
        Ok(Arc::new(partition))
    }

    /// Checks a produced batch and stores it. Also tells where the log starts.
    pub(crate) fn append(&self, batch: &Bytes) -> (Result<Appended, AppendError>, i64) {
        let now_ms = clock::wall_ms();
        let (result, start) = {
            let mut log = self.log.lock();
            (log.append(batch, now_ms), log.start())
        };
        let folder = self.folder.display();
        match &result {
            Ok(_) => {
                if let Some(refused) = self.writing.ends() {
                    tracing::info!(%folder, refused, "takes batches again");
                }
            }
            Err(e @ (AppendError::Storage(_) | AppendError::Failed)) if self.writing.begins() => {
                tracing::error!(%folder, "refuses batches: {e}");
            }
            Err(_) => {}
        }
        (result, start)
    }

    /// `true` for the first write since the last sync.
    pub(crate) fn mark_dirty(&self) -> bool {
        !self.is_dirty.swap(true, Ordering::AcqRel)
    }

    /// Brings what was written so far to the disk. Blocks; does not hold the lock meanwhile.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.is_dirty.store(false, Ordering::Release);
        let unsynced = self.log.lock().unsynced()?;
        let Some((handle, to)) = unsynced else {
            return Ok(());
        };
        match handle.file.sync_data() {
            Ok(()) => self.log.lock().mark_synced(to),
            Err(e) => {
                self.log.lock().mark_failed();
                return Err(e);
            }
        }
        self.grown.notify_waiters();
        Ok(())
    }

    /// Whether something that was written is not known to be on the disk.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.log.lock().is_unsynced()
    }

    /// Rolls, drops, remembers and compacts what is due; each also if another cannot be done, on a
    /// full disk say. Blocks for as long as that takes.
    pub(crate) fn upkeep(&self, seed: (u64, u64), stop: &dyn Fn() -> bool) {
        let now_ms = clock::wall_ms();
        let folder = self.folder.display();
        let rolled = self.log.lock().roll_if_due(now_ms);
        let retained = self.log.lock().retain(now_ms);
        let remembered = checkpoint_if_due(&self.log);
        let compacts = self.log.lock().compacts();
        let compacted = match compacts {
            true => compact(&self.log, now_ms, seed, stop),
            false => Ok(Compacted::default()),
        };
        if let Ok(done) = &compacted
            && done.bytes_before > 0
        {
            let (bytes_before, bytes_after) = (done.bytes_before, done.bytes_after);
            tracing::info!(%folder, bytes_before, bytes_after, "compacted");
        }
        match rolled.and(retained).and(remembered).and(compacted) {
            Ok(_) => {
                if let Some(failed) = self.upkeep.ends() {
                    tracing::info!(%folder, failed, "retention and compaction work again");
                }
            }
            Err(e) if self.upkeep.begins() && self.folder.exists() => {
                tracing::error!(%folder, "retention or compaction has failed, and is tried again: {e}");
            }
            Err(_) => {}
        }
    }

    /// Syncs and writes what makes the next opening fast.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.log.lock().close()
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }
}
