//! A log on a real folder: appending, reading, opening again after all kinds of ends.

use std::fs;
use std::path::Path;

use kafka_protocol::records::Compression;
use proptest::prelude::*;

use super::read::{Stamp, first_since, newest, read};
use super::testing::{
    BASE_TIMESTAMP, batch_of, bounds, contents, many, open, put, sequenced, settings,
    small_segments,
};
use super::*;

const NOW: i64 = BASE_TIMESTAMP + 1_000_000;

fn segment_count(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    names
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .count()
}

#[test]
fn what_was_appended_is_read_from_any_offset_across_segments() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), small_segments());
    let all = many(&log, 0..50);
    assert!(segment_count(folder.path()) > 5);
    assert_eq!(contents(&log), all);
    for from in 0..50 {
        let bytes = read(&log, from, 50, 1).unwrap();
        assert_eq!(Header::checked(&bytes).unwrap().base_offset, from);
    }
    assert!(read(&log, 50, 50, 1).unwrap().is_empty());
    assert!(
        read(&log, 10, 10, 1).unwrap().is_empty(),
        "nothing at or behind the limit"
    );
}

#[test]
fn a_read_holds_as_many_whole_batches_as_fit_and_at_least_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), settings());
    many(&log, 0..10);
    let one = read(&log, 0, 10, 1).unwrap().len();
    for (bytes_max, batches) in [
        (0, 1),
        (one, 1),
        (2 * one - 1, 1),
        (2 * one, 2),
        (1 << 20, 10),
    ] {
        assert_eq!(
            read(&log, 0, 10, bytes_max).unwrap().len(),
            batches * one,
            "{bytes_max}"
        );
    }
    assert_eq!(
        read(&log, 0, 3, 1 << 20).unwrap().len(),
        3 * one,
        "before the limit only"
    );
}

#[test]
fn a_batch_larger_than_the_read_ahead_comes_whole() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), settings());
    put(&log, "small", Some("v"), NOW);
    put(&log, "large", Some(&"x".repeat(200_000)), NOW);
    put(&log, "small", Some("v"), NOW);
    assert!(read(&log, 1, 3, 1).unwrap().len() > 200_000);
    assert_eq!(contents(&log).len(), 3);
}

#[test]
fn opening_again_finds_everything_with_and_without_a_clean_end() {
    for close in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec![];
        for round in 0..4 {
            let log = open(folder.path(), small_segments());
            assert_eq!(contents(&log), all);
            all.extend(many(&log, round * 10..round * 10 + 10));
            if close {
                log.lock().close().unwrap();
            }
        }
        assert_eq!(
            contents(&open(folder.path(), small_segments())),
            all,
            "closed: {close}"
        );
    }
}

#[test]
fn a_retry_is_recognised_after_opening_again() {
    for close in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let records = [("k".to_owned(), Some("v".to_owned()))];
        let batch = |sequence| Bytes::from(sequenced(&records, 7, sequence, Compression::None));
        let log = open(folder.path(), small_segments());
        for sequence in 0..10 {
            log.lock().append(&batch(sequence), NOW).unwrap();
        }
        if close {
            log.lock().close().unwrap();
        }
        drop(log);
        let log = open(folder.path(), small_segments());
        let mut log = log.lock();
        assert_eq!(
            log.append(&batch(9), NOW).unwrap().base_offset,
            9,
            "closed: {close}"
        );
        assert_eq!(log.append(&batch(5), NOW).unwrap().base_offset, 5);
        assert!(matches!(
            log.append(&batch(11), NOW),
            Err(AppendError::OutOfOrder)
        ));
        assert_eq!(log.append(&batch(10), NOW).unwrap().base_offset, 10);
    }
}

