//! Small files that must survive a power cut: replaced whole, or lines that carry their checksum.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` so that a crash leaves the old content or the new one, never a mixture. An error
/// leaves the old content, and nothing beside it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let written = write_synced(&next, content).and_then(|()| rename(&next, path));
    if let Err(e) = written {
        // What could not be written whole takes up room, which may be just what is missing.
        let _ = remove_if_any(&next);
        return Err(e);
    }
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(content)?;
    sync(&file, path)
}

/// A folder with those above it, if it is not there.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        create_folder(above)?;
    }
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    #[cfg(test)]
    crash::named(path);
    Ok(())
}

/// A file of this name, empty if there was none.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    File::options().create(true).append(true).open(path)?;
    #[cfg(test)]
    crash::named(path);
    Ok(())
}

/// A new and empty file, also where there was one.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    #[cfg(test)]
    crash::created(path);
    Ok(file)
}

/// Brings the whole content of the file at `path` to the disk.
pub(crate) fn sync(
    file: &File,
    #[cfg_attr(
        not(test),
        expect(unused_variables, reason = "for the recorder of tests")
    )]
    path: &Path,
) -> io::Result<()> {
    #[cfg(test)]
    crash::syncing(path);
    file.sync_all()
}

/// Gives a file another name, and the folder keeps one of the two.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    crash::renaming(from, to);
    fs::rename(from, to)
}

/// Makes names created, renamed or removed in `folder` survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(test)]
    crash::syncing_folder(folder);
    File::open(folder)?.sync_all()
}

/// The content of a file, or nothing if there is no such file.
pub(crate) fn read_if_any(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove_if_any(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    crash::removing(path);
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// One line: eight hex digits of CRC-32C, a space, JSON without line breaks.
pub(crate) fn checked_line<T: serde::Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// Reads back one line of [`checked_line`] (without its line break); `None` if it is not intact.
pub(crate) fn parse_checked<T: serde::de::DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (crc, json) = line.split_at_checked(9)?;
    let crc = std::str::from_utf8(crc).ok()?.strip_suffix(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    (crc32c::crc32c(json) == crc).then(|| serde_json::from_slice(json).ok())?
}

#[cfg(test)]
pub(crate) mod crash;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_only_intact() {
        let line = checked_line(&(7, "seven")).unwrap();
        let line = line.strip_suffix(b"\n").unwrap();
        assert_eq!(parse_checked(line), Some((7, "seven".to_owned())));
        for cut in 0..line.len() {
            assert_eq!(
                parse_checked::<(i32, String)>(&line[..cut]),
                None,
                "cut at {cut}"
            );
        }
        for at in 0..line.len() {
            let mut bad = line.to_vec();
            bad[at] ^= 0x11;
            assert_eq!(
                parse_checked::<(i32, String)>(&bad),
                None,
                "flipped at {at}"
            );
        }
    }

    #[test]
    fn a_replaced_file_holds_the_new_content_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.json");
        assert_eq!(read_if_any(&path).unwrap(), None);
        replace(&path, b"first, and longer").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(read_if_any(&path).unwrap().as_deref(), Some(&b"second"[..]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_crash_leaves_the_old_content_or_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.json");
        replace(&path, b"old").unwrap();
        let images = crash::images(folder.path(), || replace(&path, b"new").unwrap());
        assert!(images.len() > 10);
        let mut seen = std::collections::BTreeSet::new();
        for image in images {
            let content = fs::read(image.path().join("meta.json")).unwrap();
            assert!(content == b"old" || content == b"new", "{content:?}");
            seen.insert(content);
        }
        assert_eq!(seen.len(), 2);
    }
}
