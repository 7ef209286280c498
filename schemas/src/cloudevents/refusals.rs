//! One line for each kind of bad input: where the error points, and a part of what it says.

use serde_json::{Value, json};

use super::tables::{bad, event, rules};
use super::*;

/// The one error of `body` is at `pointer`, and its detail holds `fragment`.
#[track_caller]
fn check_bad(body: &str, pointer: &str, fragment: &str) {
    let bad = bad(read_event(body.as_bytes(), &rules()));
    let [error] = bad.errors.as_slice() else {
        panic!("one error expected: {bad:#?}");
    };
    assert_eq!(error.pointer, pointer, "{}", error.detail);
    assert!(error.detail.contains(fragment), "{}", error.detail);
    assert_eq!((bad.events, bad.found), (1, 1));
}

#[test]
fn refuses_bad_attributes() {
    let good: Value = serde_json::from_str(&event("usage", "{}")).unwrap();
    let check = |name: &str, value: Value, pointer: &str, fragment: &str| {
        let mut event = good.clone();
        event[name] = value;
        check_bad(&event.to_string(), pointer, fragment);
    };
    check_bad("[]", "", "an event must be an object, not []");
    check("specversion", json!(null), "/specversion", "required");
    check("specversion", json!("0.3"), "/specversion", "`0.3`");
    check(
        "specversion",
        json!(1.0),
        "/specversion",
        "must be a string, not 1.0",
    );
    check("id", json!(null), "/id", "required");
    check("id", json!(""), "/id", "empty");
    check("id", json!(7), "/id", "must be a string, not 7");
    check(
        "id",
        json!("x".repeat(1_025)),
        "/id",
        "longer than 1024 bytes",
    );
    check("source", json!("a\u{0}"), "/source", "control character");
    check("subject", json!(null), "/subject", "the tenant's id");
    check("subject", json!(""), "/subject", "empty");
    check(
        "subject",
        json!("x".repeat(257)),
        "/subject",
        "longer than 256 bytes",
    );
    check("subject", json!("a\nb"), "/subject", "control character");
    check("type", json!(null), "/type", "required");
    check(
        "type",
        json!("usages"),
        "/type",
        "use one of usage, auth, csp, images",
    );
}

