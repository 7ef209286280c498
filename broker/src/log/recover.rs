//! Opening a partition: every batch since the last checkpoint is checked, a torn end is cut off.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::batch::{HEADER_BYTES, Header};
use super::segment::Segment;
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
        for mut segment in list(&folder)? {
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

/// The segments of a folder in order; what an interrupted replacement left behind is removed.
fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = vec![];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("log") => {}
            Some("next" | "cleaned") => {
                fs::remove_file(&path)?;
                continue;
            }
            _ => continue,
        }
        let base = path
            .file_stem()
            .and_then(|s| s.to_str())
            .and_then(|s| s.parse().ok());
        let Some(base) = base else {
            return Err(io::Error::other(format!(
                "{} is not a segment's name",
                path.display()
            )));
        };
        segments.push(Segment::new(folder, base, made_ms(&entry.metadata()?)));
    }
    segments.sort_by_key(|s| s.base);
    Ok(segments)
}

fn made_ms(of: &fs::Metadata) -> i64 {
    let made = of
        .created()
        .or_else(|_| of.modified())
        .unwrap_or(UNIX_EPOCH);
    made.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

fn read_start(folder: &Path) -> io::Result<Option<i64>> {
    let path = folder.join(START_FILE);
    let Some(text) = files::read_if_any(&path)? else {
        return Ok(None);
    };
    let number = std::str::from_utf8(&text)
        .ok()
        .and_then(|t| t.trim().parse().ok());
    number.map(Some).ok_or_else(|| {
        io::Error::other(format!(
            "{} does not hold the number of an offset",
            path.display()
        ))
    })
}

/// Reads the part of a segment that no checkpoint vouches for, up to the first byte that is not
/// part of an intact batch, and cuts the file there.
fn recover(segment: &mut Segment, producers: &mut Producers) -> io::Result<Option<Cut>> {
    let file_bytes = fs::metadata(&segment.path)?.len();
    if let Some(known) = segment.load_checkpoint(file_bytes)? {
        *producers = known;
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
