//! What a power cut leaves of a data folder: all that was synced, and of the rest what chance will have.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;

const JOURNAL: &str = "offsets.journal";

/// A batch of a segment file: where it ends, and the offset after it.
struct Batch {
    end: u64,
    next: i64,
}

/// How far a file is known to be on the disk.
#[derive(Clone, Copy, Debug)]
struct Mark {
    inode: u64,
    bytes: u64,
}

/// The sizes of all files that are written to, at a moment before which everything was synced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Synced(HashMap<PathBuf, Mark>);

impl Synced {
    /// All that is there now.
    pub(crate) fn now(data: &Path, topic: &str, partitions: i32) -> Self {
        let mut synced = Self::default();
        for path in grown_files(data, topic, partitions) {
            if let Ok(metadata) = fs::metadata(&path) {
                let mark = Mark {
                    inode: metadata.ino(),
                    bytes: metadata.len(),
                };
                synced.0.insert(path, mark);
            }
        }
        synced
    }

    /// What must be on the disk because it was acknowledged by a log that syncs always: records up to the highest
    /// acknowledged offset of each partition, and the journal's lines up to the newest committed offsets.
    pub(crate) fn acknowledged(
        data: &Path,
        topic: &str,
        highest: &[Option<i64>],
        committed: &HashMap<i32, i64>,
    ) -> Self {
        let mut synced = Self::now(data, topic, highest.len() as i32);
        for (path, mark) in &mut synced.0 {
            mark.bytes = if path.ends_with(JOURNAL) {
                committed_bytes(path, committed)
            } else {
                let highest = highest[partition_of(path)];
                let batches = batches(path).expect("a segment file");
                let holds = |h: i64| batches.iter().find(|b| b.next > h);
                highest.and_then(holds).map_or(0, |b| b.end)
            };
        }
        synced
    }

    /// The offset that each partition must still reach.
    pub(crate) fn offsets(&self, partitions: i32) -> Vec<i64> {
        let mut offsets = vec![0; partitions as usize];
        for (path, mark) in self.0.iter().filter(|(path, _)| !path.ends_with(JOURNAL)) {
            let batches = batches(path).expect("a segment file").into_iter();
            let whole = batches.filter(|b| b.end <= mark.bytes).map(|b| b.next);
            let of_partition = &mut offsets[partition_of(path)];
            *of_partition = whole.fold(*of_partition, i64::max);
        }
        offsets
    }
}

/// What was done to a folder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) bytes: u64,
    /// Segments whose end is no longer that of a batch.
    pub(crate) torn: u64,
}

/// Cuts the power of the machine that `data` lies on: everything that was not synced may be gone, in part or whole.
pub(crate) fn cut(
    data: &Path,
    topic: &str,
    partitions: i32,
    synced: &Synced,
    chance: &mut StdRng,
) -> Taken {
    let mut taken = Taken::default();
    let mut paths = grown_files(data, topic, partitions);
    paths.sort();
    for (i, path) in paths.iter().enumerate() {
        // A segment that is followed by another one was synced before that was made, and so was its checkpoint, but
        // that of the last may have found no room.
        let is_followed_by = |more: usize| {
            let other = paths.get(i + more);
            other.is_some_and(|other| other.parent() == path.parent())
        };
        if is_followed_by(1) && !path.ends_with(JOURNAL) {
            if !is_followed_by(2) {
                maybe_tear(&path.with_extension("checkpoint"), chance);
            }
            continue;
        }
        let metadata = fs::metadata(path).expect("a file");
        let kept = match synced.0.get(path) {
            Some(mark) if mark.inode == metadata.ino() => mark.bytes,
            // It was replaced whole, and a replacement is synced.
            Some(_) => metadata.len(),
            None => 0,
        };
        let kept = kept.max(vouched_bytes(path)).min(metadata.len());
        taken.bytes += spoil(path, kept, metadata.len(), chance).expect("a file that can be cut");
        if !path.ends_with(JOURNAL) {
            let whole = batches(path)
                .expect("a segment file")
                .last()
                .map_or(0, |b| b.end);
            taken.torn += u64::from(whole < fs::metadata(path).expect("a file").len());
        }
    }
    leave_replacements(data, &paths, chance);
    restart_machine(data);
    taken
}

/// Takes some of what lies behind `kept`. Returns how many bytes.
fn spoil(path: &Path, kept: u64, bytes: u64, chance: &mut StdRng) -> io::Result<u64> {
    if kept == bytes {
        return Ok(0);
    }
    let file = File::options().write(true).open(path)?;
    let from = chance.random_range(kept..bytes);
    let to = match chance.random_range(0..4) {
        // The size was written and the content was not, or not all of it.
        0 => bytes,
        1 => chance.random_range(from..bytes) + 1,
        _ => {
            file.set_len(from)?;
            return Ok(bytes - from);
        }
    };
    file.write_all_at(&vec![0; (to - from) as usize], from)?;
    Ok(to - from)
}

