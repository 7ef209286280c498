//! Which numbers hold for whom.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::policy::{Meter, Stale, TenantSettings, Window};
use crate::subject::Pattern;

fn limit(name: &str, pattern: &str, tier: Option<&str>, hard: i128) -> Limit {
    let soft = Level {
        name: "80%".to_owned(),
        threshold: part_of(hard, 80),
    };
    let fixed = Level {
        name: "90".to_owned(),
        threshold: 90,
    };
    let hard = Level {
        name: HARD.to_owned(),
        threshold: hard,
    };
    Limit {
        name: name.to_owned(),
        pattern: Pattern::parse(pattern).unwrap(),
        meter: Meter::Requests,
        window: Window::Sliding { seconds: 60 },
        levels: vec![soft, fixed, hard],
        keep: 0,
        mode: Mode::Block,
        stale: Stale::LastKnown,
        tier: tier.map(str::to_owned),
        replaced_in: Vec::new(),
        status: None,
        headers: true,
    }
}

fn policy() -> Policy {
    let general = Limit {
        replaced_in: vec!["pro".to_owned()],
        ..limit("rpm", "tenant/*", None, 100)
    };
    let users = Limit {
        replaced_in: vec!["pro".to_owned()],
        ..limit("user", "tenant/*/user/*", None, 101)
    };
    let settings = TenantSettings {
        tier: Some("pro".to_owned()),
        zone: None,
    };
    Policy {
        version: 1,
        limits: vec![
            limit("all", "platform", None, 1_000),
            general,
            limit("rpm", "tenant/*", Some("pro"), 600),
            users,
            limit("user", "tenant/*/user/*", Some("pro"), 601),
        ],
        tenants: BTreeMap::from([("paying".to_owned(), settings)]),
        ..Policy::default()
    }
}

/// `SUBJECT LIMIT hard`, `SUBJECT clear LIMIT`, or `SUBJECT tier NAME`; with `@N` it ends at second N. Each is newer than those before it.
fn orders(lines: &[&str]) -> Orders {
    let order = |(seq, line): (usize, &&str)| {
        let (line, until) = match line.split_once(" @") {
            Some((line, until)) => (line, Some(Timestamp::from_seconds(until.parse().unwrap()))),
            None => (*line, None),
        };
        let words: Vec<&str> = line.split(' ').collect();
        let change = match words[1] {
            "tier" => Change::Tier(words[2].to_owned()),
            "clear" => Change::Cleared {
                limit: words[2].to_owned(),
                reason: "test".to_owned(),
            },
            limit => Change::Numbers {
                limit: limit.to_owned(),
                numbers: Numbers {
                    hard: Some(words[2].parse().unwrap()),
                    ..Numbers::default()
                },
            },
        };
        Order {
            command: format!("c_{seq}"),
            seq: seq as i64,
            subject: Subject::parse(words[0]).unwrap(),
            at: Timestamp::from_seconds(0),
            until,
            change,
        }
    };
    lines.iter().enumerate().map(order).collect()
}

#[track_caller]
fn check(lines: &[&str], second: i64, subject: &str, expected: &[(&str, i128)]) {
    let (policy, orders) = (policy(), orders(lines));
    let in_force = InForce {
        policy: &policy,
        orders: &orders,
        now: Timestamp::from_seconds(second),
    };
    let subject = Subject::parse(subject).unwrap();
    let limits = in_force.limits_on(&subject);
    let limits = limits.map(|held| (held.limit.name.clone(), held.limit.hard()));
    let limits: Vec<(String, i128)> = limits.collect();
    let limits: Vec<(&str, i128)> = limits.iter().map(|(n, hard)| (n.as_str(), *hard)).collect();
    assert_eq!(limits, expected, "{subject}");
}

#[test]
fn the_narrowest_order_wins() {
    check(&[], 0, "tenant/acme", &[("rpm", 100)]);
    check(&[], 0, "tenant/paying", &[("rpm", 600)]);
    check(&["tenant/acme rpm 7"], 0, "tenant/acme", &[("rpm", 7)]);
    check(&["tenant/acme rpm 7"], 0, "tenant/other", &[("rpm", 100)]);
    check(&["tenant/acm rpm 7"], 0, "tenant/acme", &[("rpm", 100)]);
    check(
        &["tenant/acme user 7"],
        0,
        "tenant/acme/user/u",
        &[("user", 7)],
    );
    let both = ["tenant/acme user 7", "tenant/acme/user/u user 9"];
    check(&both, 0, "tenant/acme/user/u", &[("user", 9)]);
    check(&both, 0, "tenant/acme/user/v", &[("user", 7)]);
    check(&both, 0, "tenant/acme", &[("rpm", 100)]);
    check(&["platform all 5"], 0, "platform", &[("all", 5)]);
    check(&["platform rpm 5"], 0, "tenant/acme", &[("rpm", 100)]);
}

