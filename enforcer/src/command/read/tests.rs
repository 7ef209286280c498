//! Commands as they are sent, and what is said of wrong ones.

use serde_json::json;

use super::*;

const POLICY: &str = r#"
[set.slow]
dimension = "model"
ids = ["slow-*", "opus"]

[[limit]]
name = "slow-models"
subject = "tenant/*/model/{slow}"
meter = "cost"
window = "calendar day"
hard = "5 USD"

[[limit]]
name = "tokens-a-minute"
subject = "tenant/*/user/*"
meter = "tokens"
window = "sliding 60s"
hard = 60000

[[limit]]
name = "spend"
subject = "tenant/*"
meter = "cost"
window = "calendar day"
hard = "20 USD"

[[limit]]
name = "burst"
subject = "tenant/*"
meter = "requests"
window = "bucket 10/s burst 50"

[[limit]]
name = "wallet"
subject = "tenant/*/user/*"
meter = "cost"
window = "wallet"
hard = "1 USD"

[[limit]]
name = "credit"
subject = "tenant/*"
meter = "tokens"
window = "wallet"
hard = 1000

[[limit]]
name = "calls"
subject = "tenant/*"
meter = "requests"
window = "wallet"
hard = 10

[[limit]]
name = "reserved"
subject = "tenant/*"
meter = "output_tokens"
window = "sliding 60s"
hard = 600
mode = "strict"

[[limit]]
name = "places"
subject = "tenant/*/user/*"
meter = "requests"
window = "concurrent"
hard = 10

[[tier.pro.limit]]
name = "rpm"
subject = "tenant/*"
meter = "requests"
window = "sliding 60s"
hard = 600
"#;

fn read_now(body: &Value) -> Result<Draft, Vec<FieldError>> {
    let policy = crate::policy::read(POLICY).unwrap();
    read(body, &policy, Timestamp::from_seconds(100))
}

#[track_caller]
fn check(body: Value, until: Option<i64>, path: &str, expected: Action) {
    let draft = read_now(&body).unwrap();
    assert_eq!(draft.until, until.map(Timestamp::from_seconds));
    let subject = Subject::parse(path).unwrap();
    let action = expected;
    assert_eq!(draft.order, Drafted::On { subject, action });
}

#[track_caller]
fn check_wrong(body: Value, expected: &[(&str, &str)]) {
    let wrong = read_now(&body).unwrap_err();
    let told: Vec<_> = wrong
        .iter()
        .map(|w| (w.pointer.as_str(), w.detail.as_str()))
        .collect();
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((pointer, detail), (expected, fragment)) in told.iter().zip(expected) {
        assert_eq!(pointer, expected, "{told:#?}");
        assert!(detail.contains(fragment), "{detail}");
    }
}

fn raise(limit: &str, hard: i128) -> Action {
    Action::Raise {
        limit: limit.to_owned(),
        numbers: Numbers {
            hard: Some(hard),
            ..Numbers::default()
        },
    }
}

#[test]
fn reads_what_is_ordered() {
    check(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "tokens-a-minute", "hard": 120000,
               "for": "2h", "reason": "launch day"}),
        Some(7_300),
        "tenant/acme",
        raise("tokens-a-minute", 120_000),
    );
    check(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "spend", "hard": "30 USD", "reason": "r"}),
        None,
        "tenant/acme",
        raise("spend", 30_000_000_000_000),
    );
    check(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "reserved", "mode": "strict", "reason": "r"}),
        None,
        "tenant/acme",
        Action::Raise {
            limit: "reserved".to_owned(),
            numbers: Numbers {
                mode: Some(Mode::Strict),
                ..Numbers::default()
            },
        },
    );
    check(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "places", "hard": 50, "reason": "r"}),
        None,
        "tenant/acme",
        raise("places", 50),
    );
    check(
        json!({"kind": "set_tier", "subject": "tenant/acme/user/u", "tier": "pro", "reason": "r"}),
        None,
        "tenant/acme/user/u",
        Action::SetTier {
            tier: "pro".to_owned(),
        },
    );
    check(
        json!({"kind": "block", "subject": "source/203.0.113.7", "until": "1970-01-01T00:02:00Z", "reason": "r"}),
        Some(120),
        "source/203.0.113.7",
        Action::Block,
    );
    let undo =
        read_now(&json!({"kind": "undo", "command": "c1", "reason": "r", "id": "mine"})).unwrap();
    assert_eq!(undo.id.as_deref(), Some("mine"));
    let command = "c1".to_owned();
    assert_eq!(undo.order, Drafted::Undo { command });
}

