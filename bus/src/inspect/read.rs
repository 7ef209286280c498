//! Reading stretches of partitions as they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::{Context, HELLO_WITHIN, REQUEST_WITHIN, past, refused};
use crate::clock::Stopwatch;
use crate::config::Config;
use crate::error::BusError;
use crate::producer::setting_error;
use crate::record::Record;

/// How long to wait for a first record, before looking whether anybody still wants one.
const POLL: Duration = Duration::from_millis(100);

/// What the library reads ahead of all partitions together.
const AHEAD_KBYTES: u32 = 65_536;

const BATCH_RECORDS_MAX: usize = 4_096;

/// A batch is full at this size even with fewer records.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// The offsets `from..to` of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    pub partition: i32,
    pub from: i64,
    /// [`i64::MAX`]: also what is still to come.
    pub to: i64,
}

/// Reads slices of one topic after another. Joins no group and commits nothing.
pub struct RawReader {
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
    /// What is still to be read, by partition.
    open: BTreeMap<i32, Slice>,
    /// Without a word from the log for so long, reading ends.
    patience: Duration,
    quiet_since: Stopwatch,
}

/// What one look at the network gave.
#[derive(Default)]
struct Found {
    records: Vec<(i32, Record)>,
    ended: Vec<i32>,
    error: Option<KafkaError>,
}

impl RawReader {
    pub(super) fn new(config: &Config, wait: Duration) -> Result<Self, BusError> {
        let mut client = past(config, wait, AHEAD_KBYTES);
        client.set("queued.min.messages", "100000");
        let consumer = client
            .create_with_context(Context)
            .map_err(|error| setting_error(&error))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            topic: String::new(),
            open: BTreeMap::new(),
            patience: config.ready_within,
            quiet_since: Stopwatch::start(),
        })
    }

    /// Begins with these slices of `topic`, one a partition at the most, and forgets the ones before.
    pub async fn start(&mut self, topic: &str, slices: &[Slice]) -> Result<(), BusError> {
        if topic != self.topic {
            self.meet(topic).await?;
        }
        let mut list = TopicPartitionList::with_capacity(slices.len());
        self.open.clear();
        topic.clone_into(&mut self.topic);
        for slice in slices.iter().filter(|slice| slice.from < slice.to) {
            let from = Offset::Offset(slice.from);
            let added = list.add_partition_offset(topic, slice.partition, from);
            added.map_err(|error| refused(&format!("read {topic}"), &error))?;
            self.open.insert(slice.partition, *slice);
        }
        let assigned = self.consumer.assign(&list);
        assigned.map_err(|error| refused(&format!("read {topic}"), &error))?;
        // A partition that was paused when its slice was read stays so over a new assignment.
        let resumed = self.consumer.resume(&list);
        resumed.map_err(|error| refused(&format!("read {topic}"), &error))?;
        self.quiet_since = Stopwatch::start();
        Ok(())
    }

    /// Has the library learn at once who answers for a topic; by itself it would take up to a second.
    async fn meet(&self, topic: &str) -> Result<(), BusError> {
        let (consumer, name) = (Arc::clone(&self.consumer), topic.to_owned());
        let ask = move || {
            consumer
                .fetch_metadata(Some(&name), REQUEST_WITHIN)
                .map(drop)
        };
        let met = tokio::task::spawn_blocking(ask).await;
        met.unwrap_or(Err(KafkaError::Canceled))
            .map_err(|error| refused(&format!("read {topic}"), &error))
    }

    /// The next records with their partitions; of each partition in order. None: all slices are read. What a call has
    /// read is lost when it is dropped while waiting.
    ///
    /// # Errors
    /// When a slice begins outside of what the log holds, or the log says nothing for `ready_within`.
    pub async fn next(&mut self) -> Result<Vec<(i32, Record)>, BusError> {
        while !self.open.is_empty() {
            let consumer = Arc::clone(&self.consumer);
            let looked = tokio::task::spawn_blocking(move || look(&consumer));
            let mut found = looked.await.unwrap_or_default();
            found.records.retain(|(index, record)| {
                let open = self.open.get(index);
                open.is_some_and(|slice| slice.from <= record.offset && record.offset < slice.to)
            });
            self.note(&found);
            if let Some(error) = found.error {
                let open = self.open.values().copied().collect();
                judge(error, &self.consumer, &self.topic, open).await?;
            }
            if !found.records.is_empty() {
                return Ok(found.records);
            }
            self.check_patience()?;
        }
        self.consumer
            .unassign()
            .map_err(|error| refused(&format!("read {}", self.topic), &error))?;
        Ok(Vec::new())
    }

    /// Takes note of how far each slice is.
    fn note(&mut self, found: &Found) {
        if !found.records.is_empty() || !found.ended.is_empty() {
            self.quiet_since = Stopwatch::start();
        }
        for (index, record) in &found.records {
            if let Some(slice) = self.open.get_mut(index) {
                slice.from = record.offset + 1;
            }
        }
        // At the end of the log a slice is read, though its last offsets may hold no records.
        for index in &found.ended {
            if self
                .open
                .get(index)
                .is_some_and(|slice| slice.to != i64::MAX)
            {
                self.open.remove(index);
            }
        }
        let read: Vec<i32> = self
            .open
            .values()
            .filter(|slice| slice.to <= slice.from)
            .map(|slice| slice.partition)
            .collect();
        for index in read {
            self.open.remove(&index);
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition(&self.topic, index);
            // Only spares the network: what still comes is dropped.
            let _ = self.consumer.pause(&list);
        }
    }

    fn check_patience(&self) -> Result<(), BusError> {
        let waits_for_more = self.open.values().any(|slice| slice.to == i64::MAX);
        if waits_for_more || self.quiet_since.elapsed() < self.patience {
            return Ok(());
        }
        let reason = format!("nothing came for {:?}", self.patience);
        Err(refused(&format!("read {}", self.topic), &reason))
    }
}

