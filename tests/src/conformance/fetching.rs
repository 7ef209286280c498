//! Fetches: how much they carry, how long they wait, what ends the waiting.

use std::iter;

use anyhow::{Context, ensure};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FetchRequest, MetadataRequest, MetadataResponse};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseRecord, Producer};

use super::admin;
use super::lab::{Lab, SOON, options, wait};
use super::reading::at;
use super::wire::{ANYBODY, Wire, batch, batches, check_code, fetch_request, topic_name};

/// Longer than any case may take: who waits for its end fails.
const LONG_MS: i32 = 100_000;
const METADATA_VERSION: i16 = 12;
/// Of one value here.
const VALUE_BYTES: usize = 1000;

fn records(data: &PartitionData) -> Bytes {
    data.records.clone().unwrap_or_default()
}

/// Appends batches of one record of about a thousand bytes.
fn fill(wire: &mut Wire, topic: &str, count: usize) -> anyhow::Result<()> {
    let value = "v".repeat(VALUE_BYTES);
    for _ in 0..count {
        wire.append(topic, batch(ANYBODY, &[&value], 1)?)?;
    }
    Ok(())
}

fn bounded(topic: &str, offset: i64, partition_max: i32, max: i32) -> FetchRequest {
    let mut request = fetch_request(topic, offset).with_max_bytes(max);
    request.topics[0].partitions[0].partition_max_bytes = partition_max;
    request
}

/// The whole batches that a fetch within bounds gives, and all bytes of it.
fn carried(wire: &mut Wire, request: &FetchRequest) -> anyhow::Result<(Vec<i64>, usize)> {
    let data = wire.fetch(request)?;
    check_code(data.error_code, 0)?;
    let bytes = records(&data);
    let offsets = batches(bytes.clone()).iter().map(|b| b.0).collect();
    Ok((offsets, bytes.len()))
}

pub(super) fn bounds(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let mut wire = Wire::connect(lab)?;
    fill(&mut wire, &topic, 10)?;
    let large = 1 << 20;
    let (all, bytes) = carried(&mut wire, &bounded(&topic, 0, large, large))?;
    ensure!(all == (0..10).collect::<Vec<_>>(), "everything: {all:?}");
    let one = bytes / 10;
    for (from, partition_max, max, expected) in [
        (0, 3 * one, large as usize, vec![0, 1, 2]),
        (0, 4 * one - 1, large as usize, vec![0, 1, 2]),
        (2, large as usize, 2 * one, vec![2, 3]),
        // Whoever asks for too little gets one batch all the same, or it would never get on.
        (5, 1, large as usize, vec![5]),
        (5, large as usize, 1, vec![5]),
        (9, large as usize, large as usize, vec![9]),
        (10, large as usize, large as usize, vec![]),
    ] {
        let request = bounded(&topic, from, partition_max as i32, max as i32);
        let (found, bytes) = carried(&mut wire, &request)?;
        ensure!(
            found == expected,
            "from {from}, at most {partition_max} and {max}: {found:?}, not {expected:?}"
        );
        let bytes_max = partition_max.min(max).max(one);
        ensure!(
            bytes <= bytes_max,
            "{bytes} where at most {bytes_max} were asked for"
        );
    }
    Ok(())
}

/// The bound on the whole is used up by the first partitions; the others are told where they end.
pub(super) fn bounds_together(lab: &Lab) -> anyhow::Result<()> {
    let topics = [
        lab.topic(1, &[("retention.ms", "-1")])?,
        lab.topic(1, &[("retention.ms", "-1")])?,
    ];
    let mut wire = Wire::connect(lab)?;
    for topic in &topics {
        fill(&mut wire, topic, 3)?;
    }
    let mut request = bounded(&topics[0], 0, 1 << 20, 1);
    request
        .topics
        .extend(bounded(&topics[1], 0, 1 << 20, 1).topics);
    wire.send_fetch(&request)?;
    let found = wire.fetched_all()?;
    let counts: Vec<_> = found.iter().map(|p| batches(records(p)).len()).collect();
    ensure!(counts == [1, 0], "batches of each: {counts:?}");
    let ends: Vec<_> = found.iter().map(|p| p.high_watermark).collect();
    ensure!(ends == [3, 3], "ends: {ends:?}");
    Ok(())
}