#[test]
fn what_is_no_new_batch_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(
        folder.path(),
        LogSettings {
            batch_bytes_max: 500,
            ..settings()
        },
    );
    let good = batch_of(&[("k", Some("v"))], 7);
    let changed = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bad
    };
    let twice = [good.clone(), good.clone()].concat();
    let header = Header::parse(&good).unwrap();
    let fewer = batch::rebuild(&header, 2, None, &good[batch::HEADER_BYTES..]);
    let control = Header {
        attributes: 1 << 5,
        ..header
    };
    let control = batch::rebuild(&control, 1, None, &good[batch::HEADER_BYTES..]);
    let refused = [
        (vec![], "cut off"),
        (good[..good.len() - 1].to_vec(), "cut off"),
        (changed(good.len() - 1), "checksum"),
        (changed(16), "format 3"),
        (twice, "record count or offsets"),
        (fewer, "record count or offsets"),
        (control, "no transactions"),
        (
            batch_of(&[("k", Some(&"v".repeat(600)))], 7),
            "larger than max.message.bytes, 500",
        ),
    ];
    for (batch, why) in refused {
        let error = log
            .lock()
            .append(&batch.into(), NOW)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error} instead of {why}");
    }
    assert_eq!(log.lock().next, 0);
    assert_eq!(put(&log, "k", Some("v"), NOW), 0);
}

#[test]
fn a_log_whose_sync_failed_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), settings());
    put(&log, "k", Some("v"), NOW);
    log.lock().mark_failed();
    let batch = batch_of(&[("k", Some("v"))], -1).into();
    assert!(matches!(
        log.lock().append(&batch, NOW),
        Err(AppendError::Failed)
    ));
    assert_eq!(contents(&log).len(), 1, "it can still be read");
}

#[test]
fn readers_see_what_is_synced_where_that_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(
        folder.path(),
        LogSettings {
            show_synced_only: true,
            ..settings()
        },
    );
    put(&log, "a", Some("1"), NOW);
    assert_eq!(log.lock().visible_end(), 0);
    let (handle, to) = log.lock().unsynced().unwrap().unwrap();
    put(&log, "b", Some("2"), NOW);
    handle.file.sync_data().unwrap();
    log.lock().mark_synced(to);
    assert_eq!(contents(&log), ["0:a=1"]);
}

#[test]
fn lookups_by_time_find_the_first_record_that_is_as_new() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), small_segments());
    assert_eq!(newest(&log).unwrap(), None);
    assert_eq!(first_since(&log, 0).unwrap(), None);
    for _ in 0..20 {
        // Two records, at BASE_TIMESTAMP and a millisecond later.
        let batch = batch_of(&[("k", Some("v")), ("k", Some("v"))], -1).into();
        log.lock().append(&batch, NOW).unwrap();
    }
    let at = |offset, timestamp| Some(Stamp { offset, timestamp });
    let base = BASE_TIMESTAMP;
    assert_eq!(first_since(&log, 0).unwrap(), at(0, base));
    assert_eq!(first_since(&log, base + 1).unwrap(), at(1, base + 1));
    assert_eq!(first_since(&log, base + 2).unwrap(), None);
    assert_eq!(newest(&log).unwrap(), at(1, base + 1));
    log.lock().delete_before(11).unwrap();
    assert_eq!(
        first_since(&log, 0).unwrap(),
        at(11, base + 1),
        "only what is still there"
    );
}

#[test]
fn stamping_replaces_the_producers_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(
        folder.path(),
        LogSettings {
            stamp_on_append: true,
            ..settings()
        },
    );
    let batch = batch_of(&[("k", Some("v"))], -1).into();
    let appended = log.lock().append(&batch, NOW).unwrap();
    assert_eq!(appended.append_time_ms, NOW);
    assert_eq!(
        newest(&log).unwrap(),
        Some(Stamp {
            offset: 0,
            timestamp: NOW
        })
    );
}

