//! Other numbers for single subjects.

use schemas::subject::Subject;

use super::*;

/// A limit of all tenants, one of users, one of tier pro, a bucket, a wallet, one on what is in flight, and then
/// overrides of these fields.
fn policy(overrides: &[&[(&str, &str)]]) -> String {
    let mut text = limit(&[])
        + &limit(&[
            ("name", "\"users\""),
            ("subject", "\"tenant/*/user/*\""),
            ("meter", "\"cost\""),
            ("hard", "\"20 USD\""),
            ("mode", "\"strict\""),
        ])
        + &limit(&[("name", "\"wallet\""), ("window", "\"wallet\"")])
        + &limit(&[
            ("name", "\"burst\""),
            ("window", "\"bucket 1/s burst 50\""),
            ("hard", ""),
            ("soft", ""),
        ])
        + &limit(&[
            ("name", "\"places\""),
            ("meter", "\"requests\""),
            ("window", "\"concurrent\""),
            ("soft", ""),
            ("hard", "10"),
            ("mode", ""),
        ])
        + "[tenant.acme]\ntier = \"pro\"\n[tier.pro]\n"
        + &limit(&[("name", "\"extra\"")]).replace("[[limit]]", "[[tier.pro.limit]]");
    for fields in overrides {
        text.push_str("[[override]]\n");
        for (field, value) in *fields {
            writeln!(text, "{field} = {value}").unwrap();
        }
    }
    text
}

/// The line of the first override.
fn first_line() -> usize {
    policy(&[]).lines().count() + 1
}

#[track_caller]
fn holds(fields: &[(&str, &str)], subject: &str, limit: &str, levels: &[(&str, i128)]) {
    let policy = read(&policy(&[fields])).unwrap();
    let subject = Subject::parse(subject).unwrap();
    let overridden = policy.overrides.get(&subject, limit).unwrap();
    let own = policy.limit_on(&subject, limit).unwrap();
    let held = overridden.numbers.on(own);
    let held = held.levels.iter().map(|l| (l.name.as_str(), l.threshold));
    assert_eq!(held.collect::<Vec<_>>(), levels);
}

/// `line` is counted from the override's own.
#[track_caller]
fn wrong(overrides: &[&[(&str, &str)]], (line, column): (usize, usize), told: &str) {
    let line = first_line() + line;
    refuse(&policy(overrides), &[&format!("{line}:{column}: {told}")]);
}

#[test]
fn reads_the_numbers_of_one_subject() {
    let acme = ("subject", "\"tenant/acme\"");
    let tokens = ("limit", "\"tokens\"");
    let twice = [("80%", 96_000), ("hard", 120_000)];
    holds(
        &[acme, tokens, ("hard", "120000")],
        "tenant/acme",
        "tokens",
        &twice,
    );
    holds(
        &[acme, tokens, ("soft", "[\"50%\", 50000]")],
        "tenant/acme",
        "tokens",
        &[("50%", 30_000), ("50000", 50_000), ("hard", 60_000)],
    );
    holds(
        &[acme, ("limit", "\"extra\""), ("hard", "10")],
        "tenant/acme",
        "extra",
        &[("80%", 8), ("hard", 10)],
    );
    holds(
        &[
            ("subject", "\"tenant/acme/user/u_9\""),
            ("limit", "\"users\""),
            ("hard", "\"1 USD\""),
        ],
        "tenant/acme/user/u_9",
        "users",
        &[("80%", 800_000_000_000), ("hard", 1_000_000_000_000)],
    );
    holds(
        &[acme, ("limit", "\"places\""), ("hard", "50")],
        "tenant/acme",
        "places",
        &[("hard", 50)],
    );
    let fields = [
        acme,
        tokens,
        ("mode", "\"open\""),
        ("reason", "\"contract 2026-11\""),
    ];
    let policy = read(&policy(&[&fields])).unwrap();
    let overridden = policy
        .overrides
        .get(&Subject::tenant("acme"), "tokens")
        .unwrap();
    assert_eq!(overridden.numbers.mode, Some(Mode::Open));
    assert_eq!(overridden.numbers.hard, None);
    assert_eq!(overridden.reason.as_deref(), Some("contract 2026-11"));
}

