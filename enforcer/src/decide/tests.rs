mod policy;

use schemas::policy::{Level, Limit, Meter, Mode, Stale, Window};
use schemas::subject::Pattern;

use super::*;
use crate::alert::AlertKind;
use crate::decision::{CspGroup, Origin};

const TTL: Duration = Duration::from_secs(300);

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// A limit of 100 requests in 60 s.
pub(super) fn limit(name: &str, mode: Mode) -> Limit {
    Limit {
        name: name.to_owned(),
        pattern: Pattern::parse("tenant/*").unwrap(),
        meter: Meter::Requests,
        window: Window::Sliding { seconds: 60 },
        levels: vec![Level {
            name: "hard".to_owned(),
            threshold: 100,
        }],
        keep: 0,
        mode,
        stale: Stale::LastKnown,
        tier: None,
        replaced_in: Vec::new(),
        status: None,
        headers: true,
    }
}

pub(super) fn policy(version: u64, limits: Vec<Limit>) -> Policy {
    Policy {
        version,
        limits,
        ..Policy::default()
    }
}

/// `LIMIT+OFFSET..END` crosses upward, standing until second END; `LIMIT-OFFSET@AT` falls at second AT.
pub(super) fn crossing(text: &str) -> Crossing {
    let up = text.contains('+');
    let (limit, rest) = text.split_once(['+', '-']).unwrap();
    let (offset, time) = rest.split_once(if up { ".." } else { "@" }).unwrap();
    let (offset, time): (i64, i64) = (offset.parse().unwrap(), time.parse().unwrap());
    Crossing {
        id: format!("{limit}{offset}"),
        subject: Subject::tenant("acme"),
        limit: limit.to_owned(),
        policy_version: 1,
        meter: Meter::Requests,
        window: Window::Sliding { seconds: 60 },
        mode: Mode::Block,
        soft: None,
        threshold: 100,
        up,
        at: if up { at(0) } else { at(time) },
        sum: if up { 100 } else { 99 },
        max: 100,
        falls_at: up.then(|| at(time)),
        origin: Origin {
            topic: "weir.usage.v1".to_owned(),
            partition: 3,
            offset,
        },
    }
}

fn is_standing(decision: &Decision) -> String {
    let causes: Vec<&str> = decision
        .causes
        .iter()
        .map(|c| c.crossing.as_str())
        .collect();
    let status = decision
        .status
        .map_or(String::new(), |status| format!(" {status}"));
    let until = decision
        .until
        .map_or("ever".to_owned(), |until| until.second().to_string());
    format!(
        "{}{status} until {until} by {}",
        decision.verdict.name(),
        causes.join(",")
    )
}

fn show(output: &Output) -> String {
    match output {
        Output::Put(decision, why) => format!("{why:?}: {}", is_standing(decision)),
        Output::Lift(_, why) => format!("{why:?}: lifted"),
        Output::Alert(alert) => match &alert.decision {
            Some(_) => format!("alert {:?} of a decision", alert.kind),
            None => format!("alert {:?}", alert.kind),
        },
        Output::Order(order) => format!("order {}", order.key()),
        Output::OrderEnded(order, _) => format!("ended {}", order.key()),
    }
}

fn decider() -> Decider {
    let mut shadow = limit("shadow", Mode::Open);
    shadow.levels[0].threshold = 50;
    let mut teapot = limit("teapot", Mode::Block);
    teapot.status = Some(418);
    let limits = vec![
        limit("rpm", Mode::Block),
        limit("tpm", Mode::Block),
        shadow,
        teapot,
    ];
    Decider::new(policy(1, limits), TTL)
}

/// Runs steps, `^SECOND` moving time and anything else being a [`crossing`], and compares what each one said. `~` in
/// front of a crossing expects no alert to be shown.
#[track_caller]
fn check(steps: &[(&str, &[&str])]) {
    let mut decider = decider();
    let mut now = at(0);
    for (step, expected) in steps {
        let mut out = Vec::new();
        if let Some(second) = step.strip_prefix('^') {
            now = at(second.parse().unwrap());
            decider.advance(now, &mut out);
        } else {
            decider.hear(&Signal::Crossing(crossing(step)), now, &mut out);
        }
        let told: Vec<String> = out.iter().map(show).collect();
        assert_eq!(told, *expected, "after {step}");
    }
    let left: Vec<_> = decider.wakes.iter().collect();
    assert!(left.len() <= decider.subjects.len(), "{left:?}");
}

const HARD: &str = "alert Hard of a decision";

#[test]
fn a_crossing_blocks_until_the_sum_falls() {
    check(&[
        ("rpm+1..60", &["Crossing: block 429 until 60 by rpm1", HARD]),
        ("^59", &[]),
        ("^60", &["Expiry: lifted"]),
        ("^61", &[]),
    ]);
    check(&[
        ("rpm+1..60", &["Crossing: block 429 until 60 by rpm1", HARD]),
        ("rpm-9@60", &["Crossing: lifted"]),
        ("^60", &[]),
    ]);
}

