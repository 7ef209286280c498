mod overrides;
mod sets;
mod values;
mod weights;

use std::fmt::Write as _;

use schemas::policy::{Mode, Stale};

use super::*;

/// A limit that is right, with `changed` in place of the lines for the same fields; an empty value drops the line.
fn limit(changed: &[(&str, &str)]) -> String {
    let mut lines = vec![
        ("name", "\"tokens\""),
        ("subject", "\"tenant/*\""),
        ("meter", "\"tokens\""),
        ("window", "\"sliding 60s\""),
        ("soft", "[\"80%\"]"),
        ("hard", "60000"),
        ("mode", "\"block\""),
    ];
    for (field, value) in changed {
        match lines.iter_mut().find(|(name, _)| name == field) {
            Some(line) => line.1 = value,
            None => lines.push((field, value)),
        }
    }
    let mut text = String::from("[[limit]]\n");
    for (field, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(text, "{field} = {value}").unwrap();
    }
    text
}

#[track_caller]
fn refuse(text: &str, expected: &[&str]) {
    let problems = read(text).expect_err("this policy is wrong");
    let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(told, expected, "{text}");
}

/// One field of a limit that is right otherwise.
#[track_caller]
fn refuse_field(field: &str, value: &str, expected: &str) {
    refuse(&limit(&[(field, value)]), &[expected]);
}

#[track_caller]
fn levels(changed: &[(&str, &str)], expected: &[(&str, i128)]) {
    let policy = read(&limit(changed)).unwrap();
    let levels = policy.limits[0].levels.iter();
    let levels: Vec<_> = levels.map(|l| (l.name.as_str(), l.threshold)).collect();
    assert_eq!(levels, expected);
}

#[test]
fn reads_a_whole_policy() {
    let text = r#"
default_tier = "free"
zone = "Europe/Berlin"

[[limit]]
name    = "tokens-a-minute"
subject = "tenant/*"
meter   = "tokens"
window  = "sliding 60s"
soft    = ["80%", 59_000]
hard    = 60000
mode    = "open"
stale   = "closed"
status  = 503

[[limit]]
name = "pictures"
subject = "tenant/*/user/*"
meter = "pictures"
window = "calendar day"
hard = 10
tier = "pro"

[tier.free]
[[tier.free.limit]]
name = "budget"
subject = "tenant/*"
meter = "cost"
window = "calendar month"
hard = "0.50 USD"

[tier.pro]

[tenant.acme]
tier = "pro"
zone = "America/New_York"
[tenant."b/c d"]
"#;
    let policy = read(text).unwrap();
    assert_eq!(policy.default_tier.as_deref(), Some("free"));
    assert_eq!(policy.default_zone, Some(Tz::Europe__Berlin));
    let acme = &policy.tenants["acme"];
    assert_eq!(
        (acme.tier.as_deref(), acme.zone),
        (Some("pro"), Some(Tz::America__New_York))
    );
    assert_eq!(policy.tenants["b/c d"], TenantSettings::default());
    let [tokens, pictures, budget] = policy.limits.as_slice() else {
        panic!("three limits, not {}", policy.limits.len())
    };
    assert_eq!(
        (tokens.mode, tokens.stale, tokens.status),
        (Mode::Open, Stale::Closed, Some(503))
    );
    assert_eq!((tokens.levels.len(), tokens.hard()), (3, 60_000));
    assert_eq!(
        (pictures.mode, pictures.stale, pictures.status),
        (Mode::Block, Stale::LastKnown, None)
    );
    assert_eq!(pictures.tier.as_deref(), Some("pro"));
    assert_eq!(
        (budget.tier.as_deref(), budget.hard()),
        (Some("free"), 500_000_000_000)
    );
}

#[test]
fn levels_come_lowest_first_and_round_up() {
    levels(&[], &[("80%", 48_000), ("hard", 60_000)]);
    levels(&[("soft", "")], &[("hard", 60_000)]);
    levels(&[("soft", "[]"), ("hard", "0x10")], &[("hard", 16)]);
    levels(
        &[("soft", "[50_000, \"80%\", \"1%\"]")],
        &[
            ("1%", 600),
            ("80%", 48_000),
            ("50000", 50_000),
            ("hard", 60_000),
        ],
    );
    levels(&[("hard", "101")], &[("80%", 81), ("hard", 101)]);
    levels(
        &[
            ("meter", "\"cost\""),
            ("hard", "\"20 USD\""),
            ("soft", "[\"1.50 USD\", \"99%\"]"),
        ],
        &[
            ("1.5 USD", 1_500_000_000_000),
            ("99%", 19_800_000_000_000),
            ("hard", 20_000_000_000_000),
        ],
    );
}

