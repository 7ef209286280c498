//! Administration of topics.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    TopicName,
};
use uuid::Uuid;

use super::{Context, on_disk, text};
use crate::core::Core;
use crate::topics::{ChangeError, settings};

/// Partitions of a topic that does not say how many it wants.
const PARTITIONS_DEFAULT: i32 = 1;

pub(super) fn wire_error(error: &ChangeError) -> ResponseError {
    match error {
        ChangeError::Name => ResponseError::InvalidTopicException,
        ChangeError::Exists(_) => ResponseError::TopicAlreadyExists,
        ChangeError::NotFound => ResponseError::UnknownTopicOrPartition,
        ChangeError::NoPartitions | ChangeError::CannotShrink { .. } => {
            ResponseError::InvalidPartitions
        }
        ChangeError::TooMany { .. } => ResponseError::PolicyViolation,
        ChangeError::Replicas => ResponseError::InvalidReplicationFactor,
        ChangeError::Setting(_) => ResponseError::InvalidConfig,
        ChangeError::Storage(e) => {
            tracing::error!("cannot change a topic: {e}");
            ResponseError::KafkaStorageError
        }
    }
}

pub(super) async fn create(
    context: &Context<'_>,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let dry_run = request.validate_only;
    let create = move |core: &Arc<Core>| {
        let create = |topic| create_one(core, topic, dry_run);
        request.topics.into_iter().map(create).collect()
    };
    CreateTopicsResponse::default().with_topics(on_disk(context, create).await.unwrap_or_default())
}

fn create_one(core: &Core, topic: CreatableTopic, dry_run: bool) -> CreatableTopicResult {
    let partitions = match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => PARTITIONS_DEFAULT,
        (0, wanted) => wanted,
        (assigned, _) => assigned as i32,
    };
    let configs = topic.configs.into_iter();
    let overrides: settings::Overrides = configs
        .filter_map(|c| Some((c.name.to_string(), c.value?.to_string())))
        .collect();
    let created = match topic.replication_factor {
        -1 | 1 => core
            .topics
            .create(&topic.name, partitions, overrides.clone(), dry_run),
        _ => Err(ChangeError::Replicas),
    };
    let result = CreatableTopicResult::default().with_name(topic.name);
    match created {
        Ok(id) => result
            .with_topic_id(id)
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(Some(created_configs(&overrides))),
        Err(e) => result
            .with_error_code(wire_error(&e).code())
            .with_error_message(Some(text(e.to_string())))
            .with_num_partitions(-1)
            .with_replication_factor(-1),
    }
}

fn created_configs(overrides: &settings::Overrides) -> Vec<CreatableTopicConfigs> {
    let config = |(name, value, source): (&str, String, i8)| {
        CreatableTopicConfigs::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_config_source(source)
    };
    super::configs::effective(overrides).map(config).collect()
}

pub(super) async fn delete(
    context: &Context<'_>,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let named = |name: TopicName| DeleteTopicState::default().with_name(Some(name));
    let mut wanted = request.topics;
    wanted.extend(request.topic_names.into_iter().map(named));
    let delete = move |core: &Arc<Core>| {
        wanted
            .into_iter()
            .map(|topic| delete_one(core, topic))
            .collect()
    };
    let responses = on_disk(context, delete).await.unwrap_or_default();
    DeleteTopicsResponse::default().with_responses(responses)
}

fn delete_one(core: &Core, wanted: DeleteTopicState) -> DeletableTopicResult {
    let result = DeletableTopicResult::default().with_topic_id(wanted.topic_id);
    let by_id = || {
        core.topics
            .get_by_id(wanted.topic_id)
            .map(|t| TopicName(text(&t.name)))
    };
    let Some(name) = wanted.name.or_else(by_id) else {
        return result.with_error_code(ResponseError::UnknownTopicId.code());
    };
    let id = core.topics.get(&name).map_or(Uuid::nil(), |t| t.id);
    let deleted = core
        .topics
        .delete(&name)
        .and_then(|()| Ok(core.offsets.drop_topic(&name)?));
    core.note_committed();
    let result = result.with_topic_id(id).with_name(Some(name));
    match deleted {
        Ok(()) => result,
        Err(e) => result.with_error_code(wire_error(&e).code()),
    }
}

pub(super) async fn grow(
    context: &Context<'_>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let grow = move |core: &Arc<Core>| {
        let grow = |topic: CreatePartitionsTopic| {
            let grown = core
                .topics
                .grow(&topic.name, topic.count, request.validate_only);
            let result = CreatePartitionsTopicResult::default().with_name(topic.name);
            match grown {
                Ok(()) => result,
                Err(e) => result
                    .with_error_code(wire_error(&e).code())
                    .with_error_message(Some(text(e.to_string()))),
            }
        };
        request.topics.into_iter().map(grow).collect()
    };
    let results = on_disk(context, grow).await.unwrap_or_default();
    CreatePartitionsResponse::default().with_results(results)
}

pub(super) async fn delete_records(
    context: &Context<'_>,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let delete = move |core: &Arc<Core>| {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|p| {
                let result = delete_before(core, &topic.name, p.partition_index, p.offset);
                let answer =
                    DeleteRecordsPartitionResult::default().with_partition_index(p.partition_index);
                match result {
                    Ok(start) => answer.with_low_watermark(start),
                    Err(e) => answer.with_low_watermark(-1).with_error_code(e.code()),
                }
            });
            let partitions = partitions.collect();
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions)
        });
        topics.collect()
    };
    DeleteRecordsResponse::default().with_topics(on_disk(context, delete).await.unwrap_or_default())
}

fn delete_before(core: &Core, topic: &str, index: i32, offset: i64) -> Result<i64, ResponseError> {
    let topic = core
        .topics
        .get(topic)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = topic
        .partition(index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let mut log = partition.log.lock();
    if log.compacts() && !log.deletes() {
        return Err(ResponseError::PolicyViolation);
    }
    if offset > log.visible_end() || offset < -1 {
        return Err(ResponseError::OffsetOutOfRange);
    }
    log.delete_before(offset).map_err(|e| {
        tracing::error!(folder = %partition.folder().display(), "cannot delete records: {e}");
        ResponseError::KafkaStorageError
    })
}
