//! Compaction against a naive model: whatever is dropped, what stands for each key does not change.

use std::collections::BTreeMap;

use kafka_protocol::records::Compression;
use proptest::prelude::*;

use super::*;
use crate::log::testing::{BASE_TIMESTAMP, batch_with, contents, open, put, settings};

const NOW: i64 = BASE_TIMESTAMP + 1_000_000;
const KEEP_TOMBSTONES_MS: i64 = 1_000;

fn compacted() -> LogSettings {
    LogSettings {
        compact: true,
        delete: false,
        segment_bytes: 400,
        delete_retention_ms: KEEP_TOMBSTONES_MS,
        ..settings()
    }
}

/// Closes the active segment and runs passes until there is nothing to do.
fn pass(log: &Mutex<PartitionLog>, now_ms: i64, keys_max: usize) {
    log.lock().roll(now_ms).unwrap();
    for _ in 0..100 {
        let newest = Newest::new((1, 2), keys_max);
        if compact_with(log, now_ms, newest, &|| false).unwrap() == Compacted::default() {
            return;
        }
    }
    panic!("compaction finds no end");
}

/// Plays `key=value` and `key` (a tombstone), a pass, and says what is left.
#[track_caller]
fn check(script: &str, after_ms: i64, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), compacted());
    for step in script.split_whitespace() {
        match step.split_once('=') {
            Some((key, value)) => put(&log, key, Some(value), NOW),
            None => put(&log, step, None, NOW),
        };
    }
    pass(&log, NOW, KEYS_MAX);
    pass(&log, NOW + after_ms, KEYS_MAX);
    assert_eq!(contents(&log).join(" "), expected, "{script}");
    let end = log.lock().next;
    assert_eq!(
        end as usize,
        script.split_whitespace().count(),
        "the end never moves"
    );
    drop(log);
    let log = open(folder.path(), compacted());
    assert_eq!(contents(&log).join(" "), expected, "{script}, opened again");
    assert_eq!(log.lock().next, end);
}

#[test]
fn the_last_of_each_key_is_kept() {
    check("a=1 b=1 a=2", 0, "1:b=1 2:a=2");
    check("a=1 a=2 a=3 a=4 a=5 a=6 a=7 a=8 a=9", 0, "8:a=9");
    check("a=1 b=2 c=3", 0, "0:a=1 1:b=2 2:c=3");
    check("a=1 a", 0, "1:a");
    check("a=1 a a=2", 0, "2:a=2");
    check("", 0, "");
}

#[test]
fn nothing_is_outdated_before_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let lag = 5_000;
    let log = open(
        folder.path(),
        LogSettings {
            compaction_lag_min_ms: lag,
            stamp_on_append: true,
            ..compacted()
        },
    );
    for at in [0, 1_000, 2_000] {
        put(&log, "a", Some("v"), NOW + at);
        log.lock().roll(NOW + at).unwrap();
    }
    let cases = [(lag - 1, 3), (lag, 3), (lag + 1_000, 2), (lag + 2_000, 1)];
    for (after, left) in cases {
        pass(&log, NOW + after, KEYS_MAX);
        assert_eq!(contents(&log).len(), left, "{after} ms later");
    }
}

#[test]
fn a_tombstone_outlives_the_pass_that_met_it() {
    check("a=1 b=1 a", KEEP_TOMBSTONES_MS - 1, "1:b=1 2:a");
    check("a=1 b=1 a", KEEP_TOMBSTONES_MS, "1:b=1");
    check("a", KEEP_TOMBSTONES_MS, "");
    check("a=1 a b=1 b", KEEP_TOMBSTONES_MS, "");
}

