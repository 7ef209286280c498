mod cleared;
mod edits;
mod sets;

use schemas::policy::{Limit, Mode, Policy, Stale};
use schemas::subject::{Dimension, Subject};

use super::*;
use crate::cache::{Cause, Verdict};
use crate::plan::tests::limit;
use crate::request::{Ask, Consume};

const START: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(START + seconds)
}

fn gate(limits: Vec<Limit>) -> Gate {
    let freshness = Freshness::new(at(0), Duration::from_secs(30));
    freshness.caught_up(Feed::Decisions);
    freshness.caught_up(Feed::Policies);
    let gate = Gate::new([1, 2], 1 << 20, freshness);
    gate.set_policy(Policy {
        version: 5,
        limits,
        ..Policy::default()
    });
    gate
}

fn acme() -> Ask {
    Ask::default().with(Dimension::Tenant, "acme")
}

/// A block of `limit` on `subject`, until a second.
fn block(subject: &str, limit: &str, until: Option<i64>) -> Standing {
    Standing {
        id: format!("d-{limit}"),
        subject: Subject::parse(subject).unwrap(),
        verdict: Verdict::Block,
        causes: vec![Cause {
            limit: limit.to_owned(),
            policy_version: 4,
            meter: "tokens".parse().unwrap(),
            window: "sliding 60s".parse().unwrap(),
            mode: Mode::Block,
            verdict: Verdict::Block,
            used: 60_100,
            max: 60_000,
            reset_at: until.map(at),
        }],
        status: 429,
        until: until.map(at),
        terminal: false,
        seq: 1,
        issued_at: at(0),
        fresh_until: at(600),
    }
}

fn put(gate: &Gate, standing: Standing) {
    gate.put(standing, 0, at(0));
}

/// `verdict status retry[ decision][ stale][ charged]`.
#[track_caller]
fn check(gate: &Gate, ask: &Ask, seconds: i64, expected: &str) {
    let view = gate.view(at(seconds));
    let answer = gate.check(&view, &ask.request(), at(seconds));
    let retry = answer
        .retry_after_s()
        .map_or("-".to_owned(), |s| s.to_string());
    let mut told = format!("{} {} {retry}", answer.verdict(), answer.status());
    if let Some(decision) = answer.decision() {
        told = format!("{told} {}", decision.id);
    }
    if let Some(stale) = answer.stale() {
        told = format!("{told} stale:{}", stale.as_secs());
    }
    if answer.is_charged() {
        told.push_str(" charged");
    }
    assert_eq!(told, expected, "at {seconds}");
}

#[test]
fn admits_what_nothing_speaks_against() {
    let gate = gate(vec![]);
    check(&gate, &acme(), 0, "allow 200 - charged");
    check(&gate, &Ask::default(), 0, "allow 200 - charged");
}

#[test]
fn the_hundred_and_first_is_refused_until_its_time() {
    let gate = gate(vec![limit("rate tenant/* requests 100 sliding 60s")]);
    for n in 0..100 {
        check(&gate, &acme(), n / 10, "allow 200 - charged");
    }
    check(&gate, &acme(), 10, "block 429 51");
    check(
        &gate,
        &Ask::default().with(Dimension::Tenant, "b"),
        10,
        "allow 200 - charged",
    );
    check(&gate, &acme(), 60, "block 429 1");
    check(&gate, &acme(), 61, "allow 200 - charged");
}

