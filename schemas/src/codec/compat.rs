//! Whatever was ever written can be read: `samples/NAME.txt` holds records as they were written, one a line
//! (`full` with every optional field, `bare` with none; bytes in hex). Lines are added and never changed.

mod orders;
mod shares;
mod told;

use std::fmt::Debug;
use std::path::Path;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::writer::datum::GenericDatumWriter;

use super::format::split;
use super::{Format, Record};
use crate::policy::{Meter, Mode, Period, Stale, Window};
use crate::record::*;
use crate::subject::Subject;
use crate::time::Timestamp;
use orders::{bare_order, marker, order};

/// The samples of a record as label and bytes, oldest first.
fn samples(record: &str) -> Vec<(String, Vec<u8>)> {
    let file = format!("samples/{record}.txt");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (label, hex) = line.split_once(' ').expect("a label and hex");
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        let bytes = (0..hex.len()).step_by(2).map(byte).collect();
        (label.to_owned(), bytes)
    };
    text.lines().map(line).collect()
}

/// Reads `bytes` as today's code does, and as Avro's own rules of schema resolution do.
fn read<R: Record + Debug + PartialEq>(format: &Format, bytes: &[u8]) -> R {
    let ours: R = format.decode(bytes).unwrap();
    let (fingerprint, mut datum) = split(bytes).unwrap();
    let writer = &format.version(fingerprint).unwrap().authority;
    let reader = &format.current().authority;
    SchemaCompatibility::can_read(writer, reader).unwrap();
    let resolving = GenericDatumReader::builder(writer).reader_schema(reader);
    let value = resolving.build().unwrap().read_value(&mut datum).unwrap();
    assert_eq!(apache_avro::from_value::<R>(&value).unwrap(), ours);
    ours
}

#[track_caller]
fn check<R: Record + Debug + PartialEq>(full: R, bare: R) {
    let format = R::format();
    let name = format.record();
    let samples = samples(name);
    for (_, bytes) in &samples {
        read::<R>(format, bytes);
    }
    for (label, record) in [("full", full), ("bare", bare)] {
        let mut today = Vec::new();
        format.encode(&record, &mut today).unwrap();
        let newest = samples.iter().rev().find(|(l, _)| l == label);
        let hex: String = today.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            newest.map(|(_, bytes)| bytes),
            Some(&today),
            "{name} is written anew: keep its old schema as a former one and add to samples/{name}.txt:\n{label} {hex}\n"
        );
        assert_eq!(read::<R>(format, &today), record);
    }
}

#[test]
fn schemas_with_a_field_less_can_still_be_read() {
    let mut schema: serde_json::Value = serde_json::from_str(super::schemas()[0].1).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.retain(|field| field["name"] != "fingerprint" && field["name"] != "action");
    let old = schema.to_string();
    let format = Format::new("usage", super::schemas()[0].1, &[&old]);

    let usage = Usage {
        fingerprint: None,
        action: None,
        ..usage()
    };
    let written_by = apache_avro::Schema::parse_str(&old).unwrap();
    let value = apache_avro::to_value(&usage).unwrap();
    let value = value.resolve(&written_by).unwrap();
    let writer = GenericDatumWriter::builder(&written_by).build().unwrap();
    let datum = writer.write_value_to_vec(value).unwrap();
    let fingerprint = Format::new("usage", &old, &[]).current().fingerprint;
    let bytes = [&[0xc3, 0x01], fingerprint.as_slice(), &datum].concat();
    assert_eq!(read::<Usage>(&format, &bytes), usage);
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// 2023-11-16T18:17:03.979960Z and some seconds.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_158_623_979_960 + seconds * 1_000_000)
}

fn tenant() -> Subject {
    Subject::tenant("acme")
}

fn origin() -> Origin {
    Origin {
        topic: "weir.usage.v1".to_owned(),
        partition: 7,
        offset: 1_234_567,
    }
}

fn usage() -> Usage {
    Usage {
        event_source: "gateway-1".to_owned(),
        event_id: "018f3e".to_owned(),
        tenant: "acme".to_owned(),
        at: at(0),
        received_at: at(1),
        key: text("k_1"),
        user: text("u_9"),
        route: text("POST /v1/chat"),
        provider: text("openai"),
        model: text("gpt-4o-mini"),
        source: text("2001:db8::/64"),
        fingerprint: text("f1"),
        action: text("export"),
        request_id: text("r_1"),
        reservation: text("v_1"),
        status: Some(200),
        latency_ms: Some(812),
        requests: 1,
        input_tokens: 374,
        output_tokens: 44,
        cost: 727_200_000,
        units: [("images".to_owned(), 2)].into(),
    }
}