#[test]
fn a_batch_keeps_its_compression_and_its_other_records() {
    use Compression::{Gzip, Lz4, None as Plain, Snappy, Zstd};
    for compression in [Plain, Gzip, Snappy, Lz4, Zstd] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), compacted());
        let records: Vec<_> = (0..10)
            .map(|i| (format!("k{}", i % 4), Some(format!("v{i}"))))
            .chain([("gone".to_owned(), None)])
            .collect();
        let batch = batch_with(&records, -1, compression).into();
        log.lock().append(&batch, NOW).unwrap();
        pass(&log, NOW, KEYS_MAX);
        assert_eq!(
            contents(&log),
            ["6:k2=v6", "7:k3=v7", "8:k0=v8", "9:k1=v9", "10:gone"]
        );
        let kept = super::super::read::read(&log, 0, 11, 1).unwrap();
        let (old, new) = (
            Header::parse(&batch).unwrap(),
            Header::checked(&kept).unwrap(),
        );
        assert_eq!(new.codec(), old.codec());
        assert_eq!((new.count, new.last_offset()), (5, 10));
        assert_eq!(new.delete_horizon(), Some(NOW + KEEP_TOMBSTONES_MS));
        let stamps: Vec<_> = Records::of(&new, &kept)
            .unwrap()
            .map(|r| r.unwrap().timestamp)
            .collect();
        assert_eq!(stamps, [6, 7, 8, 9, 10].map(|i| BASE_TIMESTAMP + i));
        pass(&log, NOW + KEEP_TOMBSTONES_MS, KEYS_MAX);
        assert_eq!(contents(&log), ["6:k2=v6", "7:k3=v7", "8:k0=v8", "9:k1=v9"]);
    }
}

#[test]
fn small_segments_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), compacted());
    for i in 0..200 {
        put(&log, &format!("k{}", i % 3), Some("v"), NOW);
    }
    assert!(log.lock().segments.len() > 30);
    pass(&log, NOW, KEYS_MAX);
    // The copy, and the one that is written to.
    assert_eq!(log.lock().segments.len(), 2);
    assert_eq!(contents(&log), ["197:k2=v", "198:k0=v", "199:k1=v"]);
}

#[test]
fn a_stopped_pass_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), compacted());
    for i in 0..20 {
        put(&log, "k", Some(&i.to_string()), NOW);
    }
    let before = contents(&log);
    let stopped = compact(&log, NOW, (1, 2), &|| true).unwrap();
    assert_eq!(stopped, Compacted::default());
    assert_eq!(contents(&log), before);
}

#[test]
fn segments_that_went_meanwhile_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), compacted());
    for i in 0..20 {
        put(&log, "k", Some(&i.to_string()), NOW);
    }
    let closed = log.lock().segments[..2].to_vec();
    let newest = Newest::new((1, 2), 9);
    let pass = Pass {
        newest: &newest,
        settings: &compacted(),
        now_ms: NOW,
    };
    let (copy, count) = pass.copy(&closed, &|| false).unwrap().unwrap();
    assert_eq!(count, 1);
    let closed = &closed[..count];
    log.lock().delete_before(copy.next).unwrap();
    let rest = contents(&log);
    assert!(!put_in_place(&mut log.lock(), closed, copy).unwrap());
    assert_eq!(contents(&log), rest);
}

/// What a reader from the start ends with.
fn standing(contents: &[String]) -> BTreeMap<String, String> {
    let mut standing = BTreeMap::new();
    for record in contents {
        let (_, record) = record.split_once(':').unwrap();
        match record.split_once('=') {
            Some((key, value)) => standing.insert(key.to_owned(), value.to_owned()),
            None => standing.remove(record),
        };
    }
    standing
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Writes, passes (also with a map too small for all keys) and openings in any order.
    #[test]
    fn what_stands_never_changes(
        steps in proptest::collection::vec((0u8..24, 0u8..6, any::<bool>()), 1..120),
        keys_max in 1usize..8,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path(), compacted());
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        let (mut now, mut end) = (NOW, 0);
        for (step, key, is_tombstone) in steps {
            now += 100;
            match step {
                0..=19 => {
                    let (key, value) = (format!("k{key}"), format!("v{end}"));
                    if is_tombstone && step < 8 {
                        prop_assert_eq!(put(&log, &key, None, now), end);
                        model.remove(&key);
                    } else {
                        prop_assert_eq!(put(&log, &key, Some(&value), now), end);
                        model.insert(key, value);
                    }
                    end += 1;
                }
                20 | 21 => pass(&log, now, if is_tombstone { keys_max } else { KEYS_MAX }),
                22 => now += KEEP_TOMBSTONES_MS,
                _ => {
                    drop(log);
                    log = open(folder.path(), compacted());
                }
            }
            prop_assert_eq!(standing(&contents(&log)), model.clone());
            prop_assert_eq!(log.lock().next, end);
        }
        pass(&log, now, KEYS_MAX);
        pass(&log, now + KEEP_TOMBSTONES_MS, KEYS_MAX);
        prop_assert_eq!(contents(&log).len(), model.len(), "nothing but what stands is left");
    }
}