#[test]
fn refuses_bad_times_and_data() {
    let good: Value = serde_json::from_str(&event("usage", "{}")).unwrap();
    let check = |name: &str, value: Value, pointer: &str, fragment: &str| {
        let mut event = good.clone();
        event[name] = value;
        check_bad(&event.to_string(), pointer, fragment);
    };
    check("time", json!("yesterday"), "/time", "RFC 3339");
    check("time", json!(1_700_000_000), "/time", "must be a string");
    check(
        "time",
        json!("9999-01-01T00:00:00Z"),
        "/time",
        "7978 years ahead of",
    );
    check(
        "time",
        json!("1970-01-01T00:00:00Z"),
        "/time",
        "56 years behind",
    );
    check(
        "time",
        json!("2026-02-01T00:05:01Z"),
        "/time",
        "5 minutes ahead of",
    );
    check(
        "datacontenttype",
        json!("text/xml"),
        "/datacontenttype",
        "send JSON",
    );
    check("data", json!(null), "/data", "{} stands for one request");
    check("data", json!([]), "/data", "must be an object, not []");
    check("data_base64", json!("e30="), "/data_base64", "send JSON");
    check(
        "input_tokens",
        json!(5),
        "/input_tokens",
        "belongs into `data`",
    );
    check_bad(
        &event("usage", "{}").replacen('{', r#"{"id":"2","#, 1),
        "/id",
        "twice",
    );
}

#[test]
fn refuses_bad_usage() {
    let check = |data: &str, pointer: &str, fragment: &str| {
        check_bad(&event("usage", data), &format!("/data{pointer}"), fragment);
    };
    let bound = "not a whole number from 0 to 1000000000000";
    check(
        r#"{"input_tokens":-1}"#,
        "/input_tokens",
        &format!("-1 is {bound}"),
    );
    check(
        r#"{"input_tokens":1.5}"#,
        "/input_tokens",
        &format!("1.5 is {bound}"),
    );
    check(
        r#"{"input_tokens":1e3}"#,
        "/input_tokens",
        "in plain digits",
    );
    check(r#"{"input_tokens":"5"}"#, "/input_tokens", bound);
    check(
        r#"{"output_tokens":1000000000001}"#,
        "/output_tokens",
        bound,
    );
    check(
        r#"{"output_tokens":99999999999999999999999999}"#,
        "/output_tokens",
        bound,
    );
    check(r#"{"requests":true}"#, "/requests", "true is not");
    check(r#"{"status":1000}"#, "/status", "from 0 to 999");
    check(r#"{"latency_ms":-0.5e9}"#, "/latency_ms", "whole number");
}

#[test]
fn refuses_bad_money_units_and_names() {
    let check = |data: &str, pointer: &str, fragment: &str| {
        check_bad(&event("usage", data), &format!("/data{pointer}"), fragment);
    };
    check(
        r#"{"cost_usd":-0.01}"#,
        "/cost_usd",
        "-0.01 is not from 0 to 1000000 US dollars",
    );
    check(
        r#"{"cost_usd":1000000.01}"#,
        "/cost_usd",
        "is not from 0 to",
    );
    check(r#"{"cost_usd":1e400}"#, "/cost_usd", "1e400: more than");
    check(r#"{"cost_usd":"1,5"}"#, "/cost_usd", "not a decimal number");
    check(
        r#"{"cost_usd":1e-13}"#,
        "/cost_usd",
        "finer than a pico-dollar",
    );
    check(
        r#"{"cost_usd":{}}"#,
        "/cost_usd",
        "must be a number or a string, not {}",
    );
    check(r#"{"units":5}"#, "/units", "must be an object");
    check(
        r#"{"units":{"Images":1}}"#,
        "/units",
        "`Images` is no name of a unit",
    );
    check(
        r#"{"units":{"images":1000000000000001}}"#,
        "/units/images",
        "to 1000000000000000",
    );
    check(r#"{"user":42}"#, "/user", "must be a string, not 42");
    check(r#"{"user":"a\u0007"}"#, "/user", "control character");
    check(r#"{"user":"\ud800"}"#, "/user", "broken escape");
    check(
        &format!(r#"{{"route":"{}"}}"#, "x".repeat(257)),
        "/route",
        "longer than 256 bytes",
    );
    check(
        r#"{"source":"localhost"}"#,
        "/source",
        "no IPv4 or IPv6 address",
    );
    check(
        r#"{"input_tokens":1,"input_tokens":2}"#,
        "/input_tokens",
        "twice",
    );
    check(r#"{"units":{"a":1,"a":2}}"#, "/units/a", "twice");
}

#[test]
fn a_near_miss_says_which_name_is_meant() {
    let check = |name: &str, fragment: &str| {
        let data = format!(r#"{{"{name}":1}}"#);
        check_bad(&event("usage", &data), &format!("/data/{name}"), fragment);
    };
    check("cost", "write cost_usd");
    check("costUsd", "write cost_usd");
    check("tokens", "write input_tokens and output_tokens");
    check("total_tokens", "write input_tokens and output_tokens");
    check("prompt_tokens", "write input_tokens");
    check("inputTokens", "write input_tokens");
    check("completion_tokens", "write output_tokens");
    check("user_id", "write user");
    check("tenant", "the attribute `subject`");
}

#[test]
fn a_secret_is_refused_and_never_repeated() {
    for secret in ["Bearer s3cret".to_owned(), "s3cret".repeat(40)] {
        let data = json!({ "key": secret }).to_string();
        let error = bad(read_event(event("usage", &data).as_bytes(), &rules()));
        assert_eq!(error.errors[0].pointer, "/data/key");
        assert!(error.errors[0].detail.contains("public id"));
        assert!(!error.to_string().contains("s3cret"));
    }
}

#[test]
fn refuses_bad_sign_ins_and_meters() {
    check_bad(&event("auth", "{}"), "/data/outcome", "required");
    check_bad(&event("auth", "null"), "/data/outcome", "required");
    check_bad(
        &event("auth", r#"{"outcome":"failed"}"#),
        "/data/outcome",
        "`failed`",
    );
    check_bad(&event("auth", "5"), "/data", "must be an object, not 5");
    check_bad(
        &event("images", r#"{"value":-1}"#),
        "/data/value",
        "whole number",
    );
    let twice = r#"{"units":{"images":1}}"#;
    check_bad(&event("images", twice), "/data/units/images", "as `value`");
}
