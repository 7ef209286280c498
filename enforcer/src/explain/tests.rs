use std::collections::BTreeMap;
use std::time::Duration;

use schemas::orders::{Change, Numbers};
use schemas::policy::Meter;

use super::*;
use crate::command::{Action, Undone};
use crate::decide::{Output, Reason};
use crate::decision::{Crossing, Signal};

const POLICY: &str = "[[limit]]\nname = 'tpm'\nsubject = 'tenant/*'\nmeter = 'tokens'\nwindow = 'sliding 60s'\nhard = 100\n";

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(second)
}

fn version(number: u64, second: i64, hard: &str) -> Version {
    let source = POLICY.replace("hard = 100", &format!("hard = {hard}"));
    let policy = crate::policy::read(&source).unwrap();
    Version {
        policy: Policy {
            version: number,
            ..policy
        },
        at: at(second),
        author: "ops".to_owned(),
        reason: "why".to_owned(),
        source,
    }
}

fn acme() -> Subject {
    Subject::tenant("acme")
}

fn up(second: i64, offset: i64) -> Signal {
    Signal::Crossing(Crossing {
        id: format!("x{offset}"),
        subject: acme(),
        limit: "tpm".to_owned(),
        policy_version: 1,
        meter: Meter::Tokens,
        window: Window::Sliding { seconds: 60 },
        mode: schemas::policy::Mode::Block,
        soft: None,
        threshold: 100,
        up: true,
        at: at(second),
        sum: 120,
        max: 100,
        falls_at: Some(at(second + 60)),
        origin: Origin {
            topic: "t".to_owned(),
            partition: 0,
            offset,
        },
    })
}

fn placed(id: &str, second: i64, action: Action) -> Placed {
    Placed {
        command: Command {
            id: id.to_owned(),
            subject: acme(),
            at: at(second),
            actor: "ops".to_owned(),
            reason: "why".to_owned(),
            until: None,
            action,
        },
        appended_at: at(second),
        offset: second,
    }
}

fn raise(id: &str, second: i64, limit: &str, hard: i128) -> Placed {
    let numbers = Numbers {
        hard: Some(hard),
        ..Numbers::default()
    };
    let limit = limit.to_owned();
    placed(id, second, Action::Raise { limit, numbers })
}

fn undo(second: i64, command: &str) -> Placed {
    let what = Undone::Raise {
        limit: "tpm".to_owned(),
    };
    let command = command.to_owned();
    let back = None;
    placed(
        "undo",
        second,
        Action::Undo {
            command,
            what,
            back,
        },
    )
}

/// The decision that the first crossing makes.
fn decided() -> Decision {
    let mut decider = Decider::new(version(1, 0, "100").policy, Duration::from_secs(600));
    let mut out = Vec::new();
    decider.hear(&up(10, 1), at(10), &mut out);
    let mut said = out.into_iter().filter_map(|output| match output {
        Output::Put(decision, _) => Some(decision),
        _ => None,
    });
    said.next().unwrap()
}

/// Decides again what comes of crossings at seconds 10 and 200 and of `commands`, and looks for the first decision at
/// second 1000.
#[track_caller]
fn check_again(versions: &[Version], commands: &[Placed], ended: Option<(i64, Reason)>) {
    let decision = decided();
    let mut again = Again::new(&decision.id, versions.iter(), commands);
    again.hear(&up(10, 1), at(10));
    again.hear(&up(200, 2), at(200));
    let (found, found_ended) = again.finish(at(1_000)).unwrap();
    assert_eq!((&found.id, &found.causes), (&decision.id, &decision.causes));
    let ended = ended.map(|(second, why)| Ended {
        at: at(second),
        why: Some(why),
    });
    assert_eq!(found_ended, ended);
    assert!(
        Again::new("other", versions.iter(), commands)
            .finish(at(1))
            .is_none()
    );
}

#[test]
fn what_was_decided_is_decided_again() {
    let first = || version(1, 0, "100");
    check_again(&[first()], &[], Some((70, Reason::Expiry)));
    check_again(
        &[first(), version(2, 30, "150")],
        &[],
        Some((30, Reason::Policy)),
    );
    check_again(
        &[first()],
        &[raise("c1", 40, "tpm", 500)],
        Some((40, Reason::Command)),
    );
    // A raise that came before the crossing, and was taken back before it.
    check_again(
        &[first()],
        &[raise("c1", 4, "tpm", 500), undo(5, "c1")],
        Some((70, Reason::Expiry)),
    );
}

#[track_caller]
fn check_number(commands: &[Placed], second: i64, hard: i128, order: Option<&str>) {
    let policy = version(1, 0, "100").policy;
    let found = number_then(&policy, commands, (&acme(), "tpm"), at(second)).unwrap();
    assert_eq!(found.limit.hard(), hard);
    assert_eq!(found.order.as_ref().map(|order| &*order.command), order);
}

