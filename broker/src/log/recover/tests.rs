//! Opening after all kinds of ends: what is torn is cut, what is damaged is refused, and nothing else changes.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::*;
use crate::log::testing::{
    BASE_TIMESTAMP, contents, many, open, open_after_restart, put, settings, try_open,
};

const NOW: i64 = BASE_TIMESTAMP + 1_000_000;
/// Bytes of one of the batches that [`fill`] writes.
const BATCH: u64 = 72;

/// Three batches in a segment.
fn three_each() -> LogSettings {
    LogSettings {
        segment_bytes: 3 * BATCH,
        ..settings()
    }
}

fn segment(folder: &Path, base: i64) -> PathBuf {
    folder.join(format!("{base:020}.log"))
}

fn checkpoint(folder: &Path, base: i64) -> PathBuf {
    segment(folder, base).with_extension("checkpoint")
}

fn change(path: PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(&path).unwrap();
    change(&mut content);
    fs::write(&path, content).unwrap();
}

fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Offsets 0 to 7 in segments 0, 3 and 6, then an end.
fn fill(folder: &Path, end: End) -> Vec<String> {
    let log = open(folder, three_each());
    let all = many(&log, 0..8);
    assert_eq!(fs::metadata(segment(folder, 3)).unwrap().len(), 3 * BATCH);
    if matches!(end, End::Closed) {
        log.lock().close().unwrap();
    }
    all
}

/// How the process ended that wrote the log, and what became of the machine.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Killed,
    /// The machine has restarted as well.
    PowerCut,
}

/// Opens a damaged log. Expects either what was cut off, as `SEGMENT@POSITION+BYTES`, or a refusal,
/// as `SEGMENT@POSITION REASON`. In the end, also after giving up what the refusal says, these
/// offsets are left.
#[track_caller]
fn check(end: End, damage: impl FnOnce(&Path), expected: &str, left: &[i64]) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let all = fill(folder, end);
    damage(folder);
    let before = everything(folder);
    let try_again = |folder: &Path| match end {
        End::PowerCut => open_after_restart(folder, three_each()),
        End::Killed | End::Closed => try_open(folder, three_each()),
    };
    let name = |path: &Path| -> String {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        stem.parse::<i64>().unwrap().to_string()
    };
    let log = match try_again(folder) {
        Ok((log, cuts)) => {
            let show = |c: &Cut| format!("{}@{}+{}", name(&c.path), c.at, c.bytes);
            let cuts: Vec<_> = cuts.iter().map(show).collect();
            assert_eq!(cuts.join(" "), expected);
            log
        }
        Err(refused) => {
            assert!(
                everything(folder) == before,
                "a refusal has changed something"
            );
            let OpenError::DamagedLog {
                path,
                position,
                reason,
                way_out,
            } = refused
            else {
                panic!("{refused}");
            };
            let found = format!("{}@{position} {reason}", name(&path));
            assert!(
                !expected.is_empty() && found.starts_with(expected),
                "{found}"
            );
            follow(&way_out, &path, position);
            let (log, cuts) = try_again(folder).expect("the way out is one");
            assert_eq!(cuts, []);
            log
        }
    };
    let log = Mutex::new(log);
    let left: Vec<_> = left.iter().map(|i| all[*i as usize].clone()).collect();
    assert_eq!(contents(&log), left);
    let next = log.lock().next;
    assert_eq!(put(&log, "next", Some("v"), NOW), next);
    drop(log);
    let again = open(folder, three_each());
    assert_eq!(
        contents(&again).len(),
        left.len() + 1,
        "opening mended it for good"
    );
}

/// Does what the error tells a person to do.
fn follow(way_out: &str, path: &Path, position: u64) {
    let checkpoint = path.with_extension("checkpoint");
    if way_out == format!("remove {}", checkpoint.display()) {
        fs::remove_file(checkpoint).unwrap();
    } else if way_out.starts_with("move it and its checkpoint away") {
        fs::remove_file(path).unwrap();
        files::remove_if_any(&checkpoint).unwrap();
    } else {
        let command = format!("run `truncate -s {position} {}` ", path.display());
        assert!(way_out.starts_with(&command), "{way_out}");
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(position).unwrap();
    }
}