/// Most errors pass by themselves. After these, what was asked for of `topic` would never come.
pub(super) async fn judge(
    error: KafkaError,
    consumer: &Arc<BaseConsumer<Context>>,
    topic: &str,
    open: Vec<Slice>,
) -> Result<(), BusError> {
    if let KafkaError::MessageConsumptionFatal(_) = error {
        return Err(BusError::Fatal(error.to_string()));
    }
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset) => {
            Err(outside(&error, Arc::clone(consumer), topic, open).await)
        }
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::BadMessage,
        ) => Err(refused(&format!("read {topic}"), &error)),
        _ => Ok(()),
    }
}

/// The first slice that begins where the log holds nothing.
async fn outside(
    error: &KafkaError,
    consumer: Arc<BaseConsumer<Context>>,
    topic: &str,
    open: Vec<Slice>,
) -> BusError {
    let name = topic.to_owned();
    let find = move || {
        open.iter().find_map(|slice| {
            let Slice {
                partition,
                from: offset,
                ..
            } = *slice;
            let bounds = consumer.fetch_watermarks(&name, partition, HELLO_WITHIN);
            let (low, high) = bounds.ok()?;
            let topic = name.clone();
            (offset < low || high < offset).then_some(BusError::Offset {
                topic,
                partition,
                offset,
                low,
                high,
            })
        })
    };
    let outside = tokio::task::spawn_blocking(find).await.unwrap_or_default();
    outside.unwrap_or_else(|| refused(&format!("read {topic}"), error))
}

/// Waits for the first record, then takes what else is there.
fn look(consumer: &BaseConsumer<Context>) -> Found {
    let mut found = Found::default();
    let mut wait = POLL;
    let mut bytes = 0;
    while found.records.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
        match consumer.poll(wait) {
            None => break,
            Some(Ok(message)) => {
                bytes += message.key_len() + message.payload_len();
                found
                    .records
                    .push((message.partition(), Record::from(&message)));
            }
            Some(Err(KafkaError::PartitionEOF(index))) => found.ended.push(index),
            Some(Err(error)) => {
                found.error = Some(error);
                break;
            }
        }
        wait = Duration::ZERO;
    }
    found
}