#[test]
fn the_answer_says_what_is_left() {
    let gate = gate(vec![
        limit("rate tenant/* requests 2 sliding 60s"),
        limit("tokens tenant/* tokens 100 sliding 60s"),
        limit(
            "user tenant/*/user/* requests 9 calendar_day"
                .replace('_', " ")
                .as_str(),
        ),
    ]);
    let left = |ask: &Ask, seconds| {
        let view = gate.view(at(seconds));
        let answer = gate.check(&view, &ask.request(), at(seconds));
        let limits = answer.limits(&ask.identity(), view.policy());
        let told = limits.iter().map(|l| {
            let resets = l
                .reset_at
                .map_or(0, |reset| seconds_until(reset, at(seconds)));
            format!("{}:{}/{}:{resets}", l.name, l.remaining, l.max)
        });
        told.collect::<Vec<_>>().join(" ")
    };
    let looking = acme().using(Consume::default());
    assert_eq!(left(&looking, 0), "rate:2/2:0");
    assert_eq!(left(&acme(), 0), "rate:1/2:61");
    let user = acme().with(Dimension::User, "u");
    assert_eq!(left(&user, 5), "rate:0/2:56 user:8/9:6395");
    let tokens = acme().using(Consume {
        tokens: Some(30),
        ..Consume::default()
    });
    assert_eq!(left(&tokens, 5), "tokens:70/100:61");
    assert_eq!(left(&looking, 6), "rate:0/2:55 tokens:70/100:60");
    put(&gate, block("tenant/acme", "tokens", Some(40)));
    assert_eq!(left(&looking, 6), "rate:0/2:55 tokens:0/100:60");
    put(&gate, block("tenant/acme", "elsewhere", Some(40)));
    assert_eq!(left(&looking, 66), "rate:2/2:0");
}

#[test]
fn obeys_decisions_until_they_end() {
    let gate = gate(vec![]);
    put(&gate, block("tenant/acme", "tokens", Some(40)));
    check(&gate, &acme(), 0, "block 429 40 d-tokens");
    check(&gate, &acme(), 39, "block 429 1 d-tokens");
    check(&gate, &acme(), 40, "allow 200 - charged");
    put(
        &gate,
        Standing {
            status: 403,
            ..block("source/192.0.2.7", "ban", None)
        },
    );
    let source = Ask::default().with(Dimension::Source, "192.0.2.7");
    check(&gate, &source, 0, "block 403 - d-ban");
    // A refusal without end outlasts one that ends.
    let both = source.with(Dimension::Tenant, "acme");
    check(&gate, &both, 0, "block 403 - d-ban");
    put(
        &gate,
        Standing {
            terminal: true,
            status: 402,
            ..block("tenant/b", "wallet", Some(9))
        },
    );
    check(
        &gate,
        &Ask::default().with(Dimension::Tenant, "b"),
        0,
        "block 402 - d-wallet",
    );
}

#[test]
fn the_most_severe_rules_and_the_latest_end_counts() {
    let gate = gate(vec![limit("rate tenant/* requests 1 sliding 60s")]);
    let user = acme().with(Dimension::User, "u");
    check(&gate, &user, 0, "allow 200 - charged");
    let challenge = Standing {
        verdict: Verdict::Challenge,
        status: 401,
        ..block("tenant/acme/user/u", "strange", Some(90))
    };
    put(&gate, challenge);
    check(&gate, &user, 5, "block 429 85");
    put(&gate, block("tenant/acme", "tokens", Some(70)));
    check(&gate, &user, 5, "block 429 85 d-tokens");
    check(&gate, &user, 65, "block 429 25 d-tokens");
    check(&gate, &user, 75, "challenge 401 15 d-strange");
    check(&gate, &user, 90, "allow 200 - charged");
}

#[test]
fn what_is_refused_is_not_counted() {
    let gate = gate(vec![limit("rate tenant/* requests 1 sliding 60s")]);
    put(&gate, block("tenant/acme", "tokens", Some(40)));
    check(&gate, &acme(), 0, "block 429 40 d-tokens");
    check(&gate, &acme(), 40, "allow 200 - charged");
    check(&gate, &acme(), 40, "block 429 61");
}

