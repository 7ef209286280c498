//! What lies in a segment file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::mend;
use crate::log::batch::Header;
use crate::log::compact::compact;
use crate::log::handles::Handles;
use crate::log::read::{first_since, newest, read};
use crate::log::records::{Record, Records};
use crate::log::{LogSettings, PartitionLog, Shared};

const SEED: (u64, u64) = (1, 2);
const NOW_MS: i64 = 1_700_000_000_000;
const HANDLES_MAX: usize = 16;
/// What a reader asks for at once: less than a batch, and more than there is.
const READ_BYTES: [usize; 3] = [1, 200, 1 << 20];

/// The bytes of a segment file: as they are, and again with right checksums.
///
/// # Panics
/// If it is neither refused nor opened, if an opened one changes when it is opened again, if a reader gets anything
/// but intact batches in order, or if compaction loses a key's last record.
pub fn segment(bytes: &[u8]) {
    check(bytes);
    let mended = mend::segment(bytes);
    if mended != bytes {
        check(&mended);
    }
}

fn check(bytes: &[u8]) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join(format!("{:020}.log", 0)), bytes).expect("a segment file");
    let Some(log) = open(folder.path()) else {
        return;
    };
    let before = contents(&log);
    drop(log);
    let log = open(folder.path()).expect("what was opened once");
    assert_eq!(contents(&log), before, "opened again");
    look_up(&log, &before);

    // Only closed segments are compacted.
    log.lock().roll_if_due(NOW_MS).expect("a new segment");
    compact(&log, NOW_MS, SEED, &|| false).expect("compaction");
    let after = contents(&log);
    assert_eq!(last_of_each_key(&after), last_of_each_key(&before));
    drop(log);
    let log = open(folder.path()).expect("what was compacted");
    assert_eq!(contents(&log), after, "opened after compaction");
}

/// A compacted log whose segments are closed at once.
pub(super) fn open(folder: &Path) -> Option<Mutex<PartitionLog>> {
    let settings = LogSettings {
        segment_bytes: 1 << 30,
        segment_ms: -1,
        retention_ms: -1,
        retention_bytes: -1,
        batch_bytes_max: 1 << 20,
        compact: true,
        delete: false,
        delete_retention_ms: 1_000,
        dirty_ratio_min: 0.0,
        compaction_lag_min_ms: 0,
        compaction_lag_max_ms: i64::MAX,
        stamp_on_append: false,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        show_synced_only: false,
    };
    let shared = Shared {
        handles: Arc::new(Handles::new(HANDLES_MAX)),
        kept_running: false,
    };
    let opened = PartitionLog::open(folder.to_owned(), settings, &shared).ok();
    opened.map(|(log, _)| Mutex::new(log))
}

/// All that readers get, which is the same however much they ask for at once.
pub(super) fn contents(log: &Mutex<PartitionLog>) -> Vec<Bytes> {
    let [first, others @ ..] = READ_BYTES.map(|bytes_max| read_all(log, bytes_max));
    for other in others {
        assert_eq!(other, first);
    }
    first
}

fn read_all(log: &Mutex<PartitionLog>, bytes_max: usize) -> Vec<Bytes> {
    let (mut from, end) = {
        let log = log.lock();
        (log.start(), log.visible_end())
    };
    let mut batches = vec![];
    while from < end {
        let found = read(log, from, end, bytes_max).expect("what was opened can be read");
        if found.is_empty() {
            break;
        }
        let mut at = 0;
        while at < found.len() {
            let header = Header::checked(&found[at..]).expect("an intact batch");
            assert!(header.last_offset() >= from, "offsets go back");
            assert!(header.base_offset < end, "read beyond the end");
            from = header.next_offset();
            batches.push(found.slice(at..at + header.bytes));
            at += header.bytes;
        }
    }
    batches
}

/// Lookups by time find a place that is there.
fn look_up(log: &Mutex<PartitionLog>, batches: &[Bytes]) {
    let end = log.lock().visible_end();
    let headers = batches.iter().filter_map(|b| Header::parse(b));
    let times: Vec<_> = headers
        .flat_map(|h| [h.base_timestamp, h.max_timestamp])
        .collect();
    for time in [i64::MIN, 0, i64::MAX].into_iter().chain(times) {
        if let Some(stamp) = first_since(log, time).expect("a lookup by time") {
            assert!(stamp.offset < end, "{stamp:?} is beyond {end}");
        }
    }
    newest(log).expect("the newest record");
}

/// Where each key's last record is, and whether it is a tombstone, of what compaction can look into.
/// Tombstones that are past their time may be gone, and with them their keys.
fn last_of_each_key(batches: &[Bytes]) -> BTreeMap<Bytes, i64> {
    let mut last = BTreeMap::new();
    for batch in batches {
        let header = Header::parse(batch).expect("a batch that was read");
        if header.is_control() {
            continue;
        }
        let records = Records::of(&header, batch).and_then(|r| r.collect::<Result<Vec<_>, _>>());
        for record in records.unwrap_or_default() {
            let Record {
                key: Some(key),
                offset,
                is_tombstone,
                ..
            } = record
            else {
                continue;
            };
            match is_tombstone && header.delete_horizon().is_some_and(|at| at <= NOW_MS) {
                true => last.remove(&key),
                false => last.insert(key, offset),
            };
        }
    }
    last
}
