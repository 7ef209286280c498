use bytes::Bytes;
use schemas::codec::Wire;
use schemas::policy::{Meter, Stream};
use schemas::record::{
    Amount, Auth, AuthRecord, Csp, CspRecord, Marker, Origin, Outcome, Partial, PartialRecord,
    Signal, Usage, UsageRecord,
};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use bus::Partition;

use super::*;
use crate::counter;
use crate::event::{Crossing, Input, Output};
use crate::model::policy;

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    Timestamp::parse(NOW).unwrap()
}

fn record(value: Option<Vec<u8>>, headers: &[(&str, &str)]) -> bus::Record {
    let header = |(name, value): &(&str, &str)| {
        let value = Bytes::copy_from_slice(value.as_bytes());
        ((*name).to_owned(), Some(value))
    };
    bus::Record {
        offset: 7,
        appended_at: now(),
        key: None,
        value: value.map(Bytes::from),
        headers: headers.iter().map(header).collect(),
    }
}

fn encoded(value: &impl Wire) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes).unwrap();
    bytes
}

fn usage() -> Usage {
    Usage {
        event_source: "app".to_owned(),
        event_id: "1".to_owned(),
        tenant: "acme".to_owned(),
        at: now(),
        received_at: now(),
        user: Some("u_9".to_owned()),
        requests: 1,
        input_tokens: 10,
        output_tokens: 5,
        cost: 700,
        units: [("images".to_owned(), 2)].into(),
        ..Usage::default()
    }
}

fn auth(outcome: Outcome) -> Auth {
    Auth {
        event_source: "app".to_owned(),
        event_id: "1".to_owned(),
        tenant: "acme".to_owned(),
        at: now(),
        received_at: now(),
        account: Some("alice".to_owned()),
        source: Some("192.0.2.1".to_owned()),
        outcome,
        surface: None,
        reason: None,
    }
}

fn csp() -> Csp {
    Csp {
        event_source: "app".to_owned(),
        event_id: "1".to_owned(),
        tenant: "acme".to_owned(),
        at: now(),
        received_at: now(),
        directive: "img-src".to_owned(),
        blocked_host: "evil.example".to_owned(),
        ..Csp::default()
    }
}

fn partial() -> Partial {
    Partial {
        scope: Subject::platform(),
        meter: Meter::Requests,
        slice: now(),
        slice_seconds: 60,
        sum: Amount(3),
        origin: Origin {
            topic: USAGE.name().to_owned(),
            partition: 1,
            offset: 9,
        },
    }
}

fn read_on<'a>(topic: &str, record: &'a bus::Record) -> Result<read::Read<'a>, Unreadable> {
    read(
        kind_of(topic).unwrap(),
        record,
        std::time::Duration::from_secs(300),
    )
}

/// What a record adds to each of these meters.
#[track_caller]
fn check(topic: &str, record: &bus::Record, amounts: &[(&str, i128)]) {
    let read = read_on(topic, record).unwrap();
    assert_eq!(read.key(), Some("acme"));
    let Input::Event(event) = read.input() else {
        panic!("{read:?} is no event");
    };
    assert_eq!((event.tenant, event.at), ("acme", now()));
    for (meter, amount) in amounts {
        assert_eq!(
            event.amounts.of(&meter.parse().unwrap()),
            *amount,
            "{meter}"
        );
    }
}

#[test]
fn reads_avro_and_json_alike() {
    let avro = record(Some(encoded(&UsageRecord::Event(usage()))), &[]);
    let amounts = [
        ("requests", 1),
        ("tokens", 15),
        ("cost", 700),
        ("images", 2),
        ("failures", 0),
    ];
    check(USAGE.name(), &avro, &amounts);
    let structured = format!(
        r#"{{"specversion":"1.0","id":"1","source":"app","type":"usage","subject":"acme","time":"{NOW}",
            "data":{{"input_tokens":10,"output_tokens":5,"cost_usd":"0.0000000007","units":{{"images":2}}}}}}"#
    );
    // A name that is escaped is left to the full reader.
    let escaped = structured.replace("output_tokens", "output\\u005ftokens");
    assert_ne!(structured, escaped);
    for structured in [structured, escaped] {
        let structured = record(Some(structured.into_bytes()), &[]);
        check(USAGE.name(), &structured, &amounts);
    }
    let binary = record(
        Some(br#"{"outcome":"failure","account":"alice"}"#.to_vec()),
        &[
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_id", "1"),
            ("ce_source", "app"),
            ("ce_type", "auth"),
            ("ce_subject", "acme"),
            ("ce_time", NOW),
        ],
    );
    check(AUTH.name(), &binary, &[("failures", 1), ("requests", 0)]);
}

