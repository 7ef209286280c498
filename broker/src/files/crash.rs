//! What a crash at any moment leaves of a folder, for tests: the steps of an action are recorded, and before and after
//! each of them there are three images of the folder.
//!
//! - The process was killed: everything that was done is there.
//! - The power failed, and the folder's entries had reached the disk, but not what was not synced of the files.
//! - The power failed, and nothing had reached the disk that was not synced, entries included.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

type Entries = BTreeMap<PathBuf, Entry>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Vec<u8>),
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

struct Recorder {
    root: PathBuf,
    images: Vec<TempDir>,
    /// Files that were created and not synced since.
    unsynced: BTreeSet<PathBuf>,
    /// Entries that were changed and whose folder was not synced since, with what they were.
    changed: BTreeMap<PathBuf, Option<Entry>>,
}

/// The images of `root` around every step of `action`, which runs on this thread.
pub(crate) fn images(root: &Path, action: impl FnOnce()) -> Vec<TempDir> {
    let recorder = Recorder {
        root: root.to_owned(),
        images: vec![],
        unsynced: BTreeSet::new(),
        changed: BTreeMap::new(),
    };
    RECORDER.set(Some(recorder));
    action();
    step(Recorder::take);
    let recorder = RECORDER.take().expect("it was set");
    assert_eq!(
        recorder.unsynced,
        BTreeSet::new(),
        "all is synced in the end"
    );
    assert_eq!(
        recorder.changed,
        BTreeMap::new(),
        "all is synced in the end"
    );
    recorder.images
}

pub(super) fn created(path: &Path) {
    step(|r| {
        r.changed.entry(path.to_owned()).or_insert(None);
        r.unsynced.insert(path.to_owned());
        r.take();
    });
}

/// There is a new folder, or a file whose content is another matter.
pub(super) fn named(path: &Path) {
    step(|r| {
        r.changed.entry(path.to_owned()).or_insert(None);
        r.take();
    });
}

pub(super) fn syncing(path: &Path) {
    step(|r| {
        r.take();
        r.unsynced.remove(path);
    });
}

pub(super) fn renaming(from: &Path, to: &Path) {
    step(|r| {
        r.take();
        if r.unsynced.remove(from) {
            r.unsynced.insert(to.to_owned());
        }
        for path in [from, to] {
            let before = fs::read(path).ok().map(Entry::File);
            r.changed.entry(path.to_owned()).or_insert(before);
        }
    });
}

pub(super) fn removing(path: &Path) {
    step(|r| {
        r.take();
        if let Ok(content) = fs::read(path) {
            let before = Some(Entry::File(content));
            r.changed.entry(path.to_owned()).or_insert(before);
            r.unsynced.remove(path);
        }
    });
}

pub(super) fn syncing_folder(folder: &Path) {
    step(|r| {
        r.take();
        r.changed.retain(|path, _| path.parent() != Some(folder));
    });
}

fn step(step: impl FnOnce(&mut Recorder)) {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            step(recorder);
        }
    });
}

impl Recorder {
    fn take(&mut self) {
        let killed = read(&self.root);
        let mut without_content = killed.clone();
        for path in &self.unsynced {
            without_content.insert(path.clone(), Entry::File(vec![]));
        }
        let mut without_entries = without_content.clone();
        for (path, before) in &self.changed {
            without_entries.retain(|p, _| !p.starts_with(path));
            if let Some(before) = before {
                without_entries.insert(path.clone(), before.clone());
            }
        }
        for entries in [killed, without_content, without_entries] {
            self.images.push(write(&self.root, &entries));
        }
    }
}

fn read(folder: &Path) -> Entries {
    let mut entries = Entries::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            entries.extend(read(&path));
            entries.insert(path, Entry::Folder);
        } else {
            let content = fs::read(&path).unwrap();
            entries.insert(path, Entry::File(content));
        }
    }
    entries
}

fn write(root: &Path, entries: &Entries) -> TempDir {
    let image = tempfile::tempdir().unwrap();
    for (path, entry) in entries {
        let path = image.path().join(path.strip_prefix(root).unwrap());
        match entry {
            Entry::Folder => fs::create_dir_all(path).unwrap(),
            Entry::File(content) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        }
    }
    image
}