const ALL: &[i64] = &[0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn a_torn_end_is_cut() {
    let cut = |bytes: usize| move |f: &Path| change(segment(f, 6), |c| c.truncate(c.len() - bytes));
    let append =
        |tail: &'static [u8]| move |f: &Path| change(segment(f, 6), |c| c.extend_from_slice(tail));
    let without_last = &ALL[..7];
    for end in [End::Killed, End::PowerCut] {
        check(end, |_| {}, "", ALL);
        check(end, cut(1), "6@72+71", without_last);
        check(end, cut(71), "6@72+1", without_last);
        check(end, cut(72), "", without_last);
        check(end, cut(143), "6@0+1", &ALL[..6]);
        check(end, cut(144), "", &ALL[..6]);
        check(
            end,
            |f| change(segment(f, 6), |c| c[143] ^= 1),
            "6@72+72",
            without_last,
        );
    }
    for end in [End::Killed, End::PowerCut, End::Closed] {
        check(end, append(&[0; 100]), "6@144+100", ALL);
        check(end, append(&[0xff; 7]), "6@144+7", ALL);
        let again = |f: &Path| change(segment(f, 6), |c| c.extend_from_within(72..));
        check(end, again, "6@144+72", ALL);
    }
}

#[test]
fn what_a_failed_write_left_behind_a_closed_segment_is_cut() {
    let append = |f: &Path| change(segment(f, 3), |c| c.extend([7; 10]));
    check(End::Killed, append, "3@216+10", ALL);
    let and_no_checkpoint = |f: &Path| {
        append(f);
        fs::remove_file(checkpoint(f, 3)).unwrap();
    };
    check(End::Killed, and_no_checkpoint, "3@216+10", ALL);
}

#[test]
fn damage_before_records_that_were_safe_is_refused() {
    let flip = |base: i64, at: usize| move |f: &Path| change(segment(f, base), |c| c[at] ^= 1);
    let unvouched = |base: i64, at: usize| {
        move |f: &Path| {
            flip(base, at)(f);
            files::remove_if_any(&checkpoint(f, base)).unwrap();
        }
    };
    let crc = "the checksum does not match, where offset";
    // In a closed segment, wherever it is.
    let without_middle = &[0, 1, 2, 6, 7];
    check(
        End::Killed,
        unvouched(3, 70),
        &format!("3@0 {crc} 3"),
        without_middle,
    );
    check(
        End::Killed,
        unvouched(3, 140),
        &format!("3@72 {crc} 4"),
        without_middle,
    );
    check(
        End::PowerCut,
        unvouched(3, 215),
        &format!("3@144 {crc} 5"),
        without_middle,
    );
    check(
        End::PowerCut,
        unvouched(0, 0),
        "0@0 the batch starts at",
        &ALL[3..],
    );
    // In the newest one, if intact batches follow and no power cut explains it.
    check(End::Killed, flip(6, 70), &format!("6@0 {crc} 6"), &ALL[..6]);
    check(End::PowerCut, flip(6, 70), "6@0+144", &ALL[..6]);
    // Nobody looks at what a checkpoint vouches for: `verify` does.
}

#[test]
fn bytes_that_are_missing_after_a_sync_are_refused() {
    let cut = |base: i64, bytes: usize| {
        move |f: &Path| change(segment(f, base), |c| c.truncate(c.len() - bytes))
    };
    for end in [End::Closed, End::PowerCut] {
        let torn = format!(
            "3@{} 1 bytes are missing that were on the disk, up to offset 5",
            215
        );
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), end);
        cut(3, 1)(folder.path());
        let refused = try_open(folder.path(), three_each())
            .unwrap_err()
            .to_string();
        assert!(refused.contains(&torn[6..]), "{refused}");
    }
    check(
        End::Closed,
        cut(6, 72),
        "6@72 72 bytes are missing",
        &ALL[..7],
    );
    check(
        End::Closed,
        cut(6, 144),
        "6@0 144 bytes are missing",
        &ALL[..6],
    );
    check(
        End::Killed,
        cut(3, 72),
        "3@144 72 bytes are missing",
        &[0, 1, 2, 3, 4, 6, 7],
    );
}

#[test]
fn a_checkpoint_that_is_not_intact_is_not_believed() {
    let cut = |base: i64, bytes: usize| {
        move |f: &Path| change(checkpoint(f, base), |c| c.truncate(bytes))
    };
    let drop_end =
        |base: i64| move |f: &Path| change(checkpoint(f, base), |c| c.truncate(c.len() - 1));
    let set = |text: &'static str| move |f: &Path| fs::write(checkpoint(f, 6), text).unwrap();
    for base in [3, 6] {
        check(End::Closed, cut(base, 0), "", ALL);
        check(End::Closed, cut(base, 30), "", ALL);
    }
    check(End::Closed, drop_end(6), "", ALL);
    check(End::Closed, set("00000000 {}\n"), "", ALL);
    // The index of a closed segment is missed only by readers, who then search without it.
    check(End::Closed, drop_end(3), "", ALL);
}

#[test]
fn a_tail_cut_at_any_byte_loses_only_the_batches_that_it_cut() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), settings());
    let mut ends = vec![0];
    for i in 0..6 {
        put(&log, &format!("k{i}"), Some(&"v".repeat(i)), NOW);
        ends.push(log.lock().segments[0].bytes as usize);
    }
    drop(log);
    let whole = fs::read(segment(folder.path(), 0)).unwrap();
    for cut in 0..whole.len() {
        fs::write(segment(folder.path(), 0), &whole[..cut]).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
        let (log, cuts) = try_open(folder.path(), settings()).unwrap();
        assert_eq!(log.next as usize, kept, "cut at {cut}");
        let torn: u64 = cuts.iter().map(|c| c.bytes).sum();
        assert_eq!(torn as usize, cut - ends[kept], "cut at {cut}");
        let log = Mutex::new(log);
        assert_eq!(put(&log, "next", Some("v"), NOW), kept as i64);
        assert_eq!(contents(&log).len(), kept + 1);
    }
}