#[test]
fn events() {
    check(usage(), Usage::default());
    let auth = Auth {
        event_source: "login".to_owned(),
        event_id: "1".to_owned(),
        tenant: "acme".to_owned(),
        at: at(0),
        received_at: at(1),
        account: None,
        source: None,
        outcome: Outcome::Success,
        surface: None,
        reason: None,
    };
    let failed = Auth {
        account: text("alice"),
        source: text("203.0.113.7"),
        outcome: Outcome::Failure,
        surface: text("web"),
        reason: text("password"),
        ..auth.clone()
    };
    check(failed, auth);
    let csp = Csp {
        event_source: "browser".to_owned(),
        event_id: "1".to_owned(),
        tenant: "acme".to_owned(),
        at: at(0),
        received_at: at(1),
        document_uri: "https://acme.example/cart".to_owned(),
        directive: "script-src-elem".to_owned(),
        blocked_uri: "https://evil.example/x.js".to_owned(),
        blocked_host: "evil.example".to_owned(),
        disposition: text("enforce"),
        source_file: text("https://acme.example/app.js"),
        line: Some(12),
        sample: text("alert(1)"),
    };
    check(csp, Csp::default());
    let partial = |sum| Partial {
        scope: Subject::platform(),
        meter: Meter::Cost,
        slice: at(0),
        slice_seconds: 60,
        sum: Amount(sum),
        origin: origin(),
    };
    check(partial(i128::MAX), partial(0));
}

fn policy() -> PolicyVersion {
    let limit = |name: &str, tier, status: Option<i32>, soft| LimitRecord {
        name: name.to_owned(),
        subject: "tenant/*".to_owned(),
        meter: Meter::Tokens,
        window: Window::Sliding { seconds: 60 },
        soft,
        hard: Amount(60_000),
        keep: None,
        mode: Mode::Block,
        stale: Stale::LastKnown,
        tier,
        headers: status.is_none(),
        status,
    };
    let soft = SoftLevel {
        name: "80%".to_owned(),
        threshold: Amount(48_000),
    };
    let overridden = OverrideRecord {
        subject: tenant(),
        limit: "tokens-a-minute".to_owned(),
        hard: Some(Amount(120_000)),
        soft: vec![soft.clone()],
        mode: text("open"),
        reason: text("contract 2026-11"),
    };
    let acme = TenantRecord {
        tier: text("pro"),
        zone: text("Europe/Berlin"),
    };
    PolicyVersion {
        version: 3,
        at: at(0),
        author: "ops".to_owned(),
        reason: "raise".to_owned(),
        source: "[[limit]]".to_owned(),
        limits: vec![
            limit("tokens-a-minute", None, None, vec![]),
            LimitRecord {
                keep: Some(Amount(10)),
                ..limit("tokens-a-minute", text("pro"), Some(403), vec![soft])
            },
        ],
        overrides: vec![overridden],
        tenants: [("acme".to_owned(), acme)].into(),
        default_tier: text("free"),
        default_zone: text("UTC"),
        weights: vec![WeightRecord {
            route: "POST /v1/bulk/*".to_owned(),
            requests: 20,
        }],
        sets: vec![SetRecord {
            name: "slow".to_owned(),
            dimension: "model".to_owned(),
            ids: vec!["slow-*".to_owned(), "opus".to_owned()],
        }],
    }
}

#[test]
fn policies() {
    let bare = PolicyVersion {
        limits: Vec::new(),
        overrides: Vec::new(),
        tenants: [].into(),
        default_tier: None,
        default_zone: None,
        weights: Vec::new(),
        sets: Vec::new(),
        ..policy()
    };
    check(policy(), bare);
    check(order(), bare_order());
    check(
        marker(Some(policy()), Some(at(0)), Some(order())),
        marker(None, None, None),
    );
    let partitions = [("weir.usage.v1".to_owned(), 12)].into();
    check(Layout { partitions }, Layout::default());
}

#[test]
fn keys_and_commands() {
    let key = Key {
        id: "k_1".to_owned(),
        sha256: "00".repeat(32),
        role: Role::Ingest,
        tenant: None,
        created_at: at(0),
        expires_at: None,
        revoked: false,
        note: String::new(),
    };
    let full = Key {
        role: Role::Tenant,
        tenant: text("acme"),
        expires_at: Some(at(60)),
        revoked: true,
        note: "of the demo".to_owned(),
        ..key.clone()
    };
    check(full, key);
    let command = Command {
        id: "c_1".to_owned(),
        kind: "raise".to_owned(),
        subject: tenant(),
        at: at(0),
        actor: "ops".to_owned(),
        reason: "asked".to_owned(),
        limit: None,
        amount: None,
        until: None,
        arguments: [].into(),
    };
    let full = Command {
        limit: text("tokens-a-minute"),
        amount: Some(Amount(-1)),
        until: Some(at(60)),
        arguments: [("tier".to_owned(), "pro".to_owned())].into(),
        ..command.clone()
    };
    check(full, command);
}