/// A checkpoint that is not whole vouches for nothing.
fn maybe_tear(checkpoint: &Path, chance: &mut StdRng) {
    let Ok(content) = fs::read(checkpoint) else {
        return;
    };
    if chance.random_ratio(1, 4) {
        let cut = chance.random_range(0..content.len());
        fs::write(checkpoint, &content[..cut]).expect("a shorter checkpoint");
    }
}

/// Half of what was to replace a file, which a cut before the renaming leaves.
fn leave_replacements(data: &Path, grown: &[PathBuf], chance: &mut StdRng) {
    let catalog = data.join("catalog.json");
    let segments = grown.iter().filter(|path| !path.ends_with(JOURNAL));
    let cleaned = segments.map(|path| (path.clone(), path.with_extension("cleaned")));
    let replaced = ["catalog.json", JOURNAL, "producer-ids"].map(|name| data.join(name));
    let next = replaced.map(|path| (path.clone(), path.with_extension("next")));
    for (original, replacement) in next.into_iter().chain(cleaned) {
        if chance.random_bool(0.5) {
            let content = fs::read(&original).expect("what would be replaced");
            let half = chance.random_range(0..=content.len());
            fs::write(replacement, &content[..half]).expect("half a replacement");
        }
    }
    assert!(catalog.exists());
}

/// The log notes in which run of the machine it was open: that is not the present one any more.
fn restart_machine(data: &Path) {
    let lock = data.join("lock");
    let text = fs::read_to_string(&lock).expect("the lock");
    let pid = text.lines().next().expect("the holder's id");
    fs::write(lock, format!("{pid}\nanother run of the machine\n")).expect("the lock");
}

/// The files that records and commits are appended to: the segments of each partition in order, and the journal.
fn grown_files(data: &Path, topic: &str, partitions: i32) -> Vec<PathBuf> {
    let mut files = vec![data.join(JOURNAL)];
    for partition in 0..partitions {
        let folder = data.join("topics").join(topic).join(partition.to_string());
        let entries = fs::read_dir(folder).expect("a partition's folder");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|e| e == "log")));
    }
    files
}

fn partition_of(segment: &Path) -> usize {
    let folder = segment.parent().and_then(Path::file_name);
    let name = folder.and_then(|name| name.to_str()).expect("a folder");
    name.parse().expect("a partition's number")
}

/// The whole batches of a segment file, as far as they look like some.
fn batches(path: &Path) -> io::Result<Vec<Batch>> {
    let bytes = fs::read(path)?;
    let mut found = vec![];
    let mut at = 0;
    while let Some(head) = bytes[at..].first_chunk::<27>() {
        let base = i64::from_be_bytes(*head[..8].first_chunk().expect("8 of 27"));
        let length = i32::from_be_bytes(*head[8..].first_chunk().expect("4 of 19"));
        let last = i32::from_be_bytes(*head[23..].first_chunk().expect("the last 4"));
        let end = at + 12 + length as usize;
        if length < 49 || end > bytes.len() || head[16] != 2 {
            break;
        }
        found.push(Batch {
            end: end as u64,
            next: base + i64::from(last) + 1,
        });
        at = end;
    }
    Ok(found)
}

/// How much of a segment its checkpoint says is on the disk.
fn vouched_bytes(segment: &Path) -> u64 {
    let Ok(content) = fs::read(segment.with_extension("checkpoint")) else {
        return 0;
    };
    let line = content.split(|b| *b == b'\n').next().unwrap_or_default();
    let json = line.get(9..).unwrap_or_default();
    let known: Value = serde_json::from_slice(json).unwrap_or_default();
    known["bytes"].as_u64().unwrap_or(0)
}

/// The journal up to the line that holds the last of these offsets.
fn committed_bytes(journal: &Path, committed: &HashMap<i32, i64>) -> u64 {
    let content = fs::read(journal).expect("the journal");
    let mut missing = committed.clone();
    let mut read = 0;
    let mut needed = 0;
    for line in content.split_inclusive(|b| *b == b'\n') {
        read += line.len() as u64;
        let change: Value =
            serde_json::from_slice(line.get(9..).unwrap_or_default()).unwrap_or_default();
        let commit = &change["Commit"];
        let partition = commit["partition"].as_i64().unwrap_or(-1) as i32;
        let offset = commit["committed"]["offset"].as_i64().unwrap_or(-1);
        if missing.get(&partition).is_some_and(|told| offset >= *told) {
            missing.remove(&partition);
            needed = read;
        }
    }
    assert!(missing.is_empty(), "not in the journal: {missing:?}");
    needed
}
