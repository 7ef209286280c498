//! The thread behind a follower.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::codec::Wire;
use tokio::sync::mpsc;

use super::{Followed, Following};
use crate::access::Right;
use crate::clock::Stopwatch;
use crate::error::BusError;
use crate::filler::is_filler;
use crate::logging::{self, Repeats};
use crate::metrics::Metrics;
use crate::producer::setting_error;
use crate::statistics::Statistics;

/// How long the thread waits for a record before it looks whether it should end.
const POLL: Duration = Duration::from_millis(50);

/// How long one question for a partition's end may take.
const WATERMARKS_WITHIN: Duration = Duration::from_secs(2);

/// Between asking for records of a denied topic and asking again.
const ASK_EVERY: Duration = Duration::from_secs(1);

const BATCH_RECORDS_MAX: usize = 1_024;

pub(super) struct Reader<V> {
    consumer: BaseConsumer<Context>,
    following: Following,
    feed: mpsc::Sender<Result<Vec<Followed<V>>, BusError>>,
    stop: Arc<AtomicBool>,
    /// Partitions that have not reached the end they had at the start, and that end. `None`: the start was read whole.
    ahead: Option<BTreeMap<i32, i64>>,
    lost: bool,
    /// The offset after the last record of each partition.
    next: BTreeMap<i32, i64>,
    /// While the log gives no records: since when nobody has asked.
    denied: Option<Stopwatch>,
    repeats: Repeats,
    batch: Vec<Followed<V>>,
}

/// Keeps the latest statistics for the thread, which is the one that calls back.
struct Context {
    statistics: Mutex<Option<Statistics>>,
    metrics: Metrics,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        logging::forward(level, facility, text);
    }

    fn stats_raw(&self, json: &[u8]) {
        match Statistics::parse(json) {
            Ok(statistics) => *self.statistics.lock() = Some(statistics),
            Err(error) => tracing::debug!(%error, "unreadable client statistics"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if !is_end(&error) {
            self.metrics.error("client");
            tracing::debug!(%error, reason, "a follower's client reports an error");
        }
    }
}

impl ConsumerContext for Context {}

fn is_end(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF)
}

