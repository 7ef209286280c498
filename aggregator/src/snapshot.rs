//! Snapshots of shards: what was counted, and the offset from which to go on, together.
//!
//! A snapshot is there whole or not at all. The newest two of each partition are kept. One that is damaged all the same
//! is named in the log, and the one before it is used: the log is counted again from there, to the same results.
//! They lie in a folder or in a bucket; which one makes no difference to anything else.

mod bucket;
mod folder;
mod format;
mod place;
#[cfg(test)]
mod size;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use bus::Partition;
use bytes::Bytes;
use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use crate::engine::{Engine, Settings, ShardId};
use bucket::{Bucket, Trouble};
use folder::Folder;
pub(crate) use format::encode;
use format::{Damage, decode};
pub use place::{PlaceError, S3, S3Error, SnapshotPlace};
#[cfg(test)]
pub(crate) use tests::wait;

const GENERATIONS: usize = 2;
const EXTENSION: &str = "snapshot";
/// How often snapshots are listed anew because one went away meanwhile: another process wrote newer ones.
const LISTINGS_MAX: usize = 10;

/// Why snapshots cannot be used.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct SnapshotsError(#[from] SnapshotError);

#[derive(Debug, Error)]
pub(crate) enum SnapshotError {
    #[error("the snapshots in {place} cannot be used: {source}")]
    Folder { place: PathBuf, source: io::Error },
    #[error("the snapshots in {place} cannot be used: {trouble}")]
    Bucket { place: String, trouble: Trouble },
    #[error(
        "no snapshot in {place} can be read: restore one from a backup, or remove them all to count the log again \
         from the earliest record that it still has"
    )]
    AllDamaged { place: String },
    #[error("work on a snapshot ended early: {0}")]
    Task(#[from] JoinError),
}

impl SnapshotError {
    /// Whether it may end while this process runs: what a bucket's server cannot do now.
    pub(crate) const fn passes(&self) -> bool {
        matches!(self, Self::Bucket { .. })
    }
}

/// The snapshots of an installation, where they are kept.
#[derive(Clone, Debug)]
pub(crate) enum Snapshots {
    Folder(Folder),
    Bucket(Bucket),
}

impl Snapshots {
    #[cfg(test)]
    pub(crate) fn in_folder(root: PathBuf) -> Self {
        Self::Folder(Folder::new(root))
    }

    /// Looks at the settings, and at nothing else yet.
    pub(crate) fn new(place: &SnapshotPlace, s3: &S3) -> Result<Self, SnapshotError> {
        match place {
            SnapshotPlace::Folder(root) => Ok(Self::Folder(Folder::new(root.clone()))),
            SnapshotPlace::Bucket { bucket, prefix } => match Bucket::new(bucket, prefix, s3) {
                Ok(bucket) => Ok(Self::Bucket(bucket)),
                Err(trouble) => {
                    let place = place.to_string();
                    Err(SnapshotError::Bucket { place, trouble })
                }
            },
        }
    }

    /// Makes the folder, or asks for the bucket. A server that is away is no error: it is waited for when its
    /// snapshots are needed.
    pub(crate) async fn prepare(&self) -> Result<(), SnapshotError> {
        match self {
            Self::Folder(folder) => folder.on_thread(Folder::make).await,
            Self::Bucket(bucket) => match bucket.probe().await {
                Err(trouble) if trouble.passes() => {
                    tracing::warn!(place = bucket.place(), %trouble, "snapshots are out of reach");
                    Ok(())
                }
                probed => probed.map_err(|trouble| bucket.failed(trouble)),
            },
        }
    }

    /// The newest snapshot of a partition that can be read; `None` when there never was one.
    pub(crate) async fn load(
        &self,
        partition: Partition,
        shard: ShardId,
        settings: Settings,
    ) -> Result<Option<Engine>, SnapshotError> {
        for _ in 0..LISTINGS_MAX {
            let mut held = self.list(partition).await?;
            if held.is_empty() {
                return Ok(None);
            }
            let mut went_away = false;
            while let Some(next_offset) = held.pop() {
                let Some(read) = self.read(partition, next_offset).await? else {
                    went_away = true;
                    continue;
                };
                let decode = move || decode(&read?, partition, shard, settings);
                match spawn_blocking(decode).await? {
                    Ok(engine) => return Ok(Some(engine)),
                    Err(damage) => {
                        let path = self.path(partition, next_offset);
                        tracing::error!(path, %damage, "a snapshot is not used; the one before it is");
                    }
                }
            }
            if !went_away {
                break;
            }
        }
        let place = match self {
            Self::Folder(folder) => folder.of(partition).display().to_string(),
            Self::Bucket(bucket) => bucket.shown(&bucket.of(partition)),
        };
        Err(SnapshotError::AllDamaged { place })
    }

    /// Writes a snapshot from which to go on at `next_offset`, and removes those that are no longer needed.
    pub(crate) async fn save(
        &self,
        partition: Partition,
        next_offset: i64,
        bytes: Bytes,
    ) -> Result<(), SnapshotError> {
        match self {
            Self::Folder(folder) => {
                let save = move |folder: &Folder| folder.save(partition, next_offset, &bytes);
                folder.on_thread(save).await
            }
            Self::Bucket(bucket) => {
                let saved = bucket.save(partition, next_offset, bytes).await;
                saved.map_err(|trouble| bucket.failed(trouble))
            }
        }
    }

    /// The offsets by which a partition's snapshots are named, least first.
    async fn list(&self, partition: Partition) -> Result<Vec<i64>, SnapshotError> {
        match self {
            Self::Folder(folder) => {
                folder
                    .on_thread(move |folder: &Folder| folder.list(partition))
                    .await
            }
            Self::Bucket(bucket) => {
                let listed = bucket.list(partition).await;
                listed.map_err(|trouble| bucket.failed(trouble))
            }
        }
    }

    /// What was read of a snapshot, a disk's error being damage; `None` when it is not there any more.
    async fn read(
        &self,
        partition: Partition,
        next_offset: i64,
    ) -> Result<Option<Result<Bytes, Damage>>, SnapshotError> {
        match self {
            Self::Folder(folder) => match folder.read(partition, next_offset).await {
                Ok(bytes) => Ok(Some(Ok(bytes.into()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Ok(Some(Err(error.into()))),
            },
            Self::Bucket(bucket) => match bucket.read(partition, next_offset).await {
                Ok(bytes) => Ok(bytes.map(Ok)),
                Err(trouble) => Err(bucket.failed(trouble)),
            },
        }
    }

    /// A snapshot as a person would name it.
    fn path(&self, partition: Partition, next_offset: i64) -> String {
        match self {
            Self::Folder(folder) => folder.path(partition, next_offset).display().to_string(),
            Self::Bucket(bucket) => bucket.shown(&bucket.path(partition, next_offset)),
        }
    }
}

/// The newest snapshot of each partition: topic, partition, and the offset from which it goes on. None where there is
/// no folder.
pub async fn snapshot_offsets(
    place: &SnapshotPlace,
    s3: &S3,
) -> Result<Vec<(String, i32, i64)>, SnapshotsError> {
    let newest = match Snapshots::new(place, s3)? {
        Snapshots::Folder(folder) => folder.on_thread(Folder::newest).await?,
        Snapshots::Bucket(bucket) => {
            let newest = bucket.newest().await;
            newest.map_err(|trouble| bucket.failed(trouble))?
        }
    };
    Ok(newest)
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
