//! Values of a limit that are wrong.

use schemas::policy::{Mode, Window};

use super::{levels, limit, read, refuse, refuse_field};

#[test]
fn refuses_wrong_values() {
    refuse_field(
        "name",
        "7",
        "2:8: `name` must be text in quotes, not a whole number",
    );
    refuse_field(
        "name",
        "\"a b\"",
        "2:8: a limit's name has 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`, not `a b`",
    );
    refuse_field(
        "subject",
        "\"tenants/*\"",
        "3:11: subject `tenants/*`: `tenants` is no dimension; use one of tenant, key, user, account, source, \
         fingerprint, action, provider, model, route; did you mean `tenant`?",
    );
    refuse_field(
        "subject",
        "\"tenant\"",
        "3:11: subject `tenant`: `tenant` has no id after it",
    );
    refuse_field(
        "subject",
        "\"key/*/tenant/*\"",
        "3:11: subject `key/*/tenant/*`: `tenant` must come before `key` in a subject",
    );
    refuse_field(
        "subject",
        "\"\"",
        "3:11: subject ``: a subject is empty; write `platform` for everything",
    );
    refuse_field(
        "meter",
        "\"token\"",
        "4:9: `token` is no meter; did you mean `tokens`? a unit of your own needs a name less like it",
    );
    refuse_field(
        "meter",
        "\"Tokens\"",
        "4:9: `Tokens` is no meter: use requests, input_tokens, output_tokens, tokens, cost, failures, violations, \
         or the name of a unit (a-z, 0-9, _; at most 64); did you mean `tokens`?",
    );
    refuse_field(
        "window",
        "\"60s\"",
        "5:10: `60s` is no window: write `sliding 60s`, `bucket 10/s burst 50`, `calendar day|week|month`, `wallet` or \
         `concurrent`",
    );
    refuse_field(
        "window",
        "\"sliding 60\"",
        "5:10: `60` is no span of time: a whole number and s, m, h or d, such as 60s",
    );
    refuse_field(
        "window",
        "\"sliding 31d\"",
        "5:10: a sliding window lasts from 1s to 30d, not 31d",
    );
    refuse_field(
        "mode",
        "\"blok\"",
        "8:8: `blok` is no mode: use one of open, block, strict; did you mean `block`?",
    );
    refuse_field(
        "stale",
        "\"last-known\"",
        "9:9: `last-known` is no stale: use one of last_known, open, closed; did you mean `last_known`?",
    );
    for status in ["200", "600", "\"429\"", "-1", "99999999"] {
        refuse_field(
            "status",
            status,
            "9:10: `status` is the HTTP status of a refusal: a whole number from 400 to 599",
        );
    }
}

#[test]
fn refuses_what_matches_nothing() {
    let refuse = |subject: &str, meter: &str, told: &str| {
        refuse(
            &limit(&[("subject", subject), ("meter", meter)]),
            &[&format!(
                "3:11: subject `{}` matches nothing: {told}",
                subject.trim_matches('"')
            )],
        );
    };
    let sign_ins =
        "`failures` are counted from sign-ins, which carry no key, only tenant, account, source";
    refuse("\"tenant/*/key/*\"", "\"failures\"", sign_ins);
    refuse("\"tenant/*/key/k/source/*\"", "\"failures\"", sign_ins);
    refuse(
        "\"tenant/*/user/*\"",
        "\"violations\"",
        "`violations` are counted from CSP reports, which carry no user, only tenant",
    );
    for (subject, meter) in [
        ("\"tenant/*/account/*\"", "\"failures\""),
        ("\"source/*\"", "\"failures\""),
        ("\"platform\"", "\"violations\""),
    ] {
        levels(
            &[("subject", subject), ("meter", meter)],
            &[("80%", 48_000), ("hard", 60_000)],
        );
    }
}