#[test]
fn limits_and_decisions_in_open_mode_only_tell() {
    let open = Limit {
        mode: Mode::Open,
        ..limit("rate tenant/* requests 1 sliding 60s")
    };
    let gate = gate(vec![open]);
    let mut would = block("tenant/acme", "tokens", Some(40));
    would.verdict = Verdict::Allow;
    would.causes[0].mode = Mode::Open;
    put(&gate, would);
    check(&gate, &acme(), 0, "allow 200 - d-tokens charged");
    check(&gate, &acme(), 1, "allow 200 - d-tokens charged");
    let view = gate.view(at(2));
    let ask = acme();
    let answer = gate.check(&view, &ask.request(), at(2));
    let causes = answer.causes(&ask.identity(), 5);
    let told: Vec<_> = causes
        .iter()
        .map(|c| (c.limit.as_str(), c.used, c.policy_version))
        .collect();
    assert_eq!(told, [("tokens", 60_100, 4), ("rate", 3, 5)]);
}

#[test]
fn a_cause_known_twice_is_told_once_with_the_later_end() {
    let gate = gate(vec![limit("rate tenant/* requests 1 sliding 60s")]);
    check(&gate, &acme(), 0, "allow 200 - charged");
    let mut same = block("tenant/acme", "rate", Some(50));
    same.causes[0].used = 1;
    put(&gate, same);
    let (view, ask) = (gate.view(at(2)), acme());
    let answer = gate.check(&view, &ask.request(), at(2));
    let causes = answer.causes(&ask.identity(), 5);
    assert_eq!(causes.len(), 1);
    assert_eq!((causes[0].used, causes[0].reset_at), (1, Some(at(61))));
    assert_eq!(answer.retry_after_s(), Some(59));
    assert_eq!(
        answer.refused_subject(&ask.identity()),
        Some(Subject::tenant("acme"))
    );
}

#[test]
fn a_limit_may_name_its_status() {
    let teapot = Limit {
        status: Some(403),
        ..limit("rate tenant/* requests 1 sliding 60s")
    };
    let gate = gate(vec![teapot]);
    check(&gate, &acme(), 0, "allow 200 - charged");
    check(&gate, &acme(), 0, "block 403 61");
}

#[test]
fn looking_counts_nothing() {
    let gate = gate(vec![limit("rate tenant/* requests 1 sliding 60s")]);
    let looking = acme().using(Consume::default());
    check(&gate, &looking, 0, "allow 200 -");
    check(&gate, &looking, 0, "allow 200 -");
    check(&gate, &acme(), 0, "allow 200 - charged");
    check(&gate, &looking, 0, "block 429 61");
}

#[test]
fn sign_ins_are_not_counted_here() {
    let gate = gate(vec![limit(
        "guess tenant/*/account/* failures 1 sliding 60s",
    )]);
    let ask = acme().with(Dimension::Account, "alice");
    check(&gate, &ask, 0, "allow 200 - charged");
    check(&gate, &ask, 0, "allow 200 - charged");
    put(&gate, block("tenant/acme/account/alice", "guess", Some(9)));
    check(&gate, &ask, 0, "block 429 9 d-guess");
}

fn stale_limit(stale: Stale) -> Limit {
    Limit {
        stale,
        ..limit("tokens tenant/* tokens 60000 sliding 60s")
    }
}

#[track_caller]
fn check_stale(stale: Stale, blocked: &str, free: &str) {
    let gate = gate(vec![stale_limit(stale)]);
    put(&gate, block("tenant/acme", "tokens", Some(500)));
    gate.freshness.lost(Feed::Decisions, at(0));
    check(&gate, &acme(), 30, "block 429 470 d-tokens");
    check(&gate, &acme(), 31, blocked);
    check(
        &gate,
        &Ask::default().with(Dimension::Tenant, "b"),
        31,
        free,
    );
    check(&gate, &Ask::default(), 31, "allow 200 - stale:31 charged");
    gate.freshness.back(Feed::Decisions);
    check(&gate, &acme(), 32, "block 429 468 d-tokens");
}

