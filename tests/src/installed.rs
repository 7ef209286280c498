//! Programs that are installed on this machine.

use std::env;
use std::path::{Path, PathBuf};

/// Debian's interpreter: the one that Debian's Python packages are installed for, whatever else is in the path.
pub const PYTHON: &str = "/usr/bin/python3";

const HOW: &str = "run `scripts/install-needs test`, which installs it or says how";

/// Where `name` is, in the path or in one of the folders `also`.
///
/// # Panics
/// When it is nowhere, with what to do.
#[must_use]
pub fn program(name: &str, also: &[PathBuf]) -> PathBuf {
    find(name, also).unwrap_or_else(|| panic!("{name} is not installed: {HOW}"))
}

fn find(name: &str, also: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path)
        .chain(also.iter().cloned())
        .collect();
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The folder of this project.
#[must_use]
pub fn project() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("this crate lies in the workspace's folder")
        .to_path_buf()
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
