//! Snapshots of shards in a folder: what was counted, and the offset from which to go on, in one file.
//!
//! A file is a header (magic, version of the layout, checksum and length of the rest) and the state in `postcard`. It
//! is written beside its place and renamed into it, file and folder synced, so that it is there whole or not at all.
//! The newest two of each partition are kept. One that is damaged all the same is named in the log, and the one before
//! it is used: the log is counted again from there, to the same results.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bus::Partition;
use schemas::policy::Policy;
use schemas::record::{PolicyError, PolicyVersion};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::engine::{Engine, Settings, ShardId, State};
use crate::wire;

const MAGIC: [u8; 8] = *b"WEIRSNAP";
/// Of the layout: any change of what is encoded makes it another one.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = MAGIC.len() + 4 + 4 + 8;
const GENERATIONS: usize = 2;
const EXTENSION: &str = "snapshot";
const UNFINISHED: &str = "unfinished";
/// How often the files are listed anew because one went away meanwhile: another process wrote newer ones.
const LISTINGS_MAX: usize = 10;

#[derive(Debug, Error)]
pub(crate) enum SnapshotError {
    #[error("the snapshots in {path} cannot be used: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("a snapshot cannot be encoded: {0}")]
    Encode(postcard::Error),
    #[error(
        "no snapshot in {path} can be read: restore one from a backup, or remove the folder to count the log again \
         from the earliest record that it still has"
    )]
    AllDamaged { path: PathBuf },
}

/// Why one file is not used.
#[derive(Debug, Error)]
enum Damage {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no snapshot, or only the beginning of one")]
    Header,
    #[error("its layout is version {0}, and this program reads version {VERSION}")]
    Version(u32),
    #[error("its checksum does not fit")]
    Checksum,
    #[error("its contents do not fit: {0}")]
    Contents(#[from] postcard::Error),
    #[error("its policy cannot be obeyed: {0}")]
    Policy(#[from] PolicyError),
    #[error("it is of another partition, or of a topic with another number of them")]
    Foreign,
}

#[derive(Serialize)]
struct Saved<'a> {
    topic: &'a str,
    partition: i32,
    partitions: i32,
    /// Absent before the first policy.
    policy: Option<PolicyVersion>,
    state: &'a State,
}

#[derive(Deserialize)]
struct Loaded {
    topic: String,
    partition: i32,
    partitions: i32,
    policy: Option<PolicyVersion>,
    state: State,
}

/// The bytes of a snapshot of `engine`.
pub(crate) fn encode(partition: Partition, engine: &Engine) -> Result<Vec<u8>, SnapshotError> {
    let policy = engine.policy();
    let saved = Saved {
        topic: partition.topic,
        partition: partition.index,
        partitions: engine.shard().partitions,
        policy: (policy.version != 0).then(|| wire::policy_to_record(policy)),
        state: engine.state(),
    };
    let bytes = vec![0; HEADER_BYTES];
    let mut bytes = postcard::to_extend(&saved, bytes).map_err(SnapshotError::Encode)?;
    let body = &bytes[HEADER_BYTES..];
    let (checksum, length) = (crc32c::crc32c(body), body.len() as u64);
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

fn decode(
    bytes: &[u8],
    partition: Partition,
    shard: ShardId,
    settings: Settings,
) -> Result<Engine, Damage> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(Damage::Header)?;
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let length = u64::from(word(16)) | u64::from(word(20)) << 32;
    if header[..8] != MAGIC || length != body.len() as u64 {
        return Err(Damage::Header);
    }
    if word(8) != VERSION {
        return Err(Damage::Version(word(8)));
    }
    if word(12) != crc32c::crc32c(body) {
        return Err(Damage::Checksum);
    }
    let loaded: Loaded = postcard::from_bytes(body)?;
    let here = (partition.topic, partition.index, shard.partitions);
    if (loaded.topic.as_str(), loaded.partition, loaded.partitions) != here {
        return Err(Damage::Foreign);
    }
    let policy = match &loaded.policy {
        Some(version) => Policy::try_from(version)?,
        None => Policy::default(),
    };
    Ok(Engine::restore(shard, settings, policy, loaded.state))
}

/// A folder with a folder for each partition.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    root: PathBuf,
}

