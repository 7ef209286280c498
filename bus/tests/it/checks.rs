//! What must hold on every log that speaks Kafka's protocol. Each check takes an address, leaves alone what others
//! wrote there before, and cleans up nothing.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus::clock::SystemClock;
use bus::{
    Assigned, Batch, Bus, BusError, Config, Consumer, Event, Followed, Partition, Position,
    RawRecord, Record, Revoked, SendError, Start, Subscription,
};
use schemas::record::{Key, Role};
use schemas::time::Timestamp;
use schemas::topic::{self, KEYS, REFUSALS, SIGNALS, Topic, USAGE};

/// So long that nothing here ever waits for it, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address, and names that nobody used there before.
pub(crate) struct Fresh {
    bootstrap: String,
    used: AtomicU32,
}

impl Fresh {
    pub(crate) fn new(bootstrap: String) -> Self {
        Self {
            bootstrap,
            used: AtomicU32::new(0),
        }
    }

    fn name(&self, what: &str) -> String {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        let now = bus::clock::Clock::now(&SystemClock).as_micros();
        format!("{what}-{now}-{used}")
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            bootstrap: self.bootstrap.clone(),
            ..Config::default()
        }
    }

    pub(crate) async fn bus(&self) -> Bus {
        connect(self.config()).await
    }
}

pub(crate) async fn connect(config: Config) -> Bus {
    Bus::connect(config, Arc::new(SystemClock)).await.unwrap()
}

pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Sends `numbers` as texts to one partition and waits for all; gives the offset of the first.
pub(crate) async fn write<V>(
    bus: &Bus,
    topic: &Topic<V>,
    partition: i32,
    numbers: std::ops::Range<u32>,
) -> i64 {
    let producer = bus.producer();
    let mut deliveries = Vec::new();
    for number in numbers {
        let text = number.to_string();
        let raw = RawRecord {
            topic: topic.name(),
            partition,
            key: Some(b"k"),
            value: Some(text.as_bytes()),
            headers: &[],
        };
        deliveries.push(producer.enqueue_raw(raw).unwrap());
    }
    let mut positions = Vec::new();
    for delivery in deliveries {
        positions.push(soon("an acknowledgement", delivery).await.unwrap());
    }
    let first = positions[0].offset;
    for (position, offset) in positions.iter().zip(first..) {
        assert_eq!(*position, Position { partition, offset });
    }
    first
}

pub(crate) fn subscription(group: &str, topic: topic::TopicSpec, start: Start) -> Subscription {
    Subscription {
        group: group.to_owned(),
        topics: vec![topic],
        start,
        batch_records_max: 100,
    }
}

/// The next event that is no news of an end: those come whenever they are true.
async fn next(consumer: &mut Consumer) -> Event {
    loop {
        match soon("an event", consumer.next()).await {
            Event::CaughtUp(_) => {}
            event => return event,
        }
    }
}

pub(crate) async fn assigned(consumer: &mut Consumer) -> Assigned {
    match next(consumer).await {
        Event::Assigned(assigned) => assigned,
        event => panic!("{event:?}, not assigned"),
    }
}

async fn revoked(consumer: &mut Consumer) -> Revoked {
    loop {
        match next(consumer).await {
            Event::Revoked(revoked) => return revoked,
            Event::Records(_) => {}
            event => panic!("{event:?}, not revoked"),
        }
    }
}

async fn failed(consumer: &mut Consumer) -> BusError {
    match next(consumer).await {
        Event::Failed(error) => error,
        event => panic!("{event:?}, not failed"),
    }
}

/// Everything at the end of its partition, except `at`.
pub(crate) async fn start_at(consumer: &mut Consumer, partition: Partition, offset: i64) {
    let assigned = assigned(consumer).await;
    assert!(assigned.partitions().contains(&partition));
    assigned.start(&[(partition, Some(offset))]);
}

