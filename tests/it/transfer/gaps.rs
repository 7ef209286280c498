//! A log whose beginning was deleted and whose middle was compacted is copied with all its offsets.

use std::path::Path;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tests::embedded::{Embedded, LogProcess};
use tests::eventually;
use tests::kafka::Kafka;

use super::USAGE;
use super::copies::{Copy, client, read, spans};
use crate::log_tools::{fails, log, succeeds};

const DECISIONS: &str = "weir.decisions.v1";
const PATIENCE: Duration = Duration::from_secs(60);
const GROUP: &str = "somebody";
/// Of both topics together: three partitions.
const PARTITIONS: [(&str, i32); 3] = [(USAGE, 0), (USAGE, 1), (DECISIONS, 0)];

async fn make_topics(admin: &AdminClient<DefaultClientContext>) {
    let one = || TopicReplication::Fixed(1);
    let usage = NewTopic::new(USAGE, 2, one())
        .set("message.timestamp.type", "LogAppendTime")
        .set("retention.ms", "-1");
    let decisions = NewTopic::new(DECISIONS, 1, one())
        .set("cleanup.policy", "compact")
        .set("message.timestamp.type", "LogAppendTime")
        .set("min.cleanable.dirty.ratio", "0.01")
        .set("segment.bytes", "1048576");
    let made = admin
        .create_topics(&[usage, decisions], &AdminOptions::new())
        .await;
    for topic in made.expect("an answer") {
        topic.expect("a topic");
    }
}

fn fill(bootstrap: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .expect("a producer");
    let send = |topic: &str, partition: i32, key: &str, value: &str| {
        let record = BaseRecord::<str, str>::to(topic).partition(partition);
        let sent = producer.send(record.key(key).payload(value));
        sent.map_err(|(error, _)| error).expect("room");
    };
    for number in 0..1_000 {
        send(USAGE, 0, "k", &number.to_string());
        send(USAGE, 1, "k", &number.to_string());
    }
    // Several segments full of the same few keys.
    let long = "x".repeat(1_000);
    for number in 0..5_000 {
        send(DECISIONS, 0, &format!("key-{}", number % 20), &long);
    }
    producer.flush(PATIENCE).expect("all is sent");
}

/// Deletes the beginning of one partition and all of another, and waits until the third is compacted.
async fn make_gaps(bootstrap: &str, admin: &AdminClient<DefaultClientContext>) {
    let mut before = TopicPartitionList::new();
    for (partition, offset) in [(0, 700), (1, 1_000)] {
        before
            .add_partition_offset(USAGE, partition, Offset::Offset(offset))
            .expect("a place");
    }
    let deleted = admin.delete_records(&before, &AdminOptions::new()).await;
    assert_eq!(deleted.expect("an answer").count(), 2);
    eventually("compaction", PATIENCE, async || {
        match read(bootstrap, DECISIONS, 0).len() {
            few if few < 2_000 => Ok(()),
            many => Err(format!("{many} records")),
        }
    })
    .await;
}

fn commit(bootstrap: &str) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(USAGE, 0, Offset::Offset(705))
        .expect("a place");
    let committed = client(bootstrap, GROUP).commit(&list, CommitMode::Sync);
    committed.expect("it is committed");
}

fn committed(bootstrap: &str) -> Option<Offset> {
    let mut list = TopicPartitionList::new();
    list.add_partition(USAGE, 0);
    let found = client(bootstrap, GROUP).committed_offsets(list, PATIENCE);
    let found = found.expect("an answer");
    Some(found.find_partition(USAGE, 0)?.offset())
}

/// What was read of every partition.
fn all(bootstrap: &str) -> Vec<Vec<Copy>> {
    let partitions = PARTITIONS.iter();
    partitions
        .map(|(topic, partition)| read(bootstrap, topic, *partition))
        .collect()
}

/// The copy at `bootstrap` has the records of `original`, and only fillers besides.
fn check_copy(bootstrap: &str, original: &[Vec<Copy>], spans_of_original: &[(i64, i64)]) {
    let spans = spans(bootstrap);
    for (place, expected) in PARTITIONS.iter().zip(spans_of_original) {
        let (topic, partition) = place;
        assert_eq!(
            spans[&((*topic).to_owned(), *partition)],
            *expected,
            "{place:?}"
        );
    }
    for (copied, original) in all(bootstrap).iter().zip(original) {
        let records: Vec<&Copy> = copied.iter().filter(|copy| !copy.is_filler()).collect();
        assert!(records.iter().copied().eq(original.iter()));
        // None is missing from the first to the last.
        if let [first, .., last] = &copied[..] {
            assert_eq!(copied.len() as i64, last.offset - first.offset + 1);
        }
    }
    assert_eq!(committed(bootstrap), Some(Offset::Offset(705)));
}

fn export(data: &Path, to: &str) -> std::process::Command {
    let mut export = log(&["export", "--to", to, "--data"]);
    export.arg(data);
    export
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (source, kafka) = (Embedded::start(), Kafka::start().await);
    let from = source.bootstrap();
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", &from)
        .create()
        .expect("an admin client");
    make_topics(&admin).await;
    fill(&from);
    make_gaps(&from, &admin).await;
    commit(&from);
    let mut import = log(&["import", "--from", &from, "--data"]);
    succeeds(import.arg(&data));
    let original = all(&from);
    let of = |(topic, partition): &(&str, i32)| spans(&from)[&((*topic).to_owned(), *partition)];
    let spans_of_original: Vec<(i64, i64)> = PARTITIONS.iter().map(of).collect();
    assert_eq!(
        spans_of_original,
        [(700, 1_000), (1_000, 1_000), (0, 5_000)]
    );

    // The copy's own log neither compacts nor deletes while it is only looked at.
    let served = LogProcess::start(&data.join("log"), "1000").await;
    check_copy(&served.bootstrap(), &original, &spans_of_original);
    drop(served);
    succeeds(log(&["verify", "--data"]).arg(&data));

    let told = succeeds(&mut export(&data, &kafka.bootstrap()));
    assert!(told.contains("are equal on both sides"), "{told}");
    check_copy(&kafka.bootstrap(), &original, &spans_of_original);
    // Again: nothing to do, and nothing is done.
    let told = succeeds(&mut export(&data, &kafka.bootstrap()));
    assert!(
        told.contains("weir.usage.v1: 0 records copied and 0 gaps filled"),
        "{told}"
    );
    check_copy(&kafka.bootstrap(), &original, &spans_of_original);

    // What came to the target from elsewhere is no part of a copy.
    fill_one(&kafka.bootstrap());
    fails(
        &mut export(&data, &kafka.bootstrap()),
        "the target is no copy of this log",
    );
}

fn fill_one(bootstrap: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .expect("a producer");
    let record = BaseRecord::<str, str>::to(USAGE).partition(1);
    let sent = producer.send(record.key("k").payload("foreign"));
    sent.map_err(|(error, _)| error).expect("room");
    producer.flush(PATIENCE).expect("it is sent");
}