#[test]
fn the_most_severe_cause_wins_and_all_are_listed() {
    check(&[
        (
            "shadow+1..90",
            &["Crossing: allow until 90 by shadow1", HARD],
        ),
        (
            "rpm+2..50",
            &["Crossing: block 429 until 50 by rpm2,shadow1", HARD],
        ),
        (
            "tpm+3..70",
            &["Crossing: block 429 until 70 by tpm3,rpm2,shadow1", HARD],
        ),
        ("^50", &["Expiry: block 429 until 70 by tpm3,shadow1"]),
        ("tpm-7@70", &["Crossing: allow until 90 by shadow1"]),
        ("^90", &["Expiry: lifted"]),
    ]);
}

#[test]
fn the_longest_refusal_gives_its_status() {
    check(&[
        ("rpm+1..60", &["Crossing: block 429 until 60 by rpm1", HARD]),
        (
            "teapot+2..80",
            &["Crossing: block 418 until 80 by teapot2,rpm1", HARD],
        ),
        ("teapot-3@40", &["Crossing: block 429 until 60 by rpm1"]),
    ]);
}

#[test]
fn the_same_again_changes_nothing() {
    check(&[
        ("rpm+1..60", &["Crossing: block 429 until 60 by rpm1", HARD]),
        ("rpm+1..60", &[HARD]),
        (
            "rpm-5@40",
            &["Crossing: lifted", "alert Lifted of a decision"],
        ),
        ("rpm+1..60", &["alert Hard"]),
        ("rpm-5@40", &[]),
        ("^60", &[]),
        ("rpm+1..60", &["alert Hard"]),
    ]);
}

#[test]
fn what_was_lifted_is_remembered_until_it_would_have_ended() {
    check(&[
        (
            "rpm+5..300",
            &["Crossing: block 429 until 300 by rpm5", HARD],
        ),
        (
            "rpm-7@1",
            &["Crossing: lifted", "alert Lifted of a decision"],
        ),
        (
            "rpm+9..100",
            &["Crossing: block 429 until 100 by rpm9", HARD],
        ),
        ("^100", &["Expiry: lifted"]),
        ("rpm+5..300", &["alert Hard"]),
    ]);
}

#[test]
fn a_stale_fall_does_not_lift_a_newer_crossing() {
    check(&[
        ("rpm+1..60", &["Crossing: block 429 until 60 by rpm1", HARD]),
        ("rpm+7..80", &["Crossing: block 429 until 80 by rpm7", HARD]),
        ("rpm-5@40", &[]),
        ("rpm-7@40", &[]),
        ("rpm-8@80", &["Crossing: lifted"]),
    ]);
    check(&[
        ("rpm-5@40", &[]),
        ("rpm+5..60", &["Crossing: block 429 until 60 by rpm5", HARD]),
    ]);
}

#[test]
fn a_crossing_said_again_moves_the_end_of_the_same_decision() {
    let mut decider = decider();
    let mut hear = |offset, end, now| {
        let again = Crossing {
            id: "rpm1".to_owned(),
            ..crossing(&format!("rpm+{offset}..{end}"))
        };
        let mut out = Vec::new();
        decider.advance(at(now), &mut out);
        out.clear();
        decider.hear(&Signal::Crossing(again), at(now), &mut out);
        let ids = out.iter().find_map(|output| match output {
            Output::Put(decision, _) => Some(decision.id.clone()),
            _ => None,
        });
        (out.iter().map(show).collect::<Vec<_>>(), ids)
    };
    let (told, first) = hear(1, 60, 0);
    assert_eq!(told, ["Crossing: block 429 until 60 by rpm1", HARD]);
    let (told, again) = hear(5, 70, 1);
    assert_eq!(told, ["Crossing: block 429 until 70 by rpm1"]);
    assert_eq!(again, first);
    let (told, anew) = hear(9, 90, 80);
    assert_eq!(told, ["Crossing: block 429 until 90 by rpm1", HARD]);
    assert_eq!(anew, first);
}

#[test]
fn a_late_event_of_a_past_period_ends_nothing() {
    check(&[
        ("rpm+5..60", &["Crossing: block 429 until 60 by rpm5", HARD]),
        ("rpm+6..30", &[HARD]),
        ("^31", &[]),
        ("^60", &["Expiry: lifted"]),
    ]);
}

#[test]
fn what_ended_before_it_was_read_decides_nothing() {
    check(&[
        ("^60", &[]),
        ("rpm+1..60", &["alert Hard"]),
        ("rpm-2@60", &[]),
        ("^61", &[]),
    ]);
}