#[test]
fn refuses_a_tiers_limit_on_a_tenant_of_another() {
    let one =
        limit(&[("subject", "\"tenant/acme/user/*\"")]).replace("[[limit]]", "[[tier.pro.limit]]");
    let told = |own: &str| {
        format!(
            "1:1: this limit of tier `pro` matches nothing: tenant `acme` is of {own}; leave the tier out to limit the \
             tenant itself"
        )
    };
    refuse(&one, &[&told("no tier")]);
    refuse(
        &(one.clone() + "[tier.free]\n[tenant.acme]\ntier = \"free\"\n"),
        &[&told("tier `free`")],
    );
    assert!(read(&(one.clone() + "[tenant.acme]\ntier = \"pro\"\n")).is_ok());
    assert!(read(&("default_tier = \"pro\"\n".to_owned() + &one)).is_ok());
}

/// The limits of `tier`, each with its hard number.
#[track_caller]
fn tier_has(text: &str, tier: &str, expected: &[(&str, i128)]) {
    let policy = read(text).unwrap();
    let own = policy
        .limits
        .iter()
        .filter(|l| l.tier.as_deref() == Some(tier));
    let own: Vec<_> = own.map(|l| (l.name.as_str(), l.hard())).collect();
    assert_eq!(own, expected, "{tier} of {text}");
}

#[test]
fn a_tier_has_what_it_extends_but_for_what_it_says_itself() {
    let one = |tier: &str, name: &str, hard: &str| {
        let name = format!("\"{name}\"");
        limit(&[("name", &name), ("hard", hard)])
            .replace("[[limit]]", &format!("[[tier.{tier}.limit]]"))
    };
    let text = one("free", "a", "10")
        + &one("free", "b", "20")
        + "[tier.pro]\nextends = \"free\"\n"
        + &one("pro", "b", "200")
        + "[tier.max]\nextends = \"pro\"\n";
    tier_has(&text, "free", &[("a", 10), ("b", 20)]);
    tier_has(&text, "pro", &[("b", 200), ("a", 10)]);
    tier_has(&text, "max", &[("b", 200), ("a", 10)]);
    let general = limit(&[("name", "\"a\"")]) + &text;
    let policy = read(&general).unwrap();
    assert_eq!(policy.limits[0].replaced_in, ["free", "max", "pro"]);
    // A limit on one tenant of a tier that extends this one.
    let one_tenant = text.replacen("\"tenant/*\"", "\"tenant/acme\"", 1);
    assert!(read(&(one_tenant + "[tenant.acme]\ntier = \"max\"\n")).is_ok());
}

#[test]
fn refuses_tiers_that_extend_themselves() {
    refuse(
        "[tier.a]\nextends = \"a\"",
        &["2:11: tier `a` extends itself: `a` -> `a`; leave one `extends` out"],
    );
    refuse(
        "[tier.a]\nextends = \"b\"\n[tier.b]\nextends = \"c\"\n[tier.c]\nextends = \"b\"\n",
        &["4:11: tier `b` extends itself: `b` -> `c` -> `b`; leave one `extends` out"],
    );
    refuse(
        "[tier.free]\n[tier.pro]\nextends = \"fre\"",
        &["3:11: no tier `fre` is declared by `[tier.fre]`; did you mean `free`?"],
    );
    refuse(
        "[tier.a]\nextends = 3",
        &["2:11: `extends` must be text in quotes, not a whole number"],
    );
}

#[test]
fn only_what_calls_use_can_be_reserved() {
    let strict = limit(&[("mode", "\"strict\"")]);
    assert_eq!(
        read(&strict).map(|policy| policy.limits[0].mode).ok(),
        Some(Mode::Strict)
    );
    let failures = limit(&[("mode", "\"strict\""), ("meter", "\"failures\"")]);
    refuse(
        &failures,
        &[
            "8:8: nobody reserves what is counted from sign-ins or browsers: use `block`, which refuses after the fact",
        ],
    );
}