#[test]
fn signals() {
    let crossing = Crossing {
        id: "x_1".to_owned(),
        subject: tenant(),
        limit: "tokens-a-minute".to_owned(),
        policy_version: 3,
        meter: Meter::Tokens,
        window: Window::Sliding { seconds: 60 },
        mode: Mode::Open,
        level: "80%".to_owned(),
        threshold: Amount(48_000),
        direction: Direction::Down,
        at: at(0),
        sum: Amount(47_999),
        max: Amount(60_000),
        falls_at: None,
        event_source: None,
        event_id: None,
        origin: origin(),
    };
    let up = Crossing {
        direction: Direction::Up,
        falls_at: Some(at(60)),
        event_source: text("gateway-1"),
        event_id: text("018f3e"),
        ..crossing.clone()
    };
    check(up, crossing);
    let group = |new| CspGroup {
        id: "g_1".to_owned(),
        tenant: "acme".to_owned(),
        directive: "script-src-elem".to_owned(),
        blocked_host: "evil.example".to_owned(),
        document_uri: "https://acme.example/cart".to_owned(),
        at: at(0),
        count: 1,
        new,
        origin: origin(),
    };
    check(group(true), group(false));
    let sums = SecondSums {
        second: 3,
        events: 1,
        requests: 1,
        input_tokens: 374,
        output_tokens: 44,
        cost: Amount(727_200_000),
        failures: 0,
        violations: 0,
        units: [("images".to_owned(), 2)].into(),
    };
    let rollup = Rollup {
        tenant: "acme".to_owned(),
        key: text("k_1"),
        user: text("u_9"),
        route: text("POST /v1/chat"),
        provider: text("openai"),
        model: text("gpt-4o-mini"),
        account: text("alice"),
        source: text("203.0.113.7"),
        minute: at(-3),
        seconds: vec![sums],
        origin: origin(),
    };
    check(rollup, Rollup::default());
}

#[test]
fn sketches() {
    let spread = |id: &str, sketch| Spread {
        tenant: "acme".to_owned(),
        of: "source".to_owned(),
        per: "account".to_owned(),
        id: id.to_owned(),
        hour: at(0),
        count: 2,
        missed_max: 0,
        sketch,
        origin: origin(),
    };
    check(spread("alice", vec![0, 1, 2]), spread("", Vec::new()));
    let entry = RankingEntry {
        id: "u_9".to_owned(),
        count: Amount(20_000_000_000_000),
        error: Amount(1),
    };
    let ranking = |entries| Ranking {
        tenant: "acme".to_owned(),
        by: "user".to_owned(),
        meter: Meter::Cost,
        hour: at(0),
        entries,
        missing_max: Amount(0),
        sum: Amount(30_000_000_000_000),
        origin: origin(),
    };
    check(ranking(vec![entry]), ranking(Vec::new()));
}

#[test]
fn decisions() {
    let cause = |reset_at| Cause {
        limit: "spend-a-month".to_owned(),
        policy_version: 3,
        meter: Meter::Cost,
        window: Window::Calendar(Period::Month),
        mode: Mode::Block,
        verdict: Verdict::Block,
        used: Amount(20_000_000_000_000),
        max: Amount(20_000_000_000_000),
        reset_at,
        crossing: "x_1".to_owned(),
        origin: origin(),
    };
    let decision = |verdict, causes, status, until| Decision {
        id: "d_1".to_owned(),
        subject: tenant(),
        verdict,
        causes,
        status,
        until,
        terminal: false,
        seq: 4,
        issued_at: at(0),
        ttl_seconds: 30,
    };
    let causes = vec![cause(Some(at(60))), cause(None)];
    check(
        decision(Verdict::Block, causes, Some(429), Some(at(60))),
        decision(Verdict::Allow, Vec::new(), None, None),
    );
    let refusal = Refusal {
        request_id: "r_1".to_owned(),
        at: at(0),
        gateway: "gateway-1".to_owned(),
        tenant: None,
        key: None,
        user: None,
        route: None,
        account: None,
        source: None,
        subject: tenant(),
        limits: Vec::new(),
        verdict: Verdict::Throttle,
        status: 429,
        retry_after_seconds: None,
        decision: None,
    };
    let full = Refusal {
        tenant: text("acme"),
        key: text("k_1"),
        user: text("u_9"),
        route: text("POST /v1/chat"),
        account: text("alice"),
        source: text("203.0.113.7"),
        limits: vec!["spend-a-month".to_owned()],
        verdict: Verdict::Challenge,
        retry_after_seconds: Some(60),
        decision: text("d_1"),
        ..refusal.clone()
    };
    check(full, refusal);
}