#[test]
fn a_tier_is_the_narrowest_subjects() {
    let tenant = ["tenant/acme tier pro"];
    check(&tenant, 0, "tenant/acme", &[("rpm", 600)]);
    check(&tenant, 0, "tenant/acme/user/u", &[("user", 601)]);
    let user = ["tenant/acme/user/u tier pro"];
    check(&user, 0, "tenant/acme", &[("rpm", 100)]);
    check(&user, 0, "tenant/acme/user/u", &[("user", 601)]);
    check(&user, 0, "tenant/acme/user/v", &[("user", 101)]);
    let down = ["tenant/paying tier free"];
    check(&down, 0, "tenant/paying", &[("rpm", 100)]);
    let numbers_too = ["tenant/acme tier pro", "tenant/acme rpm 7"];
    check(&numbers_too, 0, "tenant/acme", &[("rpm", 7)]);
}

#[test]
fn an_order_ends_on_time_and_what_is_wider_holds_again() {
    let lines = ["tenant/acme user 7", "tenant/acme/user/u user 9 @10"];
    check(&lines, 9, "tenant/acme/user/u", &[("user", 9)]);
    check(&lines, 10, "tenant/acme/user/u", &[("user", 7)]);
}

#[test]
fn soft_levels_follow_the_hard_number() {
    let limit = limit("rpm", "tenant/*", None, 100);
    let check = |hard, expected: &[(&str, i128)]| {
        let numbers = Numbers {
            hard: Some(hard),
            ..Numbers::default()
        };
        let levels = numbers.on(&limit).levels;
        let levels: Vec<_> = levels
            .iter()
            .map(|l| (l.name.as_str(), l.threshold))
            .collect();
        assert_eq!(levels, expected, "{hard}");
    };
    check(1_000, &[("90", 90), ("80%", 800), ("hard", 1_000)]);
    check(90, &[("80%", 72), ("hard", 90)]);
    check(1, &[("hard", 1)]);
}

#[test]
fn keys_are_read_as_they_are_written() {
    let check = |key: &str| assert_eq!(OrderKey::parse(key).unwrap().to_string(), key);
    check("override/tenant/acme#tokens-a-minute");
    check("override/tenant/acme/route/GET /a#b#rpm");
    check("tier/tenant/acme/user/u");
    check("cleared/tenant/acme/route/GET /a#b#rpm");
    for key in [
        "policy",
        "layout",
        "version/3",
        "override/tenant/acme",
        "tier/nobody",
        "cleared/tenant/acme",
    ] {
        assert_eq!(OrderKey::parse(key), None, "{key}");
    }
}

#[test]
fn an_older_order_changes_nothing() {
    let mut all = orders(&["tenant/acme rpm 7", "tenant/acme rpm 8"]);
    let older = orders(&["tenant/acme rpm 7"])
        .iter()
        .next()
        .unwrap()
        .clone();
    assert!(!all.put(older.clone()));
    assert_eq!(all.end(&older.key(), 0), None);
    assert_eq!(all.len(), 1);
    assert_eq!(all.end(&older.key(), 1).unwrap().command, "c_1");
    assert!(all.is_empty());
}

proptest! {
    /// Against a list that is searched from its end.
    #[test]
    fn agrees_with_a_list(ops in proptest::collection::vec(
        (select(vec!["tenant/a", "tenant/a/user/u", "tenant/b"]), select(vec!["user", "rpm"]), 1..9_i128, any::<bool>()), 0..20,
    )) {
        let mut all = Orders::default();
        let mut list: Vec<(&str, &str, i128)> = Vec::new();
        for (seq, (subject, limit, hard, ends)) in ops.into_iter().enumerate() {
            let line = format!("{subject} {limit} {hard}");
            let order = Order { seq: seq as i64, ..orders(&[&line]).iter().next().unwrap().clone() };
            list.retain(|(s, l, _)| (*s, *l) != (subject, limit));
            if ends {
                all.end(&order.key(), order.seq);
            } else {
                all.put(order);
                list.push((subject, limit, hard));
            }
        }
        prop_assert_eq!(all.len(), list.len());
        let policy = policy();
        let in_force = InForce { policy: &policy, orders: &all, now: Timestamp::from_seconds(0) };
        for path in ["tenant/a", "tenant/a/user/u", "tenant/a/user/v", "tenant/b", "tenant/b/user/u"] {
            let subject = Subject::parse(path).unwrap();
            for held in in_force.limits_on(&subject) {
                let by_length = |(s, _, _): &&(&str, &str, i128)| s.len();
                let over = list.iter().filter(|(s, l, _)| {
                    *l == held.limit.name && (path == *s || path.starts_with(&format!("{s}/")))
                });
                let expected = over.max_by_key(by_length).map(|(_, _, hard)| *hard);
                let own = policy.limits.iter().find(|l| l.name == held.limit.name).unwrap().hard();
                prop_assert_eq!(held.limit.hard(), expected.unwrap_or(own));
            }
        }
    }
}