#[test]
fn a_stale_view_is_treated_as_the_limit_chose() {
    let free = "allow 200 - stale:31 charged";
    check_stale(Stale::LastKnown, "block 429 469 d-tokens stale:31", free);
    check_stale(Stale::Open, "allow 200 - d-tokens stale:31 charged", free);
    check_stale(
        Stale::Closed,
        "block 429 469 d-tokens stale:31",
        "block 503 5 stale:31",
    );
}

#[test]
fn a_decision_of_several_limits_is_left_open_only_by_all() {
    let gate = gate(vec![stale_limit(Stale::Open)]);
    let mut two = block("tenant/acme", "tokens", Some(500));
    two.causes
        .push(block("tenant/acme", "unknown", None).causes.remove(0));
    put(&gate, two);
    gate.freshness.lost(Feed::Policies, at(0));
    check(&gate, &acme(), 60, "block 429 440 d-tokens stale:60");
}

#[test]
fn a_decision_that_its_owner_forgot_is_stale_alone() {
    let gate = gate(vec![stale_limit(Stale::LastKnown)]);
    put(&gate, block("tenant/acme", "tokens", Some(900)));
    check(&gate, &acme(), 600, "block 429 300 d-tokens");
    check(&gate, &acme(), 607, "block 429 293 d-tokens stale:7");
    check(&gate, &Ask::default(), 607, "allow 200 - charged");
}

#[test]
fn a_gateway_that_never_read_the_log_says_so() {
    let gate = Gate::new(
        [1, 2],
        1 << 20,
        Freshness::new(at(0), Duration::from_secs(30)),
    );
    check(&gate, &acme(), 3, "allow 200 - stale:3 charged");
    gate.set_policy(Policy {
        version: 1,
        limits: vec![stale_limit(Stale::Closed)],
        ..Policy::default()
    });
    check(&gate, &acme(), 3, "block 503 5 stale:3");
}

#[test]
fn a_new_policy_keeps_the_counts_of_limits_that_stay() {
    let gate = gate(vec![limit("rate tenant/* requests 2 sliding 60s")]);
    check(&gate, &acme(), 0, "allow 200 - charged");
    let next = |hard_and_window: &str| Policy {
        version: 6,
        limits: vec![limit(&format!("rate tenant/* requests {hard_and_window}"))],
        ..Policy::default()
    };
    gate.set_policy(next("1 sliding 60s"));
    check(&gate, &acme(), 0, "block 429 61");
    gate.set_policy(next("1 sliding 30s"));
    check(&gate, &acme(), 0, "allow 200 - charged");
    gate.set_policy(next("2 sliding 60s"));
    check(&gate, &acme(), 0, "allow 200 - charged");
    check(&gate, &acme(), 0, "block 429 61");
}

/// How many seconds before now the log is read back for limits in mode `strict` in these windows.
#[track_caller]
fn check_reads_back(windows: &[&str], expected: Option<i64>) {
    let strict = |window: &&str| Limit {
        mode: Mode::Strict,
        ..limit(&format!("{} tenant/* requests 2 {window}", window.len()))
    };
    let gate = gate(windows.iter().map(strict).collect());
    let reaches_to = gate.strict_reaches_to(&gate.view(at(0)), at(0));
    assert_eq!(
        reaches_to,
        expected.map(|seconds| at(-seconds)),
        "{windows:?}"
    );
}

#[test]
fn the_log_is_read_back_as_far_as_what_was_spent_counts() {
    check_reads_back(&[], None);
    check_reads_back(&["concurrent"], None);
    check_reads_back(&["sliding 60s"], Some(60));
    check_reads_back(&["concurrent", "sliding 60s", "sliding 5s"], Some(60));
}

#[test]
fn what_is_in_flight_is_never_shared() {
    let places = Limit {
        mode: Mode::Strict,
        ..limit("places tenant/* requests 2 concurrent")
    };
    assert_eq!(gate(vec![places]).span_max(), None);
}
