//! Whatever comes in, nothing panics, and what is taken can be written to its topic and read back.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

use super::*;
use crate::codec::Wire;
use crate::subject::{Dimension, Pattern, Subject};

/// Names that mean something somewhere, and some that do not.
const NAMES: &[&str] = &[
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "data",
    "key",
    "user",
    "route",
    "provider",
    "model",
    "status",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "latency_ms",
    "fingerprint",
    "request_id",
    "units",
    "requests",
    "account",
    "outcome",
    "surface",
    "reason",
    "csp-report",
    "document-uri",
    "blocked-uri",
    "violated-directive",
    "effectiveDirective",
    "body",
    "age",
    "url",
    "line-number",
    "sample",
    "x",
    "",
];
const TEXTS: &[&str] = &[
    "1.0",
    "usage",
    "auth",
    "csp",
    "acme",
    "success",
    "failure",
    "203.0.113.7",
    "2001:db8::1",
    "0.1",
    "7.272e-4",
    "img-src",
    "script-src 'self'",
    "https://a.example/x?y#z",
    "inline",
    "data:,x",
    "2026-01-31T00:00:00Z",
    "csp-violation",
    "",
];

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_i64..1_000).prop_map(Value::from),
        select(TEXTS).prop_map(Value::from),
        ".{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 60, 12, |inner| {
        let name = prop_oneof![4 => select(NAMES).prop_map(str::to_owned), 1 => "[a-z_]{0,8}"];
        let object = btree_map(name, inner.clone(), 0..12);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// An event that is mostly right, with data of any kind.
fn event() -> impl Strategy<Value = Value> {
    let kind = select(&["usage", "auth", "csp"][..]);
    let id = prop_oneof![Just("1".to_owned()), ".{0,5}"];
    let tenant = prop_oneof![Just("acme".to_owned()), ".{0,5}"];
    (kind, id, tenant, json(), good_data(), any::<bool>()).prop_map(
        |(kind, id, tenant, any, good, is_good)| {
            serde_json::json!({
                "specversion": "1.0", "id": id, "source": "app", "type": kind, "subject": tenant,
                "data": if is_good { good } else { any },
            })
        },
    )
}

/// Data that is good for every type of event.
fn good_data() -> impl Strategy<Value = Value> {
    let count = 0..=COUNT_MAX;
    let unit = btree_map("[a-z][a-z0-9_]{0,5}", 0..=UNIT_MAX, 0..3);
    let cost = prop_oneof![
        (0..1_000_000_i64, 0..1_000_000_000_000_i64)
            .prop_map(|(usd, pico)| format!("{usd}.{pico:012}").into()),
        (0.0..1_000.0).prop_map(|usd: f64| Value::from((usd * 1e6).round() / 1e6)),
    ];
    let id = "[^\\p{Cc}]{1,20}";
    let source = prop_oneof![
        any::<[u8; 4]>().prop_map(std::net::IpAddr::from),
        any::<[u8; 16]>().prop_map(std::net::IpAddr::from)
    ];
    (count.clone(), count, unit, cost, (id, id, id), source, ".{0,30}").prop_map(
        |(input, output, units, cost, (user, route, account), source, any)| {
            serde_json::json!({
                "input_tokens": input, "output_tokens": output, "units": units, "cost_usd": cost, "user": user,
                "route": route, "account": account, "source": source.to_string(), "outcome": "failure",
                "reason": any, "effective-directive": "img-src", "blocked-uri": any, "document-uri": any,
            })
        },
    )
}

fn rules() -> Rules {
    Rules::at(Timestamp::parse("2026-02-01T00:00:00Z").unwrap())
}

fn same_after_the_wire<V: Wire + PartialEq + std::fmt::Debug>(
    value: &V,
) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes).unwrap();
    prop_assert_eq!(&V::decode(&bytes).unwrap(), value);
    Ok(())
}

fn check_taken(event: &Event) -> Result<(), TestCaseError> {
    let identity = match event {
        Event::Usage(usage) => {
            same_after_the_wire(usage)?;
            usage.identity()
        }
        Event::Auth(auth) => {
            same_after_the_wire(auth)?;
            auth.identity()
        }
        Event::Csp(csp) => return same_after_the_wire(csp),
    };
    for dimension in Dimension::ALL {
        let pattern = Pattern::parse(&format!("{}/*", dimension.name())).unwrap();
        if let Some(subject) = pattern.subject_of(&identity) {
            prop_assert_eq!(Subject::parse(subject.as_str()), Ok(subject));
        }
    }
    Ok(())
}

fn check_body(body: &[u8]) -> Result<(), TestCaseError> {
    let rules = rules();
    for event in read_event(body, &rules).iter() {
        check_taken(event)?;
    }
    for event in read_batch(body, &rules).iter().flatten() {
        check_taken(event)?;
    }
    for event in read_ndjson(body, &rules).iter().flatten() {
        check_taken(event)?;
    }
    for kind in ["usage", "auth", "csp"] {
        let head = [
            ("specversion", "1.0"),
            ("id", "1"),
            ("source", "s"),
            ("type", kind),
            ("subject", "acme"),
        ];
        for event in read_binary(head, body, &rules).iter() {
            check_taken(event)?;
        }
    }
    if let Ok(reports) = read_csp_reports(body, "acme", &rules) {
        for report in &reports.reports {
            same_after_the_wire(report)?;
            prop_assert!(!report.blocked_host.is_empty());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_json(value in json()) {
        check_body(value.to_string().as_bytes())?;
    }

    #[test]
    fn any_event(event in event()) {
        check_body(event.to_string().as_bytes())?;
        check_body(format!("[{event},{event}]").as_bytes())?;
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..100)) {
        check_body(&bytes)?;
    }

    #[test]
    fn good_events_are_taken(data in good_data(), kind in select(&["usage", "auth", "csp"][..])) {
        let head = [("specversion", "1.0"), ("id", "1"), ("source", "s"), ("type", kind), ("subject", "acme")];
        let event = read_binary(head, data.to_string().as_bytes(), &rules());
        prop_assert!(event.is_ok(), "{:?}", event);
        check_taken(&event.unwrap())?;
    }
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    for (open, close) in [
        ("[", "]"),
        ("{\"a\":", "}"),
        ("{\"csp-report\":", "}"),
        ("{\"data\":", "}"),
    ] {
        let body = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
        check_body(body.as_bytes()).unwrap();
    }
}
