//! Checking the folder of a partition without opening it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::batch::Header;
use super::checkpoint::{CheckpointFile, Comparison};
use super::recover::{START_FILE, Surroundings, list, read_start, read_swap};
use super::scan::{Damage, Scan};
use super::segment::Segment;
use super::sequence::{Producers, Verdict};
use super::swap;
use crate::verify::{Finding, PartitionState};

/// Reads all segments in `folder`. `compacts` says that offsets may be missing, `kept_running`
/// that the machine has not restarted since the folder was last open. Whatever is wrong, also that
/// something cannot be read, is a finding.
pub(crate) fn verify_partition(
    folder: &Path,
    compacts: bool,
    kept_running: bool,
) -> PartitionState {
    let mut check = Check {
        state: PartitionState::default(),
        producers: Producers::default(),
        is_compacted: compacts,
        next: None,
        start: 0,
    };
    if let Err(e) = check.folder(folder, kept_running) {
        let what = format!("cannot read it: {e}");
        check.state.findings.push(Finding::lasting(folder, 0, what));
    }
    check.state
}

struct Check {
    state: PartitionState,
    producers: Producers,
    is_compacted: bool,
    /// The offset that must come next; unknown at first and after damage.
    next: Option<i64>,
    /// Where the log starts: what lies before it is deleted.
    start: i64,
}

impl Check {
    fn folder(&mut self, folder: &Path, kept_running: bool) -> io::Result<()> {
        let listed = list(folder)?;
        for path in listed.leftovers {
            let what = "left by an interrupted replacement".to_owned();
            self.note(Finding::mended(path, 0, what));
        }
        for path in listed.strangers {
            let what = "its name is not that of a segment".to_owned();
            self.note(Finding::lasting(path, 0, what));
        }
        let first = listed.segments.first().map_or(0, |s| s.base);
        match read_start(folder) {
            Ok(start) => self.start = start.unwrap_or(first).max(first),
            Err(e) => self.note(Finding::lasting(folder.join(START_FILE), 0, e.to_string())),
        }
        let mut segments = listed.segments;
        for (path, base) in listed.swaps {
            self.pending(path, base, &mut segments);
        }
        let mut end = first;
        for (i, segment) in segments.iter().enumerate() {
            let following = segments.get(i + 1).map(|s| s.base);
            end = self
                .segment(segment, following, kept_running)
                .unwrap_or_else(|e| {
                    let what = format!("cannot read it: {e}");
                    self.note(Finding::lasting(&segment.path, 0, what));
                    segment.base
                });
        }
        self.state.segments = segments.len() as u64;
        self.state.first_offset = self.start;
        self.state.next_offset = end.max(self.start);
        Ok(())
    }

    /// Looks at a compaction that was interrupted as if it was finished.
    fn pending(&mut self, path: PathBuf, base: i64, segments: &mut Vec<Segment>) {
        let merged_to = match read_swap(path.clone()) {
            Ok(merged_to) => merged_to,
            Err(e) => return self.note(Finding::lasting(path, 0, e.to_string())),
        };
        let what = "an interrupted compaction, which opening finishes".to_owned();
        self.note(Finding::mended(&path, 0, what));
        segments.retain(|s| s.base <= base || s.base >= merged_to);
        if let Some(segment) = segments.iter_mut().find(|s| s.base == base) {
            let copy = swap::cleaned_path(segment);
            if copy.exists() {
                segment.path = copy;
            }
            segment.checkpoint_path = path;
        }
    }

