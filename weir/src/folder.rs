//! The data folder: made when missing, held by one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, bail};

/// Holds a data folder for as long as it lives. The operating system lets go of it when the process dies, however
/// that happens.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

/// Makes `folder` if need be and holds it; says who does when another process has it.
pub fn hold(folder: &Path) -> anyhow::Result<Held> {
    let shown = folder.display();
    std::fs::create_dir_all(folder).with_context(|| {
        format!("cannot make the data folder {shown}; name one that can be written with --data")
    })?;
    let path = folder.join("lock");
    let mut lock = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| {
            format!("cannot write in the data folder {shown}; name another with --data")
        })?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Without the holder's number the message still says enough.
            let _ = lock.read_to_string(&mut holder);
            bail!(
                "the data folder {shown} is held by process {}; stop that one, or use another \
                 folder with --data",
                holder.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Held { _lock: lock })
}

/// Writes `content` to `folder/name` so that a reader, and a crash, sees either the old file or the whole new one.
pub fn write_atomically(
    folder: &Path,
    name: &str,
    content: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let path = folder.join(name);
    let draft = folder.join(format!("{name}.tmp"));
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(mode)
            .open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/b");
        let held = hold(&data).unwrap();
        let error = hold(&data).unwrap_err().to_string();
        assert!(
            error.contains(&format!("held by process {}", std::process::id())),
            "{error}"
        );
        drop(held);
        hold(&data).unwrap();
    }

    #[test]
    fn says_when_the_folder_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = format!("{:#}", hold(&file.join("data")).unwrap_err());
        assert!(error.contains("cannot make the data folder"), "{error}");
        let error = format!("{:#}", hold(&file).unwrap_err());
        assert!(error.contains("cannot make the data folder"), "{error}");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        write_atomically(folder.path(), "f", b"one", 0o600).unwrap();
        write_atomically(folder.path(), "f", b"2", 0o600).unwrap();
        let path = folder.path().join("f");
        assert_eq!(std::fs::read(&path).unwrap(), b"2");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
