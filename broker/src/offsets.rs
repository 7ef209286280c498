//! Offsets that consumer groups have committed: a journal of checked lines, rewritten when most of
//! it is outdated. They are kept until the group or the topic is deleted.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::files;
use crate::verify::Finding;

const FILE: &str = "offsets.journal";
/// The journal is rewritten when it is larger than this and four times what is live.
const REWRITE_BYTES_MIN: u64 = 1 << 20;

/// A partition of a topic.
pub(crate) type Place = (String, i32);

/// What a group said it has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Change {
    Commit {
        group: String,
        topic: String,
        partition: i32,
        committed: Committed,
    },
    Forget {
        group: String,
        topic: String,
        partition: i32,
    },
    DropGroup {
        group: String,
    },
    DropTopic {
        topic: String,
    },
    /// The group has members that are missed after so long, or (0) none.
    Members {
        group: String,
        session_ms: u64,
    },
}

/// What the journal says of a group.
#[derive(Clone, Debug, Default)]
struct Known {
    committed: BTreeMap<Place, Committed>,
    session_ms: u64,
}

type ByGroup = BTreeMap<String, Known>;

#[derive(Debug)]
struct Journal {
    by_group: ByGroup,
    file: Arc<File>,
    bytes: u64,
    bytes_after_rewrite: u64,
}

/// The committed offsets of all groups.
#[derive(Debug)]
pub(crate) struct Offsets {
    path: PathBuf,
    journal: Mutex<Journal>,
}

/// What a journal says.
struct Read {
    by_group: ByGroup,
    bytes: u64,
    /// Where the first line is that is not intact.
    damaged_at: Option<u64>,
    /// Whether intact lines follow that one.
    is_followed: bool,
}

impl Read {
    /// What is wrong, if that is more than the end of a last write, or of what a power cut may take.
    fn damage(&self, kept_running: bool) -> Option<(u64, String)> {
        let at = self
            .damaged_at
            .filter(|_| self.is_followed && kept_running)?;
        let what = "a line is not intact, and intact ones follow it (without the line, the log opens without that commit)";
        Some((at, what.to_owned()))
    }
}

fn read(path: &Path) -> Result<Read, OpenError> {
    let content = files::read_if_any(path).map_err(|source| OpenError::folder(path, source))?;
    let content = content.unwrap_or_default();
    let mut read = Read {
        by_group: ByGroup::new(),
        bytes: content.len() as u64,
        damaged_at: None,
        is_followed: false,
    };
    let mut at = 0;
    for line in content.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\n").and_then(files::parse_checked) {
            Some(change) => {
                read.is_followed = read.damaged_at.is_some();
                apply(&mut read.by_group, change);
            }
            None => {
                read.damaged_at.get_or_insert(at);
            }
        }
        at += line.len() as u64;
    }
    Ok(read)
}

/// Checks the journal that [`Offsets::open`] would read.
pub(crate) fn verify(folder: &Path, kept_running: bool) -> Result<Option<Finding>, OpenError> {
    let path = folder.join(FILE);
    let read = read(&path)?;
    if let Some((at, what)) = read.damage(kept_running) {
        return Ok(Some(Finding::lasting(path, at, what)));
    }
    let torn = |at| {
        let what = "torn end: the last commit is not complete".to_owned();
        Finding::mended(path, at, what)
    };
    Ok(read.damaged_at.map(torn))
}

impl Offsets {
    /// Reads the journal. The line of a last commit may be torn; after a power cut
    /// (`kept_running` is false), any line that was not synced.
    pub(crate) fn open(folder: &Path, kept_running: bool) -> Result<Offsets, OpenError> {
        let path = folder.join(FILE);
        let failed = |source| OpenError::folder(&path, source);
        let read = read(&path)?;
        if let Some((at, what)) = read.damage(kept_running) {
            let reason = format!("at byte {at}, {what}");
            return Err(OpenError::Damaged { path, reason });
        }
        if let Some(at) = read.damaged_at {
            let file = path.display();
            tracing::warn!(%file, at, "dropped a torn end: the last commit before a crash was not complete");
        }
        let is_long = read.bytes > REWRITE_BYTES_MIN;
        // Else it is left alone: a full disk does not keep a log from being opened.
        let (file, bytes) = if is_long || read.damaged_at.is_some() || !path.exists() {
            rewrite(&path, &read.by_group).map_err(failed)?
        } else {
            (append_to(&path).map_err(failed)?, read.bytes)
        };
        let journal = Journal {
            by_group: read.by_group,
            file: Arc::new(file),
            bytes,
            bytes_after_rewrite: bytes,
        };
        Ok(Offsets {
            path,
            journal: Mutex::new(journal),
        })
    }

    /// Takes the commits of one request, all or none. `session` is the longest that the group's members have, or zero
    /// if it has none.
    pub(crate) fn commit(
        &self,
        group: &str,
        commits: Vec<(Place, Committed)>,
        session: Duration,
    ) -> io::Result<()> {
        let change = |((topic, partition), committed)| Change::Commit {
            group: group.to_owned(),
            topic,
            partition,
            committed,
        };
        let mut changes: Vec<_> = commits.into_iter().map(change).collect();
        changes.extend(self.members(group, session));
        self.write(changes)
    }