pub(crate) fn number(record: &Record) -> u32 {
    let text = record.value.as_deref().unwrap_or_default();
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

/// Reads one partition until `count` records came; checks that they are in order and without a gap.
pub(crate) async fn read(consumer: &mut Consumer, partition: Partition, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut due = None;
    while numbers.len() < count {
        match next(consumer).await {
            Event::Records(batch) if batch.partition == partition => {
                check_batch(&batch, &mut due);
                numbers.extend(batch.records.iter().map(number));
            }
            Event::Records(_) => {}
            event => panic!("{event:?} after {} records", numbers.len()),
        }
    }
    numbers
}

fn check_batch(batch: &Batch, due: &mut Option<i64>) {
    assert!(!batch.records.is_empty() && batch.records.len() <= 100);
    for record in &batch.records {
        assert!(due.is_none_or(|due| due == record.offset), "a gap");
        *due = Some(record.offset + 1);
    }
    assert!(*due <= Some(batch.end_offset));
}

fn key(id: &str) -> Key {
    Key {
        id: id.to_owned(),
        sha256: "00".repeat(32),
        role: Role::Ingest,
        tenant: None,
        created_at: Timestamp::from_seconds(7),
        expires_at: None,
        revoked: false,
        note: String::new(),
    }
}

// === sending ===

pub(crate) async fn sends_in_order(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = Partition {
        topic: REFUSALS.name(),
        index: 3,
    };
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

// === reading as a group ===

pub(crate) async fn resumes_where_the_service_says(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = Partition {
        topic: REFUSALS.name(),
        index: 5,
    };
    let first = write(&bus, &REFUSALS, at.index, 0..300).await;
    let group = fresh.name("stored");
    for (from, count) in [(0, 300), (120, 180), (299, 1), (120, 180)] {
        let mut consumer = bus
            .consume(subscription(&group, REFUSALS.spec(), Start::Stored))
            .unwrap();
        start_at(&mut consumer, at, first + from).await;
        let numbers = read(&mut consumer, at, count).await;
        assert!(numbers.into_iter().eq(from as u32..300));
        // What the group committed is for tools: it changes nothing.
        consumer.commit(at, first + 7);
        consumer.close().await;
    }
}

pub(crate) async fn resumes_where_the_group_committed(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = Partition {
        topic: REFUSALS.name(),
        index: 6,
    };
    let first = write(&bus, &REFUSALS, at.index, 0..200).await;
    let group = fresh.name("committed");
    let subscribe = || subscription(&group, REFUSALS.spec(), Start::Committed);
    let mut consumer = bus.consume(subscribe()).unwrap();
    // Unanswered: from the earliest record that the log has.
    drop(assigned(&mut consumer).await);
    let mut seen = 0;
    while seen < 200 {
        if let Event::Records(batch) = next(&mut consumer).await
            && batch.partition == at
        {
            seen += batch.records.iter().filter(|r| first <= r.offset).count();
        }
    }
    consumer.commit(at, first + 50);
    consumer.commit(at, first + 150);
    consumer.close().await;
    let mut consumer = bus.consume(subscribe()).unwrap();
    drop(assigned(&mut consumer).await);
    let numbers = read(&mut consumer, at, 50).await;
    assert!(numbers.into_iter().eq(150..200));
}

fn all_of(parts: &[&Assigned]) -> BTreeSet<i32> {
    let all: Vec<_> = parts
        .iter()
        .flat_map(|assigned| assigned.partitions())
        .map(|partition| partition.index)
        .collect();
    let set: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(all.len(), set.len(), "a partition has two owners");
    set
}

pub(crate) async fn hands_partitions_over(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let group = fresh.name("hand-over");
    let subscribe = || subscription(&group, REFUSALS.spec(), Start::Stored);
    let every: BTreeSet<_> = (0..bus.partitions(REFUSALS.spec())).collect();
    let mut old = bus.consume(subscribe()).unwrap();
    let alone = assigned(&mut old).await;
    assert_eq!(all_of(&[&alone]), every);
    alone.start(&[]);
    let mut new = bus.consume(subscribe()).unwrap();
    let leaving = revoked(&mut old).await;
    assert!(!leaving.lost());
    assert_eq!(leaving.partitions().len(), every.len());
    let too_early = tokio::time::timeout(Duration::from_secs(2), new.next()).await;
    assert!(
        too_early.is_err(),
        "{too_early:?} before the old owner was done"
    );
    leaving.done();
    let (of_old, of_new) = (assigned(&mut old).await, assigned(&mut new).await);
    assert_eq!(all_of(&[&of_old, &of_new]), every);
    of_old.start(&[]);
    of_new.start(&[]);
    new.close().await;
    revoked(&mut old).await.done();
    assert_eq!(all_of(&[&assigned(&mut old).await]), every);
    old.close().await;
}

pub(crate) async fn does_not_wait_for_ever_for_a_hand_over(fresh: &Fresh) {
    let bus = connect(Config {
        hand_over_within: Duration::from_secs(1),
        ..fresh.config()
    })
    .await;
    let group = fresh.name("silent");
    let subscribe = || subscription(&group, REFUSALS.spec(), Start::Stored);
    let mut old = bus.consume(subscribe()).unwrap();
    assigned(&mut old).await.start(&[]);
    let mut new = bus.consume(subscribe()).unwrap();
    let unanswered = revoked(&mut old).await;
    let of_new = assigned(&mut new).await;
    assert!(!of_new.partitions().is_empty());
    // Too late to matter.
    unanswered.done();
    assert!(!assigned(&mut old).await.partitions().is_empty());
}

pub(crate) async fn a_full_channel_loses_nothing(fresh: &Fresh) {
    let mut config = fresh.config();
    config.batches_max = 4;
    // The shortest that there is: a member that did not poll would be thrown out while this check sleeps.
    let interval = "consumer.max.poll.interval.ms".to_owned();
    config.settings.insert(interval, "6000".to_owned());
    let bus = connect(config).await;
    let at = Partition {
        topic: REFUSALS.name(),
        index: 7,
    };
    let first = write(&bus, &REFUSALS, at.index, 0..5_000).await;
    let group = fresh.name("full");
    let mut consumer = bus
        .consume(subscription(&group, REFUSALS.spec(), Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, first).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let numbers = read(&mut consumer, at, 5_000).await;
    assert!(numbers.into_iter().eq(0..5_000));
}

pub(crate) async fn tells_which_partition_is_caught_up(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let group = fresh.name("ends");
    let mut consumer = bus
        .consume(Subscription {
            topics: vec![REFUSALS.spec(), SIGNALS.spec()],
            ..subscription(&group, REFUSALS.spec(), Start::Stored)
        })
        .unwrap();
    let assigned = assigned(&mut consumer).await;
    let mut ahead: BTreeSet<_> = assigned.partitions().iter().copied().collect();
    assert_eq!(
        ahead.len() as i32,
        bus.partitions(REFUSALS.spec()) + bus.partitions(SIGNALS.spec())
    );
    assigned.start(&[]);
    while !ahead.is_empty() {
        if let Event::CaughtUp(partition) = soon("an end", consumer.next()).await {
            assert!(
                ahead.remove(&partition),
                "{partition} twice without a record"
            );
        }
    }
    let at = Partition {
        topic: SIGNALS.name(),
        index: 2,
    };
    for round in 0..3 {
        write(&bus, &SIGNALS, at.index, round..round + 1).await;
        assert_eq!(read(&mut consumer, at, 1).await, [round]);
        match soon("an end", consumer.next()).await {
            Event::CaughtUp(partition) => assert_eq!(partition, at),
            event => panic!("{event:?}, not caught up"),
        }
    }
}

pub(crate) async fn an_impossible_offset_stops_the_reader(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = Partition {
        topic: REFUSALS.name(),
        index: 8,
    };
    let first = write(&bus, &REFUSALS, at.index, 0..10).await;
    let group = fresh.name("impossible");
    let mut consumer = bus
        .consume(subscription(&group, REFUSALS.spec(), Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, first + 1_000).await;
    let error = loop {
        match next(&mut consumer).await {
            Event::Failed(error) => break error,
            Event::Records(batch) => assert_ne!(batch.partition, at, "read all the same"),
            event => panic!("{event:?}"),
        }
    };
    match error {
        BusError::Offset {
            partition,
            offset,
            high,
            ..
        } => assert_eq!((partition, offset, high), (8, first + 1_000, first + 10)),
        error => panic!("{error}"),
    }
    assert!(matches!(failed(&mut consumer).await, BusError::Closed));
}

// === following ===

pub(crate) async fn follows_from_the_start_to_now_and_on(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let producer = bus.producer();
    let [stays, goes, odd, late] = ["stays", "goes", "odd", "late"].map(|name| fresh.name(name));
    let ours = [stays.clone(), goes.clone(), odd.clone(), late.clone()];
    for id in [&stays, &goes] {
        producer.send(&KEYS, id, &key(id)).await.unwrap();
    }
    producer.lift(&KEYS, &goes).await.unwrap();
    let raw = RawRecord {
        topic: KEYS.name(),
        partition: 0,
        key: Some(odd.as_bytes()),
        value: Some(b"not avro"),
        headers: &[],
    };
    producer.enqueue_raw(raw).unwrap().await.unwrap();
    let mut follower = bus.follow(&KEYS).unwrap();
    let mut next = async || loop {
        let followed = soon("something to follow", follower.next()).await.unwrap();
        let (what, key) = match followed {
            Followed::Put { key, value, .. } => {
                assert_eq!(value.id, key);
                ("put", key)
            }
            Followed::Lifted { key, .. } => ("lifted", key),
            Followed::Unreadable { key, reason, .. } => {
                assert!(reason.contains("Avro"), "{reason}");
                ("unreadable", key)
            }
            Followed::CaughtUp => return ("caught up", String::new()),
            Followed::Lost | Followed::Back => continue,
        };
        if ours.contains(&key) {
            return (what, key);
        }
    };
    // The log may have compacted what was overwritten already, but not what is newest.
    let mut seen = Vec::new();
    loop {
        match next().await {
            ("caught up", _) => break,
            step => seen.push(step),
        }
    }
    assert!(seen.contains(&("put", stays.clone())));
    assert!(seen.contains(&("unreadable", odd)));
    let of_goes = seen.iter().rfind(|(_, key)| *key == goes);
    assert!(of_goes.is_none_or(|(what, _)| *what == "lifted"));
    producer.send(&KEYS, &late, &key(&late)).await.unwrap();
    assert_eq!(next().await, ("put", late));
    producer.lift(&KEYS, &stays).await.unwrap();
    assert_eq!(next().await, ("lifted", stays));
}

pub(crate) async fn reads_all_that_stands(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let producer = bus.producer();
    let [one, two, gone] = ["one", "two", "gone"].map(|name| fresh.name(name));
    for id in [&gone, &two, &one] {
        producer.send(&KEYS, id, &key(id)).await.unwrap();
    }
    let mut newer = key(&two);
    newer.note = "newer".to_owned();
    producer.send(&KEYS, &two, &newer).await.unwrap();
    producer.lift(&KEYS, &gone).await.unwrap();
    let all = bus.read_all(&KEYS).await.unwrap();
    let ours: Vec<_> = all
        .into_iter()
        .filter(|(id, _)| [&one, &two, &gone].contains(&id))
        .collect();
    assert_eq!(ours, [(one.clone(), key(&one)), (two, newer)]);
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
