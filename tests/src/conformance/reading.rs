//! Positions: where to read from, what was read, and waiting for more.

use anyhow::ensure;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::lab::{Lab, SOON};

/// Well before today: Kafka takes no records of the future.
const START_MS: i64 = 1_600_000_000_000;

/// 200 records a second apart in small batches, and a consumer that is assigned their partition.
fn prepared(lab: &Lab, settings: &[(&str, &str)]) -> anyhow::Result<(String, BaseConsumer)> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let (producer, deliveries) = lab.producer(&[("batch.num.messages", "7")]);
    for i in 0..200 {
        let value = format!("v{i}");
        let record = BaseRecord::to(&topic).key("k").payload(&value);
        producer
            .send(record.timestamp(START_MS + i * 1000))
            .map_err(|(e, _)| e)?;
    }
    producer.flush(SOON)?;
    deliveries.expect(200)?;
    let consumer = lab.consumer(&lab.name("group"), settings);
    consumer.assign(&at(&topic, Offset::Beginning)?)?;
    let first = lab.next(&consumer)?.offset;
    ensure!(first == 0, "the first record has offset {first}");
    Ok((topic, consumer))
}

pub(super) fn at(topic: &str, offset: Offset) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, offset)?;
    Ok(list)
}

pub(super) fn seek(lab: &Lab) -> anyhow::Result<()> {
    let (topic, consumer) = prepared(lab, &[])?;
    ensure!(
        lab.watermarks(&topic, 0)? == (0, 200),
        "{:?}",
        lab.watermarks(&topic, 0)?
    );
    for target in [137, 3, 199, 0, 6, 7] {
        consumer.seek(&topic, 0, Offset::Offset(target), SOON)?;
        let found = lab.next(&consumer)?.offset;
        ensure!(found == target, "sought {target}, found {found}");
    }
    consumer.seek(&topic, 0, Offset::OffsetTail(5), SOON)?;
    let found = lab.next(&consumer)?.offset;
    ensure!(found == 195, "sought the fifth from the end, found {found}");
    Ok(())
}

pub(super) fn out_of_range(lab: &Lab) -> anyhow::Result<()> {
    let (topic, consumer) = prepared(lab, &[])?;
    consumer.seek(&topic, 0, Offset::Offset(5000), SOON)?;
    let found = lab.next(&consumer)?.offset;
    ensure!(found == 0, "it was reset to {found}, not to the earliest");
    Ok(())
}

pub(super) fn times(lab: &Lab) -> anyhow::Result<()> {
    let (topic, consumer) = prepared(lab, &[])?;
    let wanted = [
        (0, Offset::Offset(0)),
        (START_MS, Offset::Offset(0)),
        (START_MS + 99_700, Offset::Offset(100)),
        (START_MS + 100_000, Offset::Offset(100)),
        (START_MS + 199_000, Offset::Offset(199)),
        (START_MS + 199_001, Offset::End),
    ];
    for (time, expected) in wanted {
        let found = consumer.offsets_for_times(at(&topic, Offset::Offset(time))?, SOON)?;
        let found = found.elements()[0].offset();
        ensure!(found == expected, "{time}: {found:?}, not {expected:?}");
    }
    Ok(())
}

pub(super) fn commit(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(1, &[])?, lab.name("group"));
    lab.send(&topic, 1, 100, &[])?;
    let first = lab.consumer(&group, &[]);
    first.subscribe(&[&topic])?;
    for _ in 0..40 {
        lab.next(&first)?;
    }
    first.commit(&at(&topic, Offset::Offset(40))?, CommitMode::Sync)?;
    let committed = first.committed_offsets(at(&topic, Offset::Invalid)?, SOON)?;
    let offset = committed.elements()[0].offset();
    ensure!(offset == Offset::Offset(40), "committed: {offset:?}");
    drop(first);
    let second = lab.consumer(&group, &[]);
    second.subscribe(&[&topic])?;
    let resumed = lab.next(&second)?.offset;
    ensure!(resumed == 40, "resumed at {resumed}");
    Ok(())
}

pub(super) fn commit_metadata(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(1, &[])?, lab.name("group"));
    lab.send(&topic, 1, 10, &[])?;
    let consumer = lab.consumer(&group, &[]);
    let mut list = at(&topic, Offset::Offset(7))?;
    for mut element in list.elements() {
        element.set_metadata("a note");
    }
    consumer.commit(&list, CommitMode::Sync)?;
    list = consumer.committed_offsets(at(&topic, Offset::Invalid)?, SOON)?;
    let element = &list.elements()[0];
    ensure!(element.metadata() == "a note", "{:?}", element.metadata());
    ensure!(
        element.offset() == Offset::Offset(7),
        "{:?}",
        element.offset()
    );
    Ok(())
}

/// The reader waits for a byte or a minute; without being woken the case would time out.
pub(super) fn woken(lab: &Lab) -> anyhow::Result<()> {
    let patient = [
        ("fetch.wait.max.ms", "60000"),
        ("socket.timeout.ms", "70000"),
    ];
    let topic = lab.topic(1, &[])?;
    let consumer = lab.consumer(&lab.name("group"), &patient);
    consumer.assign(&at(&topic, Offset::Beginning)?)?;
    let (producer, _) = lab.producer(&[]);
    for i in 0..3 {
        ensure!(
            consumer
                .poll(std::time::Duration::from_millis(500))
                .is_none(),
            "a record too many"
        );
        let value = format!("v{i}");
        let record = BaseRecord::<str, str>::to(&topic).payload(&value);
        producer.send(record).map_err(|(e, _)| e)?;
        producer.flush(SOON)?;
        let read = lab.next(&consumer)?;
        ensure!(read.text() == value, "{read:?}");
    }
    Ok(())
}
