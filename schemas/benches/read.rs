//! One usage event read from its record's bytes: as the counting side reads it, borrowing, beside the full readers,
//! which own what they read. As JSON, an event as an app writes it by itself, with a field that nobody knows; as Avro,
//! the same event as Weir writes it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use schemas::cloudevents::{Event, Rules, read_event, read_plain_usage};
use schemas::codec::{Wire, decode_usage};
use schemas::money::parse_usd;
use schemas::record::{Usage, UsageRecord};
use schemas::time::Timestamp;

const TIME: &str = "2026-11-21T12:00:00.123450Z";
const EVENT: &str = r#"{"specversion":"1.0","id":"f423f","source":"gw","type":"usage","subject":"t42","time":"2026-11-21T12:00:00.123450Z","data":{"key":"k4217","user":"u731642","route":"POST /v1/chat/completions","status":200,"model":"gpt-4o","input_tokens":2719,"cost_usd":"0.000727","note":{"tokens":2719}}}"#;

fn rules() -> Rules {
    Rules::at(Timestamp::parse(TIME).expect("a time"))
}

fn usage() -> Usage {
    match read_event(EVENT.as_bytes(), &rules()) {
        Ok(Event::Usage(usage)) => usage,
        other => panic!("{other:?} is no usage"),
    }
}

fn json(c: &mut Criterion) {
    let rules = rules();
    let body = EVENT.as_bytes();
    let mut group = c.benchmark_group("json");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("borrowed", |b| {
        b.iter(|| read_plain_usage(black_box(body), &rules).expect("a plain event"));
    });
    group.bench_function("owned", |b| {
        b.iter(|| read_event(black_box(body), &rules).expect("a good event"));
    });
    group.finish();
}

fn avro(c: &mut Criterion) {
    let mut bytes = Vec::new();
    let encoded = UsageRecord::Event(usage()).encode(&mut bytes);
    encoded.expect("it fits its schema");
    let mut group = c.benchmark_group("avro");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("borrowed", |b| {
        b.iter(|| decode_usage(black_box(&bytes)).expect("a good record"));
    });
    group.bench_function("owned", |b| {
        b.iter(|| UsageRecord::decode(black_box(&bytes)).expect("a good record"));
    });
    group.finish();
}

fn parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("part");
    group.bench_function("time", |b| b.iter(|| Timestamp::parse(black_box(TIME))));
    group.bench_function("money", |b| b.iter(|| parse_usd(black_box("0.000727"))));
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(30)
}

criterion_group! { name = benches; config = config(); targets = json, avro, parts }
criterion_main!(benches);
