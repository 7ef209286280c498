//! Opening a partition: every batch since the last checkpoint is checked, a torn end is cut off.
//!
//! Damage before records that were safe once is another matter: the log does not open. To go on without those records
//! would be a decision, and whoever counts on the log (its readers have their offsets) has to make it. The error says
//! where the damage is and how to open without them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::batch::Header;
use super::checkpoint::{Checkpoint, CheckpointFile};
use super::scan::{Damage, Scan};
use super::segment::Segment;
use super::sequence::Producers;
use super::{LogSettings, PartitionLog, Shared, swap};
use crate::error::OpenError;
use crate::files;

/// Where the log starts if that is not the start of its first segment.
pub(super) const START_FILE: &str = "start";

/// A torn end that was cut off: the bytes of a batch that was never acknowledged, or, after a
/// power cut, of batches that had not reached the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) path: PathBuf,
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

impl PartitionLog {
    /// Opens the log in `folder`, which may be new. Says what it had to cut off.
    pub(crate) fn open(
        folder: PathBuf,
        settings: LogSettings,
        shared: &Shared,
    ) -> Result<(PartitionLog, Vec<Cut>), OpenError> {
        let failed = |source| OpenError::folder(&folder, source);
        files::create_folder(&folder).map_err(failed)?;
        let mut listed = list(&folder).map_err(failed)?;
        if !listed.swaps.is_empty() {
            for (path, base) in listed.swaps {
                let merged_to = read_swap(path)?;
                swap::finish(&folder, base, merged_to).map_err(failed)?;
            }
            listed = list(&folder).map_err(failed)?;
        }
        if let Some(path) = listed.strangers.into_iter().next() {
            let reason = "its name is not that of a segment".to_owned();
            return Err(OpenError::Damaged { path, reason });
        }
        for path in listed.leftovers {
            files::remove_if_any(&path).map_err(failed)?;
        }
        let mut recovery = Recovery {
            segments: vec![],
            before: Before::Known(Producers::default()),
            kept_running: shared.kept_running,
            vouched: Vouched::default(),
            cuts: vec![],
        };
        let bases: Vec<i64> = listed.segments.iter().map(|s| s.base).collect();
        for (segment, i) in listed.segments.into_iter().zip(1..) {
            recovery.take(segment, &bases[i..])?;
        }
        let start = read_start(&folder)?;
        recovery.finish(folder, settings, start, shared)
    }
}

/// What lies in the folder of a partition.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// In order.
    pub(super) segments: Vec<Segment>,
    /// Checkpoints of copies that count already, with the offset of their segment.
    pub(super) swaps: Vec<(PathBuf, i64)>,
    /// What an interrupted replacement left behind.
    pub(super) leftovers: Vec<PathBuf>,
    /// Segments by their ending, but not by their name.
    pub(super) strangers: Vec<PathBuf>,
}

pub(super) fn list(folder: &Path) -> io::Result<Listed> {
    let mut listed = Listed::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let base = path.file_stem().and_then(|s| s.to_str()?.parse().ok());
        match (path.extension().and_then(|e| e.to_str()), base) {
            (Some("log"), Some(base)) => {
                let made_ms = made_ms(&entry.metadata()?);
                listed.segments.push(Segment::new(folder, base, made_ms));
            }
            (Some(swap::SWAP), Some(base)) => listed.swaps.push((path, base)),
            (Some("next" | swap::CLEANED), _) => listed.leftovers.push(path),
            (Some("log" | swap::SWAP), None) => listed.strangers.push(path),
            _ => {}
        }
    }
    let counts = |path: &PathBuf| {
        let swap = path.with_extension(swap::SWAP);
        path.extension().is_some_and(|e| e == swap::CLEANED)
            && listed.swaps.iter().any(|(path, _)| *path == swap)
    };
    listed.leftovers.retain(|path| !counts(path));
    listed.segments.sort_by_key(|s| s.base);
    Ok(listed)
}

/// What decides whether damage in a segment is the torn end of a last write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    /// A checkpoint was written once this much was on the disk.
    pub(super) vouched_bytes: u64,
    /// Where the next segment starts. It was made once all of this one was on the disk.
    pub(super) following: Option<i64>,
    /// The machine has not restarted since the last write, so that the page cache has lost nothing.
    pub(super) kept_running: bool,
}

