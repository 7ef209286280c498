//! What is committed, through restarts, cuts and rewrites.

use super::*;

fn at(offset: i64) -> Committed {
    Committed {
        offset,
        leader_epoch: -1,
        metadata: String::new(),
    }
}

fn place(topic: &str, partition: i32) -> Place {
    (topic.to_owned(), partition)
}

#[test]
fn commits_survive_and_deletions_stay() {
    let folder = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(folder.path(), true).unwrap();
    offsets
        .commit(
            "g",
            vec![(place("t", 0), at(1)), (place("t", 1), at(2))],
            Duration::ZERO,
        )
        .unwrap();
    offsets
        .commit("g", vec![(place("t", 0), at(9))], Duration::ZERO)
        .unwrap();
    offsets
        .commit(
            "h",
            vec![(place("t", 0), at(3)), (place("u", 0), at(4))],
            Duration::ZERO,
        )
        .unwrap();
    offsets
        .commit("i", vec![(place("t", 0), at(5))], Duration::ZERO)
        .unwrap();
    offsets.forget("g", vec![place("t", 1)]).unwrap();
    assert!(offsets.drop_group("i").unwrap() && !offsets.drop_group("i").unwrap());
    drop(offsets);
    let offsets = Offsets::open(folder.path(), true).unwrap();
    assert_eq!(offsets.all("g"), BTreeMap::from([(place("t", 0), at(9))]));
    assert_eq!(offsets.groups(), ["g", "h"]);
    offsets.drop_topic("t").unwrap();
    assert_eq!(offsets.groups(), ["h"]);
    assert_eq!(offsets.all("h"), BTreeMap::from([(place("u", 0), at(4))]));
}

#[test]
fn a_journal_cut_at_any_byte_keeps_every_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(folder.path(), true).unwrap();
    let mut ends = vec![0];
    for i in 0..5 {
        offsets
            .commit("g", vec![(place("t", i), at(i64::from(i)))], Duration::ZERO)
            .unwrap();
        ends.push(offsets.journal.lock().bytes);
    }
    let path = offsets.path().to_owned();
    drop(offsets);
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let offsets = Offsets::open(folder.path(), true).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
        assert_eq!(offsets.all("g").len(), kept, "cut at {cut}");
        offsets
            .commit("g", vec![(place("t", 9), at(9))], Duration::ZERO)
            .unwrap();
        drop(offsets);
        assert_eq!(
            Offsets::open(folder.path(), true).unwrap().all("g").len(),
            kept + 1
        );
    }
}

#[test]
fn a_long_journal_is_rewritten_short() {
    let folder = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(folder.path(), true).unwrap();
    let metadata = "m".repeat(4_000);
    for i in 0..1_000 {
        let committed = Committed {
            offset: i,
            leader_epoch: 0,
            metadata: metadata.clone(),
        };
        offsets
            .commit("g", vec![(place("t", 0), committed)], Duration::ZERO)
            .unwrap();
    }
    assert!(std::fs::metadata(offsets.path()).unwrap().len() <= REWRITE_BYTES_MIN + 5_000);
    assert_eq!(offsets.all("g")[&place("t", 0)].offset, 999);
}

#[test]
fn who_has_members_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(folder.path(), true).unwrap();
    let commit = |group: &str, seconds| {
        let session = Duration::from_secs(seconds);
        let commits = vec![(place("t", 0), at(1))];
        offsets.commit(group, commits, session).unwrap();
    };
    for (group, seconds) in [("a", 6), ("b", 6), ("b", 45), ("c", 6), ("d", 6), ("e", 0)] {
        commit(group, seconds);
    }
    offsets.note_left("c").unwrap();
    offsets.drop_group("d").unwrap();
    offsets.note_left("nobody").unwrap();
    let expected = [("a", 6), ("b", 45)].map(|(g, s)| (g.to_owned(), Duration::from_secs(s)));
    assert_eq!(offsets.sessions(), expected);
    let before = offsets.journal.lock().bytes;
    commit("a", 6);
    let line = offsets.journal.lock().bytes - before;
    assert!(line < 150, "members are noted only where they change");
    drop(offsets);
    let offsets = Offsets::open(folder.path(), true).unwrap();
    assert_eq!(offsets.sessions(), expected);
    rewrite(offsets.path(), &offsets.journal.lock().by_group).unwrap();
    drop(offsets);
    let offsets = Offsets::open(folder.path(), true).unwrap();
    assert_eq!(offsets.sessions(), expected, "after a rewrite");
}
