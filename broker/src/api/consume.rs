//! Where to read from: offsets by time, and the end of a leader's epoch.

use std::io;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::{Context, on_disk};
use crate::core::Core;
use crate::log::read::{self, Stamp};
use crate::topics::Partition;

/// Timestamps with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST_RECORD: i64 = -3;

/// The first version of ListOffsets that tells the leader's epoch.
const TELLS_EPOCH_FROM: i16 = 4;
/// The first version of ListOffsets that may ask for the newest record.
const NEWEST_RECORD_FROM: i16 = 7;
/// There is one leader, and it was never another's turn.
const EPOCH: i32 = 0;

/// A client that has heard of a later leader knows more than there is. -1 has heard of none.
///
/// # Errors
/// `UnknownLeaderEpoch`, for such a client.
pub(super) fn check_epoch(believed: i32) -> Result<(), ResponseError> {
    if believed > EPOCH {
        Err(ResponseError::UnknownLeaderEpoch)
    } else {
        Ok(())
    }
}

pub(super) async fn list_offsets(
    context: &Context<'_>,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let version = context.version;
    let epoch = if version >= TELLS_EPOCH_FROM {
        EPOCH
    } else {
        -1
    };
    // A lookup by time reads the log, and perhaps much of it.
    let answer = on_disk(context, move |core| {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|p| {
                let found = core
                    .topics
                    .partition(&topic.name, p.partition_index)
                    .ok_or(ResponseError::UnknownTopicOrPartition)
                    .and_then(|partition| {
                        check_epoch(p.current_leader_epoch)?;
                        find(&partition, p.timestamp, version)
                    });
                offset(p.partition_index, found, epoch)
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions)
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    });
    answer.await.unwrap_or_default()
}

fn find(
    partition: &Partition,
    timestamp: i64,
    version: i16,
) -> Result<Option<Stamp>, ResponseError> {
    let at = |offset| {
        Ok(Some(Stamp {
            offset,
            timestamp: -1,
        }))
    };
    let read_error = |e: io::Error| {
        tracing::error!(folder = %partition.folder().display(), "cannot read: {e}");
        ResponseError::KafkaStorageError
    };
    match timestamp {
        EARLIEST => at(partition.log.lock().start()),
        LATEST => at(partition.log.lock().visible_end()),
        NEWEST_RECORD if version >= NEWEST_RECORD_FROM => {
            read::newest(&partition.log).map_err(read_error)
        }
        time if time >= 0 => read::first_since(&partition.log, time).map_err(read_error),
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

fn offset(
    index: i32,
    found: Result<Option<Stamp>, ResponseError>,
    epoch: i32,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_timestamp(-1)
        .with_offset(-1);
    match found {
        Ok(None) => response,
        Ok(Some(stamp)) => response
            .with_offset(stamp.offset)
            .with_timestamp(stamp.timestamp)
            .with_leader_epoch(epoch),
        Err(e) => response.with_error_code(e.code()),
    }
}

/// There has only ever been one epoch, and it reaches to the end of the log.
pub(super) fn offset_for_leader_epoch(
    core: &Arc<Core>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let answer = EpochEndOffset::default()
                .with_partition(p.partition)
                .with_end_offset(-1);
            let Some(partition) = core.topics.partition(&topic.topic, p.partition) else {
                let unknown = ResponseError::UnknownTopicOrPartition;
                return answer.with_error_code(unknown.code()).with_leader_epoch(-1);
            };
            if let Err(e) = check_epoch(p.current_leader_epoch) {
                return answer.with_error_code(e.code()).with_leader_epoch(-1);
            }
            match p.leader_epoch {
                EPOCH => {
                    let end = partition.log.lock().visible_end();
                    answer.with_leader_epoch(EPOCH).with_end_offset(end)
                }
                _ => answer.with_leader_epoch(-1),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
