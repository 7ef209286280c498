//! Epochs of a partition's leader, and offsets by time, as the protocol tells them.

use anyhow::{Context, ensure};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use kafka_protocol::messages::{
    BrokerId, GroupId, ListOffsetsRequest, OffsetCommitRequest, OffsetForLeaderEpochRequest,
};
use kafka_protocol::records::Compression;
use rdkafka::consumer::Consumer;

use super::lab::{Lab, until};
use super::member::await_coordinator;
use super::wire::{ANYBODY, Wire, batch, check_code, encode, fetch_request, text, topic_name};

const CLIENT: BrokerId = BrokerId(-1);
/// No epoch that any of these short-lived leaders has reached.
const FUTURE: i32 = 1000;
const UNKNOWN: i32 = -1;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST_RECORD: i64 = -3;
const NEWEST_RECORD_SINCE: i16 = 7;

/// The end of `epoch`, asked by a client that believes in leader epoch `current`.
fn epoch_end(
    wire: &mut Wire,
    version: i16,
    topic: &str,
    (current, epoch): (i32, i32),
) -> anyhow::Result<EpochEndOffset> {
    let partition = OffsetForLeaderPartition::default()
        .with_current_leader_epoch(current)
        .with_leader_epoch(epoch);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default()
        .with_replica_id(CLIENT)
        .with_topics(vec![topic]);
    let mut answer = wire.ask(version, &request)?;
    let partitions = answer.topics.pop().map(|t| t.partitions);
    partitions.and_then(|mut p| p.pop()).context("no partition")
}

pub(super) fn ends(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let mut wire = Wire::connect(lab)?;
    for version in 2..=4 {
        for (epoch, expected_epoch, is_end) in [(0, 0, true), (FUTURE, -1, false), (-1, -1, false)]
        {
            let end = wire.append(&topic, batch(ANYBODY, &["a", "b"], 1)?)? + 2;
            let found = epoch_end(&mut wire, version, &topic, (UNKNOWN, epoch))?;
            check_code(found.error_code, 0)?;
            let expected = (expected_epoch, if is_end { end } else { -1 });
            ensure!(
                (found.leader_epoch, found.end_offset) == expected,
                "version {version}, epoch {epoch}: {found:?}, not {expected:?}"
            );
        }
        let missing = epoch_end(&mut wire, version, "missing", (UNKNOWN, 0))?;
        check_code(
            missing.error_code,
            ResponseError::UnknownTopicOrPartition.code(),
        )?;
    }
    Ok(())
}

pub(super) fn future(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let mut wire = Wire::connect(lab)?;
    wire.append(&topic, batch(ANYBODY, &["a"], 1)?)?;
    let unknown = ResponseError::UnknownLeaderEpoch.code();
    let mut fetch = fetch_request(&topic, 0);
    for (epoch, code) in [(0, 0), (UNKNOWN, 0), (FUTURE, unknown)] {
        fetch.topics[0].partitions[0].current_leader_epoch = epoch;
        check_code(wire.fetch(&fetch)?.error_code, code).context("fetch")?;
        let listed = offset(&mut wire, 7, &topic, (epoch, LATEST))?;
        check_code(listed.error_code, code).context("list offsets")?;
        let end = epoch_end(&mut wire, 4, &topic, (epoch, 0))?;
        check_code(end.error_code, code).context("offset for leader epoch")?;
    }
    Ok(())
}

/// A group resumes at an offset that its log does not reach, although the epoch is still the same: the client asks
/// where that epoch ends, and goes on from there, or by its policy from the start.
pub(super) fn truncated(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(1, &[])?, lab.name("group"));
    lab.send(&topic, 1, 20, &[])?;
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(500)
        .with_committed_leader_epoch(0)
        .with_committed_metadata(Some(text("")));
    let topics = OffsetCommitRequestTopic::default()
        .with_name(topic_name(&topic))
        .with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(&group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topics]);
    await_coordinator(lab, &group)?;
    let mut committed = Wire::connect(lab)?.ask(8, &commit)?;
    check_code(
        committed.topics.remove(0).partitions.remove(0).error_code,
        0,
    )?;
    let consumer = lab.consumer(&group, &[]);
    consumer.subscribe(&[&topic])?;
    let found = lab.next(&consumer)?.offset;
    ensure!(found == 0, "it went on at {found}, not at the earliest");
    Ok(())
}

/// What ListOffsets says of a time, or of one of the times with a meaning of their own.
fn offset(
    wire: &mut Wire,
    version: i16,
    topic: &str,
    (current, time): (i32, i64),
) -> anyhow::Result<ListOffsetsPartitionResponse> {
    let partition = ListOffsetsPartition::default()
        .with_current_leader_epoch(current)
        .with_timestamp(time);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(CLIENT)
        .with_topics(vec![topic]);
    let mut answer = wire.ask(version, &request)?;
    let partitions = answer.topics.pop().map(|t| t.partitions);
    partitions.and_then(|mut p| p.pop()).context("no partition")
}

/// Times that go up and down, so that the newest record is neither the first nor the last.
const TIMES: [i64; 6] = [100, 500, 300, 900, 200, 700];

pub(super) fn times(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let mut wire = Wire::connect(lab)?;
    for (version, time) in [(7, 0), (7, NEWEST_RECORD)] {
        let found = offset(&mut wire, version, &topic, (UNKNOWN, time))?;
        ensure!(
            (found.offset, found.timestamp) == (-1, -1),
            "in an empty log: {found:?}"
        );
    }
    for pair in TIMES.chunks(2) {
        let values: Vec<_> = pair.iter().map(|time| ("v", *time)).collect();
        wire.append(&topic, encode(ANYBODY, &values, Compression::None)?)?;
    }
    for version in 1..=7 {
        for (time, expected) in [
            (EARLIEST, (0, -1)),
            (LATEST, (6, -1)),
            (0, (0, 100)),
            (101, (1, 500)),
            (500, (1, 500)),
            (501, (3, 900)),
            (901, (-1, -1)),
        ] {
            let found = offset(&mut wire, version, &topic, (UNKNOWN, time))?;
            check_code(found.error_code, 0)?;
            ensure!(
                (found.offset, found.timestamp) == expected,
                "version {version}, time {time}: {found:?}, not {expected:?}"
            );
        }
        let newest = offset(&mut wire, version, &topic, (UNKNOWN, NEWEST_RECORD))?;
        if version < NEWEST_RECORD_SINCE {
            check_code(newest.error_code, ResponseError::UnsupportedVersion.code())?;
        } else {
            ensure!((newest.offset, newest.timestamp) == (3, 900), "{newest:?}");
        }
    }
    until("an unknown topic is told as one", || {
        let found = offset(&mut wire, 7, "missing", (UNKNOWN, LATEST))?;
        Ok(found.error_code == ResponseError::UnknownTopicOrPartition.code())
    })
}
