//! Writing records as they are: to a copy of a log, or at the end of one.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::config::Config;
use crate::error::{BusError, SendError};
use crate::layout::Partitions;
use crate::logging;
use crate::metrics::Metrics;
use crate::producer::{Client, Delivery, Producer, copy_headers, setting_error};
use crate::record::{RawRecord, Record};

/// How long a writer waits for room among the records on their way, and how often it looks whether all have arrived.
const PAUSE: Duration = Duration::from_millis(2);

/// The largest record that is copied: more than any topic of Weir's takes.
pub const COPY_BYTES_MAX: u32 = 32 << 20;

/// Holds every record to the offset that it is to have.
#[derive(Default)]
struct Copies {
    /// The first record that did not become what it should.
    failure: Mutex<Option<BusError>>,
}

impl ClientContext for Copies {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        logging::forward(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a copy's client reports an error");
    }
}

impl ProducerContext for Copies {
    /// The offset that the record is to have.
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, wanted: usize) {
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let (message, reason) = match report {
            // Below zero: the log had it already, after a retry; it keeps the place that it got first.
            Ok(message) if message.offset() < 0 || message.offset() == wanted => return,
            Ok(message) => {
                let got = message.offset();
                let reason = format!("it came to lie at {got}: somebody else writes there too");
                (message, reason)
            }
            Err((error, message)) => (message, error.to_string()),
        };
        self.failure.lock().get_or_insert_with(|| BusError::Copy {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: wanted,
            reason,
        });
    }
}

/// Writes records that keep their offsets and times. Each partition must be given without gaps from its end on. The
/// topic must take times from the one who writes (`message.timestamp.type` is `CreateTime`).
pub struct RawWriter {
    client: ThreadedProducer<Copies>,
}

impl RawWriter {
    pub(super) fn new(config: &Config) -> Result<Self, BusError> {
        let mut client = config.producer();
        client
            // A record that fails for good must not be followed by the next one in its place.
            .set("enable.gapless.guarantee", "true")
            .set("linger.ms", "5")
            .set(
                "message.timeout.ms",
                config.ready_within.as_millis().to_string(),
            )
            .set("message.max.bytes", COPY_BYTES_MAX.to_string());
        let client = client
            .create_with_context(Copies::default())
            .map_err(|error| setting_error(&error))?;
        Ok(Self { client })
    }

    /// Sends `record`, which is to have its own offset. Waits only while too many are on their way.
    ///
    /// The client library cannot write the time 0, which stands for "now" there: it becomes 1 ms.
    ///
    /// # Errors
    /// For the first record, this one or one before, that did not get its offset.
    pub async fn put(&self, topic: &str, partition: i32, record: &Record) -> Result<(), BusError> {
        let failed = |reason: String| BusError::Copy {
            topic: topic.to_owned(),
            partition,
            offset: record.offset,
            reason,
        };
        let Ok(wanted) = usize::try_from(record.offset) else {
            return Err(failed("an offset is never below zero".to_owned()));
        };
        loop {
            self.check()?;
            let mut draft = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, wanted)
                .partition(partition)
                .timestamp(record.appended_at.as_millis().max(1));
            draft.key = record.key.as_deref();
            draft.payload = record.value.as_deref();
            draft.headers = copy_headers(&record.headers);
            match self.client.send(draft) {
                Ok(()) => return Ok(()),
                Err((error, _)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => tokio::time::sleep(PAUSE).await,
                    _ => return Err(failed(error.to_string())),
                },
            }
        }
    }

    /// Waits until all that was sent lies where it should.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn flush(&self) -> Result<(), BusError> {
        while self.client.in_flight_count() != 0 {
            self.check()?;
            tokio::time::sleep(PAUSE).await;
        }
        self.check()
    }

    fn check(&self) -> Result<(), BusError> {
        self.client
            .context()
            .failure
            .lock()
            .take()
            .map_or(Ok(()), Err)
    }
}

/// Adds records at the end of partitions.
pub struct Appender(Producer);

impl Appender {
    pub(super) fn new(config: &Config) -> Result<Self, BusError> {
        let client = Arc::new(Client::start(config, &Metrics::default())?);
        // Places nothing by key: every record names its partition.
        Ok(Self(Producer::new(client, Arc::new(Partitions::default()))))
    }

    /// Sends a record; the order of calls is the order in the log.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn append(&self, record: RawRecord<'_>) -> Result<Delivery, SendError> {
        self.0.enqueue_raw(record)
    }
}