    /// Notes that a group has lost its last member. Nothing is noted of one that has committed nothing.
    pub(crate) fn note_left(&self, group: &str) -> io::Result<()> {
        match self.members(group, Duration::ZERO) {
            Some(change) => self.write(vec![change]),
            None => Ok(()),
        }
    }

    fn members(&self, group: &str, session: Duration) -> Option<Change> {
        let session_ms = session.as_millis() as u64;
        let journal = self.journal.lock();
        let known = journal.by_group.get(group).map_or(0, |g| g.session_ms);
        (known != session_ms).then(|| Change::Members {
            group: group.to_owned(),
            session_ms,
        })
    }

    /// The groups that had members when this was last noted, and how long those may be silent.
    pub(crate) fn sessions(&self) -> Vec<(String, Duration)> {
        let journal = self.journal.lock();
        let with_members = journal.by_group.iter().filter(|(_, g)| g.session_ms > 0);
        with_members
            .map(|(name, g)| (name.clone(), Duration::from_millis(g.session_ms)))
            .collect()
    }

    /// Forgets single offsets.
    pub(crate) fn forget(&self, group: &str, places: Vec<Place>) -> io::Result<()> {
        let change = |(topic, partition)| Change::Forget {
            group: group.to_owned(),
            topic,
            partition,
        };
        self.write(places.into_iter().map(change).collect())
    }

    /// Forgets a group; `false` if nothing was known of it.
    pub(crate) fn drop_group(&self, group: &str) -> io::Result<bool> {
        if !self.has_group(group) {
            return Ok(false);
        }
        self.write(vec![Change::DropGroup {
            group: group.to_owned(),
        }])?;
        Ok(true)
    }

    /// Forgets what all groups committed for a topic that is gone.
    pub(crate) fn drop_topic(&self, topic: &str) -> io::Result<()> {
        self.write(vec![Change::DropTopic {
            topic: topic.to_owned(),
        }])
    }

    /// Everything a group has committed.
    pub(crate) fn all(&self, group: &str) -> BTreeMap<Place, Committed> {
        self.journal
            .lock()
            .by_group
            .get(group)
            .map(|g| g.committed.clone())
            .unwrap_or_default()
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.journal.lock().by_group.contains_key(group)
    }

    pub(crate) fn groups(&self) -> Vec<String> {
        self.journal.lock().by_group.keys().cloned().collect()
    }

    pub(crate) fn group_count(&self) -> usize {
        self.journal.lock().by_group.len()
    }

    /// Brings the journal to the disk. Blocks.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let file = self.journal.lock().file.clone();
        file.sync_data()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, changes: Vec<Change>) -> io::Result<()> {
        let mut lines = vec![];
        for change in &changes {
            lines.extend(files::checked_line(change)?);
        }
        let mut journal = self.journal.lock();
        if let Err(e) = (&*journal.file).write_all(&lines) {
            // Half a line must not hide the ones that follow it.
            let _ = journal.file.set_len(journal.bytes);
            return Err(e);
        }
        journal.bytes += lines.len() as u64;
        for change in changes {
            apply(&mut journal.by_group, change);
        }
        if journal.bytes > REWRITE_BYTES_MIN.max(4 * journal.bytes_after_rewrite) {
            match rewrite(&self.path, &journal.by_group) {
                Ok((file, bytes)) => {
                    journal.file = Arc::new(file);
                    journal.bytes = bytes;
                }
                // The commit is written. The journal stays long, until there is room for another one.
                Err(e) => tracing::warn!(file = %self.path.display(), "cannot shorten it: {e}"),
            }
            journal.bytes_after_rewrite = journal.bytes;
        }
        Ok(())
    }
}

fn apply(by_group: &mut ByGroup, change: Change) {
    match change {
        Change::Commit {
            group,
            topic,
            partition,
            committed,
        } => {
            by_group
                .entry(group)
                .or_default()
                .committed
                .insert((topic, partition), committed);
        }
        Change::Forget {
            group,
            topic,
            partition,
        } => {
            if let Some(known) = by_group.get_mut(&group) {
                known.committed.remove(&(topic, partition));
            }
        }
        Change::DropGroup { group } => {
            by_group.remove(&group);
        }
        Change::DropTopic { topic } => {
            for known in by_group.values_mut() {
                known.committed.retain(|place, _| place.0 != topic);
            }
        }
        Change::Members { group, session_ms } => {
            if let Some(known) = by_group.get_mut(&group) {
                known.session_ms = session_ms;
            }
        }
    }
    by_group.retain(|_, known| !known.committed.is_empty());
}

/// Replaces the journal with one line per live offset, and one per group with members, and opens it for more.
fn rewrite(path: &Path, by_group: &ByGroup) -> io::Result<(File, u64)> {
    let mut lines = vec![];
    for (group, known) in by_group {
        for ((topic, partition), committed) in &known.committed {
            lines.extend(files::checked_line(&Change::Commit {
                group: group.clone(),
                topic: topic.clone(),
                partition: *partition,
                committed: committed.clone(),
            })?);
        }
        if known.session_ms > 0 {
            lines.extend(files::checked_line(&Change::Members {
                group: group.clone(),
                session_ms: known.session_ms,
            })?);
        }
    }
    files::replace(path, &lines)?;
    Ok((append_to(path)?, lines.len() as u64))
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests;