#[test]
fn refuses_wrong_numbers() {
    refuse_field("hard", "0", "7:8: `hard` must be above zero");
    refuse_field("hard", "-5", "7:8: `hard` must be above zero");
    refuse_field(
        "hard",
        "1.5",
        "7:8: `hard` of tokens is a whole number, such as 60000, not a number with a fraction",
    );
    refuse_field(
        "hard",
        "\"60000\"",
        "7:8: `hard` of tokens is a whole number without quotes or unit, such as 60000, not \"60000\"",
    );
    refuse_field(
        "hard",
        "\"20 USD\"",
        "7:8: `hard` of tokens is a whole number without quotes or unit, such as 60000, not \"20 USD\"",
    );
    refuse_field(
        "hard",
        "99999999999999999999",
        "7:8: `hard` is at most 9223372036854775807",
    );
    refuse_field(
        "soft",
        "\"80%\"",
        "6:8: `soft` is a list: write `soft = [\"80%\"]`",
    );
    for (percent, shown) in [
        ("0%", "0%"),
        ("100%", "100%"),
        ("80.5%", "80.5%"),
        ("-1%", "-1%"),
    ] {
        refuse_field(
            "soft",
            &format!("[\"{percent}\"]"),
            &format!("6:9: a soft level is a whole percentage from 1% to 99%, not {shown}"),
        );
    }
    refuse_field(
        "soft",
        "[60000]",
        "6:9: a soft level lies below the hard number: 60000 is not below 60000",
    );
    refuse_field(
        "soft",
        "[\"80%\", 48000]",
        "6:16: `48000` is the same number as `80%`: leave one out",
    );
    refuse_field(
        "soft",
        "[\"80\"]",
        "6:9: `soft` of tokens is a whole number without quotes or unit, such as 60000, not \"80\"; or a part of the \
         hard number: `soft = [\"80%\"]`",
    );
    refuse_field(
        "hard",
        "1",
        "6:9: 80% of 1 is 1, which is not below the hard number",
    );
}

#[test]
fn money_needs_its_unit() {
    let refuse_hard = |value: &str, expected: &str| {
        refuse(
            &limit(&[("meter", "\"cost\""), ("hard", value)]),
            &[expected],
        );
    };
    refuse_hard(
        "20",
        "7:8: an amount of money needs its unit: write `hard = \"20 USD\"`",
    );
    refuse_hard(
        "0.5",
        "7:8: an amount of money needs its unit: write `hard = \"20 USD\"`",
    );
    refuse_hard(
        "\"0.50\"",
        "7:8: an amount of money needs its unit: write \"0.50 USD\"",
    );
    refuse_hard(
        "\"20 EUR\"",
        "7:8: \"20 EUR\" is no amount of money: write `hard = \"20 USD\"`, in US dollars",
    );
    refuse_hard(
        "\"$20\"",
        "7:8: \"$20\" is no amount of money: write `hard = \"20 USD\"`, in US dollars",
    );
    refuse_hard(
        "true",
        "7:8: an amount of money is text such as `hard = \"20 USD\"`, not true or false",
    );
    refuse_hard("\"0 USD\"", "7:8: `hard` must be above zero");
    refuse_hard("\"-1 USD\"", "7:8: `hard` must be above zero");
    refuse_hard(
        "\"1e-13 USD\"",
        "7:8: 1e-13 USD is finer than a pico-dollar (10^-12 USD), which would have to be rounded",
    );
    refuse_hard(
        "\"9223373 USD\"",
        "7:8: 9223373 USD is more than 9223372 USD, the most that one amount can hold",
    );
    refuse(
        &limit(&[
            ("meter", "\"cost\""),
            ("hard", "\"20 USD\""),
            ("soft", "[16, \"20 USD\"]"),
        ]),
        &[
            "6:9: an amount of money needs its unit: write `soft = [\"16 USD\"]`; or a part of the hard number: `soft \
             = [\"80%\"]`",
            "6:13: a soft level lies below the hard number: 20 USD is not below 20 USD",
        ],
    );
}

#[test]
fn a_bucket_holds_its_burst() {
    let bucket = ("window", "\"bucket 10/s burst 50\"");
    levels(&[bucket, ("hard", "")], &[("80%", 40), ("hard", 50)]);
    levels(&[bucket, ("hard", "50")], &[("80%", 40), ("hard", 50)]);
    levels(&[bucket, ("hard", "30")], &[("80%", 24), ("hard", 30)]);
    refuse(
        &limit(&[bucket, ("hard", "51")]),
        &["7:8: `hard` is above the 50 that the bucket holds: leave it out, or raise the burst"],
    );
    refuse(
        &limit(&[bucket, ("meter", "\"cost\""), ("hard", "")]),
        &["5:10: a bucket counts whole numbers, not money: use a sliding or calendar window"],
    );
}

