//! Administration: topics, their configuration, their records, groups.

use std::collections::HashMap;

use anyhow::{anyhow, ensure};
use rdkafka::admin::{
    AlterConfig, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode::{self as Code, InvalidConfig};
use rdkafka::{Offset, TopicPartitionList};

use super::lab::{Lab, SOON, Settings, check_each_once, options, until, wait};

pub(super) fn metadata(lab: &Lab) -> anyhow::Result<()> {
    let client = lab.consumer("observer", &[]);
    let metadata = client.fetch_metadata(None, SOON)?;
    ensure!(
        metadata.brokers().len() == 1,
        "{} brokers",
        metadata.brokers().len()
    );
    let broker = &metadata.brokers()[0];
    let address = format!("{}:{}", broker.host(), broker.port());
    ensure!(address == lab.bootstrap, "it calls itself {address}");
    let cluster = client.client().fetch_cluster_id(SOON);
    ensure!(cluster.is_some_and(|id| !id.is_empty()), "no cluster id");
    Ok(())
}

/// Makes all of these topics, which keep everything, with one request.
pub(super) fn create_all(lab: &Lab, names: &[String], partitions: i32) -> anyhow::Result<()> {
    let topic = |name| {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        topic.set("retention.ms", "-1")
    };
    let topics: Vec<_> = names.iter().map(|name| topic(name.as_str())).collect();
    let created = wait(lab.admin().create_topics(&topics, &options()))?;
    ensure!(created.iter().all(Result::is_ok), "{created:?}");
    names
        .iter()
        .try_for_each(|name| lab.await_partitions(name, partitions))
}

pub(super) fn create(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(
        6,
        &[("cleanup.policy", "compact"), ("retention.ms", "3600000")],
    )?;
    let again = lab.create(&topic, 6, &[]);
    ensure!(
        again == Err(Code::TopicAlreadyExists),
        "the second time: {again:?}"
    );
    Ok(())
}

/// Name, partitions, replicas, settings, and why they are refused.
type Refused<'a> = (&'a str, i32, i32, Settings<'a>, Code);

pub(super) fn create_refused(lab: &Lab) -> anyhow::Result<()> {
    let name = lab.name("refused");
    let long = "x".repeat(250);
    let wrong: [Refused<'_>; 9] = [
        ("with space", 1, 1, &[], Code::InvalidTopic),
        (".", 1, 1, &[], Code::InvalidTopic),
        (&long, 1, 1, &[], Code::InvalidTopic),
        (&name, 0, 1, &[], Code::InvalidPartitions),
        (&name, 1, 2, &[], Code::InvalidReplicationFactor),
        (&name, 1, 1, &[("no.such.setting", "1")], InvalidConfig),
        (&name, 1, 1, &[("retention.ms", "soon")], InvalidConfig),
        (&name, 1, 1, &[("cleanup.policy", "shrink")], InvalidConfig),
        (&name, 1, 1, &[("segment.bytes", "1048575")], InvalidConfig),
    ];
    for (name, partitions, replicas, settings, expected) in wrong {
        let made = lab.create_replicated(name, partitions, replicas, settings);
        ensure!(
            made == Err(expected),
            "{name} {partitions} {replicas} {settings:?}: {made:?}"
        );
    }
    Ok(())
}

fn described(lab: &Lab, topic: &str) -> anyhow::Result<ConfigResource> {
    let topic = ResourceSpecifier::Topic(topic);
    let mut described = wait(lab.admin().describe_configs([&topic], &options()))?;
    described.remove(0).map_err(|e| anyhow!("describe: {e}"))
}

fn setting(lab: &Lab, topic: &str, name: &str) -> anyhow::Result<Option<String>> {
    Ok(described(lab, topic)?
        .get(name)
        .and_then(|entry| entry.value.clone()))
}

pub(super) fn describe_configs(lab: &Lab) -> anyhow::Result<()> {
    let own = [
        ("cleanup.policy", "compact"),
        ("retention.ms", "1234567"),
        ("retention.bytes", "7654321"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "60000"),
        ("max.message.bytes", "50000"),
        ("delete.retention.ms", "7000"),
        ("min.cleanable.dirty.ratio", "0.25"),
    ];
    let topic = lab.topic(1, &own)?;
    let described = described(lab, &topic)?;
    for (name, value) in own {
        let found = described
            .get(name)
            .ok_or_else(|| anyhow!("{name} is missing"))?;
        ensure!(
            found.value.as_deref() == Some(value),
            "{name}: {:?}",
            found.value
        );
        ensure!(!found.is_default, "{name} is called a default");
    }
    let other = described
        .get("message.timestamp.type")
        .ok_or_else(|| anyhow!("no default"))?;
    ensure!(
        other.value.as_deref() == Some("CreateTime") && other.is_default,
        "{other:?}"
    );
    Ok(())
}

fn alter(lab: &Lab, topic: &str, settings: &[(&str, &str)]) -> Result<(), Code> {
    let config = AlterConfig {
        specifier: ResourceSpecifier::Topic(topic),
        entries: settings.iter().copied().collect::<HashMap<_, _>>(),
    };
    let altered = wait(lab.admin().alter_configs([&config], &options()));
    match altered.map(|mut results| results.remove(0)) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((_, code))) => Err(code),
        Err(e) => Err(e.rdkafka_error_code().unwrap_or(Code::Unknown)),
    }
}

