//! Sending: order, answers, bytes as they were.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

use std::time::Duration;

use bus::{Config, Event, Partition, RawRecord, SendError, Start};
use schemas::topic::{self, KEYS, REFUSALS, SIGNALS, USAGE};

use super::{Fresh, PATIENCE, connect, key, next, read, refusals, start_at, subscription, write};

pub(crate) async fn sends_in_order(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = refusals(3);
    let first = write(&bus, &REFUSALS, at.index, 0..5_000).await;
    let group = fresh.name("order");
    let mut consumer = bus
        .consume(subscription(&group, REFUSALS.spec(), Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, first).await;
    let numbers = read(&mut consumer, at, 5_000).await;
    assert!(numbers.into_iter().eq(0..5_000));
    consumer.close().await;
}

pub(crate) async fn answers_for_each_record(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let producer = bus.producer();
    let id = fresh.name("key");
    let first = producer.send(&KEYS, &id, &key(&id)).await.unwrap();
    assert_eq!(first.partition, bus.partition_of(KEYS.spec(), &id));
    let second = producer.lift(&KEYS, &id).await.unwrap();
    assert!(first.offset < second.offset);
    let mut large = key(&id);
    large.note = "x".repeat(1_100_000);
    let refused = producer.send(&KEYS, &id, &large).await.unwrap_err();
    assert!(matches!(refused, SendError::TooLarge { .. }), "{refused}");
    assert!(!refused.is_retriable());
    let place = bus.partition_of(USAGE.spec(), "acme");
    let expected = schemas::partition::partition_of(b"acme", bus.partitions(USAGE.spec()));
    assert_eq!(place, expected);
    producer.flush(PATIENCE).await.unwrap();
    assert_eq!(producer.queued(), 0);
    assert!(bus.available());
}

pub(crate) async fn keeps_headers_and_tombstones(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = Partition {
        topic: SIGNALS.name(),
        index: 0,
    };
    let headers = vec![
        ("ce_id".to_owned(), Some(bytes::Bytes::from_static(b"1"))),
        ("ce_id".to_owned(), Some(bytes::Bytes::new())),
        ("empty".to_owned(), None),
    ];
    let before = bus.clock().now();
    let mut first = None;
    for (key, value) in [(None, Some(&b""[..])), (Some(&b"k"[..]), None)] {
        let raw = RawRecord {
            topic: at.topic,
            partition: at.index,
            key,
            value,
            headers: &headers,
        };
        let position = bus.producer().enqueue_raw(raw).unwrap().await.unwrap();
        first.get_or_insert(position.offset);
    }
    let group = fresh.name("headers");
    let mut consumer = bus
        .consume(subscription(&group, SIGNALS.spec(), Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, first.unwrap()).await;
    let mut records = Vec::new();
    while records.len() < 2 {
        if let Event::Records(batch) = next(&mut consumer).await {
            records.extend(batch.records);
        }
    }
    assert_eq!(records[0].key, None);
    assert_eq!(records[0].value.as_deref(), Some(&b""[..]));
    assert_eq!(records[1].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(records[1].value, None);
    for record in records {
        assert_eq!(record.headers, headers);
        let slack = Duration::from_secs(5);
        assert!(before.minus(slack) < record.appended_at);
        assert!(record.appended_at < bus.clock().now().plus(slack));
    }
}

pub(crate) async fn keeps_the_layout(fresh: &Fresh) {
    let made = fresh.bus().await.partitions(USAGE.spec());
    let again = connect(Config {
        partitions: made + 3,
        ..fresh.config()
    })
    .await;
    for spec in topic::ALL {
        let expected = match spec.spread {
            topic::Spread::Many => made,
            topic::Spread::One => 1,
        };
        assert_eq!(again.partitions(spec), expected, "{}", spec.name);
    }
}
