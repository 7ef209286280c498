mod buckets;
mod calendars;
mod random;

use chrono_tz::Tz;
use schemas::policy::{Limit, Policy};
use schemas::time::Timestamp;

use super::*;
use crate::model::{Told, policy, told};

fn seconds(text: &str) -> Timestamp {
    let micros = text.parse::<f64>().unwrap() * 1e6;
    Timestamp::from_micros(micros.round() as i64)
}

fn shown((_, level, direction, at, sum, falls_at): &Told) -> String {
    let seconds = |at: &Timestamp| at.as_micros() as f64 / 1e6;
    let falls_at = falls_at
        .as_ref()
        .map(|at| format!(" until {}", seconds(at)));
    let direction = match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    };
    let at = seconds(at);
    format!(
        "{direction} {level}@{at} {sum}{}",
        falls_at.unwrap_or_default()
    )
}

/// A policy of a limit for each window of a counter, and their rules.
struct Case {
    policy: Policy,
    zone: Tz,
}

impl Case {
    fn new(levels: &str, window: &str, zone: &str) -> Self {
        Self::of_all(levels, &[window], zone)
    }

    fn of_all(levels: &str, windows: &[&str], zone: &str) -> Self {
        let limits = windows.iter().enumerate();
        let limits = limits.map(|(n, window)| format!("l{n} tenant/* tokens {levels} : {window}"));
        let limits: Vec<String> = limits.collect();
        Self {
            policy: policy(1, &limits.join("\n")),
            zone: zone.parse().unwrap(),
        }
    }

    /// Of the window of this number.
    fn rules_of(&self, number: usize) -> Rules<'_> {
        let limit = &self.policy.limits[number];
        Rules {
            series: number as u32,
            limits: Limits::of(&self.policy.limits),
            places: &[&[0], &[1], &[2], &[3], &[4], &[5], &[6], &[7]][number][..],
            lowest: limit.levels[0].threshold,
            terms: Terms {
                window: limit.window,
                zone: self.zone,
            },
        }
    }

    fn rules(&self) -> Rules<'_> {
        self.rules_of(0)
    }

    fn counter(&self, at: Timestamp) -> Counter {
        let numbers = 0..self.policy.limits.len();
        Counter::new(numbers.map(|number| self.rules_of(number)), at)
    }

    fn add<'p>(
        &'p self,
        counter: &mut Counter,
        (at, amount): (Timestamp, i128),
        changes: &mut Vec<Change<'p>>,
    ) -> Resized {
        let floor = Timestamp::MIN;
        let amount = Amount { amount, at, floor };
        counter.add(|number, _| self.rules_of(number), amount, changes)
    }
}

/// Runs a script on a counter: `10@3` counts 10 at second 3, `^20` lets time pass up to second 20.
#[track_caller]
fn check_in(zone: &str, window: &str, levels: &str, script: &str, expected: &[&str]) {
    let case = Case::new(levels, window, zone);
    let mut counter: Option<Counter> = None;
    let mut changes = Vec::new();
    for word in script.split_ascii_whitespace() {
        if let Some(by) = word.strip_prefix('^') {
            let counter = counter.as_mut().expect("the first word counts something");
            counter.fall(case.rules(), seconds(by), &mut changes);
        } else {
            let (amount, at) = word.split_once('@').unwrap();
            let (amount, at) = (amount.parse().unwrap(), seconds(at));
            let counter = counter.get_or_insert_with(|| case.counter(at));
            case.add(counter, (at, amount), &mut changes);
        }
    }
    assert_eq!(all_shown(&changes), expected);
}

#[track_caller]
fn check(window: &str, levels: &str, script: &str, expected: &[&str]) {
    check_in("UTC", window, levels, script, expected);
}

#[test]
fn a_wallet_never_falls_by_itself() {
    check("wallet", "hard=10", "4@0 5@9999999", &[]);
    check(
        "wallet",
        "hard=10",
        "4@0 6@9999999",
        &["up hard@9999999 10"],
    );
}

#[test]
fn a_sliding_window_counts_its_oldest_slice_in_full() {
    let window = "sliding 10s";
    check(window, "hard=10", "9@0", &[]);
    check(window, "hard=10", "10@0", &["up hard@0 10 until 11"]);
    check(
        window,
        "hard=10",
        "9@0.9 1@10.1",
        &["up hard@10.1 10 until 11"],
    );
    check(window, "hard=10", "9@0.9 1@11", &[]);
    check(window, "hard=10", "9@5 1@7 1@8", &["up hard@7 10 until 16"]);
}

