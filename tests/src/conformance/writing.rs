//! Producing: codecs, shapes of records, idempotence, what is refused.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::lab::{Lab, Read, SOON, check_each_once, check_gapless};
use crate::proxy::{Fault, Proxy};

pub(super) fn codecs(lab: &Lab) -> anyhow::Result<()> {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = lab.topic(4, &[])?;
        lab.send(&topic, 4, 2000, &[("compression.type", codec)])
            .context(codec)?;
        let read = lab.read_all(&topic, 4).context(codec)?;
        check_each_once(&read, 2000).context(codec)?;
        check_gapless(&read).context(codec)?;
    }
    Ok(())
}

pub(super) fn shapes(lab: &Lab) -> anyhow::Result<()> {
    const TIME: i64 = 1_600_000_000_123;
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let (producer, deliveries) = lab.producer(&[]);
    let header = |key, value: Option<&'static str>| Header { key, value };
    let headers = OwnedHeaders::new()
        .insert(header("a", Some("1")))
        .insert(header("a", Some("2")))
        .insert(header("null", None))
        .insert(header("empty", Some("")));
    let to = || BaseRecord::<str, str>::to(&topic);
    let records = [
        to().key("k").payload("v").headers(headers).timestamp(TIME),
        to().key("k"),
        to().payload("no key"),
        to().key("").payload(""),
    ];
    for record in records {
        producer.send(record).map_err(|(e, _)| e)?;
    }
    producer.flush(SOON)?;
    deliveries.expect(4)?;
    let read = lab.read_all(&topic, 1)?;
    ensure!(read.len() == 4, "{} records", read.len());
    ensure!(
        read[0].timestamp == Some(TIME),
        "timestamp {:?}",
        read[0].timestamp
    );
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    let expected = [
        ("a", bytes("1")),
        ("a", bytes("2")),
        ("null", None),
        ("empty", bytes("")),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
    ensure!(read[0].headers == expected, "headers {:?}", read[0].headers);
    ensure!(
        read[1].key == bytes("k") && read[1].value.is_none(),
        "tombstone {:?}",
        read[1]
    );
    ensure!(
        read[2].key.is_none() && read[2].value == bytes("no key"),
        "null key {:?}",
        read[2]
    );
    ensure!(
        read[3].key == bytes("") && read[3].value == bytes(""),
        "empty {:?}",
        read[3]
    );
    Ok(())
}

pub(super) fn too_large(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    let (producer, deliveries) = lab.producer(&[
        ("message.max.bytes", "5000000"),
        ("enable.idempotence", "false"),
        ("queue.buffering.max.kbytes", "100000"),
    ]);
    for bytes in [900_000, 3_000_000, 10] {
        let value = vec![7_u8; bytes];
        let record = BaseRecord::<[u8], [u8]>::to(&topic).payload(&value);
        producer.send(record).map_err(|(e, _)| e)?;
        producer.flush(SOON)?;
    }
    let results: Vec<_> = deliveries
        .all()
        .into_iter()
        .map(|d| d.map_err(|e| e.rdkafka_error_code()))
        .collect();
    let expected = [Ok((0, 0)), Err(Some(Code::MessageSizeTooLarge)), Ok((0, 1))];
    ensure!(results == expected, "{results:?}");
    let sizes: Vec<_> = lab
        .read_all(&topic, 1)?
        .iter()
        .map(|r| r.value.as_ref().map_or(0, Vec::len))
        .collect();
    ensure!(sizes == [900_000, 10], "read back {sizes:?}");
    Ok(())
}

fn send_one(
    lab: &Lab,
    topic: &str,
    key: Option<&str>,
    settings: &[(&str, &str)],
) -> anyhow::Result<Result<(i32, i64), Option<Code>>> {
    let (producer, deliveries) = lab.producer(settings);
    let mut record = BaseRecord::<str, str>::to(topic).payload("v");
    record.key = key;
    producer.send(record).map_err(|(e, _)| e)?;
    producer.flush(SOON)?;
    let delivery = deliveries
        .all()
        .pop()
        .ok_or_else(|| anyhow!("neither delivered nor refused"))?;
    Ok(delivery.map_err(|e| e.rdkafka_error_code()))
}

pub(super) fn unknown_topic(lab: &Lab) -> anyhow::Result<()> {
    let quick = [
        ("message.timeout.ms", "5000"),
        ("topic.metadata.propagation.max.ms", "1000"),
    ];
    let sent = send_one(lab, &lab.name("missing"), Some("k"), &quick)?;
    let refused = matches!(
        sent,
        Err(Some(
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition
        ))
    );
    ensure!(refused, "{sent:?}");
    Ok(())
}

pub(super) fn keyless(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("cleanup.policy", "compact")])?;
    let plain = [("enable.idempotence", "false")];
    for codec in ["none", "zstd"] {
        let settings = [plain[0], ("compression.type", codec)];
        let refused = send_one(lab, &topic, None, &settings)?;
        ensure!(
            refused == Err(Some(Code::InvalidRecord)),
            "{codec}: {refused:?}"
        );
    }
    let taken = send_one(lab, &topic, Some("k"), &plain)?;
    ensure!(taken == Ok((0, 0)), "with a key: {taken:?}");
    Ok(())
}

