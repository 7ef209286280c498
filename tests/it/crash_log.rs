//! The embedded log is killed under load, again and again: nothing acknowledged is lost, nothing is doubled, order holds.
//!
//! `LOG_KILLS=200` makes a soak of it.
#![cfg(test)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use tests::embedded::LogProcess;

const TOPIC: &str = "crash";
const PARTITIONS: i32 = 4;
const PRODUCERS: u64 = 8;
const CONSUMERS: usize = 3;
const KILLS_DEFAULT: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// A record's value: who wrote it, and its number among that producer's records of this partition's turn.
type Value = (u64, u64);

/// What the log has promised: where each acknowledged record lies.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<HashMap<Value, (i32, i64)>>>, Arc<AtomicU64>);

impl ClientContext for Acknowledged {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<Value>;

    fn delivery(&self, result: &DeliveryResult<'_>, value: Box<Value>) {
        match result {
            Ok(message) => {
                let place = (message.partition(), message.offset());
                self.0.lock().unwrap().insert(*value, place);
            }
            Err(_) => {
                self.1.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "0");
    config
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200");
    config
}

/// Sends until told to stop, then waits for what is under way.
fn produce(bootstrap: &str, producer_id: u64, acknowledged: Acknowledged, stop: &AtomicBool) {
    let producer: ThreadedProducer<Acknowledged> = client(bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("compression.type", "lz4")
        .set("message.timeout.ms", "120000")
        .create_with_context(acknowledged)
        .unwrap();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let value = format!("{producer_id}/{number}");
        let partition = (number % PARTITIONS as u64) as i32;
        let mut record = BaseRecord::with_opaque_to(TOPIC, Box::new((producer_id, number)))
            .key("k")
            .payload(&value)
            .partition(partition);
        while let Err((_, back)) = producer.send(record) {
            record = back;
            thread::sleep(Duration::from_millis(5));
        }
        number += 1;
        if number % 20 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    producer.flush(2 * PATIENCE).unwrap();
}

/// The highest offset of each partition that a member was told is committed.
type Committed = Arc<Mutex<HashMap<i32, i64>>>;

/// Reads as a member of a group and commits, until told to stop.
fn consume(bootstrap: &str, committed: &Committed, stop: &AtomicBool) {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "crash")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .create()
        .unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    let mut read: HashMap<i32, i64> = HashMap::new();
    let mut turns = 0;
    while !stop.load(Ordering::Relaxed) {
        turns += 1;
        let message = consumer.poll(Duration::from_millis(20));
        let is_idle = message.is_none();
        if let Some(Ok(message)) = message {
            read.insert(message.partition(), message.offset() + 1);
        }
        // What was read of a partition that is another's now is not for this member to commit.
        let assigned = consumer.assignment().unwrap();
        read.retain(|partition, _| assigned.find_partition(TOPIC, *partition).is_some());
        if read.is_empty() || !(is_idle || turns % 200 == 0) {
            continue;
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &read {
            let offset = Offset::Offset(*offset);
            list.add_partition_offset(TOPIC, *partition, offset)
                .unwrap();
        }
        // Between two generations or without a log this fails, and is tried again later.
        if consumer.commit(&list, CommitMode::Sync).is_ok() {
            let mut committed = committed.lock().unwrap();
            for (partition, offset) in read.drain() {
                let told = committed.entry(partition).or_default();
                *told = offset.max(*told);
            }
        }
    }
}

fn watermarks(consumer: &BaseConsumer) -> i64 {
    let end = |p| consumer.fetch_watermarks(TOPIC, p, PATIENCE).unwrap().1;
    (0..PARTITIONS).map(end).sum()
}

/// All that is in the log, in the order it is there.
fn read_all(bootstrap: &str) -> Vec<(i32, i64, Value)> {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "check")
        .set("check.crcs", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(TOPIC, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let end = watermarks(&consumer) as usize;
    let mut read = vec![];
    while read.len() < end {
        let message = consumer
            .poll(PATIENCE)
            .expect("more records")
            .expect("a record");
        let text = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
        let (producer, number) = text.split_once('/').unwrap();
        let value = (producer.parse().unwrap(), number.parse().unwrap());
        read.push((message.partition(), message.offset(), value));
    }
    read
}

#[track_caller]
fn check(read: &[(i32, i64, Value)], acknowledged: &HashMap<Value, (i32, i64)>) {
    let mut places: HashMap<Value, (i32, i64)> = HashMap::new();
    let mut newest: HashMap<(i32, u64), u64> = HashMap::new();
    let mut next: HashMap<i32, i64> = HashMap::new();
    for (partition, offset, value) in read {
        let next = next.entry(*partition).or_default();
        assert_eq!(offset, next, "a gap in partition {partition}");
        *next += 1;
        let twice = places.insert(*value, (*partition, *offset));
        assert_eq!(twice, None, "{value:?} is doubled at {partition}/{offset}");
        let before = newest.insert((*partition, value.0), value.1);
        assert!(
            before.is_none_or(|b| b < value.1),
            "{value:?} comes after {before:?}"
        );
    }
    let lost = acknowledged
        .iter()
        .filter(|(value, place)| places.get(value) != Some(place));
    let lost: Vec<_> = lost.take(5).collect();
    assert!(
        lost.is_empty(),
        "acknowledged, and not where it was said to be: {lost:?}"
    );
}

async fn create_topic(bootstrap: &str) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().unwrap();
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    // Small segments, so that kills also meet the change from one to the next.
    let topic = topic.set("segment.bytes", "1048576");
    admin
        .create_topics([&topic], &AdminOptions::new())
        .await
        .unwrap()
        .remove(0)
        .unwrap();
}

async fn kill_under_load(fsync: &'static str, kills: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut log = LogProcess::start(&folder.path().join("data"), fsync).await;
    let bootstrap = log.bootstrap();
    create_topic(&bootstrap).await;
    let (acknowledged, stop) = (Acknowledged::default(), Arc::new(AtomicBool::new(false)));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|id| {
            let (bootstrap, stop, acknowledged) =
                (bootstrap.clone(), stop.clone(), acknowledged.clone());
            thread::spawn(move || produce(&bootstrap, id, acknowledged, &stop))
        })
        .collect();
    let (committed, stop_consumers) = (Committed::default(), Arc::new(AtomicBool::new(false)));
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|_| {
            let (bootstrap, stop, committed) =
                (bootstrap.clone(), stop_consumers.clone(), committed.clone());
            thread::spawn(move || consume(&bootstrap, &committed, &stop))
        })
        .collect();
    for round in 0..kills {
        let before = acknowledged.0.lock().unwrap().len();
        // Another moment every round.
        tokio::time::sleep(Duration::from_millis(400 + round * 97 % 500)).await;
        log.kill9();
        log.restart().await;
        tests::eventually("writes go on", PATIENCE, async || {
            let now = acknowledged.0.lock().unwrap().len();
            if now > before {
                Ok(())
            } else {
                Err(format!("{now} acknowledged"))
            }
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    producers.into_iter().for_each(|p| p.join().unwrap());
    let observer: BaseConsumer = client(&bootstrap)
        .set("group.id", "check")
        .create()
        .unwrap();
    let end = watermarks(&observer);
    tests::eventually("the group has read all", 2 * PATIENCE, async || {
        let told: i64 = committed.lock().unwrap().values().sum();
        if told == end {
            Ok(())
        } else {
            Err(format!("{told} of {end}"))
        }
    })
    .await;
    stop_consumers.store(true, Ordering::Relaxed);
    consumers.into_iter().for_each(|c| c.join().unwrap());
    log.kill9();
    log.restart().await;
    let acknowledged_all = acknowledged.0.lock().unwrap().clone();
    check(&read_all(&bootstrap), &acknowledged_all);
    assert_eq!(
        acknowledged.1.load(Ordering::Relaxed),
        0,
        "records were refused"
    );
    assert!(
        acknowledged_all.len() > 1000,
        "only {} acknowledged",
        acknowledged_all.len()
    );
    check_committed(&bootstrap, &committed.lock().unwrap());
}

/// Every offset that a member was told is committed is.
#[track_caller]
fn check_committed(bootstrap: &str, told: &HashMap<i32, i64>) {
    let consumer: BaseConsumer = client(bootstrap).set("group.id", "crash").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(TOPIC, 0, PARTITIONS - 1);
    let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
    for (partition, offset) in told {
        let element = committed.find_partition(TOPIC, *partition).unwrap();
        let kept = element.offset().to_raw().unwrap();
        assert!(
            kept >= *offset,
            "partition {partition}: {offset} was acknowledged, {kept} is kept"
        );
    }
}

fn kills() -> u64 {
    std::env::var("LOG_KILLS")
        .ok()
        .map_or(KILLS_DEFAULT, |text| text.parse().expect("LOG_KILLS"))
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_log_killed_under_load() {
    kill_under_load("50", kills()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_log_killed_under_load_syncing_always() {
    kill_under_load("always", kills().min(3)).await;
}

/// Where the machine loses power, the end of a file may be missing: the log opens with what is whole, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn crash_log_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut log = LogProcess::start(&data, "50").await;
    let bootstrap = log.bootstrap();
    create_topic(&bootstrap).await;
    let acknowledged = Acknowledged::default();
    let send = |id: u64| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| produce(&bootstrap, id, acknowledged.clone(), &stop));
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        });
    };
    for cut in [1, 17, 60, 61, 62, 333] {
        send(cut);
        log.kill9();
        let file = data
            .join("topics")
            .join(TOPIC)
            .join("0/00000000000000000000.log");
        let whole = std::fs::metadata(&file).unwrap().len();
        let file = std::fs::File::options().write(true).open(&file).unwrap();
        file.set_len(whole - cut).unwrap();
        log.restart().await;
        assert!(
            log.output().contains("cut a torn end off"),
            "{}",
            log.output()
        );
        // What was cut is gone from partition 0, and only from its end.
        let read = read_all(&bootstrap);
        let end = read.iter().filter(|r| r.0 == 0).count() as i64;
        acknowledged
            .0
            .lock()
            .unwrap()
            .retain(|_, (p, o)| *p != 0 || *o < end);
        check(&read, &acknowledged.0.lock().unwrap());
    }
}