#[test]
fn what_is_in_flight_stays_strict() {
    let places = Limit {
        window: Window::Concurrent,
        mode: Mode::Strict,
        ..limit("places", "tenant/*", None, 100)
    };
    let ordered = |hard| Numbers {
        hard,
        mode: Some(Mode::Open),
        ..Numbers::default()
    };
    for (hard, expected) in [(None, 100), (Some(7), 7), (Some(700), 700)] {
        let held = ordered(hard).on(&places);
        assert_eq!((held.hard(), held.mode), (expected, Mode::Strict));
    }
}

// === Wallets ===

fn wallet(keep: i128) -> Limit {
    let level = |name: &str, threshold| Level {
        name: name.to_owned(),
        threshold,
    };
    Limit {
        window: Window::Wallet,
        levels: vec![
            level("80%", part_of(100 - keep, 80)),
            level("15", 85 - keep),
            level(HARD, 100 - keep),
        ],
        keep,
        ..limit("wallet", "tenant/*/user/*", None, 100)
    }
}

/// What a wallet that starts with 100, of which `keep` are to be left, is after entries: `id=amount`.
#[track_caller]
fn check_wallet(keep: i128, entries: &str, paid_in: i128, levels: &[(&str, i128)]) {
    let mut paid = Paid::default();
    for entry in entries.split_whitespace() {
        let (id, amount) = entry.split_once('=').unwrap();
        paid = paid.with(id, amount.parse().unwrap()).unwrap_or(paid);
    }
    // Other numbers, from when the limit was no wallet, are not its own.
    let numbers = Numbers {
        hard: Some(7),
        mode: Some(Mode::Open),
        paid,
        ..Numbers::default()
    };
    let limit = numbers.on(&wallet(keep));
    let got = limit.levels.iter();
    let got: Vec<_> = got.map(|l| (l.name.as_str(), l.threshold)).collect();
    assert_eq!(got, levels, "{entries}");
    assert_eq!((limit.paid_in(), limit.mode), (paid_in, Mode::Block));
}

#[test]
fn what_is_paid_in_is_added_once() {
    check_wallet(0, "", 100, &[("80%", 80), ("15", 85), (HARD, 100)]);
    check_wallet(0, "a=100", 200, &[("80%", 160), ("15", 185), (HARD, 200)]);
    check_wallet(
        0,
        "a=100 a=100",
        200,
        &[("80%", 160), ("15", 185), (HARD, 200)],
    );
    check_wallet(
        0,
        "a=100 b=50 a=100 c=-20",
        230,
        &[("80%", 184), ("15", 215), (HARD, 230)],
    );
    check_wallet(10, "a=100", 200, &[("80%", 152), ("15", 175), (HARD, 190)]);
    // Nothing is left to spend: one is the least that a limit can have.
    check_wallet(0, "a=-100", 1, &[(HARD, 1)]);
    check_wallet(
        0,
        "a=-300 b=250",
        50,
        &[("15", 35), ("80%", 40), (HARD, 50)],
    );
}

#[test]
fn the_last_entries_are_known() {
    let mut paid = Paid::default();
    for entry in 0..=PAID_BY_MAX {
        paid = paid.with(&entry.to_string(), 1).unwrap();
    }
    assert_eq!(paid.by.len(), PAID_BY_MAX);
    assert_eq!(paid.with("1", 1), None);
    assert_eq!(paid.sum, i128::try_from(PAID_BY_MAX).unwrap() + 1);
}

