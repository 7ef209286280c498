//! One partition that is being read, on a queue of its own: only so is it known whose end was reached (the library's
//! report names no topic), and whose queue is left alone while there is no room.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;

use super::context::Context;
use super::signals::Signals;
use crate::error::BusError;
use crate::filler::is_filler;
use crate::record::{Batch, Copier, Partition};

/// A batch is full at this size even with fewer records.
const BATCH_BYTES_MAX: usize = 4 << 20;

pub(super) struct OpenPartition {
    pub(super) partition: Partition,
    queue: PartitionQueue<Context>,
    /// The least offset that the next record may have.
    pub(super) next: i64,
    /// Where reading began, as far as known. The log may have begun elsewhere, if it does not have that offset.
    began: i64,
    /// The offset after the log's last record, as far as known.
    pub(super) end: i64,
}

/// What one look at a partition's queue found.
pub(super) struct Found {
    pub(super) batch: Option<Batch>,
    pub(super) then: Then,
}

/// Why a batch is not longer.
#[derive(Debug)]
pub(super) enum Then {
    /// There may be more.
    Full,
    /// Nothing waits in this process.
    Empty,
    /// Nothing waits in the log.
    End,
    Error(KafkaError),
}

impl OpenPartition {
    /// Must be called before the partition is assigned: what is fetched before goes to the reader's common queue.
    /// `start` is where the service begins, `committed` where the group stood otherwise.
    pub(super) fn open(
        consumer: &Arc<BaseConsumer<Context>>,
        partition: Partition,
        (start, committed): (Option<i64>, Option<i64>),
        (signals, place): (&Arc<Signals>, usize),
    ) -> Result<Self, BusError> {
        let mut queue = consumer
            .split_partition_queue(partition.topic, partition.index)
            .ok_or_else(|| BusError::Fatal(format!("{partition} has no queue")))?;
        let signals = Arc::clone(signals);
        queue.set_nonempty_callback(move || signals.ready(place));
        Ok(Self {
            partition,
            queue,
            next: start.unwrap_or(0),
            began: start.or(committed).unwrap_or(0),
            end: 0,
        })
    }

    /// Takes up to `records_max` records that are here already.
    pub(super) fn read(&mut self, records_max: usize) -> Result<Found, BusError> {
        let mut records = Vec::new();
        let mut copier = Copier::default();
        let mut bytes = 0;
        let mut seen = 0;
        let then = loop {
            if seen == records_max || BATCH_BYTES_MAX <= bytes {
                break Then::Full;
            }
            match self.queue.poll(Duration::ZERO) {
                None => break Then::Empty,
                Some(Ok(message)) => {
                    let offset = message.offset();
                    if offset < self.next {
                        return Err(BusError::Backwards {
                            partition: self.partition.to_string(),
                            offset,
                            next: self.next,
                        });
                    }
                    self.next = offset + 1;
                    seen += 1;
                    if is_filler(&message) {
                        continue;
                    }
                    bytes += message.key_len() + message.payload_len();
                    copier.copy(&message);
                    if copier.is_full() {
                        copier.finish(&mut records);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break Then::End,
                Some(Err(error)) => break Then::Error(error),
            }
        };
        copier.finish(&mut records);
        self.end = self.end.max(self.next);
        let batch = (!records.is_empty()).then(|| Batch {
            partition: self.partition,
            records,
            end_offset: self.end,
        });
        Ok(Found { batch, then })
    }

    /// Records between here and the end of the log.
    pub(super) fn lag(&self) -> i64 {
        (self.end - self.next.max(self.began)).max(0)
    }
}