pub(super) fn append_time(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("message.timestamp.type", "LogAppendTime")])?;
    let (producer, deliveries) = lab.producer(&[("compression.type", "lz4")]);
    for _ in 0..3 {
        let record = BaseRecord::to(&topic)
            .key("k")
            .payload("v")
            .timestamp(1_000);
        producer.send(record).map_err(|(e, _)| e)?;
    }
    producer.flush(SOON)?;
    deliveries.expect(3)?;
    let read = lab.read_all(&topic, 1)?;
    let recent = |r: &Read| r.timestamp.is_some_and(|t| t > 1_500_000_000_000);
    ensure!(read.len() == 3 && read.iter().all(recent), "{read:?}");
    Ok(())
}

pub(super) fn concurrent_producers(lab: &Lab) -> anyhow::Result<()> {
    const PRODUCERS: usize = 8;
    const EACH: usize = 2000;
    let topic = lab.topic(4, &[])?;
    thread::scope(|scope| {
        let send = |writer: usize| {
            let (lab, topic) = (lab, &topic);
            move || -> anyhow::Result<()> {
                let (producer, deliveries) = lab.producer(&[("compression.type", "lz4")]);
                for i in 0..EACH {
                    let value = format!("{writer}/{i}");
                    let record = BaseRecord::to(topic).key("k").payload(&value);
                    let partition = (i % 4) as i32;
                    producer
                        .send(record.partition(partition))
                        .map_err(|(e, _)| e)?;
                }
                producer.flush(SOON)?;
                deliveries.expect(EACH)
            }
        };
        let writers: Vec<_> = (0..PRODUCERS).map(|w| scope.spawn(send(w))).collect();
        writers
            .into_iter()
            .try_for_each(|w| w.join().map_err(|_| anyhow!("a panic"))?)
    })?;
    let read = lab.read_all(&topic, 4)?;
    ensure!(read.len() == PRODUCERS * EACH, "{} records", read.len());
    check_gapless(&read)?;
    let mut last: HashMap<(i32, String), usize> = HashMap::new();
    for record in &read {
        let text = record.text();
        let (writer, i) = text
            .split_once('/')
            .context("another value than was sent")?;
        let i: usize = i.parse()?;
        let before = last.insert((record.partition, writer.to_owned()), i);
        ensure!(
            before.is_none_or(|b| b < i),
            "{i} of writer {writer} comes after {before:?}"
        );
    }
    Ok(())
}

/// Every fifth reply to a write is lost with its connection; the client sends again.
pub(super) fn lost_replies(lab: &Lab) -> anyhow::Result<()> {
    const COUNT: usize = 2000;
    let topic = lab.topic(2, &[])?;
    let proxy = Proxy::start(&lab.bootstrap)?;
    proxy.set(Fault::LoseReplies(5));
    let through = Lab::new(proxy.address());
    let (producer, deliveries) = through.producer(&[
        ("linger.ms", "2"),
        ("batch.num.messages", "20"),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "50"),
        ("retry.backoff.ms", "10"),
        ("message.timeout.ms", "60000"),
    ]);
    for i in 0..COUNT {
        let value = format!("v{i}");
        let record = BaseRecord::to(&topic)
            .key("k")
            .payload(&value)
            .partition((i % 2) as i32);
        producer.send(record).map_err(|(e, _)| e)?;
        if i % 20 == 0 {
            thread::sleep(Duration::from_millis(3));
        }
    }
    producer.flush(2 * SOON)?;
    deliveries.expect(COUNT)?;
    ensure!(proxy.faults() > 0, "the proxy lost nothing");
    let read = lab.read_all(&topic, 2)?;
    check_each_once(&read, COUNT)?;
    let number = |r: &Read| r.text()[1..].parse::<usize>().unwrap_or(usize::MAX);
    for partition in 0..2 {
        let numbers: Vec<_> = read
            .iter()
            .filter(|r| r.partition == partition)
            .map(number)
            .collect();
        ensure!(numbers.is_sorted(), "out of order in partition {partition}");
    }
    Ok(())
}

pub(super) fn transactions(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    let (producer, _) = lab.producer(&[("transactional.id", &lab.name("transaction"))]);
    producer.init_transactions(SOON)?;
    for (value, commits) in [("v0", true), ("lost", false), ("v1", true)] {
        producer.begin_transaction()?;
        let record = BaseRecord::to(&topic).key("k").payload(value);
        producer.send(record).map_err(|(e, _)| e)?;
        match commits {
            true => producer.commit_transaction(SOON)?,
            false => producer.abort_transaction(SOON)?,
        }
    }
    check_each_once(&lab.read_all(&topic, 1)?, 2)
}

/// At once and for good: not a timeout, nothing to retry.
pub(super) fn no_transactions(lab: &Lab) -> anyhow::Result<()> {
    let (producer, _) = lab.producer(&[("transactional.id", &lab.name("transaction"))]);
    match producer.init_transactions(2 * SOON) {
        Ok(()) => bail!("they were accepted"),
        Err(rdkafka::error::KafkaError::Transaction(e)) if e.is_fatal() => Ok(()),
        Err(e) => bail!("not a final refusal: {e:?}"),
    }
}