#[test]
fn what_lasts_is_said_again_at_half_of_its_time_to_live() {
    check(&[
        (
            "rpm+1..1000",
            &["Crossing: block 429 until 1000 by rpm1", HARD],
        ),
        ("^149", &[]),
        ("^150", &["Reassert: block 429 until 1000 by rpm1"]),
        ("^600", &["Reassert: block 429 until 1000 by rpm1"]),
        ("^700", &[]),
        ("^750", &["Reassert: block 429 until 1000 by rpm1"]),
        ("^999", &[]),
        ("^1000", &["Expiry: lifted"]),
    ]);
    check(&[
        (
            "rpm+1..300",
            &["Crossing: block 429 until 300 by rpm1", HARD],
        ),
        ("^150", &[]),
        ("^299", &[]),
    ]);
}

#[test]
fn soft_levels_and_groups_are_only_told() {
    let mut decider = decider();
    let mut out = Vec::new();
    let soft = Crossing {
        soft: Some("80%".to_owned()),
        ..crossing("rpm+1..60")
    };
    let fall = Crossing {
        up: false,
        falls_at: None,
        ..soft.clone()
    };
    for signal in [Signal::Crossing(soft), Signal::Crossing(fall)] {
        assert_eq!(decider.hear(&signal, at(0), &mut out), Outcome::Told);
    }
    let group = |new| {
        Signal::CspGroup(CspGroup {
            id: "g".to_owned(),
            tenant: "acme".to_owned(),
            directive: "script-src".to_owned(),
            blocked_host: "evil.example".to_owned(),
            document_uri: String::new(),
            at: at(0),
            new,
        })
    };
    decider.hear(&group(true), at(0), &mut out);
    decider.hear(&group(false), at(0), &mut out);
    let kinds: Vec<_> = out.iter().map(show).collect();
    assert_eq!(kinds, ["alert Soft", "alert CspGroup"]);
    assert_eq!((decider.standing(), decider.wakes_at()), (0, None));
}

#[test]
fn the_alert_names_the_decision_that_blocks() {
    let mut decider = decider();
    let mut out = Vec::new();
    decider.hear(&Signal::Crossing(crossing("rpm+1..60")), at(0), &mut out);
    let [Output::Put(decision, _), Output::Alert(alert)] = out.as_slice() else {
        panic!("a decision and its alert, not {out:?}")
    };
    assert_eq!(
        (alert.kind, alert.decision.as_ref()),
        (AlertKind::Hard, Some(&decision.id))
    );
    assert_eq!(alert.until, Some(at(60)));
}

#[test]
fn another_process_goes_on_where_this_one_stopped() {
    let mut first = decider();
    let mut out = Vec::new();
    first.hear(&Signal::Crossing(crossing("rpm+1..1000")), at(0), &mut out);
    let Some(Output::Put(mut decision, _)) = out.first().cloned() else {
        panic!("nothing decided")
    };
    // Its clock was ahead of ours.
    decision.seq = 1_000_000;
    let mut second = decider();
    out.clear();
    second.take_over(decision.clone(), at(10), &mut out);
    let [Output::Put(again, Reason::Takeover)] = out.as_slice() else {
        panic!("said again once, not {out:?}")
    };
    assert!(again.says_the_same_as(&decision) && decision.seq < again.seq);
    let mut said = |signal: &str, now| {
        let mut out = Vec::new();
        second.hear(&Signal::Crossing(crossing(signal)), now, &mut out);
        out.iter().map(show).collect::<Vec<_>>()
    };
    assert_eq!(said("rpm+1..1000", at(11)), [HARD]);
    assert_eq!(said("rpm-1@11", at(11)), [""; 0]);
    assert_eq!(said("rpm-5@1000", at(12)), ["Crossing: lifted"]);
    out.clear();
    second.take_over(decision, at(1000), &mut out);
    assert_eq!(
        out.iter().map(show).collect::<Vec<_>>(),
        ["Takeover: lifted"]
    );
    assert_eq!(second.standing(), 0);
}

#[test]
fn a_short_block_is_not_said_again_on_takeover() {
    let mut decider = decider();
    let mut out = Vec::new();
    decider.hear(&Signal::Crossing(crossing("rpm+1..60")), at(0), &mut out);
    let Some(Output::Put(decision, _)) = out.first().cloned() else {
        panic!("nothing decided")
    };
    decider.release(|subject| *subject == Subject::tenant("acme"));
    assert_eq!((decider.standing(), decider.wakes_at()), (0, None));
    out.clear();
    decider.take_over(decision, at(10), &mut out);
    assert_eq!(out, []);
    decider.advance(at(60), &mut out);
    assert_eq!(out.iter().map(show).collect::<Vec<_>>(), ["Expiry: lifted"]);
}