impl Snapshots {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The newest snapshot of a partition that can be read; `None` when there never was one.
    pub(crate) fn load(
        &self,
        partition: Partition,
        shard: ShardId,
        settings: Settings,
    ) -> Result<Option<Engine>, SnapshotError> {
        let folder = self.folder(partition);
        for _ in 0..LISTINGS_MAX {
            let mut files = list(&folder, EXTENSION).map_err(in_folder(&folder))?;
            if files.is_empty() {
                return Ok(None);
            }
            let mut went_away = false;
            while let Some(path) = files.pop() {
                let read = fs::read(&path).map_err(Damage::from);
                match read.and_then(|bytes| decode(&bytes, partition, shard, settings)) {
                    Ok(engine) => return Ok(Some(engine)),
                    Err(Damage::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                        went_away = true;
                    }
                    Err(damage) => {
                        let path = path.display();
                        tracing::error!(%path, %damage, "a snapshot is not used; the one before it is");
                    }
                }
            }
            if !went_away {
                break;
            }
        }
        Err(SnapshotError::AllDamaged { path: folder })
    }

    /// Writes a snapshot from which to go on at `next_offset`, and removes those that are no longer needed.
    pub(crate) fn save(
        &self,
        partition: Partition,
        next_offset: i64,
        bytes: &[u8],
    ) -> Result<(), SnapshotError> {
        let folder = self.folder(partition);
        let error = in_folder(&folder);
        write(&folder, next_offset, bytes).map_err(&error)?;
        let files = list(&folder, EXTENSION).map_err(&error)?;
        let surplus = files.len().saturating_sub(GENERATIONS);
        for path in &files[..surplus] {
            remove(path).map_err(&error)?;
        }
        // What was left unfinished by a crash, and is older than what is kept. Names begin with offsets.
        let kept = files.get(surplus);
        for path in list(&folder, UNFINISHED).map_err(&error)? {
            if kept.is_some_and(|kept| path < *kept) {
                remove(&path).map_err(&error)?;
            }
        }
        Ok(())
    }

    fn folder(&self, partition: Partition) -> PathBuf {
        self.root
            .join(partition.topic)
            .join(partition.index.to_string())
    }
}

fn in_folder(folder: &Path) -> impl Fn(io::Error) -> SnapshotError {
    move |source| SnapshotError::Io {
        path: folder.to_owned(),
        source,
    }
}

/// Removes a file, unless another process did already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The files of a folder with this extension, oldest first. A folder that is not there has none.
fn list(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    // Names begin with offsets of one width, so the order of names is that of offsets.
    files.sort();
    Ok(files)
}

fn write(folder: &Path, next_offset: i64, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{next_offset:020}.{EXTENSION}"));
    // Of this writer only: who lost a partition may still write what its next owner writes too.
    let unfinished = format!("{next_offset:020}-{}.{UNFINISHED}", Uuid::new_v4());
    let unfinished = folder.join(unfinished);
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    File::open(folder)?.sync_all()
}