#[test]
fn counts_failed_sign_ins_and_reports() {
    let sign_in = |outcome| record(Some(encoded(&AuthRecord::Event(auth(outcome)))), &[]);
    check(AUTH.name(), &sign_in(Outcome::Failure), &[("failures", 1)]);
    check(AUTH.name(), &sign_in(Outcome::Success), &[("failures", 0)]);
    let report = record(Some(encoded(&CspRecord::Event(csp()))), &[]);
    check(CSP.name(), &report, &[("violations", 1)]);
}

#[test]
fn reads_markers_on_every_topic() {
    let tick: Marker = Marker {
        policy: None,
        tick: Some(now()),
        order: None,
    };
    let policy = Marker {
        policy: Some(PolicyVersion::from(&policy(
            4,
            "l tenant/* tokens hard=5 : sliding 60s",
        ))),
        tick: None,
        order: None,
    };
    for topic in TOPICS {
        let tick = record(Some(encoded(&UsageRecord::Marker(tick.clone()))), &[]);
        let tick = read_on(topic.name, &tick).unwrap();
        assert!(matches!(tick.input(), Input::Tick));
        assert_eq!(tick.key(), None);
        let policy = record(Some(encoded(&UsageRecord::Marker(policy.clone()))), &[]);
        match read_on(topic.name, &policy).unwrap().input() {
            Input::Policy { policy, .. } => assert_eq!(policy.version, 4),
            other => panic!("{other:?} is no policy"),
        };
    }
}

#[track_caller]
fn check_dead(topic: &str, record: &bus::Record, reason: &str) {
    let error = read_on(topic, record).unwrap_err().to_string();
    assert!(error.contains(reason), "`{error}` does not say `{reason}`");
}

#[track_caller]
fn check_dead_usage(spoil: impl Fn(&mut Usage), reason: &str) {
    let mut usage = usage();
    spoil(&mut usage);
    check_dead(
        USAGE.name(),
        &record(Some(encoded(&UsageRecord::Event(usage))), &[]),
        reason,
    );
}

#[test]
fn what_nobody_can_read_has_a_reason() {
    let topic = USAGE.name();
    check_dead(topic, &record(None, &[]), "it has no value");
    check_dead(topic, &record(Some(vec![0xc3, 0x01]), &[]), "single-object");
    check_dead(
        topic,
        &record(Some(vec![0xc3, 0x01, 1, 2, 3, 4, 5, 6, 7, 8]), &[]),
        "fingerprint",
    );
    check_dead(topic, &record(Some(b"{".to_vec()), &[]), "not JSON");
    check_dead(topic, &record(Some(b"{}".to_vec()), &[]), "bad event");
    let report = encoded(&CspRecord::Event(csp()));
    check_dead(
        topic,
        &record(Some(report), &[]),
        "none that belongs on this topic",
    );
    let sign_in = format!(
        r#"{{"specversion":"1.0","id":"1","source":"app","type":"auth","subject":"acme","time":"{NOW}",
            "data":{{"outcome":"failure"}}}}"#
    );
    check_dead(
        topic,
        &record(Some(sign_in.into_bytes()), &[]),
        "another kind",
    );
}

