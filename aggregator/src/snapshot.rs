//! Snapshots of shards: what was counted, and the offset from which to go on, together.
//!
//! A snapshot is there whole or not at all. The newest two of each partition are kept. One that is damaged all the same
//! is named in the log, and the one before it is used: the log is counted again from there, to the same results.

mod folder;
mod format;
#[cfg(test)]
mod size;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use bus::Partition;
use bytes::Bytes;
use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use crate::engine::{Engine, Settings, ShardId};
use folder::Folder;
pub(crate) use format::encode;
use format::{Damage, decode};
#[cfg(test)]
pub(crate) use tests::wait;

const GENERATIONS: usize = 2;
const EXTENSION: &str = "snapshot";
/// How often snapshots are listed anew because one went away meanwhile: another process wrote newer ones.
const LISTINGS_MAX: usize = 10;

#[derive(Debug, Error)]
pub(crate) enum SnapshotError {
    #[error("the snapshots in {place} cannot be used: {source}")]
    Io { place: PathBuf, source: io::Error },
    #[error(
        "no snapshot in {place} can be read: restore one from a backup, or remove the folder to count the log again \
         from the earliest record that it still has"
    )]
    AllDamaged { place: PathBuf },
    #[error("work on a snapshot ended early: {0}")]
    Task(#[from] JoinError),
}

/// Where snapshots are kept.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    folder: Folder,
}

impl Snapshots {
    pub(crate) fn new(root: PathBuf) -> Self {
        let folder = Folder::new(root);
        Self { folder }
    }

    /// The newest snapshot of a partition that can be read; `None` when there never was one.
    pub(crate) async fn load(
        &self,
        partition: Partition,
        shard: ShardId,
        settings: Settings,
    ) -> Result<Option<Engine>, SnapshotError> {
        let snapshots = self.clone();
        spawn_blocking(move || snapshots.load_now(partition, shard, settings)).await?
    }

    fn load_now(
        &self,
        partition: Partition,
        shard: ShardId,
        settings: Settings,
    ) -> Result<Option<Engine>, SnapshotError> {
        for _ in 0..LISTINGS_MAX {
            let held = self.folder.list(partition);
            let mut held = held.map_err(self.failed(partition))?;
            if held.is_empty() {
                return Ok(None);
            }
            let mut went_away = false;
            while let Some(next_offset) = held.pop() {
                let bytes = self.folder.read(partition, next_offset).transpose();
                let Some(bytes) = bytes else {
                    went_away = true;
                    continue;
                };
                let decoded = bytes
                    .map_err(Damage::from)
                    .and_then(|bytes| decode(&bytes, partition, shard, settings));
                match decoded {
                    Ok(engine) => return Ok(Some(engine)),
                    Err(damage) => {
                        let path = self.folder.path(partition, next_offset);
                        let path = path.display();
                        tracing::error!(%path, %damage, "a snapshot is not used; the one before it is");
                    }
                }
            }
            if !went_away {
                break;
            }
        }
        let place = self.folder.of(partition);
        Err(SnapshotError::AllDamaged { place })
    }

    /// Writes a snapshot from which to go on at `next_offset`, and removes those that are no longer needed.
    pub(crate) async fn save(
        &self,
        partition: Partition,
        next_offset: i64,
        bytes: Bytes,
    ) -> Result<(), SnapshotError> {
        let folder = self.folder.clone();
        let saved = spawn_blocking(move || folder.save(partition, next_offset, &bytes)).await?;
        saved.map_err(self.failed(partition))
    }

    fn failed(&self, partition: Partition) -> impl Fn(io::Error) -> SnapshotError {
        let place = self.folder.of(partition);
        move |source| {
            let place = place.clone();
            SnapshotError::Io { place, source }
        }
    }
}

/// The newest snapshot of each partition in the folder of all: topic, partition, and the offset from which it goes on.
/// None where there is no folder.
pub fn snapshot_offsets(root: &Path) -> io::Result<Vec<(String, i32, i64)>> {
    Folder::new(root.to_owned()).newest()
}

/// The name of a snapshot: names of one width, so that their order is that of the offsets.
fn file_name(next_offset: i64) -> String {
    format!("{next_offset:020}.{EXTENSION}")
}

/// The offset in a snapshot's name, if it is one.
fn offset_of(name: &str) -> Option<i64> {
    let (offset, extension) = name.rsplit_once('.')?;
    offset.parse().ok().filter(|_| extension == EXTENSION)
}

/// Of a partition's snapshots, least offset first: those that are no longer needed.
fn surplus(held: &[i64]) -> &[i64] {
    &held[..held.len().saturating_sub(GENERATIONS)]
}