#[test]
fn refuses_what_is_no_policy_at_all() {
    let empty = format!("1:1: {EMPTY}");
    refuse("", &[&empty]);
    refuse("# nothing yet\n\n", &[&empty]);
    refuse("\u{feff}", &[&empty]);
    refuse(
        "[[limit]\nname = \"x\"",
        &["1:9: not TOML: unclosed array table, expected `]`"],
    );
    refuse(
        "zone = Europe/Berlin",
        &["1:8: not TOML: string values must be quoted, expected literal string"],
    );
    refuse(
        "zone = \"UTC\"\nzone = \"UTC\"",
        &["2:1: not TOML: duplicate key"],
    );
    let large = format!("# {}", "x".repeat(POLICY_BYTES_MAX));
    refuse(
        &large,
        &["1:1: the policy has 262146 bytes; 262144 are taken"],
    );
}

#[test]
fn names_the_nearest_right_field() {
    refuse(
        "[[limits]]\nname = 1",
        &["1:3: unknown field `limits` of a policy; did you mean `limit`?"],
    );
    refuse(
        "zone = \"UTC\"\nspeed = 1",
        &[
            "2:1: unknown field `speed` of a policy; there are limit, override, tier, tenant, set, weight, default_tier, zone",
        ],
    );
    let field = |name: &str| limit(&[(name, "1")]);
    refuse(
        &field("hrad"),
        &["9:1: unknown field `hrad` of a limit; did you mean `hard`?"],
    );
    refuse(
        &field("Soft"),
        &["9:1: unknown field `Soft` of a limit; did you mean `soft`?"],
    );
    refuse(
        "[tenant.a]\ntire = \"x\"",
        &["2:1: unknown field `tire` of a tenant; did you mean `tier`?"],
    );
    refuse(
        "[tier.a]\nzone = \"UTC\"",
        &["2:1: unknown field `zone` of a tier; there are limit, extends"],
    );
}

#[test]
fn names_what_is_missing() {
    let missing = |field| limit(&[(field, "")]);
    refuse(
        &missing("name"),
        &["1:1: this limit has no `name`: write `name = \"tokens-a-minute\"`"],
    );
    refuse(
        &missing("subject"),
        &["1:1: this limit has no `subject`: write `subject = \"tenant/*\"`"],
    );
    refuse(
        &missing("meter"),
        &["1:1: this limit has no `meter`: write `meter = \"tokens\"`"],
    );
    refuse(
        &missing("window"),
        &["1:1: this limit has no `window`: write `window = \"sliding 60s\"`"],
    );
    refuse(
        &missing("hard"),
        &[
            "1:1: this limit has no `hard`, the number from which on calls are refused: write `hard = 60000`",
        ],
    );
    refuse(
        "\n\n[[limit]]\nname = \"a\"\nmeter = \"cost\"",
        &[
            "3:1: this limit has no `hard`, the number from which on calls are refused: write `hard = \"20 USD\"`",
            "3:1: this limit has no `subject`: write `subject = \"tenant/*\"`",
            "3:1: this limit has no `window`: write `window = \"sliding 60s\"`",
        ],
    );
}

#[test]
fn refuses_two_limits_of_one_name() {
    let twice = limit(&[]) + &limit(&[]);
    refuse(
        &twice,
        &["10:8: another limit is named `tokens` already, on line 2"],
    );
    let general = limit(&[]);
    let in_tier = general.replace("[[limit]]", "[[tier.pro.limit]]");
    assert!(read(&(general.clone() + &in_tier)).is_ok());
    refuse(
        &(in_tier.clone() + &in_tier),
        &["10:8: another limit is named `tokens` already, on line 2"],
    );
    let by_field = limit(&[("tier", "\"pro\"")]) + &in_tier;
    refuse(
        &by_field,
        &["11:8: another limit is named `tokens` already, on line 2"],
    );
}

