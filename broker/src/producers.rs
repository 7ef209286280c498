//! Producer ids: never given twice, also not after a crash.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::OpenError;
use crate::files;
use crate::verify::Finding;

const FILE: &str = "producer-ids";
/// Ids are set aside on the disk in blocks; a restart leaves the rest of a block unused.
const BLOCK: i64 = 1000;
/// Nobody gets there by counting.
const FIRST_MAX: i64 = i64::MAX / 2;

#[derive(Debug)]
struct Block {
    next: i64,
    end: i64,
}

/// Hands out producer ids.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    path: PathBuf,
    block: Mutex<Block>,
}

/// The first id that was not set aside before.
fn read(path: &Path) -> Result<i64, OpenError> {
    let Some(text) = files::read_if_any(path).map_err(|e| OpenError::folder(path, e))? else {
        return Ok(1);
    };
    let damaged = |reason| OpenError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let number = std::str::from_utf8(&text)
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .ok_or_else(|| damaged("it does not hold a number".to_owned()))?;
    match number {
        1..=FIRST_MAX => Ok(number),
        _ => Err(damaged(format!("{number} is no id that was reached"))),
    }
}

/// Checks the file that [`ProducerIds::open`] would read.
pub(crate) fn verify(folder: &Path) -> Result<Option<Finding>, OpenError> {
    match read(&folder.join(FILE)) {
        Ok(_) => Ok(None),
        Err(OpenError::Damaged { path, reason }) => Ok(Some(Finding::lasting(path, 0, reason))),
        Err(other) => Err(other),
    }
}

impl ProducerIds {
    pub(crate) fn open(folder: &Path) -> Result<ProducerIds, OpenError> {
        let path = folder.join(FILE);
        let next = read(&path)?;
        Ok(ProducerIds {
            path,
            block: Mutex::new(Block { next, end: next }),
        })
    }

    /// A new id. Blocks for a write to the disk once per block.
    pub(crate) fn take(&self) -> io::Result<i64> {
        let mut block = self.block.lock();
        if block.next == block.end {
            let end = block.end + BLOCK;
            files::replace(&self.path, end.to_string().as_bytes())?;
            block.end = end;
        }
        let id = block.next;
        block.next += 1;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut last = 0;
        for _ in 0..3 {
            let ids = ProducerIds::open(folder.path()).unwrap();
            for _ in 0..BLOCK + 1 {
                let id = ids.take().unwrap();
                assert!(id > last);
                last = id;
            }
        }
    }

    #[test]
    fn a_number_that_cannot_have_been_reached_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "-1", "0", "9223372036854775807", "one"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let opened = ProducerIds::open(folder.path());
            assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{text}");
        }
    }
}