#[test]
fn a_level_falls_at_the_start_of_a_slice() {
    let window = "sliding 10s";
    let up = "up hard@3 10 until 14";
    check(window, "hard=10", "10@3 ^13.999999", &[up]);
    check(window, "hard=10", "10@3 ^14", &[up, "down hard@14 0"]);
    check(window, "hard=10", "10@3 1@100", &[up, "down hard@14 0"]);
    check(window, "hard=10", "10@3 10@13 ^20 1@14", &[up]);
    check(window, "hard=10", "10@3 10@13 ^24", &[up, "down hard@24 0"]);
    // The sum falls below between two amounts, and the second takes it over again.
    check(
        window,
        "hard=10",
        "6@0 4@5 6@12",
        &[
            "up hard@5 10 until 11",
            "down hard@11 4",
            "up hard@12 10 until 16",
        ],
    );
}

#[test]
fn levels_rise_lowest_first_and_fall_highest_first() {
    check(
        "sliding 10s",
        "50%=5 80%=8 hard=10",
        "10@0 6@5 ^100",
        &[
            "up 50%@0 10 until 11",
            "up 80%@0 10 until 11",
            "up hard@0 10 until 11",
            "down hard@11 6",
            "down 80%@11 6",
            "down 50%@16 0",
        ],
    );
}

#[test]
fn what_comes_out_of_order_is_counted_where_it_belongs() {
    let window = "sliding 10s";
    check(window, "hard=10", "5@20 5@10", &["up hard@10 10 until 21"]);
    check(window, "hard=10", "5@20 5@9.9", &[]);
    check(
        window,
        "hard=10",
        "5@20 1@12 4@11",
        &["up hard@11 10 until 22"],
    );
    // Time that passed moves the head no further than to where a level fell.
    check(
        window,
        "hard=10",
        "10@0 ^15 5@2 5@1",
        &[
            "up hard@0 10 until 11",
            "down hard@11 0",
            "up hard@1 10 until 12",
        ],
    );
}

#[test]
fn wider_slices_serve_longer_windows() {
    check("sliding 1h", "hard=2", "2@59", &["up hard@59 2 until 3660"]);
    check(
        "sliding 1h",
        "hard=2",
        "1@0 1@3659",
        &["up hard@3659 2 until 3660"],
    );
    check("sliding 1h", "hard=2", "1@0 1@3660", &[]);
    check(
        "sliding 1d",
        "hard=2",
        "2@3599",
        &["up hard@3599 2 until 90000"],
    );
}

#[test]
fn a_calendar_begins_anew_at_its_boundary() {
    let day = 86_400;
    check(
        "calendar day",
        "hard=10",
        "9@0 1@86399.999999 9@86400 1@90000",
        &[
            &format!("up hard@86399.999999 10 until {day}"),
            &format!("down hard@{day} 0"),
            &format!("up hard@90000 10 until {}", 2 * day),
        ],
    );
    // What belongs to the day before counts in that day only, which is over.
    check("calendar day", "hard=10", "9@86400 9@86399", &[]);
    // 1970-01-01 is a Thursday: Monday is the fifth.
    check(
        "calendar week",
        "hard=1",
        "1@0",
        &[&format!("up hard@0 1 until {}", 4 * day)],
    );
    check(
        "calendar month",
        "hard=1",
        "1@0",
        &[&format!("up hard@0 1 until {}", 31 * day)],
    );
    let up = &format!("up hard@0 1 until {}", day - 3_600);
    check_in("Europe/Berlin", "calendar day", "hard=1", "1@0", &[up]);
}

/// What a counter says when `from` becomes `to` at second 100, after `script`.
#[track_caller]
fn check_reform(script: &str, from: &str, to: &str, expected: &[&str]) {
    let window = "sliding 10s";
    let (old, new) = (Case::new(from, window, "UTC"), Case::new(to, window, "UTC"));
    let mut counter = old.counter(Timestamp::from_seconds(0));
    for word in script.split_ascii_whitespace() {
        let (amount, at) = word.split_once('@').unwrap();
        let amount = amount.parse().unwrap();
        old.add(&mut counter, (seconds(at), amount), &mut Vec::new());
    }
    let mut changes = Vec::new();
    let reform = Reform {
        old: Limits::of(&old.policy.limits),
        new: new.rules(),
        at: Timestamp::from_seconds(100),
        passed: Timestamp::from_seconds(0),
    };
    counter.reform(reform, &mut changes);
    assert_eq!(all_shown(&changes), expected);
}

