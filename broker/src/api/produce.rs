//! Writing: produce requests and producer ids.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};

use super::{Context, on_disk, text};
use crate::clock;
use crate::config::Fsync;
use crate::core::Core;
use crate::log::{AppendError, Appended};
use crate::topics::Partition;

/// Stores every partition's batch, or says why not, each for itself. With `Fsync::Always` the
/// answer waits until all that was stored is on the disk.
pub(super) async fn produce(core: &Arc<Core>, request: ProduceRequest) -> ProduceResponse {
    let mut written = vec![];
    let mut refused = None;
    if !matches!(request.acks, -1..=1) {
        refused = Some(ResponseError::InvalidRequiredAcks);
    } else if request.transactional_id.is_some() {
        refused = Some(ResponseError::TransactionalIdAuthorizationFailed);
    }
    let mut responses = vec![];
    for topic in request.topic_data {
        let partitions = topic.partition_data.into_iter().map(|data| match refused {
            Some(error) => failed(data.index, error),
            None => store(core, &topic.name, data, &mut written),
        });
        let partitions = partitions.collect();
        responses.push(
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_partition_responses(partitions),
        );
    }
    if core.config.fsync == Fsync::Always && !sync(written).await {
        for partition in responses
            .iter_mut()
            .flat_map(|t| &mut t.partition_responses)
        {
            partition.error_code = ResponseError::KafkaStorageError.code();
        }
    }
    ProduceResponse::default().with_responses(responses)
}

fn store(
    core: &Core,
    topic: &str,
    data: PartitionProduceData,
    written: &mut Vec<Arc<Partition>>,
) -> PartitionProduceResponse {
    let Some(partition) = core.topics.partition(topic, data.index) else {
        return failed(data.index, ResponseError::UnknownTopicOrPartition);
    };
    let batch = data.records.unwrap_or_default();
    let (result, start) = {
        let mut log = partition.log.lock();
        (log.append(&batch, clock::wall_ms()), log.start())
    };
    match result {
        Ok(Appended {
            base_offset,
            append_time_ms,
        }) => {
            if core.config.fsync == Fsync::Always {
                written.push(partition);
            } else {
                partition.grown.notify_waiters();
                core.note_written(&partition);
            }
            PartitionProduceResponse::default()
                .with_index(data.index)
                .with_base_offset(base_offset)
                .with_log_append_time_ms(append_time_ms)
                .with_log_start_offset(start)
        }
        Err(e) => {
            if matches!(e, AppendError::Storage(_) | AppendError::Failed) {
                tracing::error!(topic, partition = data.index, "refused a batch: {e}");
            }
            failed(data.index, wire_error(&e)).with_error_message(Some(text(e.to_string())))
        }
    }
}

fn failed(index: i32, error: ResponseError) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(error.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
}

fn wire_error(error: &AppendError) -> ResponseError {
    match error {
        AppendError::Batch(_) => ResponseError::CorruptMessage,
        AppendError::Count | AppendError::KeyMissing | AppendError::Records(_) => {
            ResponseError::InvalidRecord
        }
        AppendError::Transactional => ResponseError::TransactionalIdAuthorizationFailed,
        AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
        AppendError::OutOfOrder => ResponseError::OutOfOrderSequenceNumber,
        AppendError::Fenced => ResponseError::InvalidProducerEpoch,
        AppendError::Storage(_) | AppendError::Failed => ResponseError::KafkaStorageError,
    }
}

/// Brings what was written to the disk; `false` if any of it may not be there.
async fn sync(written: Vec<Arc<Partition>>) -> bool {
    if written.is_empty() {
        return true;
    }
    let synced = tokio::task::spawn_blocking(move || {
        written.iter().try_for_each(|partition| partition.sync())
    });
    let result = synced
        .await
        .unwrap_or_else(|e| Err(std::io::Error::other(e)));
    if let Err(e) = &result {
        tracing::error!("cannot sync, and take no more writes: {e}");
    }
    result.is_ok()
}

pub(super) async fn init_producer_id(
    context: &Context<'_>,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        return refused(ResponseError::TransactionalIdAuthorizationFailed);
    }
    match on_disk(context, |core| core.producer_ids.take()).await {
        Ok(Ok(id)) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Ok(Err(e)) => {
            tracing::error!("cannot set producer ids aside: {e}");
            refused(ResponseError::KafkaStorageError)
        }
        Err(e) => refused(e),
    }
}
