//! What is read, and whole bodies.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::record::Outcome;

pub(super) fn rules() -> Rules {
    let names = ["images".to_owned()];
    Rules {
        meter_types: Arc::new(BTreeSet::from(names)),
        ..Rules::at(Timestamp::parse("2026-02-01T00:00:00Z").unwrap())
    }
}

/// A good event of this type with this data, as text.
pub(super) fn event(kind: &str, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"1","source":"app","type":"{kind}","subject":"acme","data":{data}}}"#
    )
}

pub(super) fn bad(result: Result<impl std::fmt::Debug, ReadError>) -> BadEvents {
    match result {
        Err(ReadError::Bad(bad)) => bad,
        other => panic!("should be bad: {other:?}"),
    }
}

fn read(body: &str) -> Event {
    read_event(body.as_bytes(), &rules()).unwrap()
}

fn usage(data: &str) -> Usage {
    match read(&event("usage", data)) {
        Event::Usage(usage) => usage,
        other => panic!("no usage: {other:?}"),
    }
}

#[test]
fn reads_a_full_event() {
    let text = r#"{
        "data": {
            "key": "k_1", "user": "u\/9", "route": "POST /v1/chat", "provider": "openai", "model": "gpt-4o-mini",
            "source": "::ffff:203.0.113.7", "fingerprint": "f", "action": "export", "request_id": "r", "reservation": "v",
            "status": 200, "latency_ms": 812.7, "requests": 0, "input_tokens": 374, "output_tokens": 44.0,
            "cost_usd": "0.000727200000", "units": {"images": 2}, "note": "nobody knows this field", "surface": null
        },
        "subject": "acme", "type": "usage", "source": "app", "id": "1", "time": "2026-01-31T23:59:59.5+01:00",
        "datacontenttype": "application/json; charset=utf-8", "traceparent": "00-1", "specversion": "1.0"
    }"#;
    let expected = Usage {
        event_source: "app".into(),
        event_id: "1".into(),
        tenant: "acme".into(),
        at: Timestamp::parse("2026-01-31T22:59:59.5Z").unwrap(),
        received_at: rules().received_at,
        key: Some("k_1".into()),
        user: Some("u/9".into()),
        route: Some("POST /v1/chat".into()),
        provider: Some("openai".into()),
        model: Some("gpt-4o-mini".into()),
        source: Some("203.0.113.7".into()),
        fingerprint: Some("f".into()),
        action: Some("export".into()),
        request_id: Some("r".into()),
        reservation: Some("v".into()),
        status: Some(200),
        latency_ms: Some(812),
        requests: 0,
        input_tokens: 374,
        output_tokens: 44,
        cost: 727_200_000,
        units: [("images".into(), 2)].into(),
    };
    let event = read(text);
    assert_eq!(event.tenant(), "acme");
    assert_eq!(event.source_and_id(), ("app", "1"));
    assert_eq!(event.at(), expected.at);
    assert_eq!(event, Event::Usage(expected));
}

