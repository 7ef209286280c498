//! Open segment files: at most so many in the whole broker, however many partitions there are.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// As many readers of one file find their place again without looking it up.
const PLACES: usize = 4;

/// Names the content of a segment file. A file that replaces another has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId(u64);

impl FileId {
    /// One that no other file of this process has.
    pub(crate) fn new() -> FileId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        FileId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// An open segment file, and where its readers stopped.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) file: File,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// Offset and position of the batch after one that was read.
    recent: [Option<(i64, u64)>; PLACES],
    oldest: usize,
}

impl Handle {
    fn new(file: File) -> Handle {
        Handle {
            file,
            places: Mutex::default(),
        }
    }

    /// A reader stopped before `offset`, which is at `position` if it is there.
    pub(crate) fn stopped(&self, offset: i64, position: u64) {
        let mut places = self.places.lock();
        let oldest = places.oldest;
        places.recent[oldest] = Some((offset, position));
        places.oldest = (oldest + 1) % PLACES;
    }

    /// The position of `offset`, if a reader stopped before it not long ago.
    pub(crate) fn position(&self, offset: i64) -> Option<u64> {
        let places = self.places.lock();
        let mut known = places.recent.iter().flatten();
        known.find(|(o, _)| *o == offset).map(|(_, p)| *p)
    }
}

/// The open files of a broker. Beyond the bound, the one not used for longest is closed.
#[derive(Debug)]
pub(crate) struct Handles {
    max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    uses: u64,
    by_id: HashMap<FileId, (u64, Arc<Handle>)>,
}

impl Handles {
    pub(crate) fn new(max: usize) -> Handles {
        Handles {
            max: max.max(1),
            open: Mutex::default(),
        }
    }

    /// The file, opened by `open` if it is not open.
    pub(crate) fn get(
        &self,
        id: FileId,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<Arc<Handle>> {
        if let Some(handle) = self.open.lock().find(id) {
            return Ok(handle);
        }
        let handle = Arc::new(Handle::new(open()?));
        let mut all = self.open.lock();
        while all.by_id.len() >= self.max {
            all.close_one();
        }
        let use_number = all.next_use();
        all.by_id.insert(id, (use_number, handle.clone()));
        Ok(handle)
    }

    /// The file is gone, or will not be used soon.
    pub(crate) fn forget(&self, id: FileId) {
        self.open.lock().by_id.remove(&id);
    }
}

impl Open {
    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn find(&mut self, id: FileId) -> Option<Arc<Handle>> {
        let now = self.next_use();
        let (last_use, handle) = self.by_id.get_mut(&id)?;
        *last_use = now;
        Some(handle.clone())
    }

    fn close_one(&mut self) {
        let least = self.by_id.iter().min_by_key(|(_, (last_use, _))| *last_use);
        if let Some(id) = least.map(|(id, _)| *id) {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses files 0 to 9 in this order with room for three; a file that had to be opened is marked with `+`.
    #[track_caller]
    fn check(uses: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<FileId> = (0..10).map(|_| FileId::new()).collect();
        let handles = Handles::new(3);
        let mut seen = vec![];
        for name in uses.split_whitespace() {
            let mut is_opened = false;
            let id = ids[name.trim_start_matches('-').parse::<usize>().unwrap()];
            if name.starts_with('-') {
                handles.forget(id);
                continue;
            }
            let open = || {
                is_opened = true;
                File::create(folder.path().join(name))
            };
            handles.get(id, open).unwrap();
            assert!(handles.open.lock().by_id.len() <= 3);
            seen.push(format!("{}{name}", if is_opened { "+" } else { "" }));
        }
        assert_eq!(seen.join(" "), expected);
    }

    #[test]
    fn the_file_not_used_for_longest_is_closed() {
        check("0 0 1 0", "+0 0 +1 0");
        check("0 1 2 3 0", "+0 +1 +2 +3 +0");
        check("0 1 2 0 3 0 1", "+0 +1 +2 0 +3 0 +1");
        check("0 -0 0", "+0 +0");
    }

    #[test]
    fn a_file_that_cannot_be_opened_leaves_no_trace() {
        let handles = Handles::new(3);
        let missing = || File::open("/nowhere/at/all");
        assert!(handles.get(FileId::new(), missing).is_err());
        assert!(handles.open.lock().by_id.is_empty());
    }

    #[test]
    fn the_places_of_a_few_readers_are_known() {
        let handle = Handle::new(tempfile::tempfile().unwrap());
        for i in 0..=PLACES as i64 {
            handle.stopped(i, 10 * i as u64);
        }
        assert_eq!(handle.position(0), None, "too many after it");
        assert_eq!(handle.position(1), Some(10));
        assert_eq!(handle.position(PLACES as i64), Some(10 * PLACES as u64));
    }
}
