//! Opening a partition: every batch since the last checkpoint is checked, a torn end is cut off.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::batch::{HEADER_BYTES, Header};
use super::scan::Damage;
use super::segment::{CheckpointFile, Segment};
use super::sequence::Producers;
use super::{LogSettings, PartitionLog};
use crate::files;

/// Where the log starts if that is not the start of its first segment.
pub(super) const START_FILE: &str = "start";
const READ_AHEAD_BYTES: usize = 1 << 20;

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
    ) -> io::Result<(PartitionLog, Vec<Cut>)> {
        fs::create_dir_all(&folder)?;
        let mut segments: Vec<Segment> = vec![];
        let mut producers = Producers::default();
        let mut cuts = vec![];
        let listed = list(&folder)?;
        if let Some(stranger) = listed.strangers.first() {
            let stranger = stranger.display();
            return Err(io::Error::other(format!(
                "{stranger} is not a segment's name"
            )));
        }
        for path in listed.leftovers {
            fs::remove_file(path)?;
        }
        for mut segment in listed.segments {
            // A merge that was interrupted leaves files whose content the merged one has already.
            if segments
                .last()
                .is_some_and(|before| before.next > segment.base)
            {
                segment.remove()?;
                continue;
            }
            cuts.extend(recover(&mut segment, &mut producers)?);
            segments.push(segment);
        }
        let first = segments.first().map_or(0, |s| s.base);
        let start = read_start(&folder)?.unwrap_or(first).max(first);
        let next = segments.last().map_or(start, |s| s.next).max(start);
        let log = PartitionLog {
            folder,
            settings,
            segments,
            active: None,
            start,
            next,
            synced: next,
            producers,
            failed: false,
        };
        Ok((log, cuts))
    }
}

/// What lies in the folder of a partition.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// In order.
    pub(super) segments: Vec<Segment>,
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
        match path.extension().and_then(|e| e.to_str()) {
            Some("log") => {}
            Some("next" | "cleaned") => {
                listed.leftovers.push(path);
                continue;
            }
            _ => continue,
        }
        let stem = path.file_stem().and_then(|s| s.to_str());
        match stem.and_then(|s| s.parse().ok()) {
            Some(base) => {
                let made_ms = made_ms(&entry.metadata()?);
                listed.segments.push(Segment::new(folder, base, made_ms));
            }
            None => listed.strangers.push(path),
        }
    }
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

pub(super) fn read_start(folder: &Path) -> io::Result<Option<i64>> {
    let path = folder.join(START_FILE);
    let Some(text) = files::read_if_any(&path)? else {
        return Ok(None);
    };
    let number = std::str::from_utf8(&text)
        .ok()
        .and_then(|t| t.trim().parse().ok());
    number.map(Some).ok_or_else(|| {
        let path = path.display();
        io::Error::other(format!("{path} does not hold the number of an offset"))
    })
}

/// Reads the part of a segment that no checkpoint vouches for, up to the first byte that is not
/// part of an intact batch, and cuts the file there.
fn recover(segment: &mut Segment, producers: &mut Producers) -> io::Result<Option<Cut>> {
    let file_bytes = fs::metadata(&segment.path)?.len();
    if let CheckpointFile::Intact(known) = segment.read_checkpoint()?
        && known.bytes <= file_bytes
    {
        *producers = segment.adopt(known);
    }
    if segment.bytes == file_bytes {
        return Ok(None);
    }
    let mut file = File::open(&segment.path)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(segment.bytes))?;
    let mut reader = BufReader::with_capacity(READ_AHEAD_BYTES, file);
    let mut batch = vec![];
    while let Some(header) = next_batch(&mut reader, file_bytes - segment.bytes, &mut batch)? {
        if header.base_offset < segment.next {
            break;
        }
        let at = segment.bytes;
        segment.note(&header, at);
        producers.note(&header, header.max_timestamp);
    }
    let cut = Cut {
        path: segment.path.clone(),
        at: segment.bytes,
        bytes: file_bytes - segment.bytes,
    };
    if cut.bytes == 0 {
        return Ok(None);
    }
    let file = segment.open_to_append()?;
    file.set_len(cut.at)?;
    file.sync_all()?;
    Ok(Some(cut))
}

/// The next intact batch of at most `left` bytes, or `None` where the intact part ends.
fn next_batch(
    reader: &mut impl Read,
    left: u64,
    batch: &mut Vec<u8>,
) -> io::Result<Option<Header>> {
    if left < HEADER_BYTES as u64 {
        return Ok(None);
    }
    batch.resize(HEADER_BYTES, 0);
    reader.read_exact(batch)?;
    let Some(header) = Header::parse(batch).filter(|h| h.bytes as u64 <= left) else {
        return Ok(None);
    };
    batch.resize(header.bytes, 0);
    reader.read_exact(&mut batch[HEADER_BYTES..])?;
    Ok(Header::checked(batch).ok())
}