#[test]
fn avro_is_held_to_the_rules_of_json() {
    check_dead_usage(|usage| usage.tenant.clear(), "tenant is empty");
    check_dead_usage(|usage| usage.event_id.clear(), "event_id is empty");
    check_dead_usage(|usage| usage.user = Some(String::new()), "user is empty");
    check_dead_usage(
        |usage| usage.user = Some("u".repeat(257)),
        "user is longer than 256 bytes",
    );
    check_dead_usage(
        |usage| usage.user = Some("u\u{0}".to_owned()),
        "control character",
    );
    check_dead_usage(|usage| usage.at = Timestamp::from_micros(-1), "before 1970");
    check_dead_usage(|usage| usage.requests = -1, "requests: -1 is not from 0");
    check_dead_usage(
        |usage| usage.input_tokens = i64::MAX,
        "input_tokens: 9223372036854775807",
    );
    check_dead_usage(|usage| usage.cost = -1, "cost: -1");
    check_dead_usage(
        |usage| usage.units = [("Images".to_owned(), 1)].into(),
        "no name of a unit",
    );
    check_dead_usage(
        |usage| usage.units = [("images".to_owned(), -1)].into(),
        "images: -1",
    );
}

#[test]
fn sums_of_other_shards_are_checked() {
    let check = |spoil: fn(&mut Partial), reason| {
        let mut partial = partial();
        spoil(&mut partial);
        let value = encoded(&PartialRecord::Event(partial));
        check_dead(PARTIALS.name(), &record(Some(value), &[]), reason);
    };
    check(
        |partial| partial.scope = Subject::tenant("acme"),
        "no scope wider",
    );
    check(|partial| partial.slice_seconds = 0, "slices of 0 s");
    check(|partial| partial.sum = Amount(-1), "below zero");
    let partial = record(Some(encoded(&PartialRecord::Event(partial()))), &[]);
    let read = read_on(PARTIALS.name(), &partial).unwrap();
    assert_eq!(read.key(), Some("platform"));
}

#[test]
fn ids_are_the_same_in_every_run() {
    let crossing = |offset, level: &str| Crossing {
        subject: Subject::tenant("acme"),
        limit: "l".to_owned(),
        policy_version: 1,
        meter: Meter::Tokens,
        window: "sliding 60s".parse().unwrap(),
        mode: schemas::policy::Mode::Block,
        level: level.to_owned(),
        threshold: 5,
        direction: counter::Direction::Up,
        at: now(),
        sum: 6,
        max: 5,
        falls_at: Some(now()),
        event: None,
        offset,
    };
    let partition = |index| Partition {
        topic: USAGE.name(),
        index,
    };
    let id = |index, offset, level| {
        let output = Output::Crossing(Box::new(crossing(offset, level)));
        match outgoing(partition(index), output) {
            Outgoing::Signal { key, signal } => match *signal {
                Signal::Crossing(crossing) => {
                    assert_eq!(key, "acme");
                    assert_eq!(crossing.origin.offset, offset);
                    crossing.id
                }
                other => panic!("{other:?} is no crossing"),
            },
            other => panic!("{other:?} is no signal"),
        }
    };
    // Written down so that no change makes other ids of the same log.
    assert_eq!(id(0, 1, "hard"), "e329fdcf-bf98-5ab9-a8a1-c51a53ac0742");
    for other in [id(1, 1, "hard"), id(0, 2, "hard"), id(0, 1, "80%")] {
        assert_ne!(id(0, 1, "hard"), other);
    }
}

#[test]
fn a_policy_survives_a_snapshot() {
    let mut before = policy(
        3,
        "a tenant/* tokens 80%=8 hard=10 : sliding 60s
         a tenant/* tokens tier=gold hard=100 : sliding 60s
         b platform cost hard=5 : calendar month
         override tenant/acme a hard=20
         override platform b hard=6",
    );
    before.default_zone = Some(chrono_tz::Tz::Europe__Berlin);
    let after = Policy::try_from(&PolicyVersion::from(&before)).unwrap();
    assert_eq!(before, after);
}

#[test]
fn what_is_counted_has_a_kind() {
    let kinds: Vec<_> = TOPICS.iter().map(|topic| kind_of(topic.name)).collect();
    let events = |stream| Some(Kind::Events(stream));
    let expected = [
        events(Stream::Usage),
        events(Stream::Auth),
        events(Stream::Csp),
    ];
    assert_eq!(kinds[..3], expected);
    assert_eq!(kinds[3], Some(Kind::Partials));
    assert_eq!(kind_of("weir.signals.v1"), None);
}
