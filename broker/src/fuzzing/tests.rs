//! The corpus of every fuzz target, without a fuzzer.

use std::fs;
use std::path::PathBuf;

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// Runs every file of a target's corpus; there are at least `files_min`.
fn check(target: &str, files_min: usize, entry: fn(&[u8])) {
    let folder = corpus(target);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(
        paths.len() >= files_min,
        "{} files in {}",
        paths.len(),
        folder.display()
    );
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        let ended = std::panic::catch_unwind(|| entry(&bytes));
        assert!(ended.is_ok(), "{} breaks it", path.display());
    }
}

#[test]
fn requests_of_the_corpus() {
    check("request", 20, super::request);
}

#[test]
fn segments_of_the_corpus() {
    check("segment", 20, super::segment);
}

#[test]
fn other_files_of_the_corpus() {
    check("journal", 10, super::journal);
}