#[test]
fn says_all_that_is_wrong() {
    check_wrong(json!([]), &[("", "an object")]);
    check_wrong(json!({}), &[("/kind", "missing")]);
    check_wrong(
        json!({"kind": "rise"}),
        &[("/kind", "did you mean `raise`?")],
    );
    check_wrong(
        json!({"kind": "raise", "subjct": "tenant/acme"}),
        &[
            ("/subjct", "did you mean `subject`?"),
            ("/reason", "missing"),
            ("/subject", "missing"),
            ("/limit", "missing"),
            ("/hard", "missing"),
        ],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "tokens-a-minut", "hard": 1, "reason": "r"}),
        &[("/limit", "did you mean `tokens-a-minute`?")],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "tenant/acme/key/k", "limit": "tokens-a-minute", "hard": 1, "reason": "r"}),
        &[("/subject", "is on `tenant/*/user/*`")],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "platform", "limit": "spend", "hard": "1 USD", "reason": "r"}),
        &[("/subject", "not counted")],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "spend", "hard": 3, "reason": " "}),
        &[("/reason", "say why"), ("/hard", "20 USD")],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "burst", "hard": 51, "reason": "r"}),
        &[("/hard", "the 50 that")],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "burst", "hard": 0, "mode": "opn", "reason": "r"}),
        &[("/hard", "above zero"), ("/mode", "did you mean `open`?")],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "burst", "mode": "strict", "reason": "r"}),
        &[("/mode", "make it strict there")],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "tenant/acme", "limit": "places", "mode": "open", "reason": "r"}),
        &[("/mode", "the mode stays `strict`")],
    );
    check_wrong(
        json!({"kind": "set_tier", "subject": "platform", "tier": "prro", "reason": "r"}),
        &[("/tier", "did you mean `pro`?"), ("/subject", "tenant/")],
    );
    check_wrong(
        json!({"kind": "block", "subject": "tennant/a", "until": "soon", "reason": "r", "limit": "rpm"}),
        &[
            ("/limit", "no such field"),
            ("/until", "a time"),
            ("/subject", "did you mean `tenant`?"),
        ],
    );
    check_wrong(
        json!({"kind": "block", "subject": "tenant/a", "until": "1970-01-01T00:01:40Z", "reason": "r"}),
        &[("/until", "in the future")],
    );
    check_wrong(
        json!({"kind": "block", "subject": "tenant/a", "for": "2 hours", "reason": "r", "id": "a b"}),
        &[("/id", "an id has"), ("/for", "no span of time")],
    );
}

fn top_up(limit: &str, amount: i128) -> Action {
    Action::TopUp {
        limit: limit.to_owned(),
        amount,
    }
}

#[test]
fn reads_entries_of_wallets() {
    let user = |amount: &str| json!({"kind": "top_up", "subject": "tenant/acme/user/u", "amount": amount, "reason": "r"});
    for (amount, pico) in [
        ("5 USD", 5_000_000_000_000),
        ("5", 5_000_000_000_000),
        ("-0.50USD", -500_000_000_000),
        ("0.000000000001 USD", 1),
    ] {
        let expected = top_up("wallet", pico);
        check(user(amount), None, "tenant/acme/user/u", expected);
    }
    check(
        json!({"kind": "top_up", "subject": "tenant/acme", "limit": "credit", "amount": -7, "reason": "r"}),
        None,
        "tenant/acme",
        top_up("credit", -7),
    );
}