#[test]
fn refuses_tiers_that_are_not_there() {
    refuse(
        "default_tier = \"fre\"\n[tier.free]",
        &["1:16: no tier `fre` is declared by `[tier.fre]`; did you mean `free`?"],
    );
    refuse(
        "[tenant.acme]\ntier = \"gold\"",
        &["2:8: no tier `gold` is declared by `[tier.gold]`"],
    );
    refuse_field(
        "tier",
        "\"pro\"",
        "9:8: no tier `pro` is declared by `[tier.pro]`",
    );
    refuse(
        "[tier.\"a b\"]",
        &["1:7: a tier's name has 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`, not `a b`"],
    );
    refuse(
        "tier = 1",
        &["1:8: `tier` holds tables by name: write `[tier.NAME]`"],
    );
    refuse(
        "[tier]\nfree = 1",
        &["2:8: `tier.free` must be a table: write `[tier.free]`"],
    );
    refuse(
        "[[tenant]]\nname = \"acme\"",
        &["1:1: `tenant` holds tables by name: write `[tenant.NAME]`"],
    );
    refuse(
        "[limit]\nname = \"a\"",
        &["1:1: `limit` is a list of tables: write `[[limit]]` above each"],
    );
    let wide = limit(&[("subject", "\"platform\"")]).replace("[[limit]]", "[[tier.pro.limit]]");
    refuse(
        &wide,
        &["1:1: a limit of a tier begins with `tenant/`; `platform` is wider than a tenant"],
    );
    let other = limit(&[("tier", "\"free\"")]).replace("[[limit]]", "[[tier.pro.limit]]");
    refuse(
        &other,
        &["9:8: this limit stands under `[tier.pro]`: leave `tier` out"],
    );
}

#[test]
fn refuses_zones_that_do_not_exist() {
    refuse(
        "zone = \"Europe/Brelin\"",
        &[
            "1:8: `Europe/Brelin` is no IANA time zone such as `Europe/Berlin`; did you mean `Europe/Berlin`?",
        ],
    );
    refuse(
        "[tenant.acme]\nzone = \"Mars\"",
        &["2:8: `Mars` is no IANA time zone such as `Europe/Berlin`"],
    );
    refuse("[tenant.\"\"]", &["1:9: a tenant's id has 1 to 256 bytes"]);
}

#[test]
fn tells_all_problems_at_once_in_the_order_of_the_text() {
    let text = "zone = \"Nowhere/None\"\n".to_owned()
        + &limit(&[("meter", "7"), ("mode", "\"opne\""), ("hard", "\"x\"")])
        + "[tenant.\"ä\"]\n'ö' = 1\n";
    refuse(
        &text,
        &[
            "1:8: `Nowhere/None` is no IANA time zone such as `Europe/Berlin`",
            "5:9: `meter` must be text in quotes, not a whole number",
            "9:8: `opne` is no mode: use one of open, block, strict; did you mean `open`?",
            "11:1: unknown field `ö` of a tenant; there are tier, zone",
        ],
    );
}

#[test]
fn counts_columns_in_characters() {
    refuse(
        "x = 'äöü' \ny = ['äöü', ]\n[tenant]\n'äöü' = 1",
        &[
            "1:1: unknown field `x` of a policy; there are limit, override, tier, tenant, set, weight, default_tier, zone",
            "2:1: unknown field `y` of a policy; there are limit, override, tier, tenant, set, weight, default_tier, zone",
            "4:9: `tenant.äöü` must be a table: write `[tenant.äöü]`",
        ],
    );
}

#[test]
fn holds_a_bounded_number_of_limits() {
    let many = |count: usize| -> String {
        (0..count).fold(String::new(), |mut text, n| {
            let line = format!(
                "[[limit]]\nname='l{n}'\nsubject='tenant/*'\nmeter='tokens'\nwindow='sliding 60s'\nhard=1\n"
            );
            text.push_str(&line);
            text
        })
    };
    assert_eq!(read(&many(LIMITS_MAX)).unwrap().limits.len(), LIMITS_MAX);
    refuse(
        &many(LIMITS_MAX + 1),
        &["6001:1: this is limit 1001; a policy holds 1000"],
    );
}

mod any_text {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            drop(read(&text));
        }

        #[test]
        fn a_slip_in_a_right_policy_never_panics_and_is_told_with_a_place(at in 0_usize..200, typed in "\\PC") {
            let mut text = limit(&[]) + "[tier.pro]\n[tenant.acme]\nzone = \"UTC\"\n";
            let at = at % text.len();
            text.replace_range(at..=at, &typed);
            for problem in read(&text).err().into_iter().flatten() {
                prop_assert!((1..=text.lines().count() + 1).contains(&problem.line), "{}", problem);
                prop_assert!(1 <= problem.column && !problem.text.is_empty());
            }
        }
    }
}
