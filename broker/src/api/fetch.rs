//! Reading: a fetch answers at once if there is anything, else waits until there is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_all;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::time::{Instant, timeout_at};

use super::consume::check_epoch;
use crate::core::Core;
use crate::log::read;
use crate::topics::Partition;

/// The longest that a fetch is kept waiting, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// What one look at all partitions gave.
struct Look {
    topics: Vec<FetchableTopicResponse>,
    bytes: usize,
    /// An error is told at once, without waiting for records of other partitions.
    has_error: bool,
}

pub(super) async fn fetch(core: &Core, request: FetchRequest) -> FetchResponse {
    // No session is ever opened here, so one that goes on is another server's.
    if request.session_epoch > 0 {
        return FetchResponse::default()
            .with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let deadline = Instant::from_std(crate::clock::monotonic()) + wait;
    let find = |t: &FetchTopic| {
        let find = |p: &FetchPartition| core.topics.partition(&t.topic, p.partition);
        t.partitions.iter().map(find).collect::<Vec<_>>()
    };
    loop {
        // Looked up every time: a topic may have been deleted while it was waited for.
        let partitions: Vec<_> = request.topics.iter().map(find).collect();
        // Registered before looking, so that a write in between is not missed.
        let grown: Vec<_> = partitions
            .iter()
            .flatten()
            .flatten()
            .map(|partition| {
                let mut grown = Box::pin(partition.grown.notified());
                grown.as_mut().enable();
                grown
            })
            .collect();
        let look = look(core, &request, &partitions);
        let is_enough = look.bytes >= request.min_bytes.max(0) as usize;
        if is_enough || look.has_error || core.stop.is_cancelled() {
            return FetchResponse::default().with_responses(look.topics);
        }
        let any_grown = async {
            match grown.is_empty() {
                true => std::future::pending().await,
                false => select_all(grown).await,
            }
        };
        let woken = tokio::select! {
            woken = timeout_at(deadline, any_grown) => woken.is_ok(),
            () = core.stop.cancelled() => false,
        };
        if !woken {
            return FetchResponse::default().with_responses(look.topics);
        }
    }
}

fn look(core: &Core, request: &FetchRequest, found: &[Vec<Option<Arc<Partition>>>]) -> Look {
    let mut left = (request.max_bytes.max(1) as usize).min(core.config.fetch_bytes_max);
    let mut look = Look {
        topics: vec![],
        bytes: 0,
        has_error: false,
    };
    for (topic, found) in request.topics.iter().zip(found) {
        let mut partitions = vec![];
        for (wanted, partition) in topic.partitions.iter().zip(found) {
            let data = match partition {
                Some(partition) => read_partition(wanted, partition, left),
                None => Err(ResponseError::UnknownTopicOrPartition),
            };
            look.has_error |= data.is_err();
            let data = data
                .unwrap_or_else(failed)
                .with_partition_index(wanted.partition);
            let bytes = data.records.as_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(bytes);
            look.bytes += bytes;
            partitions.push(data);
        }
        let answer = FetchableTopicResponse::default().with_topic(topic.topic.clone());
        look.topics.push(answer.with_partitions(partitions));
    }
    look
}

fn read_partition(
    wanted: &FetchPartition,
    partition: &Partition,
    left: usize,
) -> Result<PartitionData, ResponseError> {
    check_epoch(wanted.current_leader_epoch)?;
    let (start, end) = {
        let log = partition.log.lock();
        (log.start(), log.visible_end())
    };
    if !(start..=end).contains(&wanted.fetch_offset) {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let bytes_max = left.min(wanted.partition_max_bytes.max(1) as usize);
    let records = match left {
        0 => Bytes::new(),
        _ => read::read(&partition.log, wanted.fetch_offset, end, bytes_max).map_err(|e| {
            tracing::error!(folder = %partition.folder().display(), "cannot read: {e}");
            ResponseError::KafkaStorageError
        })?,
    };
    Ok(PartitionData::default()
        .with_high_watermark(end)
        .with_last_stable_offset(end)
        .with_log_start_offset(start)
        .with_records(Some(records)))
}

fn failed(error: ResponseError) -> PartitionData {
    PartitionData::default()
        .with_error_code(error.code())
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
}
