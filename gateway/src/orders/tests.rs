//! By hashes as by paths.

use proptest::prelude::*;
use proptest::sample::select;
use schemas::orders::{InForce, Numbers};
use schemas::policy::{Limit, Mode, Override, Overrides};
use schemas::subject::{Identity, Subject};

use super::*;
use crate::plan::tests::{limit, limit_with, plan, plan_with, sets};

fn limits() -> Vec<Limit> {
    let general = |text: &str| Limit {
        replaced_in: vec!["pro".to_owned()],
        ..limit(text)
    };
    let pro = |text: &str| Limit {
        tier: Some("pro".to_owned()),
        ..limit(text)
    };
    let us = sets(&["us user u w*"]);
    vec![
        limit("all platform requests 1000 sliding 60s"),
        general("rate tenant/* requests 100 sliding 60s"),
        pro("rate tenant/* requests 600 sliding 60s"),
        general("each tenant/*/user/* requests 10 sliding 60s"),
        pro("each tenant/*/user/* requests 60 sliding 60s"),
        limit("each tenant/*/key/*/user/* requests 70 sliding 60s"),
        limit_with("each tenant/*/user/{us} requests 50 sliding 60s", &us),
        limit_with("rate tenant/*/key/*/user/{us} requests 80 sliding 60s", &us),
    ]
}

const SUBJECTS: [&str; 9] = [
    "platform",
    "tenant/acme",
    "tenant/paying",
    "tenant/acme/user/u",
    "tenant/acme/key/k",
    "tenant/acme/key/k/user/u",
    "tenant/acme/user/{us}",
    "tenant/acme/key/k/user/{us}",
    "tenant/paying/user/u",
];

/// By subject and limit, the hard number.
type Written = Vec<(&'static str, &'static str, i128)>;

fn written() -> impl Strategy<Value = Written> {
    let one = (
        select(SUBJECTS.to_vec()),
        select(vec!["all", "rate", "each"]),
        11..19_i128,
    );
    proptest::collection::vec(one, 0..4)
}

fn overrides(written: &Written) -> Overrides {
    let mut overrides = Overrides::default();
    for (subject, limit, hard) in written {
        let overridden = Override {
            numbers: Numbers {
                hard: Some(*hard),
                ..Numbers::default()
            },
            reason: None,
        };
        let subject = Subject::parse(subject).unwrap();
        overrides.add(subject, (*limit).to_owned(), overridden);
    }
    overrides
}

#[derive(Clone, Debug)]
enum Op {
    Put(&'static str, &'static str, i128, Option<i64>),
    End(&'static str, &'static str),
}

fn op() -> impl Strategy<Value = Op> {
    let subject = || select(SUBJECTS.to_vec());
    let what = || select(vec!["all", "rate", "each", "tier", "clear rate"]);
    prop_oneof![
        3 => (subject(), what(), 1..9_i128, proptest::option::of(0..9_i64))
            .prop_map(|(subject, what, number, until)| Op::Put(subject, what, number, until)),
        1 => (subject(), what()).prop_map(|(subject, what)| Op::End(subject, what)),
    ]
}

fn key(subject: &str, what: &str) -> OrderKey {
    let about = match what.split_once(' ') {
        Some((_, limit)) => About::Cleared(limit.to_owned()),
        None if what == "tier" => About::Tier,
        None => About::Numbers(what.to_owned()),
    };
    let subject = Subject::parse(subject).unwrap();
    OrderKey { subject, about }
}

fn order(seq: usize, key: OrderKey, number: i128, until: Option<i64>) -> Order {
    let change = match &key.about {
        About::Tier if number % 2 == 0 => Change::Tier("pro".to_owned()),
        About::Tier => Change::Tier("free".to_owned()),
        About::Cleared(limit) => Change::Cleared {
            limit: limit.clone(),
            reason: String::new(),
        },
        About::Numbers(limit) => Change::Numbers {
            limit: limit.clone(),
            // Some say nothing of the number.
            numbers: Numbers {
                hard: (number < 7).then_some(number),
                mode: Some(Mode::Open),
                ..Numbers::default()
            },
        },
    };
    Order {
        command: format!("c{seq}"),
        seq: seq as i64,
        subject: key.subject,
        at: Timestamp::from_seconds(0),
        until: until.map(Timestamp::from_seconds),
        change,
    }
}

/// What limits hold for the request of `identity`, as name, subject and number.
fn by_hashes(
    plan: &Plan,
    ordered: &Ordered,
    identity: &Identity<'_>,
    now: Timestamp,
) -> Vec<(String, String, i128)> {
    let hashes = Hasher::new([1, 2]).identity(identity, plan.dimensions);
    let held = plan.limits_of(identity, None, &hashes, (ordered, now));
    held.map(|(planned, _)| {
        let subject = planned.limit.pattern.subject_of(identity).unwrap();
        assert_eq!(planned.rule.hard() as i128, planned.limit.hard());
        (
            planned.limit.name.clone(),
            subject.to_string(),
            planned.limit.hard(),
        )
    })
    .collect()
}

