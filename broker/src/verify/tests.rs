//! What is found in data folders that are whole, torn or damaged, and that looking changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::records::Compression;

use super::*;
use crate::broker::Broker;
use crate::config::Config;
use crate::log::testing::{BASE_TIMESTAMP, batch_of, sequenced};
use crate::offsets::Committed;

const SEGMENT: &str = "topics/t/0/00000000000000000000.log";
const CHECKPOINT: &str = "topics/t/0/00000000000000000000.checkpoint";
/// Bytes of one of the batches that [`fill`] writes.
const BATCH: u64 = 70;

async fn open(folder: &Path) -> Result<Broker, OpenError> {
    Broker::open(Config::new(folder)).await
}

/// Three batches of producer 7 in partition 0 of topic `t`, nothing in partition 1, two commits.
async fn fill(folder: &Path, is_closed: bool) {
    let broker = open(folder).await.unwrap();
    let core = broker.core();
    core.topics
        .create("t", 2, Default::default(), false)
        .unwrap();
    let partition = core.topics.partition("t", 0).unwrap();
    for sequence in 0..3 {
        let record = [("k".to_owned(), Some("v".to_owned()))];
        let batch = sequenced(&record, 7, sequence, Compression::None);
        assert_eq!(batch.len() as u64, BATCH);
        partition
            .log
            .lock()
            .append(&batch.into(), BASE_TIMESTAMP)
            .unwrap();
    }
    core.producer_ids.take().unwrap();
    for offset in 1..3 {
        let committed = Committed {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        };
        core.offsets
            .commit("g", vec![(("t".to_owned(), 0), committed)], Duration::ZERO)
            .unwrap();
    }
    if is_closed {
        broker.run(async {}).await.unwrap();
    }
}

/// Every file with its content and the time of its last change.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut all = BTreeMap::new();
    for name in names(folder).unwrap() {
        let path = folder.join(name);
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        if path.is_dir() {
            all.extend(everything(&path));
            all.insert(path, (vec![], changed));
        } else {
            let content = fs::read(&path).unwrap();
            all.insert(path, (content, changed));
        }
    }
    all
}

/// The findings as `file:position: what`, those that opening mends with a `~` before them.
fn show(folder: &Path, found: &Verification) -> Vec<String> {
    let show = |f: &Finding| {
        let path = f.path.strip_prefix(folder).unwrap().display();
        let mark = if f.mended_by_opening { "~" } else { "" };
        format!("{mark}{path}:{}: {}", f.position, f.what)
    };
    found.all_findings().map(show).collect()
}

/// Fills a folder, damages it, and expects these findings, by the start of their text.
#[track_caller]
fn check(is_closed: bool, damage: impl FnOnce(&Path), expected: &[&str]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    runtime.block_on(fill(folder, is_closed));
    damage(folder);
    let before = everything(folder);
    let found = show(folder, &verify(folder).unwrap());
    assert!(
        before == everything(folder),
        "verifying has changed something"
    );
    let are_expected = found.iter().zip(expected).all(|(f, e)| f.starts_with(e));
    assert!(are_expected && found.len() == expected.len(), "{found:#?}");
}

fn change(path: PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(&path).unwrap();
    change(&mut content);
    fs::write(&path, content).unwrap();
}

#[tokio::test]
async fn what_is_there_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), true).await;
    let found = verify(folder.path()).unwrap();
    let full = PartitionState {
        topic: "t".to_owned(),
        segments: 1,
        batches: 3,
        records: 3,
        bytes: 3 * BATCH,
        next_offset: 3,
        ..PartitionState::default()
    };
    let empty = PartitionState {
        topic: "t".to_owned(),
        partition: 1,
        ..PartitionState::default()
    };
    assert_eq!(found.partitions, [full, empty]);
    assert_eq!(found.findings, []);
}

#[tokio::test]
async fn a_folder_that_a_broker_holds_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await.unwrap();
    let held = verify(folder.path()).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(held.contains(&format!("held by process {pid};")), "{held}");
    drop(broker);
    assert_eq!(verify(folder.path()).unwrap(), Verification::default());
    let nowhere = verify(&folder.path().join("nowhere")).unwrap_err();
    assert!(matches!(nowhere, OpenError::Folder { .. }), "{nowhere}");
}

#[test]
fn a_whole_folder_has_no_findings() {
    check(true, |_| {}, &[]);
    check(false, |_| {}, &[]);
    check(true, |f| fs::remove_file(f.join("lock")).unwrap(), &[]);
    check(true, |f| fs::remove_file(f.join(CHECKPOINT)).unwrap(), &[]);
}