impl Surroundings {
    /// Whether the damage can be cut off, with all that follows it, and nothing is lost that was on the disk.
    ///
    /// The death of a process leaves half a batch and nothing behind it. A power cut may leave
    /// holes in what was not synced, with whole batches behind them.
    pub(super) fn is_torn_end(&self, damage: &Damage, is_followed: bool) -> bool {
        damage.at >= self.vouched_bytes
            && match self.following {
                Some(following) => damage.next >= following,
                None => !(is_followed && self.kept_running),
            }
    }
}

fn made_ms(of: &fs::Metadata) -> i64 {
    let made = of
        .created()
        .or_else(|_| of.modified())
        .unwrap_or(UNIX_EPOCH);
    made.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// How far the segments go that the copy of this checkpoint holds.
pub(super) fn read_swap(path: PathBuf) -> Result<i64, OpenError> {
    match CheckpointFile::open(&path).map_err(|e| OpenError::folder(&path, e))? {
        CheckpointFile::Intact(known) => Ok(known.head.merged_to),
        CheckpointFile::Missing | CheckpointFile::Damaged => Err(OpenError::Damaged {
            path,
            reason: "it is not the checkpoint of a compacted segment".to_owned(),
        }),
    }
}

pub(super) fn read_start(folder: &Path) -> Result<Option<i64>, OpenError> {
    let path = folder.join(START_FILE);
    let text = files::read_if_any(&path).map_err(|e| OpenError::folder(&path, e))?;
    let Some(text) = text else {
        return Ok(None);
    };
    let number = std::str::from_utf8(&text)
        .ok()
        .and_then(|t| t.trim().parse().ok());
    number.map(Some).ok_or_else(|| OpenError::Damaged {
        path,
        reason: "it does not hold the number of an offset".to_owned(),
    })
}

/// The producers as they were at the end of the segments taken so far.
#[derive(Debug)]
enum Before {
    Known(Producers),
    /// They are there, and are read if they are needed.
    In(Checkpoint, PathBuf),
}

/// The part of the newest segment that a checkpoint vouches for.
#[derive(Clone, Copy, Debug, Default)]
struct Vouched {
    bytes: u64,
    next: i64,
}

#[derive(Debug)]
struct Recovery {
    segments: Vec<Segment>,
    before: Before,
    kept_running: bool,
    vouched: Vouched,
    cuts: Vec<Cut>,
}

impl Recovery {
    /// Takes up a segment. `bases` are the starts of those that follow.
    fn take(&mut self, mut segment: Segment, bases: &[i64]) -> Result<(), OpenError> {
        let following = bases.first().copied();
        let is_near_end = bases.len() < 2;
        let path = segment.path.clone();
        let failed = |source| OpenError::folder(&path, source);
        let file_bytes = fs::metadata(&path).map_err(failed)?.len();
        self.vouched = Vouched {
            bytes: 0,
            next: segment.base,
        };
        let mut safe_bytes = 0;
        if let CheckpointFile::Intact(known) = segment.open_checkpoint().map_err(failed)? {
            safe_bytes = known.head.bytes;
            if known.head.bytes > file_bytes {
                return Err(missing(&segment, &known, file_bytes));
            }
            // The last checkpoints give the producers: they are looked at whole.
            let is_enough = !is_near_end || known.is_whole().map_err(failed)?;
            if following.is_some() && known.head.bytes == file_bytes && is_enough {
                segment.adopt(&known);
                self.before = Before::In(known, segment.checkpoint_path.clone());
                self.segments.push(segment);
                return Ok(());
            }
            self.go_on_from(&mut segment, &known).map_err(failed)?;
        }
        if segment.bytes < file_bytes {
            self.read(&mut segment, following, safe_bytes, file_bytes)?;
        }
        self.segments.push(segment);
        Ok(())
    }

    /// Takes up a checkpoint, if it is whole, to read on behind it.
    fn go_on_from(&mut self, segment: &mut Segment, known: &Checkpoint) -> io::Result<()> {
        let (Some(producers), Some(index)) = (known.producers()?, known.index()?) else {
            return Ok(());
        };
        segment.adopt(known);
        segment.hold_index(index);
        self.before = Before::Known(producers);
        self.vouched = Vouched {
            bytes: segment.bytes,
            next: segment.next,
        };
        Ok(())
    }

    /// Reads what no checkpoint vouches for, and cuts off a torn end.
    fn read(
        &mut self,
        segment: &mut Segment,
        following: Option<i64>,
        safe_bytes: u64,
        file_bytes: u64,
    ) -> Result<(), OpenError> {
        let path = segment.path.clone();
        let failed = |source| OpenError::folder(&path, source);
        let mut producers = self.take_producers()?;
        let file = segment.open_to_append().map_err(failed)?;
        let mut scan = Scan::new(&file, file_bytes, segment.offset_limit(following));
        let (from, next) = (segment.bytes, segment.next);
        let note = &mut |header: &Header, at| {
            segment.note(header, at);
            producers.note(header, header.max_timestamp);
        };
        if let Some(damage) = scan.walk(from, next, note).map_err(failed)? {
            let is_followed = scan.next_intact(&damage).map_err(failed)?.is_some();
            let surroundings = Surroundings {
                vouched_bytes: safe_bytes,
                following,
                kept_running: self.kept_running,
            };
            if !surroundings.is_torn_end(&damage, is_followed) {
                return Err(damaged(segment, &damage, following));
            }
            self.cuts
                .push(cut(&file, segment, file_bytes).map_err(failed)?);
        }
        if following.is_some() {
            // Its checkpoint was lost: without a new one it would be read at every opening.
            file.sync_data().map_err(failed)?;
            if let Err(e) = segment.seal(&producers) {
                tracing::warn!(file = %path.display(), "cannot write its checkpoint: {e}");
            }
        }
        self.before = Before::Known(producers);
        Ok(())
    }

    fn take_producers(&mut self) -> Result<Producers, OpenError> {
        let before = std::mem::replace(&mut self.before, Before::Known(Producers::default()));
        let (known, path) = match before {
            Before::Known(producers) => return Ok(producers),
            Before::In(known, path) => (known, path),
        };
        let producers = known.producers().map_err(|e| OpenError::folder(&path, e))?;
        producers.ok_or_else(|| OpenError::Damaged {
            path,
            reason: "its second line is not intact (without the file, its segment is read instead)"
                .to_owned(),
        })
    }

    fn finish(
        mut self,
        folder: PathBuf,
        settings: LogSettings,
        start: Option<i64>,
        shared: &Shared,
    ) -> Result<(PartitionLog, Vec<Cut>), OpenError> {
        let producers = self.take_producers()?;
        let first = self.segments.first().map_or(0, |s| s.base);
        let start = start.unwrap_or(first).max(first);
        let last = self.segments.last();
        let next = last.map_or(start, |s| s.next).max(start);
        let is_read = last.is_some_and(|s| s.bytes > self.vouched.bytes);
        let log = PartitionLog {
            folder,
            settings,
            segments: self.segments,
            handles: shared.handles.clone(),
            start,
            next,
            synced: if is_read { self.vouched.next } else { next },
            checkpointed: self.vouched.bytes,
            saving: Default::default(),
            producers,
            failed: false,
        };
        Ok((log, self.cuts))
    }
}

/// Cuts the file at the end of what is intact.
fn cut(file: &File, segment: &Segment, file_bytes: u64) -> io::Result<Cut> {
    file.set_len(segment.bytes)?;
    file.sync_all()?;
    Ok(Cut {
        path: segment.path.clone(),
        at: segment.bytes,
        bytes: file_bytes - segment.bytes,
    })
}

fn missing(segment: &Segment, known: &Checkpoint, file_bytes: u64) -> OpenError {
    let bytes = known.head.bytes - file_bytes;
    OpenError::DamagedLog {
        path: segment.path.clone(),
        position: file_bytes,
        reason: format!(
            "{bytes} bytes are missing that were on the disk, up to offset {}",
            known.head.next - 1
        ),
        way_out: format!("remove {}", segment.checkpoint_path.display()),
    }
}

fn damaged(segment: &Segment, damage: &Damage, following: Option<i64>) -> OpenError {
    let (path, next) = (segment.path.display(), damage.next);
    OpenError::DamagedLog {
        path: segment.path.clone(),
        position: damage.at,
        reason: format!(
            "{}, where offset {next} was to come, and records that were safe follow",
            damage.flaw
        ),
        way_out: match following {
            Some(following) => {
                let last = following - 1;
                format!(
                    "move it and its checkpoint away (offsets {} to {last})",
                    segment.base
                )
            }
            None => format!(
                "run `truncate -s {} {path}` (offsets from {next} on)",
                damage.at
            ),
        },
    }
}

#[cfg(test)]
mod tests;