pub(super) fn alter_configs(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("segment.ms", "60000")])?;
    alter(lab, &topic, &[("retention.ms", "60000")]).map_err(|e| anyhow!("alter: {e:?}"))?;
    until("the new value", || {
        Ok(setting(lab, &topic, "retention.ms")?.as_deref() == Some("60000"))
    })?;
    // This request replaces all: what it does not name goes back to its default.
    let other = setting(lab, &topic, "segment.ms")?;
    ensure!(
        other.as_deref() != Some("60000"),
        "segment.ms is still {other:?}"
    );
    Ok(())
}

/// The client library does not tell that an alteration was refused, so what stands is looked at.
pub(super) fn alter_refused(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "60000")])?;
    for wrong in [("retention.ms", "-5"), ("no.such.setting", "1")] {
        let _ = alter(lab, &topic, &[("segment.ms", "60000"), wrong]);
        let kept = setting(lab, &topic, "retention.ms")?;
        ensure!(
            kept.as_deref() == Some("60000"),
            "{wrong:?} made it {kept:?}"
        );
        let other = setting(lab, &topic, "segment.ms")?;
        ensure!(
            other.as_deref() != Some("60000"),
            "half of {wrong:?} was taken"
        );
    }
    Ok(())
}

pub(super) fn grow(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(2, &[])?;
    lab.send(&topic, 2, 20, &[])?;
    let grow = |count| {
        let grown = wait(
            lab.admin()
                .create_partitions([&NewPartitions::new(&topic, count)], &options()),
        );
        grown.map(|mut results| results.remove(0).map_err(|(_, code)| code))
    };
    let grown = grow(5)?;
    ensure!(grown.is_ok(), "to 5: {grown:?}");
    lab.await_partitions(&topic, 5)?;
    for fewer in [5, 3] {
        let refused = grow(fewer)?;
        ensure!(
            refused == Err(Code::InvalidPartitions),
            "to {fewer}: {refused:?}"
        );
    }
    check_each_once(&lab.read_all(&topic, 5)?, 20)
}

fn remove(lab: &Lab, topic: &str) -> anyhow::Result<Result<String, (String, Code)>> {
    Ok(wait(lab.admin().delete_topics(&[topic], &options()))?.remove(0))
}

pub(super) fn delete(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(2, &[])?;
    lab.send(&topic, 2, 100, &[])?;
    let removed = remove(lab, &topic)?;
    ensure!(removed.is_ok(), "{removed:?}");
    until("it is gone", || {
        Ok(matches!(
            remove(lab, &topic)?,
            Err((_, Code::UnknownTopicOrPartition))
        ))
    })?;
    until("it is made again", || {
        Ok(lab.create(&topic, 2, &[]).is_ok())
    })?;
    lab.await_partitions(&topic, 2)?;
    let read = lab.read_all(&topic, 2)?;
    ensure!(read.is_empty(), "{} records of the old one", read.len());
    lab.send(&topic, 2, 10, &[])?;
    check_each_once(&lab.read_all(&topic, 2)?, 10)
}

pub(super) fn delete_before(
    lab: &Lab,
    topic: &str,
    offset: Offset,
) -> anyhow::Result<Result<i64, String>> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, offset)?;
    let deleted = wait(lab.admin().delete_records(&list, &options()))?;
    let element = &deleted.elements()[0];
    Ok(match (element.error(), element.offset()) {
        (Ok(()), Offset::Offset(low)) => Ok(low),
        other => Err(format!("{other:?}")),
    })
}

pub(super) fn delete_records(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    lab.send(&topic, 1, 100, &[("batch.num.messages", "10")])?;
    let low = delete_before(lab, &topic, Offset::Offset(45))?;
    ensure!(low == Ok(45), "{low:?}");
    let watermarks = lab.watermarks(&topic, 0)?;
    ensure!(watermarks == (45, 100), "{watermarks:?}");
    let read = lab.read_all(&topic, 1)?;
    ensure!(
        read.first().is_some_and(|r| r.offset == 45),
        "first: {:?}",
        read.first()
    );
    ensure!(read.len() == 55, "{} records", read.len());
    let beyond = delete_before(lab, &topic, Offset::Offset(101))?;
    ensure!(beyond.is_err(), "beyond the end: {beyond:?}");
    let low = delete_before(lab, &topic, Offset::End)?;
    ensure!(low == Ok(100), "all of it: {low:?}");
    Ok(())
}

pub(super) fn delete_records_refused(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("cleanup.policy", "compact")])?;
    lab.send(&topic, 1, 10, &[])?;
    let deleted = delete_before(lab, &topic, Offset::Offset(5))?;
    ensure!(deleted.is_err(), "{deleted:?}");
    Ok(())
}

pub(super) fn delete_group(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(1, &[])?, lab.name("group"));
    lab.send(&topic, 1, 10, &[])?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(5))?;
    lab.consumer(&group, &[]).commit(&list, CommitMode::Sync)?;
    let deleted = wait(lab.admin().delete_groups(&[&group], &options()))?.remove(0);
    ensure!(deleted.is_ok(), "{deleted:?}");
    let committed = lab.consumer(&group, &[]).committed_offsets(list, SOON)?;
    let offset = committed.elements()[0].offset();
    ensure!(offset == Offset::Invalid, "still committed: {offset:?}");
    let again = wait(lab.admin().delete_groups(&[&group], &options()))?.remove(0);
    ensure!(again.is_err(), "deleted twice");
    Ok(())
}

pub(super) fn compression(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("compression.type", "lz4")])?;
    lab.send(&topic, 1, 100, &[])?;
    check_each_once(&lab.read_all(&topic, 1)?, 100)
}

pub(super) fn no_compression(lab: &Lab) -> anyhow::Result<()> {
    let made = lab.create(&lab.name("refused"), 1, &[("compression.type", "lz4")]);
    ensure!(made == Err(InvalidConfig), "{made:?}");
    Ok(())
}