#[test]
fn torn_ends_are_told_from_damage() {
    let cut =
        |bytes: usize| move |f: &Path| change(f.join(SEGMENT), |c| c.truncate(c.len() - bytes));
    let flip = |at: usize| move |f: &Path| change(f.join(SEGMENT), |c| c[at] ^= 1);
    let append = |f: &Path| change(f.join(SEGMENT), |c| c.extend([7; 10]));
    let torn = format!("~{SEGMENT}:{}: torn end: the batch is cut off", 2 * BATCH);
    check(false, cut(1), &[&torn]);
    check(false, cut(69), &[&torn]);
    check(false, cut(70), &[]);
    let behind = format!("~{SEGMENT}:{}: torn end: the batch is cut off", 3 * BATCH);
    check(true, append, &[&behind]);
    // The last batch is damaged: half a page of it may never have been written.
    let last = format!(
        "~{SEGMENT}:{}: torn end: the checksum does not match",
        2 * BATCH
    );
    check(false, flip(3 * 70 - 1), &[&last]);
    let middle = format!(
        "{SEGMENT}:{BATCH}: the checksum does not match (offset 1 was to come); \
         intact batches follow at byte {}",
        2 * BATCH
    );
    check(false, flip(70 + 65), &[&middle]);
    // A checkpoint vouched for all of it.
    let fits_no_more = format!("{CHECKPOINT}:0: the checkpoint does not fit");
    let vouched = format!("{SEGMENT}:{}: the checksum does not match", 2 * BATCH);
    check(true, flip(3 * 70 - 1), &[&vouched, &fits_no_more]);
    let missing = format!(
        "{SEGMENT}:{}: 1 bytes that had been synced are missing",
        3 * BATCH - 1
    );
    let cut_off = format!("{SEGMENT}:{}: the batch is cut off", 2 * BATCH);
    check(true, cut(1), &[&missing, &cut_off]);
}

#[test]
fn a_power_cut_may_leave_holes_in_what_was_not_synced() {
    let other_boot = |f: &Path| {
        change(f.join("lock"), |c| *c = b"1\nanother boot\n".to_vec());
        change(f.join(SEGMENT), |c| c[70..140].fill(0));
    };
    let torn = format!("~{SEGMENT}:{BATCH}: torn end: no batch starts there");
    check(false, other_boot, &[&torn]);
}

#[test]
fn batches_out_of_place_are_found() {
    let append =
        |batch: Vec<u8>| move |f: &Path| change(f.join(SEGMENT), |c| c.extend_from_slice(&batch));
    let record = [("k".to_owned(), Some("v".to_owned()))];
    let at = |offset: i64, mut batch: Vec<u8>| {
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        batch
    };
    let end = 3 * BATCH;
    let back = format!("~{SEGMENT}:{end}: torn end: the batch starts at offset 2, which must be 3");
    check(false, append(at(2, batch_of(&[("k", None)], -1))), &[&back]);
    let gap = format!("{SEGMENT}:{end}: offsets 3 to 8 are missing");
    check(false, append(at(9, batch_of(&[("k", None)], -1))), &[&gap]);
    let second = sequenced(&record, 7, 1, Compression::None);
    let twice = format!("{SEGMENT}:{end}: producer 7 wrote the batch at offset 1 a second time");
    check(false, append(at(3, second)), &[&twice]);
    let fifth = sequenced(&record, 7, 4, Compression::None);
    let skipped = format!("{SEGMENT}:{end}: sequence 4 of producer 7 does not follow");
    check(false, append(at(3, fifth)), &[&skipped]);
}

#[test]
fn small_files_are_checked() {
    let set = |name: &'static str, text: &'static str| {
        move |f: &Path| fs::write(f.join(name), text).unwrap()
    };
    let cut =
        |name: &'static str| move |f: &Path| change(f.join(name), |c| c.truncate(c.len() / 2));
    let start = "topics/t/0/start";
    let no_start = format!("{start}:0: ");
    check(true, set(start, "2"), &[]);
    check(true, set(start, "two"), &[&no_start]);
    check(
        true,
        set("producer-ids", "many"),
        &["producer-ids:0: it does not hold a number"],
    );
    check(
        true,
        cut("catalog.json"),
        &["catalog.json:0: it is not a catalog"],
    );
    check(
        true,
        |f| fs::remove_file(f.join("catalog.json")).unwrap(),
        &["catalog.json:0: it is missing"],
    );
    let torn = format!("~{CHECKPOINT}:0: the checkpoint is not intact");
    check(true, cut(CHECKPOINT), &[&torn]);
    check(
        true,
        |f| change(f.join("offsets.journal"), |c| c.truncate(c.len() - 3)),
        &["~offsets.journal:"],
    );
    let flip_first = |f: &Path| change(f.join("offsets.journal"), |c| c[12] ^= 1);
    check(
        false,
        flip_first,
        &["offsets.journal:0: a line is not intact, and intact ones follow"],
    );
}

#[test]
fn what_interrupted_changes_left_is_named() {
    let next = "topics/t/0/00000000000000000000.next";
    let left = format!("~{next}:0: left by an interrupted replacement");
    check(true, |f| fs::write(f.join(next), "x").unwrap(), &[&left]);
    let stranger = "topics/t/0/first.log:0: its name is not that of a segment";
    check(
        true,
        |f| fs::write(f.join("topics/t/0/first.log"), "x").unwrap(),
        &[stranger],
    );
    let deleted = "~topics/u:0: what is left of a deleted topic";
    check(
        true,
        |f| fs::create_dir(f.join("topics/u")).unwrap(),
        &[deleted],
    );
    let gone = "topics/t/1:0: cannot read it";
    check(
        true,
        |f| fs::remove_dir_all(f.join("topics/t/1")).unwrap(),
        &[gone],
    );
}