pub(super) fn minimum(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let (mut reader, mut writer) = (Wire::connect(lab)?, Wire::connect(lab)?);
    let patient = fetch_request(&topic, 0)
        .with_min_bytes(2500)
        .with_max_wait_ms(LONG_MS);
    reader.send_fetch(&patient)?;
    reader.expect_silence()?;
    fill(&mut writer, &topic, 1)?;
    reader.expect_silence().context("one of three")?;
    fill(&mut writer, &topic, 2)?;
    let found = batches(records(&reader.fetched()?)).len();
    ensure!(found == 3, "{found} batches");
    // Enough is there already: no reason to wait.
    let found = batches(records(&reader.fetch(&patient)?)).len();
    ensure!(found == 3, "{found} batches");
    Ok(())
}

pub(super) fn impatience(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let mut wire = Wire::connect(lab)?;
    let request = |offset| {
        fetch_request(&topic, offset)
            .with_min_bytes(1 << 20)
            .with_max_wait_ms(300)
    };
    let data = wire.fetch(&request(0))?;
    ensure!(records(&data).is_empty(), "{data:?}");
    fill(&mut wire, &topic, 2)?;
    let found = batches(records(&wire.fetch(&request(0))?)).len();
    ensure!(
        found == 2,
        "{found} batches, less than was asked for and all there is"
    );
    Ok(())
}

pub(super) fn errors_do_not_wait(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    let mut wire = Wire::connect(lab)?;
    let patient = |topic, offset| {
        fetch_request(topic, offset)
            .with_min_bytes(1)
            .with_max_wait_ms(LONG_MS)
    };
    let beyond = wire.fetch(&patient(&topic, 1))?;
    check_code(beyond.error_code, ResponseError::OffsetOutOfRange.code())?;
    let missing = wire.fetch(&patient("missing", 0))?;
    check_code(
        missing.error_code,
        ResponseError::UnknownTopicOrPartition.code(),
    )
}

pub(super) fn deleted(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    let mut wire = Wire::connect(lab)?;
    let patient = fetch_request(&topic, 0)
        .with_min_bytes(1)
        .with_max_wait_ms(LONG_MS);
    wire.send_fetch(&patient)?;
    wire.expect_silence()?;
    let removed = wait(lab.admin().delete_topics(&[&topic], &options()))?;
    ensure!(removed[0].is_ok(), "{removed:?}");
    let data = wire.fetched()?;
    let expected = [
        ResponseError::UnknownTopicOrPartition.code(),
        ResponseError::NotLeaderOrFollower.code(),
    ];
    ensure!(expected.contains(&data.error_code), "{data:?}");
    Ok(())
}

/// Requests that follow one that waits are answered after it, in their order.
pub(super) fn in_order(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let (mut reader, mut writer) = (Wire::connect(lab)?, Wire::connect(lab)?);
    let patient = fetch_request(&topic, 0)
        .with_min_bytes(1)
        .with_max_wait_ms(LONG_MS);
    reader.send_fetch(&patient)?;
    let named = MetadataRequestTopic::default().with_name(Some(topic_name(&topic)));
    let metadata = MetadataRequest::default().with_topics(Some(vec![named]));
    for _ in 0..20 {
        reader.send(METADATA_VERSION, &metadata)?;
    }
    reader.expect_silence()?;
    fill(&mut writer, &topic, 1)?;
    ensure!(
        batches(records(&reader.fetched()?)).len() == 1,
        "not what was written"
    );
    for _ in 0..20 {
        let told: MetadataResponse = reader.receive::<MetadataRequest>(METADATA_VERSION)?;
        ensure!(told.topics.len() == 1, "{told:?}");
    }
    Ok(())
}