impl<V: Wire> Reader<V> {
    pub(super) fn new(
        following: Following,
        client: &ClientConfig,
        metrics: &Metrics,
        feed: mpsc::Sender<Result<Vec<Followed<V>>, BusError>>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, BusError> {
        let context = Context {
            statistics: Mutex::default(),
            metrics: metrics.clone(),
        };
        let mut client = client.clone();
        client.set("auto.offset.reset", "error");
        let consumer = client
            .create_with_context(context)
            .map_err(|error| setting_error(&error))?;
        Ok(Self {
            consumer,
            following,
            feed,
            stop,
            ahead: Some(BTreeMap::new()),
            lost: false,
            next: BTreeMap::new(),
            denied: None,
            repeats: Repeats::default(),
            batch: Vec::new(),
        })
    }

    pub(super) fn run(mut self) {
        if let Err(error) = self.follow() {
            // Nobody listens any more when this fails, so nobody is left to be told.
            let _ = self.feed.blocking_send(Err(error));
        }
    }

    fn follow(&mut self) -> Result<(), BusError> {
        self.find_ends();
        let mut all = TopicPartitionList::new();
        for index in 0..self.following.partitions {
            all.add_partition_offset(self.following.topic, index, Offset::Beginning)
                .map_err(|error| BusError::Fatal(error.to_string()))?;
        }
        self.consumer
            .assign(&all)
            .map_err(|error| BusError::Fatal(error.to_string()))?;
        while !self.stop.load(Ordering::Acquire) {
            self.collect()?;
            self.ask_if_denied();
            self.take_statistics();
            self.tell_when_caught_up();
            let batch = std::mem::take(&mut self.batch);
            if !batch.is_empty() && self.feed.blocking_send(Ok(batch)).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Asks where each partition ends now, as often as it takes: the log may be away just then.
    fn find_ends(&mut self) {
        let mut ahead = BTreeMap::new();
        for index in 0..self.following.partitions {
            while !self.stop.load(Ordering::Acquire) {
                let topic = self.following.topic;
                let asked = self
                    .consumer
                    .fetch_watermarks(topic, index, WATERMARKS_WITHIN);
                match asked {
                    Ok((low, high)) if low < high => {
                        ahead.insert(index, high);
                        break;
                    }
                    Ok(_) => break,
                    Err(error) => {
                        self.repeats
                            .warn(&error, "cannot see where the topic ends", topic);
                        std::thread::sleep(POLL);
                    }
                }
            }
        }
        self.ahead = Some(ahead);
    }

    /// Waits for the first record, then takes what else is there.
    fn collect(&mut self) -> Result<(), BusError> {
        let mut wait = POLL;
        for _ in 0..BATCH_RECORDS_MAX {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    self.next.insert(partition, next);
                    if !is_filler(&message) {
                        self.batch.push(read(&message));
                    }
                    if let Some(ahead) = &mut self.ahead
                        && ahead.get(&partition).is_some_and(|end| *end <= next)
                    {
                        ahead.remove(&partition);
                    }
                }
                // A server that has just taken a partition over may know less of it at first than it holds: what is
                // the end for it is not the end that was there at the start.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => {
                    self.judge(error)?;
                    wait = Duration::ZERO;
                    continue;
                }
            }
            self.granted();
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// Most errors pass by themselves; after these, nothing more would come.
    fn judge(&mut self, error: KafkaError) -> Result<(), BusError> {
        let topic = self.following.topic;
        let code = error.rdkafka_error_code();
        let ended = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || code == Some(RDKafkaErrorCode::AutoOffsetReset);
        if ended {
            return Err(BusError::Fatal(format!(
                "{topic} cannot be followed: {error}"
            )));
        }
        match code {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                let right = Right::ReadTopic(topic.to_owned());
                self.following.access.denied(right);
                self.denied = Some(Stopwatch::start());
            }
            _ => self.repeats.warn(&error, "following waits", topic),
        }
        Ok(())
    }

    /// The log gives records, or says that there are no more.
    fn granted(&mut self) {
        if self.denied.take().is_some() {
            let right = Right::ReadTopic(self.following.topic.to_owned());
            self.following.access.granted(&right);
        }
    }

    /// Once the topic is allowed again the client library says so only with a new record; sent back to where it
    /// stands, it also says that there is none, or that it is still denied.
    fn ask_if_denied(&mut self) {
        if self
            .denied
            .as_ref()
            .is_none_or(|since| since.elapsed() < ASK_EVERY)
        {
            return;
        }
        self.denied = Some(Stopwatch::start());
        let topic = self.following.topic;
        for index in 0..self.following.partitions {
            let next = self.next.get(&index);
            let place = next.map_or(Offset::Beginning, |next| Offset::Offset(*next));
            if let Err(error) = self.consumer.seek(topic, index, place, Duration::ZERO) {
                tracing::debug!(%error, topic, index, "cannot ask again");
            }
        }
    }

    fn tell_when_caught_up(&mut self) {
        if self.ahead.as_ref().is_some_and(BTreeMap::is_empty) {
            self.ahead = None;
            self.batch.push(Followed::CaughtUp);
        }
    }

    fn take_statistics(&mut self) {
        let Some(statistics) = self.consumer.context().statistics.lock().take() else {
            return;
        };
        match &mut self.ahead {
            // Of a transaction's records the last one is never handed out.
            Some(ahead) => {
                let topic = self.following.topic;
                ahead.retain(|index, end| !statistics.is_read_to(topic, *index, *end));
            }
            None => self.tell_staleness(&statistics),
        }
    }

    fn tell_staleness(&mut self, statistics: &Statistics) {
        let Following {
            topic,
            partitions,
            lost_after,
            ..
        } = self.following;
        let denied = self.denied.is_some();
        let lost = denied || !statistics.is_fresh(topic, partitions, lost_after);
        if lost == self.lost {
            return;
        }
        self.lost = lost;
        if lost {
            tracing::warn!(topic, denied, "the log has said nothing for {lost_after:?}");
            self.batch.push(Followed::Lost);
        } else {
            tracing::info!(topic, "the log answers again");
            self.batch.push(Followed::Back);
        }
    }
}

fn read<V: Wire>(message: &BorrowedMessage<'_>) -> Followed<V> {
    let (partition, offset) = (message.partition(), message.offset());
    let raw_key = message.key().unwrap_or_default();
    let key = String::from_utf8_lossy(raw_key).into_owned();
    let unreadable = |key, reason| Followed::Unreadable {
        key,
        partition,
        offset,
        reason,
    };
    if key.as_bytes() != raw_key || raw_key.is_empty() {
        return unreadable(key, "its key is empty or not UTF-8".to_owned());
    }
    match message.payload().map(V::decode) {
        None => Followed::Lifted {
            key,
            partition,
            offset,
        },
        Some(Ok(value)) => Followed::Put {
            key,
            value,
            partition,
            offset,
        },
        Some(Err(error)) => unreadable(key, error.to_string()),
    }
}