#[test]
fn what_is_absent_has_a_stated_value() {
    let bare = usage("{}");
    assert_eq!((bare.requests, bare.input_tokens, bare.cost), (1, 0, 0));
    assert_eq!(bare.at, rules().received_at);
    assert_eq!(usage(r#"{"user":""}"#).user, None);
    assert_eq!(usage(r#"{"user":null}"#).user, None);
}

#[test]
fn money_is_read_from_its_text() {
    let check = |cost: &str, pico| {
        assert_eq!(
            usage(&format!(r#"{{"cost_usd":{cost}}}"#)).cost,
            pico,
            "{cost}"
        )
    };
    check("7.272e-4", 727_200_000);
    check(r#""7.272e-4""#, 727_200_000);
    check("0.000727200000", 727_200_000);
    check("0.1", 100_000_000_000);
    check("1000000", 1_000_000_000_000_000_000);
    check("-0.0", 0);
    check("0.000000000001", 1);
}

#[test]
fn meters_of_ones_own_count_their_unit() {
    let units = |data: &str| match read(&event("images", data)) {
        Event::Usage(usage) => (usage.requests, usage.units, usage.user),
        other => panic!("no usage: {other:?}"),
    };
    assert_eq!(units("null"), (0, [("images".into(), 1)].into(), None));
    let user = Some("u_9".into());
    let data = r#"{"value":7,"user":"u_9","requests":1}"#;
    assert_eq!(units(data), (1, [("images".into(), 7)].into(), user));
}

#[test]
fn reads_sign_ins() {
    let data = r#"{"account":"alice","source":"2001:db8:1:2:3::4","outcome":"failure","surface":"web","reason":"a\nb"}"#;
    let Event::Auth(auth) = read(&event("auth", data)) else {
        panic!("no sign-in");
    };
    assert_eq!(auth.outcome, Outcome::Failure);
    assert_eq!(auth.source.as_deref(), Some("2001:db8:1:2::/64"));
    assert_eq!(auth.reason.as_deref(), Some("a b"));
}

#[test]
fn times_at_the_edge_are_taken() {
    let good: Value = serde_json::from_str(&event("usage", "{}")).unwrap();
    for time in ["2026-02-01T00:05:00Z", "2016-02-04T00:00:00Z"] {
        let mut event = good.clone();
        event["time"] = json!(time);
        assert_eq!(
            read(&event.to_string()).at(),
            Timestamp::parse(time).unwrap()
        );
    }
}

#[test]
fn all_bad_events_of_a_body_are_told() {
    let good = event("usage", "{}");
    let two_errors = event("usage", r#"{"cost_usd":-1,"tokens":5}"#);
    let one_error = event("auth", r#"{"outcome":1}"#);
    let expected = ["/1/data/cost_usd", "/1/data/tokens", "/3/data/outcome"];
    let pointers = |bad: BadEvents| {
        bad.errors
            .into_iter()
            .map(|e| e.pointer)
            .collect::<Vec<_>>()
    };

    let batch = format!("[{good},{two_errors},{good},{one_error}]");
    let found = bad(read_batch(batch.as_bytes(), &rules()));
    assert_eq!((found.events, found.found), (2, 3));
    assert!(
        found
            .to_string()
            .starts_with("2 bad event(s): /1/data/cost_usd: -1 is not")
    );
    assert_eq!(pointers(found), expected);

    let lines = format!("{good}\n{two_errors}\r\n\n{one_error}");
    assert_eq!(
        pointers(bad(read_ndjson(lines.as_bytes(), &rules()))),
        expected
    );

    let few = Rules {
        errors_max: 2,
        ..rules()
    };
    let found = bad(read_batch(batch.as_bytes(), &few));
    assert_eq!((found.events, found.found, found.errors.len()), (2, 3, 2));
}

#[test]
fn batches_are_bounded_arrays() {
    let good = event("usage", "{}");
    let few = Rules {
        events_max: 2,
        ..rules()
    };
    let batch = |n: usize| format!("[{}]", vec![good.as_str(); n].join(","));
    assert_eq!(read_batch(b" [ ] ", &few), Ok(Vec::new()));
    assert_eq!(read_batch(batch(2).as_bytes(), &few).unwrap().len(), 2);
    let too_many = Err(ReadError::TooMany { events_max: 2 });
    assert_eq!(read_batch(batch(3).as_bytes(), &few), too_many);
    let lines = |n: usize| vec![good.as_str(); n].join("\n");
    assert_eq!(read_ndjson(lines(2).as_bytes(), &few).unwrap().len(), 2);
    assert_eq!(read_ndjson(lines(3).as_bytes(), &few), too_many);
    let error = &bad(read_batch(b"{}", &few)).errors[0];
    assert_eq!(error.pointer, "");
    assert_eq!(error.detail, "a batch is an array of events, not {}");
}

#[test]
fn what_is_no_json_says_where() {
    let check =
        |result: Result<Vec<Event>, ReadError>, expected: (usize, usize, usize), fragment: &str| {
            let Err(ReadError::NotJson(error)) = result else {
                panic!("should be no JSON: {result:?}");
            };
            assert_eq!((error.line, error.column, error.byte), expected, "{error}");
            assert!(error.to_string().contains(fragment), "{error}");
        };
    let rules = &rules();
    check(read_batch(b"", rules), (1, 1, 0), "EOF");
    check(
        read_batch(b"[\n {]", rules),
        (2, 3, 4),
        "key must be a string at line 2, column 3 (byte 4)",
    );
    check(read_batch(b"[] x", rules), (1, 4, 3), "trailing characters");
    check(read_batch(b"[1,\n\"\xff\"]", rules), (2, 2, 5), "not UTF-8");
    check(read_batch(b"NaN", rules), (1, 1, 0), "expected value");
    let good = event("usage", "{}");
    let lines = format!("{good}\n\n{{\"a\":1,}}\n");
    check(
        read_ndjson(lines.as_bytes(), rules),
        (3, 8, good.len() + 9),
        "key must be a string",
    );
    check(read_ndjson(b"[1]\n{", rules), (2, 1, 4), "EOF");
}

#[test]
fn binary_events_have_their_attributes_in_headers() {
    let headers = [
        ("specversion", "1.0"),
        ("id", "1"),
        ("source", "app"),
        ("type", "usage"),
        ("subject", "acme"),
    ];
    let read = |headers: &[(&'static str, &'static str)], data: &'static str| {
        read_binary(headers.iter().copied(), data.as_bytes(), &rules())
    };
    let structured = read_event(event("usage", r#"{"input_tokens":5}"#).as_bytes(), &rules());
    assert_eq!(read(&headers, r#"{"input_tokens":5}"#), structured);
    let pointer = |result| bad(result).errors.remove(0).pointer;
    assert_eq!(
        pointer(read(&headers, r#"{"input_tokens":-5}"#)),
        "/input_tokens"
    );
    assert_eq!(pointer(read(&headers, "5")), "");
    assert_eq!(pointer(read(&headers, " ")), "");
    assert_eq!(pointer(read(&headers[1..], "{}")), "ce-specversion");
    assert_eq!(pointer(read(&headers[..4], "{}")), "ce-subject");
    let twice = [headers.as_slice(), &[("id", "2")]].concat();
    assert_eq!(pointer(read(&twice, "{}")), "ce-id");
    assert!(matches!(read(&headers, "{"), Err(ReadError::NotJson(_))));
}