#[test]
fn deleted_records_stay_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), small_segments());
    let all = many(&log, 0..20);
    let before = segment_count(folder.path());
    assert_eq!(log.lock().delete_before(13).unwrap(), 13);
    assert_eq!(
        log.lock().delete_before(5).unwrap(),
        13,
        "the start never goes back"
    );
    assert!(segment_count(folder.path()) < before);
    assert_eq!(contents(&log), all[13..]);
    drop(log);
    let log = open(folder.path(), small_segments());
    assert_eq!(bounds(&log), (13, 20));
    assert_eq!(log.lock().delete_before(-1).unwrap(), 20);
    drop(log);
    let log = open(folder.path(), small_segments());
    assert_eq!(contents(&log), [] as [String; 0]);
    assert_eq!(
        put(&log, "k", Some("v"), NOW),
        20,
        "offsets are never given twice"
    );
}

/// Keeps the log's upkeep at `now` and says from where on records are left.
#[track_caller]
fn check_retention(settings: LogSettings, now_ms: i64, expected: i64) {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), settings.clone());
    many(&log, 0..20);
    log.lock().roll_if_due(now_ms).unwrap();
    log.lock().retain(now_ms).unwrap();
    assert_eq!(log.lock().start(), expected);
    drop(log);
    let log = open(folder.path(), settings);
    assert_eq!(bounds(&log), (expected, 20));
}

#[test]
fn retention_goes_by_age_and_by_size() {
    let by_age = LogSettings {
        retention_ms: 5_000,
        ..small_segments()
    };
    check_retention(by_age.clone(), BASE_TIMESTAMP + 5_000, 0);
    check_retention(by_age.clone(), BASE_TIMESTAMP + 5_001, 20);
    check_retention(
        LogSettings {
            delete: false,
            ..by_age
        },
        BASE_TIMESTAMP + 5_001,
        0,
    );
    let by_size = |bytes: u64| LogSettings {
        retention_bytes: bytes as i64,
        ..small_segments()
    };
    let sizes = segment_sizes();
    let total: u64 = sizes.iter().map(|s| s.1).sum();
    let (second, third) = (sizes[1].0, sizes[2].0);
    check_retention(
        LogSettings {
            retention_bytes: -1,
            ..small_segments()
        },
        NOW,
        0,
    );
    check_retention(by_size(total), NOW, 0);
    check_retention(by_size(total - sizes[0].1 + 1), NOW, 0);
    check_retention(by_size(total - sizes[0].1), NOW, second);
    check_retention(by_size(total - sizes[0].1 - sizes[1].1), NOW, third);
    check_retention(by_size(0), NOW, sizes[sizes.len() - 1].0);
}

/// First offset and bytes of the segments that twenty records make.
fn segment_sizes() -> Vec<(i64, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), small_segments());
    many(&log, 0..20);
    let log = log.lock();
    log.segments.iter().map(|s| (s.base, s.bytes)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Appending, deleting, rolling and opening again, against a list.
    #[test]
    fn the_log_is_a_list(steps in proptest::collection::vec(0u8..10, 1..80), segment in 100u64..900) {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogSettings { segment_bytes: segment, segment_ms: 10, ..settings() };
        let mut log = open(folder.path(), settings.clone());
        let (mut list, mut start, mut now) = (vec![], 0, NOW);
        for (step, i) in steps.into_iter().zip(0i64..) {
            now += i;
            match step {
                0..=5 => {
                    let offset = put(&log, &format!("k{i}"), Some("v"), now);
                    prop_assert_eq!(offset, list.len() as i64);
                    list.push(format!("{offset}:k{i}=v"));
                }
                6 => {
                    start = start.max((list.len() as i64 - i % 5).max(0));
                    prop_assert_eq!(log.lock().delete_before(start).unwrap(), start);
                }
                7 => log.lock().roll_if_due(now).unwrap(),
                8 => log.lock().close().unwrap(),
                _ => {
                    drop(log);
                    log = open(folder.path(), settings.clone());
                }
            }
            prop_assert_eq!(contents(&log), &list[start as usize..]);
        }
    }
}