#[test]
fn the_number_is_the_one_that_held_then() {
    let commands = [
        raise("c1", 10, "tpm", 500),
        undo(20, "c1"),
        raise("c2", 30, "tpm", 700),
        // Of another one.
        undo(40, "c1"),
    ];
    check_number(&commands, 9, 100, None);
    check_number(&commands, 10, 500, Some("c1"));
    check_number(&commands, 20, 100, None);
    check_number(&commands, 50, 700, Some("c2"));
    let policy = version(1, 0, "100").policy;
    assert_eq!(number_then(&policy, &[], (&acme(), "rpm"), at(1)), None);
}

#[test]
fn only_what_touched_it_is_told() {
    let commands = [
        raise("before", 10, "tpm", 500),
        raise("after", 11, "tpm", 500),
        raise("another limit", 12, "rpm", 500),
        placed("block", 13, Action::Block),
    ];
    let mut elsewhere = placed("elsewhere", 14, Action::Block);
    elsewhere.command.subject = Subject::tenant("other");
    let commands: Vec<Placed> = commands.into_iter().chain([elsewhere]).collect();
    let decision = decided();
    let touched = touched_since(&decision, &commands, at(10));
    let ids: Vec<&str> = touched.iter().map(|command| &*command.id).collect();
    assert_eq!(ids, ["after", "block"]);

    let versions = [
        version(1, 0, "100"),
        version(2, 20, "100"),
        version(3, 30, "150"),
    ];
    let versions: BTreeMap<u64, Version> =
        versions.into_iter().zip(1..).map(|(v, n)| (n, v)).collect();
    let changed = versions_since(&decision.causes[0], &acme(), &versions);
    let told: Vec<(u64, &str)> = changed
        .iter()
        .map(|changed| (changed.version.policy.version, &*changed.lines[0]))
        .collect();
    assert_eq!(told, [(3, "~ limit tpm: hard 100 -> 150")]);
}

#[track_caller]
fn check_from(window: &str, second: i64, used: i128, from: &str) {
    let policy = Policy {
        default_zone: Some(chrono_tz::Europe::Berlin),
        ..Policy::default()
    };
    let counted = counts_from(
        window.parse().unwrap(),
        (&policy, &acme()),
        (at(second), used),
    );
    assert_eq!(counted.to_string(), from);
}

#[test]
fn a_window_begins_where_the_first_event_counts() {
    let second = Timestamp::parse("2026-11-22T04:05:06Z").unwrap().second();
    check_from("sliding 60s", second, 1, "2026-11-22T04:04:06Z");
    check_from("sliding 1h", second, 1, "2026-11-22T03:05:00Z");
    check_from("bucket 10/s burst 50", second, 50, "2026-11-22T04:05:01Z");
    check_from("wallet", second, 1, "1970-01-01T00:00:00Z");
    check_from("calendar day", second, 1, "2026-11-21T23:00:00Z");
}

#[test]
fn what_was_cleared_is_no_evidence() {
    let mut evidence = Evidence::new(at(10), 2);
    let clear = |seq: i64| Order {
        command: format!("c{seq}"),
        seq,
        subject: acme(),
        at: at(12),
        until: Some(at(100)),
        change: Change::Cleared {
            limit: "tpm".to_owned(),
            reason: "test".to_owned(),
        },
    };
    evidence.take(happened("a", 11, 1));
    evidence.clear(clear(2));
    assert_eq!((evidence.events, evidence.sum, evidence.more()), (0, 0, 0));
    // Late, but behind it in the log; and what was counted before comes again.
    evidence.take(happened("b", 10, 2));
    evidence.take(happened("a", 11, 1));
    evidence.clear(clear(2));
    evidence.clear(clear(1));
    assert_eq!((evidence.events, evidence.sum), (1, 2));
    let newest: Vec<&str> = evidence.newest.iter().map(|h| &*h.id).collect();
    assert_eq!(newest, ["b"]);

    let policy = version(1, 0, "100").policy;
    let cause = &decided().causes[0];
    let check = |order: &Order, subject: &Subject, expected: bool| {
        assert_eq!(clears(order, cause, (&policy, subject)), expected);
    };
    check(&clear(1), &acme(), true);
    check(&clear(1), &Subject::tenant("other"), false);
    let rpm = Change::Cleared {
        limit: "rpm".to_owned(),
        reason: String::new(),
    };
    check(
        &Order {
            change: rpm,
            ..clear(1)
        },
        &acme(),
        false,
    );
}

fn happened(id: &str, second: i64, amount: i128) -> Happened {
    Happened {
        source: "app".to_owned(),
        id: id.to_owned(),
        tenant: "acme".to_owned(),
        at: at(second),
        amount,
        by: Vec::new(),
        partition: 0,
        offset: second,
    }
}

#[test]
fn evidence_is_what_lies_in_the_window_once() {
    let mut evidence = Evidence::new(at(10), 2);
    for (id, second, amount) in [
        ("a", 9, 1),
        ("b", 10, 2),
        ("c", 11, 4),
        ("b", 12, 2),
        ("d", 13, 8),
    ] {
        evidence.take(happened(id, second, amount));
    }
    let newest: Vec<&str> = evidence
        .newest
        .iter()
        .map(|happened| &*happened.id)
        .collect();
    assert_eq!(newest, ["c", "d"]);
    assert_eq!((evidence.events, evidence.sum, evidence.more()), (3, 14, 1));
}