pub(super) fn reader_behind_the_start(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    lab.send(&topic, 1, 100, &[("batch.num.messages", "10")])?;
    // Small fetches, so that not everything is with the reader already.
    let little = [
        ("fetch.message.max.bytes", "100"),
        ("queued.min.messages", "1"),
        ("queued.max.messages.kbytes", "1"),
    ];
    let consumer = lab.consumer(&lab.name("group"), &little);
    consumer.assign(&at(&topic, Offset::Beginning)?)?;
    for expected in 0..5 {
        let found = lab.next(&consumer)?.offset;
        ensure!(found == expected, "{found}, not {expected}");
    }
    let low = admin::delete_before(lab, &topic, Offset::Offset(75))?;
    ensure!(low == Ok(75), "{low:?}");
    let mut read = iter::from_fn(|| Some(lab.next(&consumer).map(|r| r.offset)));
    let mut before = 4;
    // What it had fetched before it may still give; then it goes on at the new start.
    let after = loop {
        let offset = read.next().context("no end")??;
        if offset != before + 1 {
            break offset;
        }
        before = offset;
    };
    ensure!(after == 75 && before < 74, "from {before} to {after}");
    for expected in 76..100 {
        let found = read.next().context("no end")??;
        ensure!(found == expected, "{found}, not {expected}");
    }
    Ok(())
}

pub(super) fn large(lab: &Lab) -> anyhow::Result<()> {
    const BYTES: usize = 6_000_000;
    let topic = lab.topic(1, &[("max.message.bytes", "10000000")])?;
    let (producer, deliveries) = lab.producer(&[("message.max.bytes", "9000000")]);
    for fill in [1_u8, 2] {
        let value = vec![fill; BYTES];
        let record = BaseRecord::<[u8], [u8]>::to(&topic).payload(&value);
        producer.send(record).map_err(|(e, _)| e)?;
        producer.flush(SOON)?;
    }
    deliveries.expect(2)?;
    let narrow = [
        ("fetch.message.max.bytes", "1000"),
        ("fetch.max.bytes", "9000000"),
    ];
    let consumer = lab.consumer(&lab.name("group"), &narrow);
    consumer.assign(&at(&topic, Offset::Beginning)?)?;
    for fill in [1_u8, 2] {
        let value = lab.next(&consumer)?.value.unwrap_or_default();
        let is_whole = value.len() == BYTES && value.iter().all(|b| *b == fill);
        ensure!(is_whole, "{} bytes of {BYTES}", value.len());
    }
    Ok(())
}

/// Of thirty topics with two partitions each, in one request each time.
pub(super) fn many_topics(lab: &Lab) -> anyhow::Result<()> {
    const TOPICS: usize = 30;
    let names: Vec<String> = (0..TOPICS).map(|_| lab.name("many")).collect();
    admin::create_all(lab, &names, 2)?;
    let mut wire = Wire::connect(lab)?;
    let sent = |name: &String| {
        let mut request = super::wire::produce_request(name, batch(ANYBODY, &["v"], 1)?);
        Ok(request.topic_data.remove(0))
    };
    let topics = names.iter().map(sent).collect::<anyhow::Result<Vec<_>>>()?;
    let request = super::wire::produce_request("", Bytes::new()).with_topic_data(topics);
    let answer = wire.ask(9, &request)?;
    ensure!(
        answer.responses.len() == TOPICS,
        "{} topics",
        answer.responses.len()
    );
    for partition in answer.responses.iter().flat_map(|t| &t.partition_responses) {
        check_code(partition.error_code, 0)?;
    }
    let partition = |index| {
        FetchPartition::default()
            .with_partition(index)
            .with_partition_max_bytes(1000)
    };
    let topic = |name: &String| {
        FetchTopic::default()
            .with_topic(topic_name(name))
            .with_partitions(vec![partition(0), partition(1)])
    };
    let request = fetch_request("", 0).with_topics(names.iter().map(topic).collect());
    wire.send_fetch(&request)?;
    let found = wire.fetched_all()?;
    ensure!(found.len() == 2 * TOPICS, "{} partitions", found.len());
    let with_records = found
        .iter()
        .filter(|p| batches(records(p)).len() == 1)
        .count();
    ensure!(with_records == TOPICS, "{with_records} have records");
    let named = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let wanted = MetadataRequest::default().with_topics(Some(names.iter().map(named).collect()));
    let told = wire.ask(METADATA_VERSION, &wanted)?;
    let partitions: usize = told.topics.iter().map(|t| t.partitions.len()).sum();
    ensure!(
        partitions == 2 * TOPICS,
        "metadata has {partitions} partitions"
    );
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    let removed = wait(lab.admin().delete_topics(&refs, &options()))?;
    ensure!(removed.iter().all(Result::is_ok), "{removed:?}");
    Ok(())
}
