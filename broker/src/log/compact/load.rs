//! A topic whose keys are written over and over, with readers in the middle.
//!
//! `COMPACT_KEYS` says how many keys there are (4,000 unless it does). The figures are printed, which `--nocapture`
//! shows; peak memory is that of the test's process, so it means something only when nothing else runs in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kafka_protocol::records::Compression;

use super::*;
use crate::log::read::read;
use crate::log::testing::{BASE_TIMESTAMP, batch_with, bounds, open, settings};

const KEYS_DEFAULT: usize = 4_000;
const ROUNDS: usize = 20;
const RECORDS_PER_BATCH: usize = 100;
/// Every so manieth key is deleted in the last round.
const DELETED_EVERY: usize = 10;
const NOW: i64 = BASE_TIMESTAMP + 1_000_000;
const KEEP_TOMBSTONES_MS: i64 = 60_000;

/// As topics set it that are read whole at every start.
const DIRTY_RATIO: f64 = 0.1;
/// The topic has this many segments for what stands in it.
const SEGMENTS: u64 = 8;

fn keys() -> usize {
    std::env::var("COMPACT_KEYS").map_or(KEYS_DEFAULT, |n| n.parse().unwrap())
}

/// Text that differs from every other, so that little of it is compressed away.
fn value(round: usize, key: usize) -> String {
    let mut hasher = SipHasher13::new_with_keys(round as u64, key as u64);
    let mut part = || {
        hasher.write_u8(0);
        format!("{:016x}", hasher.finish())
    };
    (0..5).map(|_| part()).collect()
}

/// Writes the keys of one round, in another order than in the others.
fn write(log: &Mutex<PartitionLog>, keys: usize, round: usize) {
    let order = (0..keys).map(|i| (i * 7919 + round * 104_729) % keys);
    let record = |key: usize| {
        let is_deleted = round + 1 == ROUNDS && key.is_multiple_of(DELETED_EVERY);
        let value = (!is_deleted).then(|| value(round, key));
        (format!("key-{key}"), value)
    };
    append_all(log, order.map(record));
}

fn append_all(
    log: &Mutex<PartitionLog>,
    mut records: impl Iterator<Item = (String, Option<String>)>,
) {
    loop {
        let some: Vec<_> = records.by_ref().take(RECORDS_PER_BATCH).collect();
        if some.is_empty() {
            return;
        }
        let batch = batch_with(&some, -1, Compression::Lz4).into();
        log.lock().append(&batch, NOW).unwrap();
    }
}

/// Reads from start to end again and again. Every read succeeds, and offsets only grow.
fn keep_reading(log: &Mutex<PartitionLog>, stop: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let (mut from, end) = bounds(log);
        while from < end {
            let bytes = read(log, from, end, 64 << 10).unwrap();
            let mut rest = &bytes[..];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let header = Header::checked(rest).unwrap();
                assert!(header.last_offset() >= from, "offsets only grow");
                from = header.next_offset();
                rest = &rest[header.bytes..];
            }
        }
        rounds += 1;
    }
    rounds
}

fn bytes(log: &Mutex<PartitionLog>) -> u64 {
    log.lock().segments.iter().map(|s| s.bytes).sum()
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

#[test]
#[expect(clippy::print_stdout, reason = "figures, for those who ask")]
fn a_topic_ends_near_the_size_of_what_stands() {
    let keys = keys();
    let folder = tempfile::tempdir().unwrap();
    let live = live_size(keys);
    let log = open(
        folder.path(),
        LogSettings {
            compact: true,
            delete: false,
            segment_bytes: live / SEGMENTS,
            dirty_ratio_min: DIRTY_RATIO,
            delete_retention_ms: KEEP_TOMBSTONES_MS,
            ..settings()
        },
    );
    let (mut written, mut before_peak, mut compacting) = (0, peak_mib(), std::time::Duration::ZERO);
    let mut ends_small = 0;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| keep_reading(&log, &stop)))
            .collect();
        for round in 0..ROUNDS {
            let before = bytes(&log);
            write(&log, keys, round);
            written += bytes(&log) - before;
            if round == 0 {
                before_peak = peak_mib();
            }
            let start = crate::clock::monotonic();
            compact(&log, NOW, (1, 2), &|| false).unwrap();
            compacting += start.elapsed();
        }
        log.lock().roll(NOW).unwrap();
        ends_small = bytes(&log);
        // All of it is looked at, and later once more when the time of its tombstones has come.
        log.lock().settings.dirty_ratio_min = 0.0;
        for now_ms in [NOW, NOW + KEEP_TOMBSTONES_MS] {
            compact(&log, now_ms, (1, 2), &|| false).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    let left = bytes(&log);
    let (records, tombstones) = check_content(&log, keys);
    assert_eq!(tombstones, 0, "tombstones go when their time has come");
    println!(
        "{keys} keys written {ROUNDS} times: {written} bytes written, {ends_small} at the end, {left} when all is \
         compacted, {live} stand ({:.2} and {:.2}), {records} records, {:.1} s in compaction, {} MiB at most, {before_peak} before",
        ends_small as f64 / live as f64,
        left as f64 / live as f64,
        compacting.as_secs_f64(),
        peak_mib(),
    );
    assert!(
        ends_small * 2 <= live * 3,
        "{ends_small} bytes at the end, {live} stand"
    );
    assert!(left * 2 <= live * 3, "{left} bytes are left, {live} stand");
}

