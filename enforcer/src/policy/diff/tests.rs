use super::*;
use crate::policy::read;

const BEFORE: &str = r#"
    default_tier = "free"
    [[limit]]
    name = "rpm"
    subject = "tenant/*"
    meter = "requests"
    window = "sliding 60s"
    hard = 60
    [[limit]]
    name = "all"
    subject = "platform"
    meter = "cost"
    window = "calendar month"
    hard = "200 USD"
    [tier.free]
    [[tier.pro.limit]]
    name = "rpm"
    subject = "tenant/*"
    meter = "requests"
    window = "sliding 60s"
    soft = ["80%"]
    hard = 600
    [tenant.acme]
    tier = "pro"
"#;

/// Replaces texts in [`BEFORE`] and compares the lines that tell of it.
#[track_caller]
fn check(edits: &[(&str, &str)], expected: &[&str]) {
    let mut after = BEFORE.to_owned();
    for (old, new) in edits {
        assert!(after.contains(old), "{old}");
        after = after.replacen(old, new, 1);
    }
    let (from, to) = (read(BEFORE).unwrap(), read(&after).unwrap());
    let forward = diff(&from, &to);
    let lines = forward.to_string();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    assert_eq!(forward.is_empty(), expected.is_empty());
    let back = diff(&to, &from);
    assert_eq!(back.tenants.len(), forward.tenants.len());
    assert_eq!(back.limits.len(), forward.limits.len());
}

#[test]
fn nothing_changes_by_what_means_the_same() {
    check(&[], &[]);
    check(
        &[("[tier.free]", "# the tier of everybody\n[tier.free]")],
        &[],
    );
    check(&[("\"200 USD\"", "\"200.00 USD\"")], &[]);
}

#[test]
fn a_number_changes_for_those_who_fall_under_it() {
    check(
        &[("hard = 60\n", "hard = 70\n")],
        &[
            "~ limit rpm: hard 60 -> 70",
            "every tenant that is not named:",
            "  ~ limit rpm: hard 60 -> 70",
        ],
    );
    check(
        &[("hard = 600", "hard = 500\nmode = \"open\"")],
        &[
            "~ limit rpm of tier pro: hard 600 -> 500, mode block -> open",
            "tenant acme:",
            "  ~ limit rpm of tier pro: hard 600 -> 500, mode block -> open",
        ],
    );
    check(
        &[("200 USD", "0.50 USD")],
        &["~ limit all: hard 200 USD -> 0.5 USD"],
    );
}

#[test]
fn a_tenant_that_moves_gets_the_numbers_of_its_new_tier() {
    check(
        &[("tier = \"pro\"", "tier = \"free\"\nzone = \"Asia/Tokyo\"")],
        &[
            "tenant acme:",
            "  tier pro -> free",
            "  zone UTC -> Asia/Tokyo",
            "  ~ limit rpm: hard 600 -> 60, soft 80% -> none",
        ],
    );
    check(
        &[("default_tier = \"free\"", "default_tier = \"pro\"")],
        &[
            "default_tier free -> pro",
            "every tenant that is not named:",
            "  ~ limit rpm of tier pro: hard 60 -> 600, soft none -> 80%",
        ],
    );
}

#[test]
fn weights_change_for_the_whole_policy() {
    let weights = |bulk: u32| {
        format!(
            "[[weight]]\nroute = 'POST /bulk*'\nrequests = {bulk}\n[[weight]]\nroute = '*'\nrequests = 0\n[tier.free]"
        )
    };
    check(
        &[("[tier.free]", &weights(20))],
        &["weight none -> `POST /bulk*` 20, `*` 0"],
    );
    let reads = |bulk| read(&BEFORE.replacen("[tier.free]", &weights(bulk), 1)).unwrap();
    let changed = diff(&reads(20), &reads(5)).to_string();
    assert_eq!(
        changed,
        "weight `POST /bulk*` 20, `*` 0 -> `POST /bulk*` 5, `*` 0"
    );
    assert!(diff(&reads(5), &reads(5)).is_empty());
}

#[test]
fn sets_come_and_go_and_get_other_ids() {
    let set = |ids: &str| format!("[set.slow]\ndimension = 'model'\nids = {ids}\n[tier.free]");
    check(
        &[("[tier.free]", &set("['slow-*', 'opus']"))],
        &["+ set slow: dimension model, ids slow-*, opus"],
    );
    let reads = |ids| read(&BEFORE.replacen("[tier.free]", &set(ids), 1)).unwrap();
    let (from, to) = (reads("['slow-*']"), reads("['slow-*', 'opus']"));
    assert_eq!(
        diff(&from, &to).to_string(),
        "~ set slow: ids slow-* -> slow-*, opus"
    );
    assert_eq!(
        diff(&to, &read(BEFORE).unwrap()).to_string(),
        "- set slow: dimension model, ids slow-*, opus"
    );
    assert!(diff(&to, &to).is_empty());
}

#[test]
fn overrides_come_and_go() {
    let own =
        "[[override]]\nsubject = \"tenant/beta\"\nlimit = \"rpm\"\nhard = 90\nreason = \"asked\"\n";
    let tiers = "[tier.free]";
    check(
        &[(tiers, &format!("{own}{tiers}"))],
        &["+ override of rpm for tenant/beta: hard 90, reason asked"],
    );
    let (from, more) = (
        BEFORE.replace(tiers, &format!("{own}{tiers}")),
        own.replace("90", "95"),
    );
    let to = BEFORE.replace(tiers, &format!("{more}{tiers}"));
    let lines = |from: &str, to: &str| diff(&read(from).unwrap(), &read(to).unwrap()).to_string();
    assert_eq!(
        lines(&from, &to),
        "~ override of rpm for tenant/beta: hard 90 -> 95"
    );
    assert_eq!(
        lines(&to, BEFORE),
        "- override of rpm for tenant/beta: hard 95, reason asked"
    );
}

#[test]
fn limits_come_and_go() {
    let limit = "[[limit]]\nname = \"new\"\nsubject = \"tenant/beta/user/*\"\nmeter = \"cost\"\n\
                 window = \"calendar day\"\nhard = \"5 USD\"\nstatus = 402\n";
    check(
        &[("[tier.free]", &format!("{limit}[tier.free]"))],
        &[
            "+ limit new: subject tenant/beta/user/*, meter cost, window calendar day, hard 5 USD, mode block, \
             stale last_known, status 402",
            "tenant beta:",
            "  + limit new: subject tenant/beta/user/*, meter cost, window calendar day, hard 5 USD, mode block, \
             stale last_known, status 402",
        ],
    );
    check(
        &[("name = \"rpm\"", "name = \"calls\"")],
        &[
            "+ limit calls: subject tenant/*, meter requests, window sliding 60s, hard 60, mode block, stale \
             last_known",
            "- limit rpm: subject tenant/*, meter requests, window sliding 60s, hard 60, mode block, stale \
             last_known",
            "tenant acme:",
            "  + limit calls: subject tenant/*, meter requests, window sliding 60s, hard 60, mode block, stale \
             last_known",
            "every tenant that is not named:",
            "  + limit calls: subject tenant/*, meter requests, window sliding 60s, hard 60, mode block, stale \
             last_known",
            "  - limit rpm: subject tenant/*, meter requests, window sliding 60s, hard 60, mode block, stale \
             last_known",
        ],
    );
}
