//! What a change of policy does.

use super::*;
use crate::past::Past;

/// Calls of acme's user u, 5 tokens each at second 100, before the policy changes from `from` to `to` at second 110.
#[track_caller]
fn check_policy(calls: i64, from: &str, to: &str, expected: &[&str]) {
    let mut shard = Shard::under(from);
    for id in 0..calls {
        let id = id.to_string();
        shard.step(100, Input::Event(call(("acme", "u"), &id, at(100), 5)));
    }
    shard.crossings();
    shard.policy(2, to, 110);
    assert_eq!(shard.crossings(), expected);
    // Markers are written at least once: the same again changes nothing, and neither does an older one.
    shard.policy(2, from, 111);
    shard.policy(1, from, 111);
    assert_eq!(shard.crossings(), [""; 0]);
}

/// A shard whose first record is the one at `offset`, when the policy became each of `versions` a hundred seconds after the
/// one before, is called by acme's user u with 5 tokens at second 250.
#[track_caller]
fn check_begin(offset: i64, versions: &[&str], expected: &[&str]) {
    let versions = (1..).zip(versions);
    let past = Past {
        versions: versions
            .map(|(number, limits)| (at(number * 100), policy(number, limits)))
            .collect(),
        orders: Vec::new(),
    };
    let Engine {
        shard, settings, ..
    } = usage_engine(0, 1);
    let mut shard = Shard::new(Engine::begin(shard, settings, Arc::new(past)));
    shard.offset = offset;
    shard.step(250, Input::Event(call(("acme", "u"), "1", at(250), 5)));
    assert_eq!(shard.crossings(), expected);
    // What is marked after the beginning holds as ever; what came before it does not come back.
    shard.policy(1, "", 251);
    shard.policy(9, "z tenant/* tokens hard=1 : sliding 60s", 252);
    shard.step(253, Input::Event(call(("acme", "u"), "2", at(253), 5)));
    assert!(
        shard
            .crossings()
            .iter()
            .any(|told| told.starts_with("up z/hard"))
    );
}

#[test]
fn a_log_whose_beginning_is_gone_begins_under_what_held() {
    let hard = |hard: i64| format!("a tenant/* tokens hard={hard} : sliding 60s");
    let (four, five, six) = (hard(4), hard(5), hard(6));
    let up = ["up a/hard tenant/acme@250 5"];
    check_begin(7, &[&six, &five], &up);
    check_begin(7, &[&four, &six], &[]);
    // Made later than the first record.
    check_begin(7, &[&six, &five, &six], &up);
    check_begin(7, &[], &[]);
    // A log that has its beginning has all markers too.
    check_begin(0, &[&six, &five], &[]);
}

#[test]
fn a_policy_holds_from_its_marker_on() {
    let (a, b) = (
        "a tenant/* tokens hard=10 : sliding 60s",
        "b tenant/* tokens hard=10 : sliding 60s",
    );
    check_policy(2, a, a, &[]);
    check_policy(2, a, "", &["down a/hard tenant/acme@110 10"]);
    check_policy(2, "", a, &[]);
    // Another name, another number: what was counted stays.
    check_policy(
        2,
        a,
        b,
        &[
            "down a/hard tenant/acme@110 10",
            "up b/hard tenant/acme@110 10",
        ],
    );
    check_policy(
        1,
        a,
        "a tenant/* tokens hard=5 : sliding 60s",
        &["up a/hard tenant/acme@110 5"],
    );
    // Another window, meter or subject: a new counter.
    check_policy(
        2,
        a,
        "a tenant/* tokens hard=5 : sliding 61s",
        &["down a/hard tenant/acme@110 10"],
    );
    check_policy(
        2,
        a,
        "a tenant/* requests hard=1 : sliding 60s",
        &["down a/hard tenant/acme@110 10"],
    );
    check_policy(
        2,
        a,
        "a tenant/acme tokens hard=5 : sliding 60s",
        &["down a/hard tenant/acme@110 10"],
    );
    // A limit of another tier's holds for nobody here.
    check_policy(
        2,
        a,
        "a tenant/* tokens tier=gold hard=10 : sliding 60s",
        &["down a/hard tenant/acme@110 10"],
    );
}

#[test]
fn a_policy_judges_by_what_time_has_left_in_a_window() {
    let limit = |hard: u8| format!("a tenant/* tokens hard={hard} : sliding 60s");
    let check = |marked: i64, expected: &[&str]| {
        let mut shard = Shard::under(&limit(15));
        shard.step(100, Input::Event(call(("acme", "u"), "1", at(100), 10)));
        shard.policy(2, &limit(10), marked);
        assert_eq!(shard.crossings(), expected, "marked at {marked}");
    };
    // The lateness after the sum has left the window, it is of no matter whether its counter was dropped.
    check(760, &["up a/hard tenant/acme@760 10"]);
    check(761, &[]);
}

#[test]
fn what_is_in_flight_is_counted_by_nobody_here() {
    let mut shard = Shard::under(
        "users tenant/*/user/* requests hard=1 : concurrent
         all platform requests hard=1 : concurrent",
    );
    for id in ["1", "2"] {
        shard.step(100, Input::Event(call(("acme", "u"), id, at(100), 5)));
    }
    shard.engine.flush_partials(&mut shard.out);
    assert_eq!(shard.out, []);
    // A limit that was counted and is one on what is in flight from now on is let go of.
    let counted = "a tenant/* requests hard=1 : sliding 60s";
    let in_flight = "a tenant/* requests hard=1 : concurrent";
    let down = ["down a/hard tenant/acme@110 2"];
    check_policy(2, counted, in_flight, &down);
    check_policy(2, in_flight, counted, &[]);
}
