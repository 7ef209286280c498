//! The short way reads what the full reader reads, or nothing; and plain events do go that way.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::tables::{event, rules};
use super::*;

/// Cases of each property test: `MODEL_CASES`, or 2,000. `make soak` asks for 100,000.
fn cases() -> ProptestConfig {
    let asked = std::env::var("MODEL_CASES");
    ProptestConfig::with_cases(asked.map_or(2_000, |cases| cases.parse().unwrap()))
}

/// Attributes as programs write them, then odder ones: what is left out, written otherwise, or wrong.
const ATTRIBUTES: &[(&str, &[&str])] = &[
    (
        "specversion",
        &[r#""1.0""#, r#""0.3""#, r#""1\u002e0""#, "1.0", "null"],
    ),
    (
        "id",
        &[
            r#""f423f""#,
            r#""é-7""#,
            r#""""#,
            r#""a\nb""#,
            r#""a\/b""#,
            "7",
            "null",
        ],
    ),
    (
        "source",
        &[
            r#""gw""#,
            r#""""#,
            "\"a\u{7f}\"",
            "\"a\u{85}\"",
            "[]",
            "null",
        ],
    ),
    (
        "type",
        &[
            r#""usage""#,
            r#""auth""#,
            r#""images""#,
            r#""Usage""#,
            "null",
        ],
    ),
    (
        "subject",
        &[
            r#""acme""#,
            r#""büro""#,
            r#""""#,
            r#""\ud800""#,
            "{}",
            "null",
        ],
    ),
    (
        "time",
        &[
            r#""2026-02-01T00:00:00Z""#,
            r#""2026-01-31T23:59:59.979960+01:00""#,
            r#""2026-02-01T00:05:00.000001Z""#,
            r#""2016-02-03T23:59:59Z""#,
            r#""yesterday""#,
            "1769904000",
            "null",
        ],
    ),
    (
        "datacontenttype",
        &[
            r#""application/json""#,
            r#""text/x+json; a=b""#,
            r#""text/xml""#,
            "null",
        ],
    ),
    ("data_base64", &["null", r#""e30=""#]),
    (
        "traceparent",
        &[r#""00-1""#, "{\"a\":[1,{}]}", "\"\\ud800\"", "null"],
    ),
    ("tokens", &["null", "5"]),
];

const WHOLES: &[&str] = &[
    "0",
    "1",
    "374",
    "1000000000000",
    "1000000000001",
    "5.0",
    "5.5",
    "5e0",
    "-0",
    "-1",
    "01",
    "1.",
    "99999999999999999999999999",
    r#""5""#,
    "true",
    "null",
];
const IDS: &[&str] = &[
    r#""k_1""#,
    r#""POST /v1/chat/completions""#,
    r#""ü""#,
    r#""""#,
    r#""Bearer k""#,
    r#""a\"b""#,
    "\"a\tb\"",
    "\"a\u{9f}\"",
    "5",
    "null",
];

const DATA: &[(&str, &[&str])] = &[
    ("key", IDS),
    ("user", IDS),
    ("route", IDS),
    ("provider", IDS),
    ("model", IDS),
    ("fingerprint", IDS),
    ("action", IDS),
    ("request_id", IDS),
    ("reservation", IDS),
    (
        "source",
        &[
            r#""203.0.113.7""#,
            r#""2001:db8::1""#,
            r#""::ffff:203.0.113.7""#,
            r#""203.0.113.7/32""#,
            r#""203.0.113.07""#,
            r#""localhost""#,
            r#""""#,
            "null",
        ],
    ),
    (
        "status",
        &["200", "0", "999", "1000", "200.0", r#""200""#, "null"],
    ),
    (
        "latency_ms",
        &[
            "812",
            "812.7",
            "0.9",
            "8e2",
            "8.1E2",
            "-1",
            "-0.5",
            "1000000000001",
            "null",
        ],
    ),
    ("requests", WHOLES),
    ("input_tokens", WHOLES),
    ("output_tokens", WHOLES),
    (
        "cost_usd",
        &[
            r#""0.000727""#,
            "0.000727200000",
            "7.272e-4",
            r#""7.272E-04""#,
            "-0.0",
            "1e-13",
            "1000000",
            "1000000.01",
            "-1",
            r#""""#,
            r#"""5"#,
            r#""\u0035""#,
            "{}",
            "null",
        ],
    ),
    (
        "units",
        &[
            "{}",
            r#"{"images":2}"#,
            r#"{"images":2,"pages":0}"#,
            r#"{"images":2,"images":2}"#,
            r#"{"images":null,"images":2}"#,
            r#"{"Images":null}"#,
            r#"{"Images":1}"#,
            r#"{"images":2.0}"#,
            r#"{"images":1000000000000001}"#,
            r#"{"im\u0061ges":2}"#,
            "[]",
            "null",
        ],
    ),
    ("value", &["7", "null"]),
    (
        "note",
        &[
            "{\"tokens\":[1,\"x\"]}",
            "\"\\ud800\"",
            "1e999",
            "[[[]]]",
            "{\"a\":}",
            "null",
        ],
    ),
    ("costUsd", &["null", "1"]),
    ("n\\u006fte", &["1"]),
    ("user_id", &["null", r#""u""#]),
];

/// Members out of `from`, as JSON texts, most of them written as they should be.
fn members(from: &'static [(&str, &[&str])]) -> impl Strategy<Value = Vec<String>> {
    let member = select(from).prop_flat_map(|(name, values)| {
        let value = prop_oneof![3 => Just(values[0]), 1 => select(values)];
        (Just(name), value, select(&["", "", "", " ", "\n\t"][..]))
            .prop_map(|(name, value, space)| format!("\"{name}\"{space}:{space}{value}"))
    });
    vec(member, 0..5)
}

/// An event with everything that it needs, among whatever else.
fn bodies() -> impl Strategy<Value = String> {
    let needed = |from: &[(&str, &[&str])]| -> Vec<String> {
        from.iter()
            .map(|(name, values)| format!("\"{name}\":{}", values[0]))
            .collect()
    };
    let attributes = needed(&ATTRIBUTES[..5]);
    let dropped = prop_oneof![9 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let data = (members(DATA), select(&["", "", "[", "}", "null"][..]))
        .prop_map(|(members, spoilt)| format!("\"data\":{{{}}}{spoilt}", members.join(",")));
    (members(ATTRIBUTES), data, dropped, any::<Index>()).prop_map(
        move |(mut all, data, dropped, place)| {
            all.push(data);
            // Those that are needed stand before the others, or after them.
            let at = if place.index(2) == 0 { 0 } else { all.len() };
            all.splice(at..at, attributes.iter().cloned());
            if let Some(dropped) = dropped {
                all.remove(dropped.index(all.len()));
            }
            format!("{{{}}}", all.join(","))
        },
    )
}

/// Whether the short way was taken.
fn check(body: &[u8], rules: &Rules) -> Result<bool, TestCaseError> {
    let Some(usage) = read_plain_usage(body, rules) else {
        return Ok(false);
    };
    let full = read_event(body, rules);
    prop_assert_eq!(Ok(Event::Usage(usage.into_owned())), full);
    Ok(true)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_short_way_reads_what_the_full_reader_reads(body in bodies()) {
        check(body.as_bytes(), &rules())?;
    }

    #[test]
    fn so_it_does_of_what_is_spoilt(
        body in bodies(),
        spoils in vec((any::<Index>(), prop_oneof![any::<u8>(), select(&b"{}[]\",:\\ 0-e.\0\x7f"[..])]), 1..3),
        cut in any::<Index>(),
        is_cut: bool,
    ) {
        let mut body = body.into_bytes();
        for (place, byte) in spoils {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if is_cut {
            body.truncate(cut.index(body.len()));
        }
        check(&body, &rules())?;
    }

    #[test]
    fn plain_events_go_the_short_way(
        (id, tenant, user) in ("[ -!#-\\[\\]-~ü]{1,9}", "[a-z0-9]{1,9}", "[a-z_0-9]{0,9}"),
        (input, output, micro_usd) in (0..=COUNT_MAX, 0..=COUNT_MAX, 0..1_000_000_000_000_i64),
        latency_ms in 0.0..100_000.0,
        images in 0..=UNIT_MAX,
        is_spaced: bool,
    ) {
        let (usd, micros) = (micro_usd / 1_000_000, micro_usd % 1_000_000);
        let data = serde_json::json!({
            "user": user, "route": "POST /v1/chat", "source": "203.0.113.7", "status": 200, "latency_ms": latency_ms,
            "input_tokens": input, "output_tokens": output, "cost_usd": format!("{usd}.{micros:06}"),
            "units": { "images": images }, "note": { "tokens": [null] },
        });
        let event = serde_json::json!({
            "specversion": "1.0", "id": id, "source": "gw", "type": "usage", "subject": tenant,
            "time": "2026-01-31T23:59:59.979960Z", "datacontenttype": "application/json", "data": data,
        });
        let body = if is_spaced { serde_json::to_vec_pretty(&event) } else { serde_json::to_vec(&event) };
        prop_assert!(check(&body.unwrap(), &rules())?);
    }
}

#[track_caller]
fn check_event(is_plain: bool, body: &str) {
    let was_plain = check(body.as_bytes(), &rules()).unwrap();
    assert_eq!(was_plain, is_plain, "{body}");
}

#[test]
fn what_is_plain() {
    let data = |data: &str| event("usage", data);
    let borrowed = data(r#"{"user":"u","source":"203.0.113.7"}"#);
    let usage = read_plain_usage(borrowed.as_bytes(), &rules()).unwrap();
    assert!(matches!(usage.event_id, Cow::Borrowed("1")));
    assert!(matches!(usage.user, Some(Cow::Borrowed("u"))));
    assert!(matches!(usage.source, Some(Cow::Borrowed("203.0.113.7"))));
    check_event(true, &data("{}"));
    check_event(true, &data(r#"{"source":"2001:db8::1"}"#));
    check_event(true, &data(r#"{"user":null,"cost_usd":7.272e-4}"#));
    check_event(true, &data(r#"{"note":"\ud800","value":7}"#));
    check_event(
        true,
        &data(r#"{"key":null,"units":{"a":null},"input_tokens":0}"#),
    );
    check_event(
        true,
        &data("\n{ \"user\"\t:\r\"u\" , \"note\" : [ 1 , { } ] } "),
    );
    check_event(false, &event("auth", r#"{"outcome":"failure"}"#));
    check_event(false, &event("images", "{}"));
    check_event(false, &data("null"));
    for odd in [
        r#""data":{}"#,
        r#""id":"1""#,
        r#""type":"usage""#,
        r#""time":"2026-02-01T00:00:00Z","time":"2026-02-01T00:00:00Z""#,
        r#""time":"2026-02-01T00:05:00.000001Z""#,
        r#""datacontenttype":"text/xml""#,
        r#""data_base64":"e30=""#,
        r#""tokens":5"#,
    ] {
        check_event(false, &data("{}").replacen('{', &format!("{{{odd},"), 1));
    }
    for control in ["\u{7f}", "\u{85}"] {
        check_event(false, &data(&format!(r#"{{"user":"a{control}"}}"#)));
        check_event(false, &data("{}").replace("app", control));
    }
    for odd in [
        r#"{"user":"a\/b"}"#,
        r#"{"us\u0065r":"a"}"#,
        r#"{"user":"a","user":"a"}"#,
        r#"{"key":"Bearer k"}"#,
        r#"{"cost":null}"#,
        r#"{"cost":1}"#,
        r#"{"user":"a",}"#,
        r#"{"user":"a" "route":"b"}"#,
        r#"{"input_tokens":01}"#,
        "{\"user\":\"a\tb\"}",
        "{\"user\":\"a\t\"}",
        r#"{"input_tokens":5.0}"#,
        r#"{"input_tokens":1000000000001}"#,
        r#"{"units":{"a":1,"a":1}}"#,
        r#"{"units":{},"units":{}}"#,
        "{}}",
    ] {
        check_event(false, &data(odd));
    }
}

#[test]
fn bounds_are_the_same() {
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("\"n{n}\":1"))
            .collect::<Vec<_>>()
    };
    for (count, is_plain) in [(json::MEMBERS_MAX, true), (json::MEMBERS_MAX + 1, false)] {
        let members = many(count).join(",");
        check_event(is_plain, &event("usage", &format!("{{{members}}}")));
        check_event(
            is_plain,
            &event("usage", &format!("{{\"units\":{{{members}}}}}")),
        );
        let attributes = many(count - 6).join(",");
        let event = event("usage", "{}").replacen('{', &format!("{{{attributes},"), 1);
        check_event(is_plain, &event);
    }
    for (bytes, is_plain) in [(256, true), (257, false)] {
        let id = "x".repeat(bytes);
        check_event(is_plain, &event("usage", &format!(r#"{{"user":"{id}"}}"#)));
    }
    let few = Rules {
        attribute_bytes_max: 2,
        ..rules()
    };
    assert!(!check(event("usage", "{}").as_bytes(), &few).unwrap());
}
