//! One idempotent producer for the whole process, and what it tells of each record.
//!
//! The order of [`Producer::enqueue`] is the order in the log, partition by partition, retries included. Each record
//! is answered by the log itself: acknowledged by all copies that are in sync, or an error that says whether trying
//! again can help.

mod delivery;
mod probe;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use schemas::codec::Wire;
use schemas::topic::{self, Topic};
use tokio::sync::watch;

pub use delivery::Delivery;
pub(crate) use delivery::{Deliveries, Pending};

pub use crate::record::{Position, RawRecord};

use crate::access::{Access, Right};
use crate::config::{Config, show};
use crate::error::{BusError, SendError};
use crate::health::{Health, Prober};
use crate::layout::Partitions;
use crate::metrics::Metrics;
use probe::LogProbe;

/// How often [`Producer::flush`] looks whether everything is acknowledged.
const FLUSH_LOOK_EVERY: Duration = Duration::from_millis(2);

/// A buffer that grew beyond this for one large record is given back.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// The label of records that go to a topic that is none of [`topic::ALL`].
const NOT_OURS: &str = "other";

thread_local! {
    /// Where values are encoded; the client library copies them out at once.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sends records. A clone shares the same connection, queue and order.
#[derive(Clone)]
pub struct Producer {
    client: Arc<Client>,
    partitions: Arc<Partitions>,
}

/// The producer of a process, before and after the topics are known.
pub(crate) struct Client {
    // Declared first: the thread that watches the log ends before the client it asks.
    _prober: Prober,
    pub(crate) native: ThreadedProducer<Deliveries>,
    pub(crate) health: Arc<Health>,
    pub(crate) access: Arc<Access>,
    complaints: watch::Receiver<u64>,
    pub(crate) metrics: Metrics,
    /// Acknowledged records by topic.
    produced: HashMap<&'static str, Counter>,
    record_bytes_max: usize,
}

impl Client {
    pub(crate) fn start(config: &Config, metrics: &Metrics) -> Result<Self, BusError> {
        let access = Access::new(config, metrics);
        let health = Health::new(metrics.available.clone());
        let (complain, complaints) = watch::channel(0);
        let context = Deliveries {
            health: Arc::clone(&health),
            access: Arc::clone(&access),
            complaints: complain,
            metrics: metrics.clone(),
            record_bytes_max: config.record_bytes_max as usize,
        };
        let native: ThreadedProducer<Deliveries> = config
            .producer()
            .create_with_context(context)
            .map_err(|error| setting_error(&error))?;
        let probe = LogProbe::new(native.clone(), metrics);
        let prober = Prober::start(Arc::clone(&health), probe)
            .map_err(|error| BusError::Fatal(format!("cannot start a thread: {error}")))?;
        let counter = |spec: topic::TopicSpec| (spec.name, metrics.produced(spec.name));
        Ok(Self {
            _prober: prober,
            native,
            health,
            access,
            complaints,
            metrics: metrics.clone(),
            produced: topic::ALL.into_iter().map(counter).collect(),
            record_bytes_max: config.record_bytes_max as usize,
        })
    }
}

impl Client {
    /// Waits until nothing can be sent any more for good, and says why. Cancel safe.
    pub(crate) async fn failure(&self) -> BusError {
        let mut complaints = self.complaints.clone();
        loop {
            complaints.mark_unchanged();
            // Among its complaints the library does not mark the one after which it is finished.
            if let Some((code, reason)) = self.native.client().fatal_error() {
                return BusError::Fatal(match code {
                    RDKafkaErrorCode::ClusterAuthorizationFailed => {
                        let denial = self.access.denied(Right::WriteIdempotently);
                        format!("{reason}; {denial}")
                    }
                    _ => reason,
                });
            }
            if complaints.changed().await.is_err() {
                return BusError::Closed;
            }
        }
    }
}

/// What the client library says of a configuration that it does not take.
pub(crate) fn setting_error(error: &KafkaError) -> BusError {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => BusError::Setting {
            name: name.clone(),
            reason: format!("`{}`: {}", show(name, value), without(reason, name, value)),
        },
        error => BusError::Fatal(error.to_string()),
    }
}

/// The library's words, which may repeat a value, without one that must not be shown.
fn without(reason: &str, name: &str, value: &str) -> String {
    if value.is_empty() {
        reason.to_owned()
    } else {
        reason.replace(value, show(name, value))
    }
}

impl Producer {
    pub(crate) fn new(client: Arc<Client>, partitions: Arc<Partitions>) -> Self {
        Self { client, partitions }
    }

