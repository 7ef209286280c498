use super::*;

const NOON: i64 = 1_700_000_000_000_000;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOON + micros)
}

fn rule(window: &str, hard: i128) -> Rule {
    Rule::new(window.parse().unwrap(), hard)
}

fn item(rule: &Rule, key: u128, amount: u64) -> Item<'_, Rule> {
    Item {
        key,
        limit: rule,
        amount,
        refuses: true,
        zone: Tz::UTC,
        tally: Tally::default(),
        full: false,
        share: None,
    }
}

/// Spread over all shards.
fn keyed(n: u128) -> u128 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

/// `script`: `amount@seconds` for each request; `expected`: `used` where admitted, `!seconds` until which not.
#[track_caller]
fn check(window: &str, hard: i128, script: &str, expected: &str) {
    let windows = Windows::new(1 << 20);
    let rule = rule(window, hard);
    let mut told = Vec::new();
    for step in script.split_whitespace() {
        let (amount, seconds) = step.split_once('@').unwrap();
        let micros = (seconds.parse::<f64>().unwrap() * 1e6) as i64;
        let mut items = [item(&rule, 7, amount.parse().unwrap())];
        let admitted = windows.take(&mut items, at(micros), Intent::Charge);
        let tally = items[0].tally;
        told.push(if admitted {
            tally.used.to_string()
        } else {
            let frees = tally.frees_at.unwrap().as_micros() - NOON;
            format!("!{}", frees as f64 / 1e6)
        });
    }
    assert_eq!(told.join(" "), expected);
}

#[test]
fn sliding_windows_count_their_oldest_slice_in_full() {
    check(
        "sliding 60s",
        3,
        "1@0 1@0.9 1@30 1@30.5 1@59 1@60.9",
        "1 2 3 !61 !61 !61",
    );
    check(
        "sliding 60s",
        3,
        "1@0 1@0.9 1@30 1@61 1@61 1@61",
        "1 2 3 2 3 !91",
    );
    check(
        "sliding 1s",
        1,
        "1@0.999999 1@1 1@1.999999 1@2",
        "1 !2 !2 1",
    );
    // Slices of a minute, from one hour on; noon here is 20 s into its minute.
    check("sliding 1h", 1, "1@0 1@3639 1@3640", "1 !3640 1");
}

#[test]
fn a_request_is_admitted_whole_below_the_hard_number() {
    check(
        "sliding 60s",
        60_000,
        "59999@0 500@1 1@2",
        "59999 60499 !61",
    );
    // Both must leave before there is room again.
    check("sliding 60s", 100, "10@0 100@1 90@2 1@3", "10 110 !62 !62");
    check("calendar day", 10, "9@0 5@1 0@2", "9 14 !6400");
}

#[test]
fn buckets_drain() {
    check(
        "bucket 1/s burst 2",
        9,
        "1@0 1@0 1@0 1@0.999999 1@1 1@1",
        "1 2 !1 !1 2 !2",
    );
    check(
        "bucket 3/s burst 1",
        1,
        "1@0 1@0.333333 1@0.333334",
        "1 !0.333334 1",
    );
    check(
        "bucket 1/m burst 1",
        1,
        "3@0 1@120 1@179.999999 1@180",
        "3 !180 !180 1",
    );
    // The hard number is the lower one.
    check("bucket 1/s burst 50", 1, "1@0 1@0.5 1@1", "1 !1 1");
}

#[test]
fn time_that_goes_back_frees_nothing() {
    check("sliding 60s", 2, "1@10 1@5 1@0 1@69 1@71", "1 2 !71 !71 1");
    check("bucket 1/s burst 1", 1, "1@10 1@0 1@11", "1 !11 1");
    check(
        "calendar day",
        1,
        "1@6400 1@0 1@92799 1@92800",
        "1 !92800 !92800 1",
    );
}

#[test]
fn amounts_beyond_a_word_stay_exact() {
    let max = u64::MAX;
    let script = format!("{max}@0 {max}@0 {max}@1 1@2 1@62");
    let sum = 3 * u128::from(max);
    let (one, two) = (u128::from(max), 2 * u128::from(max));
    let expected = format!("{one} {two} {sum} {} {}", sum + 1, 2);
    check("sliding 60s", i128::MAX, &script, &expected);
}