#[test]
fn reads_wallets() {
    let wallet = |more: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> {
        [("window", "\"wallet\""), ("hard", "1000")]
            .into_iter()
            .chain(more.iter().copied())
            .collect()
    };
    levels(&wallet(&[]), &[("80%", 800), ("hard", 1000)]);
    levels(&wallet(&[("keep", "100")]), &[("80%", 720), ("hard", 900)]);
    // A number is what is left to spend.
    levels(
        &wallet(&[("soft", "[\"50%\", 200, 300]"), ("keep", "100")]),
        &[("50%", 450), ("300", 600), ("200", 700), ("hard", 900)],
    );
    levels(
        &[
            ("window", "\"wallet\""),
            ("meter", "\"cost\""),
            ("soft", "[\"0.20 USD\"]"),
            ("hard", "\"1 USD\""),
            ("keep", "\"0.10 USD\""),
        ],
        &[("0.2 USD", 700_000_000_000), ("hard", 900_000_000_000)],
    );
    let policy = read(&limit(&wallet(&[("keep", "100")]))).unwrap();
    let limit = &policy.limits[0];
    assert_eq!(
        (limit.paid_in(), limit.keep, limit.status),
        (1000, 100, None)
    );
}

#[test]
fn refuses_wallets_that_cannot_be() {
    let wallet = "\"wallet\"";
    for (changed, told) in [
        (
            vec![("keep", "1")],
            "9:8: `keep` is what is to be left in a wallet: leave it out, or write `window = \"wallet\"`",
        ),
        (
            vec![("window", wallet), ("keep", "60000")],
            "9:8: `keep` lies below `hard`: what a wallet starts with is more than what is to be left in it",
        ),
        (
            vec![("window", wallet), ("keep", "\"1 USD\"")],
            "9:8: `keep` of tokens is a whole number without quotes or unit, such as 60000, not \"1 USD\"",
        ),
        (
            vec![("window", wallet), ("subject", "\"platform\"")],
            "3:11: a wallet is a tenant's, or a user's or key's of one: begin with `tenant/`",
        ),
        (
            vec![("window", wallet), ("mode", "\"strict\"")],
            "8:8: nothing is reserved of a wallet: use `block`, which refuses once nothing is left",
        ),
    ] {
        refuse(&limit(&changed), &[told]);
    }
}

/// A limit on what is in flight, with these fields changed; what it does not need is left out.
fn in_flight<'a>(changed: &[(&'a str, &'a str)]) -> String {
    let own = [
        ("meter", "\"requests\""),
        ("window", "\"concurrent\""),
        ("soft", ""),
        ("hard", "10"),
        ("mode", ""),
    ];
    limit(&[&own[..], changed].concat())
}

#[test]
fn what_is_in_flight_is_strict_also_where_nothing_is_said_of_it() {
    for mode in ["", "\"strict\""] {
        let policy = read(&in_flight(&[("mode", mode)])).unwrap();
        let limit = &policy.limits[0];
        assert_eq!(
            (limit.window, limit.mode),
            (Window::Concurrent, Mode::Strict)
        );
        assert_eq!(limit.hard(), 10);
    }
}

#[test]
fn refuses_what_cannot_be_of_what_is_in_flight() {
    let only_strict = "7:8: what is in flight is known only of what is reserved, so the mode is `strict`: leave `mode` out";
    let not_told = "6:8: the log does not tell what is in flight, so nobody is told of it before `hard`: leave `soft` out";
    for (field, value, told) in [
        ("mode", "\"block\"", only_strict),
        ("mode", "\"open\"", only_strict),
        ("soft", "[\"80%\"]", not_told),
        (
            "meter",
            "\"tokens\"",
            "4:9: what is in flight are requests: write `meter = \"requests\"`",
        ),
        (
            "keep",
            "1",
            "7:8: `keep` is what is to be left in a wallet: leave it out, or write `window = \"wallet\"`",
        ),
    ] {
        refuse(&in_flight(&[(field, value)]), &[told]);
    }
}
