//! Counters against naive ones: whatever comes, in whatever order.

use proptest::prelude::*;

use super::*;
use crate::model::{NaiveCounter, cases, told};

#[derive(Clone, Debug)]
enum Op {
    Add { at: Timestamp, amount: i128 },
    Pass { by: Timestamp },
}

/// Times up to `span` seconds, mostly rising, in whole seconds or not.
fn ops(span: u64) -> impl Strategy<Value = Vec<Op>> {
    let micros = span * 1_000_000;
    let at = prop_oneof![
        (0..span).prop_map(|s| Timestamp::from_seconds(s as i64)),
        (0..micros).prop_map(|us| Timestamp::from_micros(us as i64)),
    ];
    let op = (at, 1..20_i128, 0..5_u8).prop_map(|(at, amount, kind)| match kind {
        0 => Op::Pass { by: at },
        _ => Op::Add { at, amount },
    });
    (prop::collection::vec(op, 1..60), 0..100_u8).prop_map(|(mut ops, disorder)| {
        let at = |op: &Op| match op {
            Op::Add { at, .. } | Op::Pass { by: at } => *at,
        };
        if disorder < 80 {
            ops.sort_by_key(at);
        }
        if 30 < disorder {
            for i in (0..ops.len().saturating_sub(3)).step_by(4) {
                ops.swap(i, i + 3);
            }
        }
        ops
    })
}

/// Holds a counter of these windows, in the order of their ranks, against a naive one for each, call by call.
fn agree(windows: &[&str], zone: &str, ops: &[Op]) -> Result<(), TestCaseError> {
    let case = Case::of_all("50%=15 hard=30", windows, zone);
    let limits: Vec<&Limit> = case.policy.limits.iter().collect();
    let first = match ops[0] {
        Op::Add { at, .. } | Op::Pass { by: at } => at,
    };
    let mut counter = case.counter(first);
    let naive = |number| NaiveCounter::new(case.rules_of(number).terms, first);
    let mut naive: Vec<NaiveCounter> = (0..limits.len()).map(naive).collect();
    for op in ops {
        let mut changes = Vec::new();
        match *op {
            Op::Add { at, amount } => {
                let before = counter.heap_bytes();
                let resized = case.add(&mut counter, (at, amount), &mut changes);
                let (after, told) = (
                    counter.heap_bytes(),
                    before + resized.after - resized.before,
                );
                // What falls lets go of slices, which is not charged.
                let falls = changes
                    .iter()
                    .any(|change| change.direction == Direction::Down);
                prop_assert!(
                    if falls { after <= told } else { after == told },
                    "{} {}",
                    after,
                    told
                );
            }
            Op::Pass { by } => {
                for number in 0..limits.len() {
                    counter.fall(case.rules_of(number), by, &mut changes);
                }
            }
        }
        for (number, naive) in naive.iter_mut().enumerate() {
            let (limit, mut expected) = (&limits[number..=number], Vec::new());
            match *op {
                Op::Add { at, amount } => naive.add(limit, at, amount, &mut expected),
                Op::Pass { by } => naive.fall(limit, by, &mut expected),
            }
            let own = changes.iter().filter(|c| c.series == number as u32);
            prop_assert_eq!(own.map(told).collect::<Vec<Told>>(), expected);
            prop_assert_eq!(counter.sum(case.rules_of(number)), naive.sum());
        }
        let stands = naive.iter().any(|naive| !naive.standing.is_empty());
        prop_assert_eq!(counter.stands(), stands);
    }
    Ok(())
}

/// The most that any span of `seconds` holds of what was admitted: all that came while the hard level did not stand.
fn worst_span(window: &str, hard: i128, seconds: i64, ops: &[Op]) -> i128 {
    let case = Case::new(&format!("hard={hard}"), window, "UTC");
    let mut counter: Option<Counter> = None;
    let mut admitted = Vec::new();
    for op in ops {
        let Op::Add { at, .. } = *op else { continue };
        let counter = counter.get_or_insert_with(|| case.counter(at));
        counter.fall(case.rules(), at, &mut Vec::new());
        if !counter.stands() {
            case.add(counter, (at, 1), &mut Vec::new());
            admitted.push(at.as_micros());
        }
    }
    let span = |from: &i64| {
        let end = from + seconds * 1_000_000;
        admitted
            .iter()
            .filter(|at| from <= at && **at < end)
            .count() as i128
    };
    admitted.iter().map(span).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn sliding_windows_agree_with_a_list_and_loops(ops in ops(40)) {
        agree(&["sliding 10s"], "UTC", &ops)?;
    }

    #[test]
    fn windows_of_one_slice_agree_with_a_list_and_loops(ops in ops(8)) {
        agree(&["sliding 1s"], "UTC", &ops)?;
    }

    #[test]
    fn windows_of_wide_slices_agree_with_a_list_and_loops(ops in ops(3_000)) {
        agree(&["sliding 11m"], "UTC", &ops)?;
    }

    #[test]
    fn buckets_agree_with_a_list_and_loops(ops in ops(40)) {
        agree(&["bucket 3/7s burst 30"], "UTC", &ops)?;
    }

    #[test]
    fn calendars_agree_with_a_list_and_loops(ops in ops(5 * 86_400)) {
        agree(&["calendar day"], "America/Sao_Paulo", &ops)?;
    }

    #[test]
    fn wallets_agree_with_a_list_and_loops(ops in ops(5 * 86_400)) {
        agree(&["wallet"], "UTC", &ops)?;
    }

    #[test]
    fn windows_that_share_slices_agree_with_lists_and_loops(ops in ops(60)) {
        agree(&["sliding 3s", "sliding 10s", "sliding 1s", "sliding 10s"], "UTC", &ops)?;
    }

    #[test]
    fn windows_of_all_kinds_agree_with_lists_and_loops(ops in ops(4_000)) {
        let windows = [
            "sliding 10s",
            "sliding 5m",
            "sliding 11m",
            "sliding 40m",
            "sliding 11h",
            "bucket 1/60s burst 30",
            "calendar day",
            "wallet",
        ];
        agree(&windows, "America/Sao_Paulo", &ops)?;
    }

    #[test]
    fn no_span_of_a_windows_length_holds_more_than_the_limit(mut ops in ops(40)) {
        let at = |op: &Op| match op { Op::Add { at, .. } | Op::Pass { by: at } => *at };
        ops.sort_by_key(at);
        prop_assert!(worst_span("sliding 10s", 5, 10, &ops) <= 5);
        // A bucket admits its burst, and what drains in the meantime.
        prop_assert!(worst_span("bucket 1/2s burst 5", 5, 10, &ops) <= 5 + 10 / 2);
    }
}
