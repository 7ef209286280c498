//! One process per data folder, and whether the machine has restarted since the last one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// Holds the folder until dropped. The system's own file lock decides, so the file that a dead
/// process left behind blocks nobody; the pid in its first line is for people. The second line
/// names the run of the machine in which the folder was last open.
#[derive(Debug)]
pub(crate) struct FolderLock {
    path: PathBuf,
    file: Option<File>,
    last_boot: Option<String>,
}

impl FolderLock {
    /// Takes the folder for this process alone.
    pub(crate) fn take(folder: &Path) -> Result<FolderLock, OpenError> {
        let path = folder.join("lock");
        let failed = |source| OpenError::folder(&path, source);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let locked = file.try_lock();
        let last_boot = boot_after(locked, &mut file, &path)?;
        let lock = FolderLock {
            path: path.clone(),
            file: Some(file),
            last_boot,
        };
        lock.write(lock.last_boot.as_deref()).map_err(failed)?;
        Ok(lock)
    }

    /// Keeps brokers away from the folder while it is read, without changing it. A folder that no
    /// broker ever opened has no lock, and needs none.
    pub(crate) fn share(folder: &Path) -> Result<FolderLock, OpenError> {
        let path = folder.join("lock");
        let mut file = match File::open(&path) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(OpenError::folder(&path, source)),
        };
        let last_boot = match &mut file {
            Some(file) => {
                let locked = file.try_lock_shared();
                boot_after(locked, file, &path)?
            }
            None => None,
        };
        Ok(FolderLock {
            path,
            file,
            last_boot,
        })
    }

    /// Whether the page cache still holds all that the last holder wrote: the machine has not
    /// restarted since. `false` if that is not known.
    pub(crate) fn machine_kept_running(&self) -> bool {
        self.last_boot.is_some() && self.last_boot == boot()
    }

    /// The folder is recovered: from now on it belongs to this run of the machine.
    pub(crate) fn settle(&self) -> Result<(), OpenError> {
        self.write(boot().as_deref())
            .map_err(|source| OpenError::folder(&self.path, source))
    }

    /// Writes over what is there, which needs no room on a full disk.
    fn write(&self, boot: Option<&str>) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let text = format!("{}\n{}\n", std::process::id(), boot.unwrap_or_default());
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }
}

/// The second line of a file that is now locked; else who holds it.
fn boot_after(
    locked: Result<(), TryLockError>,
    file: &mut File,
    path: &Path,
) -> Result<Option<String>, OpenError> {
    let mut text = String::new();
    let is_read = file.read_to_string(&mut text).is_ok();
    let mut lines = text.lines().filter(|_| is_read);
    let pid = lines.next().and_then(|l| l.trim().parse().ok());
    match locked {
        Ok(()) => Ok(lines.next().map(str::to_owned).filter(|l| !l.is_empty())),
        Err(TryLockError::WouldBlock) => Err(OpenError::Held {
            path: path.parent().unwrap_or(path).to_owned(),
            pid,
        }),
        Err(TryLockError::Error(source)) => Err(OpenError::folder(path, source)),
    }
}

/// Names this run of the machine, where the system has a name for it.
fn boot() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_and_a_left_over_file_blocks_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("lock"),
            "4294967295 left by a dead process",
        )
        .unwrap();
        let held = FolderLock::take(folder.path()).unwrap();
        for again in [
            FolderLock::take(folder.path()),
            FolderLock::share(folder.path()),
        ] {
            match again {
                Err(OpenError::Held { pid, path }) => {
                    assert_eq!((pid, &*path), (Some(std::process::id()), folder.path()));
                }
                other => panic!("{other:?}"),
            }
        }
        drop(held);
        let shared = FolderLock::share(folder.path()).unwrap();
        FolderLock::share(folder.path()).unwrap();
        assert!(matches!(
            FolderLock::take(folder.path()),
            Err(OpenError::Held { .. })
        ));
        drop(shared);
        FolderLock::take(folder.path()).unwrap();
    }

    /// Expects what the next holder learns from a lock file with this content.
    #[track_caller]
    fn check(content: &str, kept_running: bool) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lock"), content).unwrap();
        let shared = FolderLock::share(folder.path()).unwrap();
        assert_eq!(shared.machine_kept_running(), kept_running, "{content:?}");
        drop(shared);
        let lock = FolderLock::take(folder.path()).unwrap();
        assert_eq!(lock.machine_kept_running(), kept_running, "{content:?}");
        drop(lock);
        // Taken and not settled: a recovery that was cut short changes nothing.
        let lock = FolderLock::take(folder.path()).unwrap();
        assert_eq!(lock.machine_kept_running(), kept_running, "{content:?}");
        lock.settle().unwrap();
        drop(lock);
        let lock = FolderLock::take(folder.path()).unwrap();
        assert_eq!(lock.machine_kept_running(), boot().is_some());
    }

    #[test]
    fn a_restart_of_the_machine_is_noticed() {
        let boot = boot().unwrap_or_default();
        check("", false);
        check("123\n", false);
        check("123\n\n", false);
        check("123\n00000000-another-boot\n", false);
        check(&format!("123\n{boot}\n"), !boot.is_empty());
        check(&format!("123\n{boot}{boot}\n"), false);
    }
}
