//! Stretches of many partitions side by side, in the order in which the log took their records.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use schemas::time::Timestamp;

use super::read::{Slice, judge};
use super::{Context, END_WITHIN, past, refused};
use crate::clock::Stopwatch;
use crate::config::Config;
use crate::error::BusError;
use crate::producer::setting_error;
use crate::record::{Copier, Partition, Record};

/// How long to wait for the first record of one partition, before looking whether anybody still wants one.
const POLL: Duration = Duration::from_millis(100);

/// What is taken from one partition at once. While it lasts nothing more of that partition is asked for.
const LANE_RECORDS_MAX: usize = 1_024;
const LANE_BYTES_MAX: usize = 1 << 20;

/// What the library reads ahead of one partition.
const AHEAD_KBYTES: u32 = 2_048;

/// Reads stretches of several topics' partitions as one, oldest record first; records of one millisecond by topic and
/// partition. What it keeps in memory depends on how many partitions there are, and on nothing else. Joins no group and
/// commits nothing.
pub struct MergedReader {
    consumer: Arc<BaseConsumer<Context>>,
    lanes: Vec<Lane>,
    /// Without a word from the log for so long, reading ends.
    patience: Duration,
    quiet_since: Stopwatch,
}

/// One partition.
struct Lane {
    partition: Partition,
    queue: PartitionQueue<Context>,
    /// The offsets that are still to come.
    rest: Range<i64>,
    /// What was read and not handed out yet.
    waiting: VecDeque<Record>,
    has_ended: bool,
}

/// What one look at the network gave.
struct Found {
    lanes: Vec<Lane>,
    came: bool,
    /// In which lanes.
    errors: Vec<(usize, KafkaError)>,
}

impl MergedReader {
    /// Begins to read these offsets of each partition.
    pub(super) fn start(
        config: &Config,
        stretches: &[(Partition, Range<i64>)],
    ) -> Result<Self, BusError> {
        let consumer: BaseConsumer<Context> = past(config, END_WITHIN, AHEAD_KBYTES)
            .create_with_context(Context)
            .map_err(|error| setting_error(&error))?;
        let consumer = Arc::new(consumer);
        let mut list = TopicPartitionList::with_capacity(stretches.len());
        let mut lanes = Vec::new();
        for (partition, offsets) in stretches {
            if offsets.is_empty() {
                continue;
            }
            let Partition { topic, index } = *partition;
            let from = Offset::Offset(offsets.start);
            let added = list.add_partition_offset(topic, index, from);
            added.map_err(|error| refused(&format!("read {topic}"), &error))?;
            // Before it is assigned: what is fetched before that goes to the common queue.
            let queue = consumer.split_partition_queue(topic, index);
            lanes.push(Lane {
                partition: *partition,
                queue: queue.ok_or_else(|| BusError::Fatal(format!("{partition} has no queue")))?,
                rest: offsets.clone(),
                waiting: VecDeque::new(),
                has_ended: false,
            });
        }
        lanes.sort_by_key(|lane| lane.partition);
        let assigned = consumer.assign(&list);
        assigned.map_err(|error| refused("read the past", &error))?;
        Ok(Self {
            consumer,
            lanes,
            patience: config.ready_within,
            quiet_since: Stopwatch::start(),
        })
    }

    /// The next records, in order. None: all is read. What a call has read is lost when it is dropped while waiting.
    ///
    /// # Errors
    /// When a stretch begins outside of what the log holds, or the log says nothing for `ready_within`.
    pub async fn next(&mut self) -> Result<Vec<(Partition, Record)>, BusError> {
        loop {
            let records = merge(&mut self.lanes);
            if !records.is_empty() || self.lanes.iter().all(|lane| lane.has_ended) {
                return Ok(records);
            }
            let (consumer, lanes) = (Arc::clone(&self.consumer), std::mem::take(&mut self.lanes));
            let looked = tokio::task::spawn_blocking(move || look(&consumer, lanes)).await;
            let found = looked.map_err(|error| refused("read the past", &error))?;
            self.lanes = found.lanes;
            for (place, error) in found.errors {
                self.judge(place, error).await?;
            }
            if found.came {
                self.quiet_since = Stopwatch::start();
            } else if self.patience <= self.quiet_since.elapsed() {
                let reason = format!("nothing came for {:?}", self.patience);
                return Err(refused("read the past", &reason));
            }
        }
    }

