//! A crash at every step of every change: the folder opens, the change was made or it was not, and nothing is left over.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::config::Config;
use crate::core::Core;
use crate::files::crash;
use crate::log::testing::{BASE_TIMESTAMP, batch_of, contents};
use crate::offsets::Committed;
use crate::verify;

/// As if the machine had kept running: then the least is forgiven.
fn open(folder: &Path) -> Core {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9092));
    Core::open(Config::new(folder), address, true).unwrap_or_else(|e| panic!("{e}"))
}

/// All that a client could ask for.
fn describe(core: &Core) -> String {
    let mut all = vec![];
    for topic in core.topics.all() {
        all.push(format!("{} {:?}", topic.name, topic.overrides));
        for partition in &topic.partitions {
            let next = partition.log.lock().visible_end();
            all.push(format!("{:?}..{next}", contents(&partition.log)));
        }
    }
    for group in core.offsets.groups() {
        all.push(format!("{group} {:?}", core.offsets.all(&group)));
    }
    all.join("\n")
}

/// Prepares a folder, changes it, and opens what a crash at each step leaves of it.
#[track_caller]
fn check(what: &str, prepare: impl FnOnce(&Core), change: impl FnOnce(&Core)) {
    let folder = tempfile::tempdir().unwrap();
    let core = open(folder.path());
    prepare(&core);
    core.close().unwrap();
    let before = describe(&core);
    let images = crash::images(folder.path(), || change(&core));
    let after = describe(&core);
    assert!(images.len() > 3, "{what}: nothing was recorded");
    let mut last = String::new();
    for (image, i) in images.iter().zip(0..) {
        let found = verify(image.path()).unwrap();
        let lasting = found.all_findings().find(|f| !f.mended_by_opening);
        assert_eq!(lasting, None, "{what}, image {i}");
        let core = open(image.path());
        let now = describe(&core);
        assert!(now == before || now == after, "{what}, image {i}: {now}");
        last = now;
        // A second time, because the first one changes things as well.
        drop(core);
        let found = verify(image.path()).unwrap();
        assert_eq!(found.all_findings().next(), None, "{what}, image {i}");
        assert_eq!(describe(&open(image.path())), last, "{what}, image {i}");
    }
    assert_eq!(last, after, "{what}: it is made in the end");
}

fn create(core: &Core, name: &str, settings: &[(&str, &str)]) {
    let settings = settings
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let made = core.topics.create(name, 2, settings.collect(), false);
    made.unwrap();
}

/// Puts records of some kilobytes into partition 0 and syncs them, in segments of a mebibyte.
fn fill(core: &Core, name: &str, keys: usize) {
    let partition = core.topics.partition(name, 0).unwrap();
    let value = "v".repeat(20_000);
    for i in 0..120 {
        let key = format!("k{}", i % keys);
        let batch = batch_of(&[(&key, Some(&value))], -1).into();
        partition.log.lock().append(&batch, BASE_TIMESTAMP).unwrap();
    }
    partition.sync().unwrap();
}

const SMALL: (&str, &str) = ("segment.bytes", "1048576");
const COMPACTED: &[(&str, &str)] = &[
    SMALL,
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0"),
];

fn log_start(core: &Core, offset: i64) {
    let partition = core.topics.partition("t", 0).unwrap();
    partition.log.lock().delete_before(offset).unwrap();
}

fn upkeep(core: &Core) {
    let partition = core.topics.partition("t", 0).unwrap();
    partition.upkeep((1, 2), &|| false);
}

fn commit(core: &Core, metadata: &str) {
    let committed = Committed {
        offset: 7,
        leader_epoch: -1,
        metadata: metadata.to_owned(),
    };
    let commits = vec![(("t".to_owned(), 0), committed)];
    core.offsets
        .commit("g", commits, Duration::from_secs(6))
        .unwrap();
    core.offsets.sync().unwrap();
}

#[test]
fn topics() {
    check("a first topic", |_| {}, |c| create(c, "t", &[]));
    check(
        "another topic",
        |c| create(c, "s", &[]),
        |c| create(c, "t", &[]),
    );
    check(
        "more partitions",
        |c| create(c, "t", &[]),
        |c| c.topics.grow("t", 5, false).unwrap(),
    );
    check(
        "other settings",
        |c| create(c, "t", &[]),
        |c| {
            let set = |o: &mut crate::topics::settings::Overrides| {
                o.insert("retention.ms".to_owned(), "1000".to_owned());
            };
            c.topics.configure("t", false, set).unwrap();
        },
    );
    check(
        "no topic",
        |c| create(c, "t", &[]),
        |c| c.topics.delete("t").unwrap(),
    );
}

#[test]
fn logs() {
    let filled = |settings: &'static [(&str, &str)], keys| {
        move |c: &Core| {
            create(c, "t", settings);
            fill(c, "t", keys);
        }
    };
    check("a start", filled(&[SMALL], 9), |c| log_start(c, 3));
    check("a start in another segment", filled(&[SMALL], 9), |c| {
        log_start(c, 57)
    });
    check("an end", filled(&[SMALL], 9), |c| log_start(c, -1));
    check("another segment", filled(&[SMALL], 9), |c| {
        let partition = c.topics.partition("t", 0).unwrap();
        let large = "v".repeat(900_000);
        let batch = batch_of(&[("large", Some(&large))], -1).into();
        partition.log.lock().append(&batch, BASE_TIMESTAMP).unwrap();
        partition.sync().unwrap();
    });
    check("compaction", filled(COMPACTED, 9), upkeep);
    check("compaction that keeps all", filled(COMPACTED, 120), upkeep);
}

#[test]
fn committed_offsets() {
    let long = "m".repeat(4_000);
    let nearly = |c: &Core| {
        create(c, "t", &[]);
        (0..250).for_each(|_| commit(c, &long));
    };
    // The journal is written anew when it is long. All of it says the same.
    check("a long journal", nearly, |c| {
        (0..20).for_each(|_| commit(c, &long));
    });
}

#[test]
fn a_producer_id_is_not_given_again_whenever_the_power_fails() {
    let folder = tempfile::tempdir().unwrap();
    let core = open(folder.path());
    let mut given = 0;
    while given < 2_000 {
        given = core.producer_ids.take().unwrap();
    }
    let images = crash::images(folder.path(), || {
        core.producer_ids.take().unwrap();
    });
    for image in &images {
        let next = open(image.path()).producer_ids.take().unwrap();
        assert!(next > given, "{next}");
    }
    assert!(!images.is_empty());
}
