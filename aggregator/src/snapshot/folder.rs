//! Snapshots as files: a folder, in it one for each topic, in that one for each partition.
//!
//! A file is written beside its place and renamed into it, file and folder synced, so that it is there whole or not
//! at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bus::Partition;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{EXTENSION, SnapshotError, file_name, offset_of, surplus};

const UNFINISHED: &str = "unfinished";

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Does `work` where waiting for a disk holds up nobody.
    pub(super) async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let folder = self.clone();
        let done = spawn_blocking(move || work(&folder)).await?;
        done.map_err(|source| SnapshotError::Folder {
            place: self.root.clone(),
            source,
        })
    }

    /// Makes the folder of all.
    pub(super) fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)
    }

    /// The offsets by which a partition's snapshots are named, least first. A folder that is not there has none.
    pub(super) fn list(&self, partition: Partition) -> io::Result<Vec<i64>> {
        list(&self.of(partition))
    }

    pub(super) async fn read(&self, partition: Partition, next_offset: i64) -> io::Result<Vec<u8>> {
        tokio::fs::read(self.path(partition, next_offset)).await
    }

    /// Writes a snapshot, and removes those that are no longer needed.
    pub(super) fn save(
        &self,
        partition: Partition,
        next_offset: i64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let folder = self.of(partition);
        write(&folder, next_offset, bytes)?;
        let held = list(&folder)?;
        let surplus = surplus(&held);
        for old in surplus {
            remove(&self.path(partition, *old))?;
        }
        // What was left unfinished by a crash, and is older than what is kept. Names begin with offsets of one width.
        let kept = held.get(surplus.len()).map(|kept| file_name(*kept));
        for name in names(&folder, UNFINISHED)? {
            if kept.as_ref().is_some_and(|kept| name < *kept) {
                remove(&folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Topic, partition and offset of the newest snapshot of each partition.
    pub(super) fn newest(&self) -> io::Result<Vec<(String, i32, i64)>> {
        let mut found = Vec::new();
        for topic in names(&self.root, "")? {
            let folder = self.root.join(&topic);
            for index in names(&folder, "")? {
                let newest = list(&folder.join(&index))?.pop();
                if let (Ok(index), Some(newest)) = (index.parse(), newest) {
                    found.push((topic.clone(), index, newest));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn of(&self, partition: Partition) -> PathBuf {
        self.root
            .join(partition.topic)
            .join(partition.index.to_string())
    }

    pub(super) fn path(&self, partition: Partition, next_offset: i64) -> PathBuf {
        self.of(partition).join(file_name(next_offset))
    }
}

fn list(folder: &Path) -> io::Result<Vec<i64>> {
    let names = names(folder, EXTENSION)?;
    let mut offsets: Vec<i64> = names.iter().filter_map(|name| offset_of(name)).collect();
    offsets.sort_unstable();
    Ok(offsets)
}

/// What is in a folder with this extension, or with any where it is empty.
fn names(folder: &Path, extension: &str) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let is_asked = Path::new(&name)
            .extension()
            .is_some_and(|found| found == extension);
        if let Some(name) = name.to_str()
            && (extension.is_empty() || is_asked)
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes a file, unless another process did already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn write(folder: &Path, next_offset: i64, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // Of this writer only: who lost a partition may still write what its next owner writes too.
    let unfinished = format!("{next_offset:020}-{}.{UNFINISHED}", Uuid::new_v4());
    let unfinished = folder.join(unfinished);
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, folder.join(file_name(next_offset)))?;
    File::open(folder)?.sync_all()
}
