//! Committed offsets: taking them, telling them, forgetting them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use super::{Context, code, on_disk, text};
use crate::config::Fsync;
use crate::core::Core;
use crate::groups::{CONSUMER, Caller, Subscribed};
use crate::offsets::{Committed, Place};

/// Kafka's default bound on what a consumer may add to an offset.
const METADATA_BYTES_MAX: usize = 4096;

/// Takes the offsets that can be taken, together; answers once they are written, and with
/// `Fsync::Always` once they are on the disk.
pub(super) async fn commit(
    context: &Context<'_>,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let core = context.core;
    let session = may_commit(core, &request);
    let allowed = session.map(drop);
    let mut taken: Vec<(Place, Committed)> = vec![];
    let mut topics = vec![];
    for topic in request.topics {
        let partitions = topic.partitions.into_iter().map(|p| {
            let index = p.partition_index;
            let result = allowed.and_then(|()| judge(core, &topic.name, p));
            let code = code(&result);
            taken.extend(result);
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        topics.push(
            OffsetCommitResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    let session = session.unwrap_or_default();
    if !taken.is_empty() && !write(context, request.group_id.to_string(), taken, session).await {
        let failed = ResponseError::KafkaStorageError.code();
        for p in topics
            .iter_mut()
            .flat_map(|t| &mut t.partitions)
            .filter(|p| p.error_code == 0)
        {
            p.error_code = failed;
        }
    }
    OffsetCommitResponse::default().with_topics(topics)
}

fn may_commit(core: &Core, request: &OffsetCommitRequest) -> Result<Duration, ResponseError> {
    let group = request.group_id.as_str();
    let caller = Caller {
        member: request.member_id.to_string(),
        instance: request.group_instance_id.as_ref().map(ToString::to_string),
        generation: request.generation_id_or_member_epoch,
    };
    let session = core.groups.may_commit(group, &caller)?;
    let is_new = !core.offsets.has_group(group);
    if is_new && core.offsets.group_count() >= core.config.groups_max {
        return Err(ResponseError::GroupMaxSizeReached);
    }
    Ok(session)
}

fn judge(
    core: &Core,
    topic: &TopicName,
    commit: OffsetCommitRequestPartition,
) -> Result<(Place, Committed), ResponseError> {
    let index = commit.partition_index;
    core.topics
        .partition(topic, index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let metadata = commit.committed_metadata.unwrap_or_default();
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let committed = Committed {
        offset: commit.committed_offset,
        leader_epoch: commit.committed_leader_epoch,
        metadata: metadata.to_string(),
    };
    Ok(((topic.to_string(), index), committed))
}

async fn write(
    context: &Context<'_>,
    group: String,
    taken: Vec<(Place, Committed)>,
    session: Duration,
) -> bool {
    let core = context.core;
    let written = if core.config.fsync == Fsync::Always {
        let write = move |core: &Arc<Core>| {
            core.offsets.commit(&group, taken, session)?;
            core.offsets.sync()
        };
        on_disk(context, write)
            .await
            .unwrap_or_else(|e| Err(std::io::Error::other(e)))
    } else {
        let written = core.offsets.commit(&group, taken, session);
        core.note_committed();
        written
    };
    if let Err(e) = &written {
        tracing::error!(file = %core.offsets.path().display(), "cannot keep offsets: {e}");
    }
    written.is_ok()
}

pub(super) fn fetch(context: &Context<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let offsets = &context.core.offsets;
    if context.version < 8 {
        let wanted = request.topics.map(|topics| {
            topics
                .into_iter()
                .map(|t| (t.name, t.partition_indexes))
                .collect()
        });
        let found = look_up(offsets.all(&request.group_id), wanted);
        let topics = found.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, found)| {
                let (offset, epoch, metadata) = parts(found);
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(epoch)
                    .with_metadata(Some(text(metadata)))
            });
            OffsetFetchResponseTopic::default()
                .with_name(name)
                .with_partitions(partitions.collect())
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.into_iter().map(|group| {
        let wanted = group.topics.map(|topics| {
            topics
                .into_iter()
                .map(|t| (t.name, t.partition_indexes))
                .collect()
        });
        let found = look_up(offsets.all(&group.group_id), wanted);
        let topics = found.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, found)| {
                let (offset, epoch, metadata) = parts(found);
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(index)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(epoch)
                    .with_metadata(Some(text(metadata)))
            });
            OffsetFetchResponseTopics::default()
                .with_name(name)
                .with_partitions(partitions.collect())
        });
        let topics = topics.collect();
        OffsetFetchResponseGroup::default()
            .with_group_id(group.group_id)
            .with_topics(topics)
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

type Found = Vec<(TopicName, Vec<(i32, Option<Committed>)>)>;

/// The offsets of the partitions that are asked for; of all, if none are named.
fn look_up(
    mut all: BTreeMap<Place, Committed>,
    wanted: Option<Vec<(TopicName, Vec<i32>)>>,
) -> Found {
    if let Some(wanted) = wanted {
        let find = |(name, indexes): (TopicName, Vec<i32>)| {
            let find = |i: i32| (i, all.remove(&(name.to_string(), i)));
            let found = indexes.into_iter().map(find).collect();
            (name, found)
        };
        return wanted.into_iter().map(find).collect();
    }
    let mut by_topic: BTreeMap<String, Vec<(i32, Option<Committed>)>> = BTreeMap::new();
    for ((topic, index), committed) in all {
        by_topic
            .entry(topic)
            .or_default()
            .push((index, Some(committed)));
    }
    by_topic
        .into_iter()
        .map(|(topic, found)| (TopicName(text(topic)), found))
        .collect()
}

/// -1 is "nothing committed".
fn parts(found: Option<Committed>) -> (i64, i32, String) {
    found.map_or((-1, -1, String::new()), |c| {
        (c.offset, c.leader_epoch, c.metadata)
    })
}

/// Forgets offsets: all of a group that has no members, else those of topics that none of them reads.
pub(super) fn delete(core: &Arc<Core>, request: &OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = request.group_id.as_str();
    let read = match may_forget(core, group) {
        Ok(read) => read,
        Err(e) => return OffsetDeleteResponse::default().with_error_code(e.code()),
    };
    let (kept, forgotten): (Vec<_>, Vec<_>) =
        request.topics.iter().partition(|t| read.has(&t.name));
    let places = forgotten.iter().flat_map(|topic| {
        let place = |p: &OffsetDeleteRequestPartition| (topic.name.to_string(), p.partition_index);
        topic.partitions.iter().map(place)
    });
    let written = core.offsets.forget(group, places.collect());
    core.note_committed();
    let forgotten_code = match written {
        Ok(()) => 0,
        Err(e) => {
            tracing::error!(file = %core.offsets.path().display(), "cannot forget offsets: {e}");
            ResponseError::KafkaStorageError.code()
        }
    };
    let kept_code = ResponseError::GroupSubscribedToTopic.code();
    let kept = kept.into_iter().map(|t| deleted(t, kept_code));
    let forgotten = forgotten.into_iter().map(|t| deleted(t, forgotten_code));
    OffsetDeleteResponse::default().with_topics(kept.chain(forgotten).collect())
}

fn deleted(topic: &OffsetDeleteRequestTopic, code: i16) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.iter().map(|p| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(p.partition_index)
            .with_error_code(code)
    });
    OffsetDeleteResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}

/// What the members of a group read, whose offsets are theirs to keep.
fn may_forget(core: &Core, group: &str) -> Result<Subscribed, ResponseError> {
    if group.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    match core.groups.overview(group) {
        Some(found) if found.members.is_empty() => {}
        Some(found) if found.protocol_type == CONSUMER => {
            let members = found.members.iter().map(|m| &m.member.metadata[..]);
            return Ok(Subscribed::by(members));
        }
        Some(_) => return Err(ResponseError::NonEmptyGroup),
        None => {}
    }
    match core.offsets.has_group(group) {
        true => Ok(Subscribed::by(std::iter::empty())),
        false => Err(ResponseError::GroupIdNotFound),
    }
}