#[test]
fn says_what_is_wrong_with_entries_of_wallets() {
    let amount = |amount: Value| json!({"kind": "top_up", "subject": "tenant/acme/user/u", "amount": amount, "reason": "r"});
    for wrong in [
        json!(5),
        json!(5.5),
        json!("5 EUR"),
        json!("0.0000000000001 USD"),
        json!("10000000 USD"),
    ] {
        check_wrong(amount(wrong), &[("/amount", "of cost is text such as")]);
    }
    check_wrong(amount(json!("0 USD")), &[("/amount", "is nothing")]);
    check_wrong(amount(Value::Null), &[("/amount", "is missing")]);
    let tokens = |amount: Value| json!({"kind": "top_up", "subject": "tenant/a", "limit": "credit", "amount": amount, "reason": "r"});
    for wrong in [json!(1.5), json!("7"), json!(1e30)] {
        check_wrong(tokens(wrong), &[("/amount", "of tokens is a whole number")]);
    }
    let on =
        |subject: &str| json!({"kind": "top_up", "subject": subject, "amount": 1, "reason": "r"});
    check_wrong(on("tenant/a"), &[("/limit", "which of `calls`, `credit`")]);
    // A wallet is its subject's alone: one of the tenant does not fill its users'.
    check_wrong(
        json!({"kind": "top_up", "subject": "tenant/a", "limit": "wallet", "amount": 1, "reason": "r"}),
        &[("/limit", "no wallet of `tenant/a` itself")],
    );
    check_wrong(
        on("tenant/a/key/k"),
        &[("/subject", "no wallet for `tenant/a/key/k` itself")],
    );
    check_wrong(
        json!({"kind": "top_up", "subject": "tenant/a", "limit": "spend", "amount": "1 USD", "reason": "r"}),
        &[("/limit", "no wallet of")],
    );
    check_wrong(
        json!({"kind": "top_up", "subject": "tenant/a", "limit": "credits", "amount": 1, "for": "1h", "reason": "r"}),
        &[
            ("/for", "no such field"),
            ("/limit", "did you mean `credit`?"),
        ],
    );
    check_wrong(
        json!({"kind": "raise", "subject": "tenant/a", "limit": "credit", "hard": 5, "reason": "r"}),
        &[("/limit", "order `top_up`")],
    );
}

#[test]
fn reads_requests_and_their_answers() {
    let numbers = Numbers {
        hard: Some(120_000),
        ..Numbers::default()
    };
    let limit = "tokens-a-minute".to_owned();
    check(
        json!({"kind": "ask", "subject": "tenant/acme", "limit": "tokens-a-minute", "hard": 120_000, "for": "2h", "reason": "r"}),
        Some(7_300),
        "tenant/acme",
        Action::Ask { limit, numbers },
    );
    for (kind, approves) in [("approve", true), ("decline", false)] {
        let mut body = json!({"kind": kind, "request": "c1", "reason": "r"});
        if approves {
            body["for"] = json!("2h");
        }
        let request = "c1".to_owned();
        let expected = Drafted::Answer { request, approves };
        assert_eq!(read_now(&body).unwrap().order, expected);
    }
}

#[test]
fn says_what_is_wrong_with_requests() {
    let ask = |subject: &str, limit: &str| json!({"kind": "ask", "subject": subject, "limit": limit, "hard": 1, "reason": "r"});
    // Of limits that are not the subject's nothing is said, not even that there are some.
    for limit in ["rpms", "tokens-a-minut", "secret"] {
        let told = format!("`{limit}` is no limit of `tenant/a`");
        check_wrong(ask("tenant/a", limit), &[("/limit", &told)]);
    }
    check_wrong(
        ask("tenant/a/key/k", "spend"),
        &[("/limit", "`spend` is no limit of `tenant/a/key/k`")],
    );
    check_wrong(ask("tenant/a", "credit"), &[("/limit", "order `top_up`")]);
    check_wrong(
        ask("platform", "spend"),
        &[("/subject", "a tenant's"), ("/limit", "no limit of")],
    );
    check_wrong(
        json!({"kind": "ask", "subject": "tenant/a", "limit": "tokens-a-minute", "id": "mine", "reason": "r"}),
        &[("/id", "given its id"), ("/hard", "is missing")],
    );
    check_wrong(
        json!({"kind": "approve", "request": "c1", "reason": "r", "id": "mine"}),
        &[("/id", "one answer"), ("/for", "for how long")],
    );
    check_wrong(
        json!({"kind": "approve", "for": "soon", "reason": "r"}),
        &[("/for", "no span of time"), ("/request", "is missing")],
    );
    check_wrong(
        json!({"kind": "decline", "request": "c1", "for": "2h"}),
        &[("/for", "no such field"), ("/reason", "missing")],
    );
}

