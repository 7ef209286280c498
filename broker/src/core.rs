//! What all connections share, and the work that goes on beside them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{Config, Fsync};
use crate::error::{OpenError, RunError};
use crate::groups::Groups;
use crate::offsets::Offsets;
use crate::producers::ProducerIds;
use crate::topics::{Partition, Topics};

/// The open log, without its port and lock.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    /// Where clients find this broker, as metadata tells them.
    pub(crate) address: SocketAddr,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) offsets: Offsets,
    pub(crate) producer_ids: ProducerIds,
    /// Cancelled at shutdown: whoever waits answers at once.
    pub(crate) stop: CancellationToken,
    unsynced: Mutex<Unsynced>,
    became_unsynced: Notify,
    /// Held while upkeep works on files, so that the folder is not unlocked under it.
    upkeep: Mutex<()>,
}

/// What was written since the last background sync.
#[derive(Debug, Default)]
struct Unsynced {
    partitions: Vec<Arc<Partition>>,
    offsets: bool,
}

impl Core {
    /// Recovers everything in the data folder, which must be locked. `kept_running` says that the
    /// machine has not restarted since it was last open. Blocks.
    pub(crate) fn open(
        config: Config,
        address: SocketAddr,
        kept_running: bool,
    ) -> Result<Core, OpenError> {
        let offsets = Offsets::open(&config.data_dir, kept_running)?;
        let sessions = offsets.sessions();
        let core = Core {
            topics: Topics::open(&config, kept_running)?,
            groups: Groups::new(config.join_delay, config.groups_max, sessions),
            offsets,
            producer_ids: ProducerIds::open(&config.data_dir)?,
            stop: CancellationToken::new(),
            unsynced: Mutex::default(),
            became_unsynced: Notify::new(),
            upkeep: Mutex::new(()),
            config,
            address,
        };
        // What a killed process left in the page cache is still to be synced.
        for partition in core.topics.all_partitions() {
            if partition.is_unsynced() {
                core.note_written(&partition);
            }
        }
        Ok(core)
    }

    /// A partition was written to, and its readers may see it: has it synced when it is due.
    pub(crate) fn note_written(&self, partition: &Arc<Partition>) {
        if self.config.fsync != Fsync::Never && partition.mark_dirty() {
            self.unsynced.lock().partitions.push(partition.clone());
            self.became_unsynced.notify_one();
        }
    }

    /// Offsets were committed: has them synced when it is due.
    pub(crate) fn note_committed(&self) {
        if self.config.fsync != Fsync::Never {
            self.unsynced.lock().offsets = true;
            self.became_unsynced.notify_one();
        }
    }

    /// Syncs what was written, at most the configured time after the write. Sleeps while nothing is.
    pub(crate) async fn keep_synced(self: &Arc<Self>) {
        let Fsync::Every(interval) = self.config.fsync else {
            return std::future::pending().await;
        };
        loop {
            self.became_unsynced.notified().await;
            tokio::time::sleep(interval).await;
            let core = self.clone();
            let synced = tokio::task::spawn_blocking(move || core.sync_written()).await;
            if let Err(e) = synced {
                tracing::error!("the background sync has failed: {e}");
            }
        }
    }

    fn sync_written(&self) {
        let unsynced = std::mem::take(&mut *self.unsynced.lock());
        for partition in unsynced.partitions {
            if let Err(e) = partition.sync() {
                let folder = partition.folder().display();
                tracing::error!(%folder, "cannot sync, and take no more writes: {e}");
            }
        }
        if unsynced.offsets
            && let Err(e) = self.offsets.sync()
        {
            tracing::error!(file = %self.offsets.path().display(), "cannot sync: {e}");
        }
    }

    /// Retention and compaction, at the configured interval.
    pub(crate) async fn keep_tidy(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(self.config.upkeep_every).await;
            let core = self.clone();
            let tidied = tokio::task::spawn_blocking(move || core.tidy()).await;
            if let Err(e) = tidied {
                tracing::error!("retention or compaction has failed: {e}");
            }
        }
    }

    fn tidy(&self) {
        let _at_work = self.upkeep.lock();
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let stop = || self.stop.is_cancelled();
        for topic in self.topics.all() {
            for partition in &topic.partitions {
                if stop() {
                    return;
                }
                partition.upkeep((high, low), &stop);
            }
        }
    }

    /// Brings everything to the disk, after the last connection is gone. Blocks.
    pub(crate) fn close(&self) -> Result<(), RunError> {
        let _no_longer_at_work = self.upkeep.lock();
        let failed = |path: PathBuf| move |source: io::Error| RunError::Flush { path, source };
        for partition in self.topics.all_partitions() {
            partition
                .close()
                .map_err(failed(partition.folder().to_owned()))?;
        }
        self.offsets
            .sync()
            .map_err(failed(self.offsets.path().to_owned()))
    }
}