#[test]
fn a_wallet_is_not_filled_from_above() {
    let policy = Policy {
        limits: vec![wallet(0)],
        ..Policy::default()
    };
    let paid = Paid::default().with("a", 5).unwrap();
    let pay = |subject: &str| Order {
        command: "a".to_owned(),
        seq: 1,
        subject: Subject::parse(subject).unwrap(),
        at: Timestamp::default(),
        until: None,
        change: Change::Numbers {
            limit: "wallet".to_owned(),
            numbers: Numbers {
                paid: paid.clone(),
                ..Numbers::default()
            },
        },
    };
    let user = Subject::parse("tenant/acme/user/u").unwrap();
    for (on, paid_in) in [("tenant/acme", 100), ("tenant/acme/user/u", 105)] {
        let orders = [pay(on)].into_iter().collect();
        let in_force = InForce {
            policy: &policy,
            orders: &orders,
            now: Timestamp::default(),
        };
        let held = in_force.held(&policy.limits[0], &user);
        assert_eq!(
            (held.limit.paid_in(), held.paid_in()),
            (paid_in, paid_in),
            "{on}"
        );
        // Who counts asks for the tenant as well, on behalf of all that lies in it.
        let tenants = in_force.held(&policy.limits[0], &Subject::tenant("acme"));
        assert_eq!(tenants.paid_in(), 100, "{on}");
    }
}

/// What stands of `lines` has cleared the limit of this name, as `subject` has it, by the order of this place.
#[track_caller]
fn check_cleared(lines: &[&str], second: i64, (subject, limit): (&str, &str), by: Option<i64>) {
    let mut policy = policy();
    policy.limits.push(Limit {
        name: "same".to_owned(),
        ..limit_of("rpm", Some("pro"))
    });
    let orders = orders(lines);
    let in_force = InForce {
        policy: &policy,
        orders: &orders,
        now: Timestamp::from_seconds(second),
    };
    let subject = Subject::parse(subject).unwrap();
    let mut held = in_force.limits_on(&subject);
    let held = held.find(|held| held.limit.name == limit).unwrap();
    let order = in_force.cleared(&held.limit, &subject);
    assert_eq!(order.map(|order| order.seq), by, "{subject} {limit}");
    // It changes no number.
    assert_eq!(held.order, None);
}

fn limit_of(name: &str, tier: Option<&str>) -> Limit {
    let mut limits = policy().limits.into_iter();
    let named = limits.find(|limit| limit.name == name && limit.tier.as_deref() == tier);
    named.unwrap()
}

#[test]
fn what_is_cleared_is_one_subjects() {
    let acme = ("tenant/acme", "rpm");
    check_cleared(&["tenant/acme clear rpm"], 0, acme, Some(0));
    check_cleared(
        &["tenant/acme clear rpm @9", "tenant/acme clear rpm @10"],
        9,
        acme,
        Some(1),
    );
    check_cleared(&["tenant/acme clear rpm @9"], 9, acme, None);
    check_cleared(&["tenant/other clear rpm"], 0, acme, None);
    check_cleared(&["tenant/acme clear user"], 0, acme, None);
    let user = ("tenant/acme/user/u", "user");
    check_cleared(&["tenant/acme clear user"], 0, user, None);
    // Both limits look at the same sums; where the tier has another limit of the name, that is cleared.
    let paying = |limit| ("tenant/paying", limit);
    check_cleared(&["tenant/paying clear same"], 0, paying("rpm"), Some(0));
    check_cleared(&["tenant/paying clear rpm"], 0, paying("same"), Some(0));
    check_cleared(&["tenant/acme clear same"], 0, acme, None);
}

#[test]
fn what_is_cleared_changes_no_number_and_stands_in_no_ones_way() {
    let lines = ["tenant/acme rpm 7", "tenant/acme clear rpm"];
    check(&lines, 0, "tenant/acme", &[("rpm", 7)]);
    let all = orders(&lines);
    assert_eq!(all.len(), 2);
    assert!(!orders(&lines[1..]).judge(&Subject::tenant("acme")));
    assert!(all.judge(&Subject::tenant("acme")));
}

#[test]
fn what_was_counted_ends_with_its_window() {
    let at = Timestamp::parse("2026-11-22T10:00:30Z").unwrap();
    let check = |window: &str, expected: Option<&str>| {
        let limit = Limit {
            window: window.parse().unwrap(),
            ..limit_of("rpm", None)
        };
        let until = counts_until(&limit, chrono_tz::Europe::Berlin, at);
        assert_eq!(
            until.map(|at| at.to_string()).as_deref(),
            expected,
            "{window}"
        );
    };
    check("sliding 60s", Some("2026-11-22T11:01:31Z"));
    check("sliding 1h", Some("2026-11-22T12:01:30Z"));
    check("bucket 1/s burst 50", Some("2026-11-22T11:02:10Z"));
    check("calendar day", Some("2026-11-23T00:00:00Z"));
    check("wallet", None);
}
