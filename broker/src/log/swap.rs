//! Putting a compacted copy in the place of the segments that it was made of: all of it or nothing, also in a crash.
//!
//! The copy lies beside them as `.cleaned`, on the disk. Its checkpoint is written as `.swap`: from that moment on the
//! copy counts, and what is left to do is done again by the next opening if a crash comes first.

use std::io;
use std::path::{Path, PathBuf};

use super::segment::{Segment, segment_path};
use super::sequence::Producers;
use crate::files;

/// What is done to a copy's name.
pub(super) const CLEANED: &str = "cleaned";
pub(super) const SWAP: &str = "swap";

/// Where the copy of a segment is written.
pub(super) fn cleaned_path(segment: &Segment) -> PathBuf {
    segment.path.with_extension(CLEANED)
}

/// Makes a copy that is on the disk count.
pub(super) fn begin(copy: &Segment, producers: &Producers) -> io::Result<()> {
    let content = copy.checkpoint(producers)?.unwrap_or_default();
    files::replace(&copy.path.with_extension(SWAP), &content)
}

/// Does the rest, as much of it as was not done before: the copy of the segment at `base` takes
/// its place, and the segments that it holds as well, up to offset `merged_to`, go.
pub(super) fn finish(folder: &Path, base: i64, merged_to: i64) -> io::Result<()> {
    let path = segment_path(folder, base);
    let cleaned = path.with_extension(CLEANED);
    if cleaned.exists() {
        files::rename(&cleaned, &path)?;
        files::sync_folder(folder)?;
    }
    for merged in super::recover::list(folder)?.segments {
        if merged.base > base && merged.base < merged_to {
            merged.remove()?;
        }
    }
    files::sync_folder(folder)?;
    let checkpoint = path.with_extension("checkpoint");
    files::rename(&path.with_extension(SWAP), &checkpoint)?;
    files::sync_folder(folder)
}