fn by_paths(
    plan: &Plan,
    orders: &Orders,
    identity: &Identity<'_>,
    now: Timestamp,
) -> Vec<(String, String, i128)> {
    let in_force = InForce {
        policy: plan.policy(),
        orders,
        now,
    };
    let limits = plan.policy().limits.iter().filter_map(|limit| {
        let subject = limit.pattern.subject_of(identity)?;
        let holds = limit.holds_in(in_force.tier(&subject));
        let held = holds.then(|| in_force.held(limit, &subject).limit.hard())?;
        Some((limit.name.clone(), subject.to_string(), held))
    });
    limits.collect()
}

proptest! {
    #[test]
    fn chooses_as_paths_do(
        written in written(),
        ops in proptest::collection::vec(op(), 0..30),
        second in 0..9_i64,
        anew in any::<bool>(),
    ) {
        let (plan, hasher) = (plan_with(limits(), overrides(&written)), Hasher::new([1, 2]));
        let (mut book, mut orders) = (Book::default(), Orders::default());
        let mut ordered = book.plan(&plan, &hasher);
        for (seq, op) in ops.into_iter().enumerate() {
            let news = match op {
                Op::Put(subject, what, number, until) => {
                    let order = order(seq, key(subject, what), number, until);
                    orders.put(order.clone());
                    book.put(order, &plan, &hasher)
                }
                Op::End(subject, what) => {
                    orders.end(&key(subject, what), i64::MAX);
                    book.end(&key(subject, what), &plan, &hasher)
                }
            };
            ordered = news.unwrap_or(ordered);
        }
        prop_assert_eq!(book.len(), orders.len());
        if anew {
            ordered = book.plan(&plan, &hasher);
        }
        let now = Timestamp::from_seconds(second);
        for tenant in ["acme", "paying", "other"] {
            for (key, user) in [(None, None), (None, Some("u")), (Some("k"), Some("u")), (Some("k"), Some("v"))] {
                let identity = Identity { tenant: Some(tenant), key, user, ..Identity::default() };
                prop_assert_eq!(by_hashes(&plan, &ordered, &identity, now), by_paths(&plan, &orders, &identity, now));
            }
        }
    }
}

#[test]
fn an_order_leaves_what_checks_hold_as_it_was() {
    let (plan, hasher) = (plan(limits()), Hasher::new([1, 2]));
    let mut book = Book::default();
    let before = book.plan(&plan, &hasher);
    let raise = order(0, key("tenant/acme", "rate"), 6, None);
    let after = book.put(raise, &plan, &hasher).unwrap();
    let identity = Identity {
        tenant: Some("acme"),
        ..Identity::default()
    };
    let rate = |ordered| by_hashes(&plan, ordered, &identity, Timestamp::from_seconds(0))[1].2;
    assert_eq!((rate(&before), rate(&after)), (100, 6));
}

/// What a clearing of `name` for `subject` empties, as name and window, where the tenant `paying` is in tier `pro`.
#[track_caller]
fn check_cleared(subject: &str, name: &str, expected: &[&str]) {
    let mut limits = limits();
    let alike = |text: &str, tier: Option<String>| Limit {
        tier,
        ..limit(text)
    };
    limits.push(alike("hourly tenant/* requests 9 sliding 1h", None));
    limits.push(alike(
        "rate tenant/* requests 9 sliding 1h",
        Some("pro".to_owned()),
    ));
    limits.push(alike("same tenant/* requests 9 sliding 60s", None));
    limits.push(alike("tokens tenant/* tokens 9 sliding 60s", None));
    let (plan, hasher) = (plan(limits), Hasher::new([1, 2]));
    let order = order(0, key(subject, &format!("clear {name}")), 1, None);
    let cleared = Book::default().cleared(&order, &plan, &hasher);
    let (_, hash) = hasher.subject(&order.subject);
    let mut names: Vec<String> = Vec::new();
    for (planned, key) in cleared {
        assert_eq!(key, hash.wrapping_add(planned.hash));
        names.push(format!("{} {}", planned.limit.name, planned.limit.window));
    }
    names.dedup();
    assert_eq!(names, expected, "{subject} {name}");
}

#[test]
fn what_is_cleared_is_one_subjects_and_one_series() {
    let acme = "tenant/acme";
    // Of its own name whatever its tier has; of others what looks at the same sums.
    let rate = ["rate sliding 60s", "rate sliding 1h", "same sliding 60s"];
    check_cleared(acme, "rate", &rate);
    check_cleared(acme, "same", &["rate sliding 60s", "same sliding 60s"]);
    check_cleared(acme, "hourly", &["hourly sliding 1h", "rate sliding 1h"]);
    check_cleared(acme, "tokens", &["tokens sliding 60s"]);
    check_cleared(acme, "each", &[]);
    check_cleared("tenant/acme/user/u", "each", &["each sliding 60s"]);
    check_cleared("tenant/acme/user/u", "rate", &[]);
}