#[test]
fn a_new_policy_is_obeyed_at_once() {
    let falls = "until 12";
    check_reform("5@0 5@1", "hard=10", "hard=10", &[]);
    check_reform("5@0 5@1", "hard=10", "hard=11", &["down hard@100 10"]);
    check_reform("5@0 4@1", "hard=10", "hard=9", &["up hard@100 9 until 11"]);
    // It still stands, but falls at another time than was said.
    check_reform(
        "5@0 5@1",
        "hard=10",
        "hard=5",
        &[&format!("up hard@100 10 {falls}")],
    );
    check_reform("5@0 5@1", "80%=8 hard=10", "hard=10", &["down 80%@100 10"]);
    check_reform(
        "5@0 5@1",
        "hard=10",
        "80%=8 hard=10",
        &["up 80%@100 10 until 11"],
    );
    check_reform("5@0", "hard=10", "80%=8 hard=10", &[]);
}

/// What was told to have fallen does not come back by what is not in the window.
#[test]
fn what_comes_from_before_a_window_raises_nothing() {
    let case = Case::new("hard=10", "sliding 10s", "UTC");
    let mut counter = case.counter(seconds("100"));
    case.add(&mut counter, (seconds("100"), 10), &mut Vec::new());
    let mut changes = Vec::new();
    let reform = Reform {
        old: Limits::of(&case.policy.limits),
        new: case.rules(),
        at: seconds("150"),
        passed: seconds("150"),
    };
    counter.reform(reform, &mut changes);
    assert_eq!(all_shown(&changes), ["down hard@150 0"]);
    changes.clear();
    case.add(&mut counter, (seconds("89"), 10), &mut changes);
    assert_eq!(all_shown(&changes), [""; 0]);
    case.add(&mut counter, (seconds("90"), 1), &mut changes);
    assert_eq!(all_shown(&changes), ["up hard@90 11 until 111"]);
}

/// What is told of a counter on which two levels stand when it ends as `end` says.
#[track_caller]
fn check_end(end: impl Fn(&Counter, &Case) -> Vec<String>, expected: [&str; 2]) {
    let case = Case::new("80%=8 hard=10", "sliding 10s", "UTC");
    let start = Timestamp::from_seconds(0);
    let mut counter = case.counter(start);
    case.add(&mut counter, (start, 10), &mut Vec::new());
    assert_eq!(end(&counter, &case), expected);
}

fn all_shown(changes: &[Change<'_>]) -> Vec<String> {
    changes.iter().map(|c| shown(&told(c))).collect()
}

#[test]
fn a_retired_counter_tells_that_nothing_stands() {
    let retire = |counter: &Counter, case: &Case| {
        let mut changes = Vec::new();
        let (at, passed) = (Timestamp::from_seconds(9), Timestamp::from_seconds(0));
        counter.retire(case.rules(), (at, passed), &mut changes);
        all_shown(&changes)
    };
    check_end(retire, ["down hard@9 10", "down 80%@9 10"]);
}

#[test]
fn a_cleared_counter_tells_that_nothing_is_left() {
    let clear = |counter: &Counter, case: &Case| {
        let mut changes = Vec::new();
        counter.clear(case.rules(), Timestamp::from_seconds(9), &mut changes);
        all_shown(&changes)
    };
    check_end(clear, ["down hard@9 0", "down 80%@9 0"]);
}

#[test]
fn what_stands_takes_memory_while_it_does() {
    let case = Case::of_all("80%=8 hard=10", &["sliding 10s", "wallet"], "UTC");
    let start = Timestamp::from_seconds(0);
    let mut counter = case.counter(start);
    let nothing_stands = counter.heap_bytes();
    case.add(&mut counter, (start, 8), &mut Vec::new());
    let all = size_of::<Standings>() + 2 * size_of::<Standing>();
    assert_eq!(counter.heap_bytes(), nothing_stands + all);
    counter.fall(case.rules(), Timestamp::from_seconds(20), &mut Vec::new());
    let left = size_of::<Standings>() + size_of::<Standing>();
    assert_eq!(counter.heap_bytes(), nothing_stands + left);
}
