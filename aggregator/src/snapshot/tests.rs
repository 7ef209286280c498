use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use schemas::time::Timestamp;

use super::*;
use crate::event::{Input, Place};
use crate::model::{call, policy, settings, usage_engine};

const PARTITION: Partition = Partition {
    topic: "weir.usage.v1",
    index: 0,
};

/// Does what waits for a disk, for tests that cannot wait by themselves.
pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
    RUNTIME.block_on(work)
}

fn counted(events: i64) -> Engine {
    let mut engine = usage_engine(0, 1);
    let at = Timestamp::from_seconds(100);
    let mut step = |offset, input: Input<'_>| {
        let appended_at = at;
        engine
            .step(
                Place {
                    offset,
                    appended_at,
                },
                input,
                &mut Vec::new(),
            )
            .unwrap();
    };
    let policy = Box::new(policy(3, "l tenant/* tokens 80%=8 hard=10 : sliding 60s"));
    step(0, Input::Policy { policy, at });
    for offset in 1..=events {
        let id = offset.to_string();
        step(offset, Input::Event(call(("acme", "u"), &id, at, 5)));
    }
    engine
}

async fn save(snapshots: &Snapshots, engine: &Engine) {
    let bytes = encode(PARTITION, engine).unwrap();
    let saved = snapshots.save(PARTITION, engine.next_offset(), bytes.into());
    saved.await.unwrap();
}

async fn load(snapshots: &Snapshots) -> Result<Option<Engine>, SnapshotError> {
    let shard = usage_engine(0, 1).shard();
    snapshots.load(PARTITION, shard, settings()).await
}

fn files(root: &Path) -> Vec<PathBuf> {
    let folder = Folder::new(root.to_owned());
    let held = folder.list(PARTITION).unwrap();
    held.into_iter()
        .map(|offset| folder.path(PARTITION, offset))
        .collect()
}

#[tokio::test]
async fn what_was_saved_is_loaded() {
    let root = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::in_folder(root.path().to_owned());
    assert!(load(&snapshots).await.unwrap().is_none());
    for events in 1..=4 {
        let engine = counted(events);
        save(&snapshots, &engine).await;
        let loaded = load(&snapshots).await.unwrap().unwrap();
        assert_eq!(loaded.state(), engine.state());
        assert_eq!(loaded.policy(), engine.policy());
    }
    assert_eq!(files(root.path()).len(), GENERATIONS);
}

/// What is loaded when the newest file, of five events, is damaged: the one of four, or nothing.
#[track_caller]
fn check_damage(damage: impl Fn(&mut Vec<u8>)) {
    let root = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::in_folder(root.path().to_owned());
    wait(save(&snapshots, &counted(4)));
    wait(save(&snapshots, &counted(5)));
    let spoil = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        damage(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    let files = files(root.path());
    spoil(&files[1]);
    let loaded = wait(load(&snapshots)).unwrap().unwrap();
    assert_eq!(loaded.next_offset(), 5);
    spoil(&files[0]);
    let error = wait(load(&snapshots)).unwrap_err();
    assert!(matches!(error, SnapshotError::AllDamaged { .. }), "{error}");
}

#[test]
fn a_damaged_snapshot_is_passed_over() {
    use format::HEADER_BYTES;
    check_damage(Vec::clear);
    check_damage(|bytes| bytes.truncate(bytes.len() - 1));
    check_damage(|bytes| bytes.truncate(HEADER_BYTES));
    check_damage(|bytes| bytes[0] ^= 1);
    check_damage(|bytes| bytes[8] ^= 1);
    check_damage(|bytes| *bytes.last_mut().unwrap() ^= 1);
    check_damage(|bytes| bytes[HEADER_BYTES + 20] ^= 0x80);
}

#[test]
fn a_snapshot_of_another_partition_is_not_taken() {
    let engine = counted(1);
    let bytes = encode(PARTITION, &engine).unwrap();
    let elsewhere = Partition {
        index: 1,
        ..PARTITION
    };
    let decoded = decode(&bytes, elsewhere, engine.shard(), settings());
    assert!(matches!(decoded, Err(Damage::Foreign)));
    let more = ShardId {
        partitions: 2,
        ..engine.shard()
    };
    let decoded = decode(&bytes, PARTITION, more, settings());
    assert!(matches!(decoded, Err(Damage::Foreign)));
}

#[tokio::test]
async fn offsets_are_those_of_the_newest() {
    let root = tempfile::tempdir().unwrap();
    let all = root.path().join("all");
    let snapshots = Snapshots::in_folder(all.clone());
    let (place, s3) = (SnapshotPlace::Folder(all), S3::default());
    assert_eq!(snapshot_offsets(&place, &s3).await.unwrap(), []);
    for events in 1..=3 {
        save(&snapshots, &counted(events)).await;
    }
    let expected = [(PARTITION.topic.to_owned(), 0, 4)];
    assert_eq!(snapshot_offsets(&place, &s3).await.unwrap(), expected);
}

#[tokio::test]
async fn an_unfinished_snapshot_is_none() {
    let root = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::in_folder(root.path().to_owned());
    save(&snapshots, &counted(1)).await;
    let folder = root.path().join(PARTITION.topic).join("0");
    let unfinished = folder.join("00000000000000000003-left.unfinished");
    fs::write(&unfinished, b"WEIR").unwrap();
    assert_eq!(load(&snapshots).await.unwrap().unwrap().next_offset(), 2);
    save(&snapshots, &counted(2)).await;
    assert!(unfinished.exists(), "somebody may still write it");
    save(&snapshots, &counted(3)).await;
    save(&snapshots, &counted(4)).await;
    assert!(!unfinished.exists(), "nobody needs it any more");
}