    async fn judge(&self, place: usize, error: KafkaError) -> Result<(), BusError> {
        let lane = &self.lanes[place];
        let Partition { topic, index } = lane.partition;
        let open = Slice {
            partition: index,
            from: lane.rest.start,
            to: lane.rest.end,
        };
        judge(error, &self.consumer, topic, vec![open]).await
    }
}

/// Takes what there is of each partition of which nothing waits here.
fn look(consumer: &BaseConsumer<Context>, lanes: Vec<Lane>) -> Found {
    let mut found = Found {
        lanes,
        came: false,
        errors: Vec::new(),
    };
    // Nothing but the library's own news comes this way.
    if let Some(Err(error)) = consumer.poll(Duration::ZERO) {
        tracing::debug!(%error, "a tool's client reports an error");
    }
    for (place, lane) in found.lanes.iter_mut().enumerate() {
        if lane.has_ended || !lane.waiting.is_empty() {
            continue;
        }
        match lane.fill() {
            Ok(came) => found.came |= came,
            Err(error) => found.errors.push((place, error)),
        }
        if lane.rest.is_empty() {
            lane.has_ended = true;
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition(lane.partition.topic, lane.partition.index);
            // Only spares the network: nobody asks for what still comes.
            let _ = consumer.pause(&list);
        }
    }
    found
}

impl Lane {
    /// Takes what is there, and waits a little where nothing is. False: nothing was.
    fn fill(&mut self) -> Result<bool, KafkaError> {
        let mut records = Vec::new();
        let mut copier = Copier::default();
        let (mut seen, mut bytes, mut wait) = (0, 0, POLL);
        let mut outcome = Ok(());
        while seen < LANE_RECORDS_MAX && bytes < LANE_BYTES_MAX && !self.rest.is_empty() {
            match self.queue.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let offset = message.offset();
                    if self.rest.contains(&offset) {
                        copier.copy(&message);
                        bytes += message.key_len() + message.payload_len();
                    }
                    self.rest.start = self.rest.end.min(offset + 1);
                }
                // The last offsets of a stretch may hold no records.
                Some(Err(KafkaError::PartitionEOF(_))) => self.rest.start = self.rest.end,
                Some(Err(error)) => {
                    outcome = Err(error);
                    break;
                }
            }
            seen += 1;
            if copier.is_full() {
                copier.finish(&mut records);
            }
            wait = Duration::ZERO;
        }
        copier.finish(&mut records);
        self.waiting.extend(records);
        outcome.map(|()| 0 < seen)
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.waiting.front().map(|record| record.appended_at)
    }
}

/// What can be handed out before more must be known of any partition.
fn merge(lanes: &mut [Lane]) -> Vec<(Partition, Record)> {
    let mut merged = Vec::new();
    let is_unknown = |lane: &Lane| lane.waiting.is_empty() && !lane.has_ended;
    if lanes.iter().any(is_unknown) {
        return merged;
    }
    let heads = lanes.iter().enumerate();
    let mut heads: BinaryHeap<Reverse<(Timestamp, usize)>> = heads
        .filter_map(|(place, lane)| Some(Reverse((lane.oldest()?, place))))
        .collect();
    while let Some(Reverse((_, place))) = heads.pop() {
        let lane = &mut lanes[place];
        if let Some(record) = lane.waiting.pop_front() {
            merged.push((lane.partition, record));
        }
        match lane.oldest() {
            Some(oldest) => heads.push(Reverse((oldest, place))),
            None if lane.has_ended => {}
            None => break,
        }
    }
    merged
}
