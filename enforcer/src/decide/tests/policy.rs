//! What a change of policy makes of what stands.

use schemas::policy::{Meter, Mode, TenantSettings, Window};
use schemas::subject::Pattern;

use super::*;

/// What another policy makes of a standing block of `rpm` with a sum of 100.
#[track_caller]
fn check_policy(change: impl Fn(&mut Policy), expected: &[&str]) {
    let mut decider = decider();
    let mut out = Vec::new();
    decider.hear(&Signal::Crossing(crossing("rpm+1..60")), at(0), &mut out);
    let mut changed = policy(2, vec![limit("rpm", Mode::Block)]);
    change(&mut changed);
    out.clear();
    decider.obey(changed, at(1), &mut out);
    assert_eq!(out.iter().map(show).collect::<Vec<_>>(), expected);
    // Back to the first policy: what was heard still holds.
    out.clear();
    decider.obey(policy(3, vec![limit("rpm", Mode::Block)]), at(2), &mut out);
    let again: &[&str] = match expected {
        [] => &[],
        _ => &["Policy: block 429 until 60 by rpm1"],
    };
    assert_eq!(out.iter().map(show).collect::<Vec<_>>(), again);
}

#[test]
fn a_change_of_policy_is_obeyed_at_once() {
    let lifted: &[&str] = &["Policy: lifted", "alert Lifted of a decision"];
    check_policy(|_| {}, &[]);
    check_policy(|policy| policy.limits.clear(), lifted);
    check_policy(|policy| policy.limits[0].name = "other".to_owned(), lifted);
    check_policy(
        |policy| policy.limits[0].pattern = Pattern::parse("tenant/b").unwrap(),
        lifted,
    );
    check_policy(|policy| policy.limits[0].levels[0].threshold = 101, lifted);
    check_policy(|policy| policy.limits[0].levels[0].threshold = 99, &[]);
    check_policy(
        |policy| policy.limits[0].window = Window::Sliding { seconds: 61 },
        lifted,
    );
    check_policy(|policy| policy.limits[0].meter = Meter::Tokens, lifted);
    check_policy(
        |policy| policy.limits[0].tier = Some("pro".to_owned()),
        lifted,
    );
    check_policy(
        |policy| {
            let pro = TenantSettings {
                tier: Some("pro".to_owned()),
                zone: None,
            };
            policy.tenants.insert("acme".to_owned(), pro);
            policy.limits[0].tier = Some("pro".to_owned());
        },
        &[],
    );
    check_policy(
        |policy| policy.limits[0].mode = Mode::Open,
        &[
            "Policy: allow until 60 by rpm1",
            "alert Lifted of a decision",
        ],
    );
    check_policy(
        |policy| policy.limits[0].status = Some(503),
        &["Policy: block 503 until 60 by rpm1"],
    );
}

#[test]
fn a_crossing_of_a_raised_limit_takes_the_place_of_one_that_would_last_longer() {
    let mut decider = decider();
    let mut out = Vec::new();
    decider.hear(&Signal::Crossing(crossing("rpm+1..60")), at(0), &mut out);
    let mut raised = limit("rpm", Mode::Block);
    raised.levels[0].threshold = 200;
    decider.obey(policy(2, vec![raised]), at(1), &mut out);
    out.clear();
    let higher = Crossing {
        policy_version: 2,
        sum: 200,
        max: 200,
        ..crossing("rpm+2..40")
    };
    decider.hear(&Signal::Crossing(higher), at(2), &mut out);
    assert_eq!(show(&out[0]), "Crossing: block 429 until 40 by rpm2");
}

#[test]
fn a_crossing_of_a_version_still_on_its_way_speaks_for_itself() {
    let mut decider = decider();
    let mut out = Vec::new();
    let newer = Crossing {
        policy_version: 2,
        ..crossing("new+1..60")
    };
    decider.hear(&Signal::Crossing(newer), at(0), &mut out);
    assert_eq!(show(&out[0]), "Crossing: block 429 until 60 by new1");
    out.clear();
    decider.obey(policy(2, Vec::new()), at(0), &mut out);
    assert_eq!(show(&out[0]), "Policy: lifted");
}