#[test]
fn refuses_what_is_about_nothing() {
    let acme = ("subject", "\"tenant/acme\"");
    let tokens = ("limit", "\"tokens\"");
    let hard = ("hard", "7");
    wrong(
        &[&[tokens, hard]],
        (0, 1),
        "this override has no `subject`: write `subject = \"tenant/acme\"`",
    );
    wrong(
        &[&[acme, hard]],
        (0, 1),
        "this override has no `limit`: write `limit = \"tokens-a-minute\"`",
    );
    wrong(
        &[&[acme, ("limit", "\"token\""), hard]],
        (2, 9),
        "the policy has no limit `token`; did you mean `tokens`?",
    );
    wrong(
        &[&[("subject", "\"tenant/acme/user/u\""), tokens, hard]],
        (1, 11),
        "limit `tokens` is on `tenant/*`, and not counted for `tenant/acme/user/u` itself",
    );
    wrong(
        &[&[
            ("subject", "\"tenant/other\""),
            ("limit", "\"extra\""),
            hard,
        ]],
        (2, 9),
        "tenant `other` is of no tier, which has no limit `extra`",
    );
    wrong(
        &[&[acme, ("limit", "\"wallet\""), hard]],
        (2, 9),
        "limit `wallet` is a wallet: pay into it by `weir command top-up tenant/acme`",
    );
    wrong(
        &[&[acme, tokens, hard], &[acme, tokens, ("hard", "8")]],
        (4, 1),
        &format!(
            "limit `tokens` is overridden for `tenant/acme` already, on line {}",
            first_line()
        ),
    );
    let told = read(&policy(&[&[("subject", "\"tenant/*\""), tokens, hard]])).unwrap_err();
    assert!(
        told[0]
            .text
            .ends_with("an override is for one subject: for many write a `[[limit]]`"),
        "{}",
        told[0]
    );
}

#[test]
fn refuses_numbers_that_cannot_be() {
    let on = [("subject", "\"tenant/acme\""), ("limit", "\"tokens\"")];
    let one = |field| [on[0], on[1], field];
    wrong(
        &[&on],
        (0, 1),
        "this override changes nothing of `tokens`: give it another `hard`, `soft` or `mode`",
    );
    wrong(
        &[&[on[0], on[1], ("hard", "7"), ("hrad", "7")]],
        (4, 1),
        "unknown field `hrad` of an override; did you mean `hard`?",
    );
    wrong(&[&one(("hard", "0"))], (3, 8), "`hard` must be above zero");
    wrong(
        &[&[on[0], on[1], ("hard", "7"), ("soft", "[7]")]],
        (4, 9),
        "a soft level lies below the hard number: 7 is not below 7",
    );
    wrong(
        &[&one(("mode", "\"strict\""))],
        (3, 8),
        "`tokens` is not strict, so no ledger knows what was used of it: make the limit strict",
    );
    wrong(
        &[&one(("mode", "\"blok\""))],
        (3, 8),
        "`blok` is no mode: use one of open, block, strict; did you mean `block`?",
    );
    wrong(
        &[&[on[0], ("limit", "\"burst\""), ("hard", "51")]],
        (3, 8),
        "`hard` is above the 50 that the limit's bucket holds",
    );
    let places = |field| [on[0], ("limit", "\"places\""), field];
    wrong(
        &[&places(("mode", "\"open\""))],
        (3, 8),
        "what is in flight is known only of what is reserved, so the mode is `strict`: leave `mode` out",
    );
    wrong(
        &[&places(("soft", "[\"80%\"]"))],
        (3, 8),
        "the log does not tell what is in flight, so nobody is told of it before `hard`: leave `soft` out",
    );
    wrong(
        &[&[
            ("subject", "\"tenant/acme/user/u\""),
            ("limit", "\"users\""),
            ("hard", "7"),
        ]],
        (3, 8),
        "an amount of money needs its unit: write `hard = \"20 USD\"`",
    );
    wrong(
        &[&[on[0], on[1], ("hard", "7"), ("reason", "\"\"")]],
        (4, 10),
        "say in a few words why the policy changes",
    );
}
