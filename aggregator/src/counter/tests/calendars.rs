//! Calendar windows against the table of `zoneinfo` (tests/data/calendars): what is counted in the first and the last
//! microsecond of a period belongs to it, and what comes a microsecond earlier or later does not.

use std::fs;
use std::path::Path;

use super::*;

/// Counts one in the last moment before a period, one at its start, one in its last moment and one at its end.
#[track_caller]
fn check_period(line: &str) {
    let fields: Vec<&str> = line.split(',').collect();
    let [zone, period, _, start, end] = fields[..] else {
        panic!("{line} has not five fields");
    };
    let [start, end] = [start, end].map(|at| Timestamp::parse(at).unwrap());
    if start == end {
        return;
    }
    let case = Case::new("hard=2", &format!("calendar {period}"), zone);
    let just_before = |at: Timestamp| Timestamp::from_micros(at.as_micros() - 1);
    let mut counter = case.counter(just_before(start));
    let (mut sums, mut changes) = (Vec::new(), Vec::new());
    for at in [just_before(start), start, just_before(end), end] {
        case.add(&mut counter, (at, 1), &mut changes);
        sums.push(counter.sum(case.rules()));
    }
    assert_eq!(sums, [1, 1, 2, 1], "{line}");
    let told = changes.iter().map(|c| (c.direction, c.at, c.falls_at));
    let up = (Direction::Up, just_before(end), Some(end));
    let down = (Direction::Down, end, None);
    assert_eq!(told.collect::<Vec<_>>(), [up, down], "{line}");
}

#[test]
fn calendars_begin_and_end_where_zoneinfo_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../tests/data/calendars/boundaries.csv");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut checked = 0;
    for line in lines {
        check_period(line);
        checked += 1;
    }
    assert!(1_000 < checked, "{checked} periods are too few");
}
