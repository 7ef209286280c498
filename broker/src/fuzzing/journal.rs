//! What lies in the other files of a data folder.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::mend;
use super::segment::{contents, open};
use crate::config::Config;
use crate::log::batch::{self, Header};
use crate::log::compact::compact;
use crate::log::read::{first_since, read};
use crate::offsets::{Committed, Offsets};
use crate::producers::ProducerIds;
use crate::topics::Topics;

const TIMESTAMP: i64 = 1_700_000_000_000;
const READ_BYTES: usize = 1 << 20;
const FOLDERS_MAX: i64 = 16;

/// The same bytes as the journal of offsets, a checkpoint, the catalog, a log's start and the producer ids; where
/// lines have checksums, as they are and with right ones.
///
/// # Panics
/// If a file is neither refused nor read, or is read differently the second time.
pub fn journal(bytes: &[u8]) {
    let mended = mend::lines(bytes);
    for bytes in [bytes, &mended] {
        for kept_running in [true, false] {
            offsets(bytes, kept_running);
        }
        checkpoint(bytes);
    }
    catalog(bytes);
    start(bytes);
    producer_ids(bytes);
}

fn offsets(bytes: &[u8], kept_running: bool) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("offsets.journal"), bytes).expect("a journal");
    let Ok(read) = Offsets::open(folder.path(), kept_running) else {
        return;
    };
    let all = |offsets: &Offsets| -> Vec<_> {
        let groups = offsets.groups().into_iter();
        groups.map(|g| (g.clone(), offsets.all(&g))).collect()
    };
    let before = all(&read);
    drop(read);
    let again = Offsets::open(folder.path(), true).expect("what was opened once");
    assert_eq!(all(&again), before);
    let committed = Committed {
        offset: 7,
        leader_epoch: -1,
        metadata: String::new(),
    };
    let place = ("t".to_owned(), 0);
    again
        .commit(
            "g",
            vec![(place.clone(), committed.clone())],
            Duration::ZERO,
        )
        .expect("a commit");
    drop(again);
    let again = Offsets::open(folder.path(), true).expect("what was written to");
    assert_eq!(again.all("g").get(&place), Some(&committed));
}

/// Beside a segment of three batches. What a checkpoint says is believed, so only an end to everything is asked for.
fn checkpoint(bytes: &[u8]) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join(format!("{:020}.log", 0)), batches()).expect("a segment");
    let path = folder.path().join(format!("{:020}.checkpoint", 0));
    fs::write(path, bytes).expect("a checkpoint");
    let Some(log) = open(folder.path()) else {
        return;
    };
    let (mut from, end) = {
        let log = log.lock();
        (log.start(), log.visible_end())
    };
    while from < end {
        let found = read(&log, from, end, READ_BYTES).unwrap_or_default();
        let Some(header) = Header::parse(&found) else {
            break;
        };
        assert!(header.next_offset() > from, "offsets go back");
        from = header.next_offset();
    }
    let _ = first_since(&log, TIMESTAMP);
    let _ = log.lock().roll_if_due(TIMESTAMP);
    let _ = compact(&log, TIMESTAMP, (1, 2), &|| false);
}

/// Three of one record each.
fn batches() -> Vec<u8> {
    // Length, attributes, both deltas, key, value, no headers.
    let record = [16, 0, 0, 0, 2, b'k', 2, b'v', 0];
    let batch = |base_offset: i64| {
        let header = Header {
            base_offset,
            bytes: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_delta: 0,
            base_timestamp: TIMESTAMP,
            max_timestamp: TIMESTAMP,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 1,
        };
        batch::rebuild(&header, 1, None, &record)
    };
    (0..3).flat_map(batch).collect()
}

fn catalog(bytes: &[u8]) {
    let around = TempDir::new().expect("a folder");
    let data = around.path().join("data");
    fs::create_dir(&data).expect("a data folder");
    fs::write(data.join("catalog.json"), bytes).expect("a catalog");
    if makes_many_folders(bytes) {
        return;
    }
    let config = Config::new(&data);
    let Ok(topics) = Topics::open(&config, true) else {
        return;
    };
    let all = |topics: &Topics| -> Vec<_> {
        let listed = topics.all().into_iter();
        listed
            .map(|t| {
                (
                    t.name.clone(),
                    t.id,
                    t.overrides.clone(),
                    t.partitions.len(),
                )
            })
            .collect()
    };
    let before = all(&topics);
    drop(topics);
    let again = Topics::open(&config, true).expect("what was opened once");
    assert_eq!(all(&again), before);
    let entries = fs::read_dir(around.path()).expect("the folder around it");
    assert_eq!(entries.count(), 1, "something lies beside the data folder");
}

/// Opening makes a folder for each partition, which costs nothing but time.
fn makes_many_folders(catalog: &[u8]) -> bool {
    let partitions = |entry: &Value| entry["partitions"].as_i64();
    let read = serde_json::from_slice::<Value>(catalog).unwrap_or_default();
    let topics = read["topics"].as_object();
    let all = topics
        .into_iter()
        .flat_map(|t| t.values())
        .filter_map(partitions);
    all.fold(0, i64::saturating_add) > FOLDERS_MAX
}

fn start(bytes: &[u8]) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("start"), bytes).expect("a start");
    if let Some(log) = open(folder.path()) {
        contents(&log);
    }
}

fn producer_ids(bytes: &[u8]) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("producer-ids"), bytes).expect("producer ids");
    if let Ok(ids) = ProducerIds::open(folder.path()) {
        let first = ids.take().expect("an id");
        assert!(ids.take().expect("another") > first);
    }
}
