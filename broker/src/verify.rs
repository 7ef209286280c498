//! Checking a data folder without opening it: everything is read, nothing is changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::lock::FolderLock;
use crate::log::verify::verify_partition;
use crate::{offsets, producers, topics};

/// What [`verify`] found in a data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Every partition of every topic, by name and number.
    pub partitions: Vec<PartitionState>,
    /// What is wrong with files that belong to no partition: the catalog, committed offsets, producer ids.
    pub findings: Vec<Finding>,
}

/// What lies in the folder of one partition. Numbers count what is intact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Segment files.
    pub segments: u64,
    /// Intact batches.
    pub batches: u64,
    /// Records in the intact batches.
    pub records: u64,
    /// Bytes of the intact batches.
    pub bytes: u64,
    /// The first offset that can be read.
    pub first_offset: i64,
    /// The offset that the next record would get.
    pub next_offset: i64,
    /// What is wrong, in the order of the segments.
    pub findings: Vec<Finding>,
}

/// Something that is not as a broker leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file or folder.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub position: u64,
    /// What is wrong there.
    pub what: String,
    /// Opening the folder mends it and loses nothing that was promised: the torn end of a last
    /// write, or what an interrupted change left behind. Otherwise records or settings are lost or
    /// in doubt, and opening either refuses the folder or does not notice.
    pub mended_by_opening: bool,
}

impl Verification {
    /// All findings, those of the partitions included.
    pub fn all_findings(&self) -> impl Iterator<Item = &Finding> {
        let of_partitions = self.partitions.iter().flat_map(|p| &p.findings);
        self.findings.iter().chain(of_partitions)
    }
}

impl Finding {
    pub(crate) fn mended(path: impl Into<PathBuf>, position: u64, what: String) -> Finding {
        Finding {
            mended_by_opening: true,
            ..Finding::lasting(path, position, what)
        }
    }

    pub(crate) fn lasting(path: impl Into<PathBuf>, position: u64, what: String) -> Finding {
        Finding {
            path: path.into(),
            position,
            what,
            mended_by_opening: false,
        }
    }
}

/// Reads a data folder whole and checks it: every batch (length, checksum, order of offsets,
/// sequence of its producer), every checkpoint against its segment, the catalog, committed offsets
/// and producer ids. Changes nothing, needs memory for a few buffers, and blocks for as long as
/// reading takes. No broker can open the folder meanwhile.
///
/// # Errors
/// If a broker holds the folder ([`OpenError::Held`] says which process), or it is not there or
/// not readable. Damage is no error: it is among the findings.
pub fn verify(data_dir: &Path) -> Result<Verification, OpenError> {
    fs::read_dir(data_dir).map_err(|e| OpenError::folder(data_dir, e))?;
    let lock = FolderLock::share(data_dir)?;
    let kept_running = lock.machine_kept_running();
    let mut found = Verification::default();
    found
        .findings
        .extend(offsets::verify(data_dir, kept_running)?);
    found.findings.extend(producers::verify(data_dir)?);
    let topics_folder = data_dir.join("topics");
    let mut has_catalog = true;
    let listed = match topics::list(data_dir) {
        Ok(listed) => listed,
        Err(OpenError::Damaged { path, reason }) => {
            let finding = Finding::lasting(path, 0, reason);
            found.findings.push(finding);
            has_catalog = false;
            guess(&topics_folder).map_err(|e| OpenError::folder(&topics_folder, e))?
        }
        Err(other) => return Err(other),
    };
    let unlisted = unlisted(&topics_folder, &listed);
    let unlisted = unlisted.map_err(|e| OpenError::folder(&topics_folder, e))?;
    if has_catalog {
        let left = |path| Finding::mended(path, 0, "what is left of a deleted topic".to_owned());
        found.findings.extend(unlisted.into_iter().map(left));
    }
    for topic in &listed {
        for partition in 0..topic.partitions {
            let folder = topics_folder.join(&topic.name).join(partition.to_string());
            let mut state = verify_partition(&folder, topic.compacts, kept_running);
            state.topic.clone_from(&topic.name);
            state.partition = partition;
            found.partitions.push(state);
        }
    }
    Ok(found)
}

/// A topic, as far as checking its partitions goes.
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    /// Offsets may be missing.
    pub(crate) compacts: bool,
}

/// The topics that there are folders for, where no catalog says which there should be.
fn guess(topics_folder: &Path) -> io::Result<Vec<Listed>> {
    let mut listed = vec![];
    for name in names(topics_folder)? {
        let numbers = names(&topics_folder.join(&name))?;
        let partitions = numbers.iter().filter_map(|n| n.parse::<i32>().ok()).max();
        listed.push(Listed {
            name,
            partitions: partitions.map_or(0, |last| last.saturating_add(1)),
            compacts: true,
        });
    }
    Ok(listed)
}

fn unlisted(topics_folder: &Path, listed: &[Listed]) -> io::Result<Vec<PathBuf>> {
    let mut names = names(topics_folder)?;
    names.retain(|name| listed.iter().all(|l| l.name != *name));
    Ok(names.iter().map(|n| topics_folder.join(n)).collect())
}

/// The names in a folder, in order; none if it is not there.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut names = vec![];
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