    /// Sends `value` under `key` to the key's partition; resolves at the log's acknowledgement.
    ///
    /// # Errors
    /// See [`SendError`]; after [`SendError::Unavailable`] the record may or may not be in the log.
    pub async fn send<V: Wire>(
        &self,
        topic: &Topic<V>,
        key: &str,
        value: &V,
    ) -> Result<Position, SendError> {
        self.enqueue(topic, key, value)?.await
    }

    /// Like [`send`](Self::send) without waiting: the order of calls is the order in the log. A [`Delivery`] may be
    /// dropped; the record is sent all the same.
    pub fn enqueue<V: Wire>(
        &self,
        topic: &Topic<V>,
        key: &str,
        value: &V,
    ) -> Result<Delivery, SendError> {
        let partition = self.partitions.place(topic.name(), key.as_bytes());
        self.enqueue_to(topic, partition, key, value)
    }

    /// Like [`enqueue`](Self::enqueue), to a partition of the caller's choice: for markers.
    pub fn enqueue_to<V: Wire>(
        &self,
        topic: &Topic<V>,
        partition: i32,
        key: &str,
        value: &V,
    ) -> Result<Delivery, SendError> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            if let Err(error) = value.encode(scratch) {
                self.client.metrics.error("encode");
                return Err(error.into());
            }
            let delivery = self.enqueue_raw(RawRecord {
                topic: topic.name(),
                partition,
                key: Some(key.as_bytes()),
                value: Some(scratch),
                headers: &[],
            });
            scratch.shrink_to(SCRATCH_BYTES_MAX);
            delivery
        })
    }

    /// Sends bytes as they are: a record moved to its right partition, or put back from the dead.
    pub fn enqueue_raw(&self, raw: RawRecord<'_>) -> Result<Delivery, SendError> {
        let client = &self.client;
        let produced = match client.produced.get(raw.topic) {
            Some(counter) => counter.clone(),
            None => client.metrics.produced(NOT_OURS),
        };
        let bytes = raw.key.map_or(0, <[u8]>::len) + raw.value.map_or(0, <[u8]>::len);
        let (pending, delivery) = Pending::new(produced, bytes);
        let mut record = BaseRecord::with_opaque_to(raw.topic, pending).partition(raw.partition);
        record.key = raw.key;
        record.payload = raw.value;
        record.headers = copy_headers(raw.headers);
        // Before sending: the answer may come before this returns.
        client.metrics.queued.inc();
        match client.native.send(record) {
            Ok(()) => Ok(delivery),
            Err((error, _)) => {
                client.metrics.queued.dec();
                let error = self.refusal(&error, raw.topic, bytes);
                client.metrics.error(error.kind());
                Err(error)
            }
        }
    }

    /// Lifts what stands under `key`: a tombstone. Resolves at the log's acknowledgement.
    pub async fn lift<V: Wire>(&self, topic: &Topic<V>, key: &str) -> Result<Position, SendError> {
        self.enqueue_lift(topic, key)?.await
    }

    /// Like [`lift`](Self::lift) without waiting.
    pub fn enqueue_lift<V: Wire>(
        &self,
        topic: &Topic<V>,
        key: &str,
    ) -> Result<Delivery, SendError> {
        self.enqueue_raw(RawRecord {
            topic: topic.name(),
            partition: self.partitions.place(topic.name(), key.as_bytes()),
            key: Some(key.as_bytes()),
            value: None,
            headers: &[],
        })
    }

    /// Records that wait for the log, all topics together.
    #[must_use]
    pub fn queued(&self) -> usize {
        usize::try_from(self.client.native.in_flight_count()).unwrap_or(0)
    }

    /// Waits until every record that was sent is acknowledged or given up.
    ///
    /// # Errors
    /// [`SendError::Unavailable`] when some still wait after `within`; they go on waiting.
    pub async fn flush(&self, within: Duration) -> Result<(), SendError> {
        let empty = async {
            while self.queued() != 0 {
                tokio::time::sleep(FLUSH_LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(within, empty)
            .await
            .map_err(|_| SendError::Unavailable {
                reason: format!(
                    "{} records not acknowledged after {within:?}",
                    self.queued()
                ),
            })
    }

    fn refusal(&self, error: &KafkaError, topic: &str, bytes: usize) -> SendError {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
            return SendError::Full {
                queued: self.queued(),
            };
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
            let right = Right::WriteTopic(topic.to_owned());
            return SendError::Denied(Box::new(self.client.access.denied(right)));
        }
        SendError::from_kafka(error, bytes, self.client.record_bytes_max)
    }
}

pub(crate) fn copy_headers(headers: &[(String, Option<Bytes>)]) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(empty, |all, (key, value)| {
        all.insert(Header {
            key,
            value: value.as_deref(),
        })
    }))
}