    /// Returns the offset after the last intact batch.
    fn segment(
        &mut self,
        segment: &Segment,
        following: Option<i64>,
        kept_running: bool,
    ) -> io::Result<i64> {
        let file = File::open(&segment.path)?;
        let file_bytes = file.metadata()?.len();
        let checkpoint = match segment.open_checkpoint()? {
            CheckpointFile::Intact(known) => Some(known),
            CheckpointFile::Missing => None,
            CheckpointFile::Damaged => {
                self.damaged_checkpoint(segment);
                None
            }
        };
        let vouched_bytes = checkpoint.as_ref().map_or(0, |c| c.head.bytes);
        if let Some(missing) = vouched_bytes.checked_sub(file_bytes).filter(|m| *m > 0) {
            let what = format!("{missing} bytes that had been synced are missing at the end");
            self.note(Finding::lasting(&segment.path, file_bytes, what));
        }
        let surroundings = Surroundings {
            vouched_bytes,
            following,
            kept_running,
        };
        self.is_compacted |= checkpoint
            .as_ref()
            .is_some_and(|c| c.head.clean_to > segment.base);
        let mut comparison = match &checkpoint {
            Some(known) => Comparison::new(known)?,
            None => None,
        };
        if checkpoint.is_some() && comparison.is_none() {
            self.damaged_checkpoint(segment);
        }
        let mut scan = Scan::new(&file, file_bytes, segment.offset_limit(following));
        let (mut at, mut next) = (0, segment.base);
        loop {
            let damage = scan.walk(at, next, &mut |header, at| {
                if let Some(comparison) = &mut comparison {
                    comparison.batch(segment.base, header, at);
                }
                self.batch(segment, header, at);
                next = header.next_offset();
            })?;
            let Some(damage) = damage else { break };
            let intact = scan.next_intact(&damage)?;
            let is_torn = surroundings.is_torn_end(&damage, intact.is_some());
            self.damage(segment, &damage, intact, is_torn);
            match intact {
                Some(position) => at = position,
                None => break,
            }
        }
        if vouched_bytes <= file_bytes && comparison.is_some_and(|c| !c.fits()) {
            let what = "the checkpoint does not fit the segment beside it";
            let path = segment.checkpoint_path.clone();
            self.note(Finding::lasting(path, 0, what.to_owned()));
        }
        Ok(next)
    }

    fn damaged_checkpoint(&mut self, segment: &Segment) {
        let what = "the checkpoint is not intact; opening reads the segment instead";
        self.note(Finding::mended(
            segment.checkpoint_path.clone(),
            0,
            what.to_owned(),
        ));
    }

    fn batch(&mut self, segment: &Segment, header: &Header, at: u64) {
        self.state.batches += 1;
        self.state.records += u64::from(header.count.unsigned_abs());
        self.state.bytes += header.bytes as u64;
        let expected = self.next.replace(header.next_offset());
        let missing = expected.map(|e| e.max(self.start)..header.base_offset);
        if let Some(missing) = missing.filter(|m| !self.is_compacted && !m.is_empty()) {
            let what = format!(
                "offsets {} to {} are missing",
                missing.start,
                missing.end - 1
            );
            self.note(Finding::lasting(&segment.path, at, what));
        }
        if header.producer_id < 0 || header.is_control() {
            return;
        }
        let producer = header.producer_id;
        let what = match self.producers.judge(header) {
            Verdict::Duplicate { base_offset } => Some(format!(
                "producer {producer} wrote the batch at offset {base_offset} a second time"
            )),
            Verdict::Fenced => Some(format!(
                "producer {producer} wrote with an epoch that was over"
            )),
            Verdict::OutOfOrder if !self.is_compacted => Some(format!(
                "sequence {} of producer {producer} does not follow its last one",
                header.base_sequence
            )),
            Verdict::OutOfOrder | Verdict::Append => None,
        };
        if let Some(what) = what {
            self.note(Finding::lasting(&segment.path, at, what));
        }
        self.producers.note(header, header.max_timestamp);
    }

    fn damage(&mut self, segment: &Segment, damage: &Damage, intact: Option<u64>, is_torn: bool) {
        let follows = match intact {
            Some(position) => format!("intact batches follow at byte {position}"),
            None => "no intact batch follows".to_owned(),
        };
        let what = format!(
            "{} (offset {} was to come); {follows}",
            damage.flaw, damage.next
        );
        let path = &segment.path;
        self.note(match is_torn {
            true => Finding::mended(path, damage.at, format!("torn end: {what}")),
            false => Finding::lasting(path, damage.at, what),
        });
        // What comes next, of offsets and of each producer, is anyone's guess.
        self.next = None;
        self.producers = Producers::default();
    }

    fn note(&mut self, finding: Finding) {
        self.state.findings.push(finding);
    }
}