#[test]
fn a_request_counts_under_all_its_limits_or_none() {
    let windows = Windows::new(1 << 20);
    let (wide, narrow) = (rule("sliding 60s", 10), rule("sliding 60s", 2));
    let mut used = Vec::new();
    for second in 0..4 {
        let mut items = [item(&wide, 1, 1), item(&narrow, u128::MAX, 1)];
        let admitted = windows.take(&mut items, at(second * 1_000_000), Intent::Charge);
        used.push((admitted, items[0].tally.used, items[1].tally.used));
    }
    assert_eq!(
        used,
        [(true, 1, 1), (true, 2, 2), (false, 2, 2), (false, 2, 2)]
    );
}

#[test]
fn open_limits_count_and_never_refuse() {
    let windows = Windows::new(1 << 20);
    let open = rule("sliding 60s", 1);
    for n in 1..=3 {
        let mut items = [Item {
            refuses: false,
            ..item(&open, 1, 1)
        }];
        assert!(windows.take(&mut items, at(0), Intent::Charge));
        assert_eq!(items[0].tally.used, n);
    }
}

#[test]
fn looking_changes_nothing() {
    let windows = Windows::new(1 << 20);
    let limit = rule("sliding 60s", 1);
    for expected in [true, true] {
        let mut items = [item(&limit, 1, 1)];
        assert_eq!(windows.take(&mut items, at(0), Intent::Look), expected);
    }
    assert!(windows.is_empty());
    windows.take(&mut [item(&limit, 1, 1)], at(0), Intent::Charge);
    assert!(!windows.take(&mut [item(&limit, 1, 1)], at(0), Intent::Look));
}

#[test]
fn idle_counters_are_swept() {
    let windows = Windows::new(1 << 20);
    let limit = rule("sliding 60s", 100);
    for key in 0..1_000_u128 {
        windows.take(&mut [item(&limit, keyed(key), 1)], at(0), Intent::Charge);
    }
    let sweep_all = |micros| (0..SHARDS).for_each(|shard| windows.sweep(shard, at(micros)));
    sweep_all(60_999_999);
    assert_eq!(windows.len(), 1_000);
    sweep_all(61_000_000);
    assert_eq!((windows.len(), windows.dropped()), (0, 0));
}

#[test]
fn memory_is_bounded_and_losses_are_counted() {
    let counters_max = 10 * SHARDS;
    let windows = Windows::new(counters_max * COUNTER_BYTES);
    let (short, long) = (rule("sliding 60s", 100), rule("calendar month", 100));
    for n in 0..SHARDS as u128 {
        windows.take(&mut [item(&long, keyed(n), 1)], at(0), Intent::Charge);
    }
    for n in 1_000..11_000 {
        windows.take(&mut [item(&short, keyed(n), 1)], at(1), Intent::Charge);
        assert!(windows.len() <= counters_max);
    }
    let dropped = 10_000 + SHARDS as u64 - windows.len() as u64;
    assert_eq!(windows.dropped(), dropped);
    // What ends late is dropped last.
    for n in 0..SHARDS as u128 {
        let mut items = [item(&long, keyed(n), 1)];
        windows.take(&mut items, at(2), Intent::Look);
        assert_eq!(items[0].tally.used, 1, "budget {n}");
    }
}

#[test]
fn slices_count_as_memory_and_are_given_back() {
    let windows = Windows::new(1 << 20);
    let limit = rule("sliding 60s", 1_000);
    let bytes = || -> usize { windows.shards.iter().map(|s| s.0.lock().bytes).sum() };
    for second in 0..60 {
        windows.take(
            &mut [item(&limit, 1, 1)],
            at(second * 1_000_000),
            Intent::Charge,
        );
    }
    assert!(COUNTER_BYTES + 60 * 16 <= bytes());
    windows.take(&mut [item(&limit, 1, 1)], at(500_000_000), Intent::Charge);
    assert_eq!(bytes(), COUNTER_BYTES);
    windows.sweep(0, at(900_000_000));
    assert_eq!(bytes(), 0);
}

#[test]
fn many_threads_admit_no_more_than_one_would() {
    let windows = Windows::new(1 << 20);
    let (wide, narrow) = (rule("sliding 60s", 1_000), rule("sliding 60s", 700));
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (windows, wide, narrow, admitted) = (&windows, &wide, &narrow, &admitted);
            scope.spawn(move || {
                for n in 0..500 {
                    // Both orders, in both orders of shards.
                    let key = u128::from((n + thread) % 2) << 127;
                    let mut items = [item(wide, 5 << 64, 1), item(narrow, key | 3, 1)];
                    if n % 2 == 0 {
                        items.reverse();
                    }
                    let taken = windows.take(&mut items, at(0), Intent::Charge);
                    admitted.fetch_add(u64::from(taken), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 1_000);
}