/// The newest snapshot of each partition in the folder of all: topic, partition, and the offset from which it goes on.
/// None where there is no folder.
pub fn snapshot_offsets(root: &Path) -> io::Result<Vec<(String, i32, i64)>> {
    let mut found = Vec::new();
    for topic in folders(root)? {
        for partition in folders(&topic)? {
            let newest = list(&partition, EXTENSION)?.pop();
            let next = newest.as_deref().and_then(number::<i64>);
            if let (Some(index), Some(next)) = (number(&partition), next) {
                let topic = topic.file_name().unwrap_or_default();
                found.push((topic.to_string_lossy().into_owned(), index, next));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(root) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The number that a file or folder is named by.
fn number<N: std::str::FromStr>(path: &Path) -> Option<N> {
    path.file_stem()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use schemas::time::Timestamp;

    use super::*;
    use crate::event::{Input, Place};
    use crate::model::{call, policy, settings, usage_engine};

    const PARTITION: Partition = Partition {
        topic: "weir.usage.v1",
        index: 0,
    };

    fn counted(events: i64) -> Engine {
        let mut engine = usage_engine(0, 1);
        let at = Timestamp::from_seconds(100);
        let mut step = |offset, input: Input<'_>| {
            let appended_at = at;
            engine
                .step(
                    Place {
                        offset,
                        appended_at,
                    },
                    input,
                    &mut Vec::new(),
                )
                .unwrap();
        };
        let policy = Box::new(policy(3, "l tenant/* tokens 80%=8 hard=10 : sliding 60s"));
        step(0, Input::Policy { policy, at });
        for offset in 1..=events {
            let id = offset.to_string();
            step(offset, Input::Event(call(("acme", "u"), &id, at, 5)));
        }
        engine
    }

    fn save(snapshots: &Snapshots, engine: &Engine) {
        let bytes = encode(PARTITION, engine).unwrap();
        snapshots
            .save(PARTITION, engine.next_offset(), &bytes)
            .unwrap();
    }

    fn load(snapshots: &Snapshots) -> Result<Option<Engine>, SnapshotError> {
        snapshots.load(PARTITION, usage_engine(0, 1).shard(), settings())
    }

    fn files(root: &Path) -> Vec<PathBuf> {
        list(&root.join(PARTITION.topic).join("0"), EXTENSION).unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(root.path().to_owned());
        assert!(load(&snapshots).unwrap().is_none());
        for events in 1..=4 {
            let engine = counted(events);
            save(&snapshots, &engine);
            let loaded = load(&snapshots).unwrap().unwrap();
            assert_eq!(loaded.state(), engine.state());
            assert_eq!(loaded.policy(), engine.policy());
        }
        assert_eq!(files(root.path()).len(), GENERATIONS);
    }

    /// What is loaded when the newest file, of five events, is damaged: the one of four, or nothing.
    #[track_caller]
    fn check_damage(damage: impl Fn(&mut Vec<u8>)) {
        let root = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(root.path().to_owned());
        save(&snapshots, &counted(4));
        save(&snapshots, &counted(5));
        let spoil = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            damage(&mut bytes);
            fs::write(path, bytes).unwrap();
        };
        let files = files(root.path());
        spoil(&files[1]);
        assert_eq!(load(&snapshots).unwrap().unwrap().next_offset(), 5);
        spoil(&files[0]);
        let error = load(&snapshots).unwrap_err();
        assert!(matches!(error, SnapshotError::AllDamaged { .. }), "{error}");
    }

    #[test]
    fn a_damaged_snapshot_is_passed_over() {
        check_damage(Vec::clear);
        check_damage(|bytes| bytes.truncate(bytes.len() - 1));
        check_damage(|bytes| bytes.truncate(HEADER_BYTES));
        check_damage(|bytes| bytes[0] ^= 1);
        check_damage(|bytes| bytes[8] ^= 1);
        check_damage(|bytes| *bytes.last_mut().unwrap() ^= 1);
        check_damage(|bytes| bytes[HEADER_BYTES + 20] ^= 0x80);
    }

    #[test]
    fn a_snapshot_of_another_partition_is_not_taken() {
        let engine = counted(1);
        let bytes = encode(PARTITION, &engine).unwrap();
        let elsewhere = Partition {
            index: 1,
            ..PARTITION
        };
        let decoded = decode(&bytes, elsewhere, engine.shard(), settings());
        assert!(matches!(decoded, Err(Damage::Foreign)));
        let more = ShardId {
            partitions: 2,
            ..engine.shard()
        };
        let decoded = decode(&bytes, PARTITION, more, settings());
        assert!(matches!(decoded, Err(Damage::Foreign)));
    }

    #[test]
    fn offsets_are_those_of_the_newest() {
        let root = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(root.path().join("all"));
        assert_eq!(snapshot_offsets(&root.path().join("all")).unwrap(), []);
        for events in 1..=3 {
            save(&snapshots, &counted(events));
        }
        let expected = [(PARTITION.topic.to_owned(), 0, 4)];
        assert_eq!(
            snapshot_offsets(&root.path().join("all")).unwrap(),
            expected
        );
    }

    #[test]
    fn an_unfinished_snapshot_is_none() {
        let root = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(root.path().to_owned());
        save(&snapshots, &counted(1));
        let folder = root.path().join(PARTITION.topic).join("0");
        let unfinished = folder.join("00000000000000000003-left.unfinished");
        fs::write(&unfinished, b"WEIR").unwrap();
        assert_eq!(load(&snapshots).unwrap().unwrap().next_offset(), 2);
        save(&snapshots, &counted(2));
        assert!(unfinished.exists(), "somebody may still write it");
        save(&snapshots, &counted(3));
        save(&snapshots, &counted(4));
        assert!(!unfinished.exists(), "nobody needs it any more");
    }
}