#[test]
fn a_command_names_a_set_of_the_policy() {
    let block = |subject: &str| json!({"kind": "block", "subject": subject, "reason": "r"});
    for subject in ["model/{slow}", "tenant/a/model/{slow}", "model/%7Bslwo}"] {
        check(block(subject), None, subject, Action::Block);
    }
    let wrong = "the policy has no set `slwo`; did you mean `slow`?";
    check_wrong(block("model/{slwo}"), &[("/subject", wrong)]);
    let wrong = "`slow` is a set of ids of `model`, and cannot stand for a `route`";
    check_wrong(block("route/{slow}"), &[("/subject", wrong)]);
    check_wrong(
        json!({"kind": "set_tier", "subject": "tenant/a/user/{slow}", "tier": "pro", "reason": "r"}),
        &[("/subject", "cannot stand for a `user`")],
    );
    // What was ordered while the policy had the set can be ended.
    check(
        json!({"kind": "unblock", "subject": "model/{gone}", "reason": "r"}),
        None,
        "model/{gone}",
        Action::Unblock,
    );
    let numbers = raise;
    let raise = |subject: &str| json!({"kind": "raise", "subject": subject, "limit": "slow-models", "hard": "9 USD", "reason": "r"});
    for subject in ["tenant/a/model/{slow}", "tenant/a"] {
        let expected = numbers("slow-models", 9_000_000_000_000);
        check(raise(subject), None, subject, expected);
    }
    for subject in ["tenant/a/model/opus", "tenant/a/model/{slwo}"] {
        check_wrong(
            raise(subject),
            &[(
                "/subject",
                "is on `tenant/*/model/{slow}`, and not counted for",
            )],
        );
    }
    // Of sets nothing is said to who asks.
    check_wrong(
        json!({"kind": "ask", "subject": "tenant/a/model/{slwo}", "limit": "slow-models", "hard": "9 USD", "reason": "r"}),
        &[(
            "/limit",
            "`slow-models` is no limit of `tenant/a/model/{slwo}`",
        )],
    );
}

#[test]
fn reads_what_is_cleared() {
    let clear = |limit: &str| Action::Clear {
        limit: limit.to_owned(),
    };
    let body = |subject: &str, limit: &str| json!({"kind": "clear", "subject": subject, "limit": limit, "reason": "r"});
    // Known until nothing from before counts, and an hour more.
    let user = "tenant/acme/user/u";
    check(
        body(user, "tokens-a-minute"),
        Some(100 + 61 + 3_600),
        user,
        clear("tokens-a-minute"),
    );
    let acme = "tenant/acme";
    check(
        body(acme, "spend"),
        Some(86_400 + 3_600),
        acme,
        clear("spend"),
    );
    check(
        body(acme, "burst"),
        Some(100 + 10 + 3_600),
        acme,
        clear("burst"),
    );
    check(
        body(acme, "rpm"),
        Some(100 + 61 + 3_600),
        acme,
        clear("rpm"),
    );

    check_wrong(
        body(user, "tokens-a-minut"),
        &[("/limit", "did you mean `tokens-a-minute`?")],
    );
    check_wrong(
        body("platform", "spend"),
        &[("/subject", "`platform` is wider than a tenant")],
    );
    check_wrong(
        body(acme, "tokens-a-minute"),
        &[(
            "/subject",
            "is counted for each `tenant/*/user/*`, and not for `tenant/acme` itself",
        )],
    );
    check_wrong(
        body(user, "spend"),
        &[("/subject", "not for `tenant/acme/user/u` itself")],
    );
    check_wrong(body(acme, "credit"), &[("/limit", "order `top_up`")]);
    check_wrong(
        body(user, "places"),
        &[("/limit", "counts what is in flight")],
    );
    check_wrong(
        json!({"kind": "clear", "subject": acme, "reason": "r"}),
        &[("/limit", "is missing")],
    );
    let with = |field: &str, value: &str| {
        let mut body = body(acme, "spend");
        body[field] = value.into();
        body
    };
    check_wrong(with("for", "2h"), &[("/for", "`clear` has no such field")]);
    check_wrong(with("kind", "claer"), &[("/kind", "did you mean `clear`?")]);
}
