//! What must hold on every log that speaks Kafka's protocol. Each check takes an address, leaves alone what others
//! wrote there before, and cleans up nothing.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

// By path, so that the tests on real Kafka can take this file in as well.
#[path = "checks/following.rs"]
pub(crate) mod following;
#[path = "checks/inspecting.rs"]
pub(crate) mod inspecting;
#[path = "checks/outage.rs"]
pub(crate) mod outage;
#[path = "checks/reading.rs"]
pub(crate) mod reading;
#[path = "checks/sending.rs"]
pub(crate) mod sending;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus::clock::SystemClock;
use bus::{
    Assigned, Batch, Bus, Config, Consumer, Event, Partition, Position, RawRecord, Record, Start,
    Subscription,
};
use schemas::record::{Key, Role};
use schemas::time::Timestamp;
use schemas::topic::{self, REFUSALS, Topic};

/// So long that nothing here ever waits for it, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls a macro with the paths of all checks that take nothing but an address.
macro_rules! every_check {
    ($callback:ident) => {
        $callback!(
            sending::sends_in_order,
            sending::answers_for_each_record,
            sending::keeps_headers_and_tombstones,
            sending::keeps_the_layout,
            reading::resumes_where_the_service_says,
            reading::resumes_where_the_group_committed,
            reading::hands_partitions_over,
            reading::does_not_wait_for_ever_for_a_hand_over,
            reading::a_full_channel_loses_nothing,
            reading::tells_which_partition_is_caught_up,
            reading::an_offset_beyond_the_end_stops_the_reader,
            reading::a_negative_offset_stops_the_reader,
            reading::records_deleted_unread_stop_the_reader,
            following::follows_from_the_start_to_now_and_on,
            following::reads_all_that_stands,
            inspecting::a_copy_keeps_offsets_and_times,
            inspecting::settings_and_commits_are_seen_and_set,
            inspecting::nobody_is_handed_a_filler,
            inspecting::many_partitions_are_read_as_one,
        );
    };
}
pub(crate) use every_check;

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

    pub(crate) fn name(&self, what: &str) -> String {
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

/// Answers the first assignment: `partition` from `offset`, all others from their start.
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

/// One partition of the topic that most checks use; each check has one of its own.
pub(crate) const fn refusals(index: i32) -> Partition {
    Partition {
        topic: REFUSALS.name(),
        index,
    }
}