/// Every key stands with its last value. Returns how many records and tombstones are left.
fn check_content(log: &Mutex<PartitionLog>, keys: usize) -> (usize, usize) {
    let mut last = vec![None; keys];
    let (mut count, mut tombstones) = (0, 0);
    let (mut from, end) = bounds(log);
    loop {
        let found = read(log, from, end, 1 << 20).unwrap();
        if found.is_empty() {
            break;
        }
        let mut rest = found;
        while !rest.is_empty() {
            let header = Header::checked(&rest).unwrap();
            for record in Records::of(&header, &rest).unwrap() {
                let record = record.unwrap();
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                let key: usize = key.strip_prefix("key-").unwrap().parse().unwrap();
                last[key] = Some(record.offset);
                count += 1;
                tombstones += usize::from(record.is_tombstone);
            }
            from = header.next_offset();
            rest = rest.slice(header.bytes..);
        }
    }
    let first_of_last_round = ((ROUNDS - 1) * keys) as i64;
    for (key, offset) in last.iter().enumerate() {
        let is_deleted = key.is_multiple_of(DELETED_EVERY);
        assert_eq!(offset.is_none(), is_deleted, "key {key}");
        assert!(offset.is_none_or(|o| o >= first_of_last_round), "key {key}");
    }
    (count, tombstones)
}

/// What a log takes that is written only once, without the deleted keys.
fn live_size(keys: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), settings());
    let stands = (0..keys).filter(|key| !key.is_multiple_of(DELETED_EVERY));
    append_all(
        &log,
        stands.map(|key| (format!("key-{key}"), Some(value(ROUNDS - 1, key)))),
    );
    bytes(&log)
}

#[test]
fn a_batch_that_would_be_too_large_is_kept_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), settings());
    let all = [Compression::Gzip, Compression::Lz4, Compression::Zstd];
    let mut bombs = vec![];
    for compression in all {
        // Much comes out of little, in a topic that is not compacted yet.
        let bomb = [("bomb".to_owned(), Some("v".repeat(70 << 20)))];
        let bomb = batch_with(&bomb, -1, compression);
        log.lock().settings.batch_bytes_max = bomb.len();
        bombs.push(log.lock().append(&bomb.into(), NOW).unwrap().base_offset);
        for i in 0..50 {
            let key = [("k".to_owned(), Some(i.to_string()))];
            let batch = batch_with(&key, -1, compression).into();
            log.lock().append(&batch, NOW).unwrap();
        }
    }
    log.lock().settings.compact = true;
    log.lock().roll(NOW).unwrap();
    compact(&log, NOW, (1, 2), &|| false).unwrap();
    let (mut from, end) = bounds(&log);
    let mut left = vec![];
    while from < end {
        let batch = read(&log, from, end, 1).unwrap();
        let header = Header::checked(&batch).unwrap();
        left.push(header.base_offset);
        from = header.next_offset();
    }
    assert_eq!(left, [bombs, vec![end - 1]].concat());
    let again = batch_with(&[("b".to_owned(), Some("v".repeat(70 << 20)))], -1, all[0]);
    log.lock().settings.batch_bytes_max = again.len();
    let refused = log.lock().append(&again.into(), NOW);
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("more than"),
        "a compacted topic refuses it: {refused}"
    );
}
