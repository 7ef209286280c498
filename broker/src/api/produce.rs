//! Writing: produce requests and producer ids.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};

use super::{Context, on_disk, text};
use crate::config::Fsync;
use crate::log::batch::{BatchError, Codec, Header};
use crate::log::{AppendError, Appended};
use crate::topics::Partition;

/// The first version whose clients know zstd.
const ZSTD_FROM: i16 = 7;
/// Where every format of messages says which one it is, and the only one that is stored.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

/// Stores every partition's batch, or says why not, each for itself. With `Fsync::Always` the
/// answer waits until all that was stored is on the disk.
pub(super) async fn produce(context: &Context<'_>, request: ProduceRequest) -> ProduceResponse {
    let core = context.core;
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
            None => store(context, &topic.name, data, &mut written),
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

/// Whether anything of `response` was refused.
pub(super) fn has_failed(response: &ProduceResponse) -> bool {
    let mut partitions = response
        .responses
        .iter()
        .flat_map(|t| &t.partition_responses);
    partitions.any(|p| p.error_code != 0)
}

/// What a client of this version may not send, whatever the log makes of it.
fn judge(batch: &[u8], version: i16) -> Result<(), ResponseError> {
    if batch.get(MAGIC_AT) != Some(&MAGIC) {
        return Err(ResponseError::InvalidRecord);
    }
    let codec = Header::parse(batch).and_then(|header| header.codec());
    if codec == Some(Codec::Zstd) && version < ZSTD_FROM {
        return Err(ResponseError::UnsupportedCompressionType);
    }
    Ok(())
}

fn store(
    context: &Context<'_>,
    topic: &str,
    data: PartitionProduceData,
    written: &mut Vec<Arc<Partition>>,
) -> PartitionProduceResponse {
    let core = context.core;
    let Some(partition) = core.topics.partition(topic, data.index) else {
        return failed(data.index, ResponseError::UnknownTopicOrPartition);
    };
    let batch = data.records.unwrap_or_default();
    if let Err(e) = judge(&batch, context.version) {
        return failed(data.index, e);
    }
    let (result, start) = partition.append(&batch);
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
        Err(e) => failed(data.index, wire_error(&e)).with_error_message(Some(text(e.to_string()))),
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
        // As if there were no batch at all: Kafka does not look at the rest of it.
        AppendError::Batch(BatchError::Truncated) => ResponseError::InvalidRecord,
        AppendError::Batch(_) => ResponseError::CorruptMessage,
        AppendError::Count | AppendError::KeyMissing | AppendError::Records(_) => {
            ResponseError::InvalidRecord
        }
        AppendError::Transactional => ResponseError::TransactionalIdAuthorizationFailed,
        AppendError::Time { .. } => ResponseError::InvalidTimestamp,
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
    match &request.transactional_id {
        None => {}
        Some(id) if id.is_empty() => return refused(ResponseError::InvalidRequest),
        Some(_) => return refused(ResponseError::TransactionalIdAuthorizationFailed),
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
