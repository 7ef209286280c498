use http::{HeaderName, HeaderValue};
use schemas::policy::Meter;

use super::*;

fn shown(ask: &Ask) -> String {
    let ids = Dimension::ALL
        .into_iter()
        .filter_map(|d| Some(format!("{}={}", d.name(), ask.id(d)?)));
    let meters = [
        "requests",
        "input_tokens",
        "output_tokens",
        "tokens",
        "cost",
        "pages",
    ];
    let amounts = meters.into_iter().filter_map(|meter| {
        let meter: Meter = meter.parse().unwrap();
        Some(format!("{}:{}", meter.name(), ask.consume.amount(&meter)?))
    });
    let rest = ask.tier.iter().map(|t| format!("tier={t}"));
    let rest = rest.chain(ask.request_id.iter().map(|r| format!("id={r}")));
    ids.chain(rest).chain(amounts).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(body: &str, expected: &str) {
    assert_eq!(shown(&from_json(body.as_bytes()).unwrap()), expected);
}

#[test]
fn reads_who_and_what() {
    check(r#"{"tenant":"acme"}"#, "tenant=acme requests:1");
    check(
        r#"{"tenant":"a","key":"k","user":"u","tier":"pro","route":"GET /","provider":"p","model":"m/1",
            "source":"2001:db8::7","account":"al","action":"export","fingerprint":"f","request_id":"r"}"#,
        "tenant=a key=k user=u account=al source=2001:db8::/64 fingerprint=f action=export provider=p \
         model=m/1 route=GET / tier=pro id=r requests:1",
    );
    check(
        r#"{"tenant":"acme","user":"","key":null}"#,
        "tenant=acme requests:1",
    );
    check(r#"{"tenant":"\u00fcber"}"#, "tenant=über requests:1");
}

#[test]
fn reads_what_is_used() {
    check(r#"{"tenant":"a","consume":{}}"#, "tenant=a");
    check(
        r#"{"tenant":"a","consume":{"requests":0,"tokens":500}}"#,
        "tenant=a requests:0 tokens:500",
    );
    check(
        r#"{"tenant":"a","consume":{"input_tokens":1,"output_tokens":2,"pages":3,"cost_usd":"7.272e-4"}}"#,
        "tenant=a input_tokens:1 output_tokens:2 tokens:3 cost:727200000 pages:3",
    );
    check(
        r#"{"tenant":"a","consume":{"cost_usd":0.1}}"#,
        "tenant=a cost:100000000000",
    );
}

#[track_caller]
fn check_wrong(body: &str, expected: &[(&str, &str)]) {
    let error = from_json(body.as_bytes()).unwrap_err();
    let BadAsk::Fields(errors) = error else {
        panic!("{body}: {error}")
    };
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for (error, (pointer, part)) in errors.iter().zip(expected) {
        assert_eq!(error.pointer, *pointer);
        assert!(error.detail.contains(part), "{}", error.detail);
    }
}

#[test]
fn tells_all_that_is_wrong() {
    check_wrong("{}", &[("", "nobody")]);
    check_wrong(r#"{"tenant":""}"#, &[("", "nobody")]);
    check_wrong(r#"{"tenent":"a"}"#, &[("/tenent", "no field")]);
    check_wrong(r#"{"a/b":null,"tenant":"a"}"#, &[("/a~1b", "no field")]);
    check_wrong(r#"{"tenant":"a","tenant":"b"}"#, &[("/tenant", "twice")]);
    check_wrong(
        r#"{"tenant":7,"source":"localhost","consume":[],"x":1}"#,
        &[
            ("/tenant", "string"),
            ("/source", "address"),
            ("/consume", "object"),
            ("/x", "string"),
            ("/x", "no field"),
        ],
    );
    let long = "x".repeat(257);
    check_wrong(
        &format!(r#"{{"tenant":"{long}"}}"#),
        &[("/tenant", "256 bytes")],
    );
    check_wrong(
        &format!(r#"{{"key":"{}"}}"#, &long[..201]),
        &[("/key", "200 bytes")],
    );
}

#[track_caller]
fn check_consume(consume: &str, pointer: &str, part: &str) {
    let body = format!(r#"{{"tenant":"a","consume":{{{consume}}}}}"#);
    check_wrong(&body, &[(pointer, part)]);
}

#[test]
fn numbers_are_whole_and_bounded() {
    check_consume(r#""requests":-1"#, "/consume/requests", "whole number");
    check_consume(r#""requests":1.5"#, "/consume/requests", "whole number");
    check_consume(r#""requests":"1""#, "/consume/requests", "whole number");
    check_consume(
        r#""tokens":1000000000001"#,
        "/consume/tokens",
        "whole number",
    );
    check_consume(
        r#""tokens":99999999999999999999"#,
        "/consume/tokens",
        "whole number",
    );
    check_consume(r#""requests":1,"requests":1"#, "/consume/requests", "twice");
    check_consume(r#""Pages":1"#, "/consume/Pages", "no meter");
    check_consume(r#""failures":1"#, "/consume/failures", "events");
    check_consume(r#""cost":1"#, "/consume/cost", "cost_usd");
    check_consume(r#""cost_usd":-1"#, "/consume/cost_usd", "from 0");
    check_consume(r#""cost_usd":1000001"#, "/consume/cost_usd", "from 0");
    check_consume(
        r#""cost_usd":"0.0000000000001""#,
        "/consume/cost_usd",
        "pico",
    );
    check_consume(
        r#""tokens":2,"input_tokens":3"#,
        "/consume/tokens",
        "together",
    );
    let units: Vec<String> = (0..=UNITS_MAX).map(|n| format!("\"u{n}\":1")).collect();
    check_consume(&units.join(","), "/consume/u16", "more than 16");
}

#[test]
fn what_is_no_object() {
    for body in [
        "",
        "[]",
        "{",
        "\"tenant\"",
        "{\"tenant\":\"a\"}x",
        "\u{feff}{}",
    ] {
        let error = from_json(body.as_bytes()).unwrap_err();
        assert!(matches!(error, BadAsk::NotJson(_)), "{body}");
    }
}

#[track_caller]
fn check_headers(headers: &[(&str, &[u8])], expected: Result<&str, (&str, &str)>) {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_bytes(value).unwrap())
        })
        .collect();
    match (from_headers(&headers), expected) {
        (Ok(ask), Ok(expected)) => assert_eq!(shown(&ask), expected),
        (Err(BadAsk::Fields(errors)), Err((pointer, part))) => {
            assert_eq!(errors[0].pointer, pointer);
            assert!(errors[0].detail.contains(part), "{}", errors[0].detail);
        }
        (got, expected) => panic!("{got:?}, not {expected:?}"),
    }
}

#[test]
fn reads_what_a_proxy_says() {
    check_headers(&[("x-weir-tenant", b"acme")], Ok("tenant=acme requests:1"));
    check_headers(
        &[
            ("x-weir-tenant", "über".as_bytes()),
            ("x-weir-user", b""),
            ("x-weir-source", b"203.0.113.7"),
            ("x-weir-route", b"POST /v1/chat"),
            ("x-weir-request-id", b"r"),
            ("x-other", b"\xff"),
        ],
        Ok("tenant=über source=203.0.113.7 route=POST /v1/chat id=r requests:1"),
    );
    check_headers(&[], Err(("x-weir-tenant", "nobody")));
    check_headers(&[("x-weir-user", b"\xff")], Err(("x-weir-user", "UTF-8")));
    check_headers(
        &[("x-weir-user", b"a"), ("x-weir-user", b"b")],
        Err(("x-weir-user", "twice")),
    );
}
