//! From the client library's delivery report to the one who waits for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prometheus_client::metrics::counter::Counter;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use tokio::sync::{oneshot, watch};

use crate::access::{Access, Right};
use crate::clock::Stopwatch;
use crate::error::SendError;
use crate::health::Health;
use crate::logging;
use crate::metrics::Metrics;
use crate::record::Position;

type Outcome = Result<Position, SendError>;

/// Resolves when the log has acknowledged a record, or when it has not in time.
#[must_use = "a record is acknowledged only once this says so"]
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Outcome>);

impl Future for Delivery {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|outcome| outcome.unwrap_or_else(|_| Err(closed())))
    }
}

impl Delivery {
    /// What became of the record, if that is known already. Once.
    pub(crate) fn settled(&mut self) -> Option<Outcome> {
        match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(closed())),
        }
    }
}

fn closed() -> SendError {
    SendError::Unavailable {
        reason: "the producer was closed first".to_owned(),
    }
}

/// Travels with a record through the client library.
#[derive(Debug)]
pub(crate) struct Pending {
    sender: oneshot::Sender<Outcome>,
    produced: Counter,
    bytes: usize,
    since: Stopwatch,
    /// Sent only to see what the log says: what is not allowed to it is missed by nobody.
    is_question: bool,
}

impl Pending {
    pub(crate) fn new(produced: Counter, bytes: usize) -> (Box<Self>, Delivery) {
        let (sender, receiver) = oneshot::channel();
        let pending = Self {
            sender,
            produced,
            bytes,
            since: Stopwatch::start(),
            is_question: false,
        };
        (Box::new(pending), Delivery(receiver))
    }

    /// Of a record that says nothing.
    pub(super) fn question(produced: Counter, bytes: usize) -> (Box<Self>, Delivery) {
        let (mut pending, delivery) = Self::new(produced, bytes);
        pending.is_question = true;
        (pending, delivery)
    }
}

/// Takes the client library's reports, on its polling thread.
pub(crate) struct Deliveries {
    pub(super) health: Arc<Health>,
    pub(super) access: Arc<Access>,
    /// Counts what the client library complains of.
    pub(super) complaints: watch::Sender<u64>,
    pub(super) metrics: Metrics,
    pub(super) record_bytes_max: usize,
}

impl Deliveries {
    fn failed(&self, error: &KafkaError, topic: &str, pending: &Pending) -> SendError {
        let denied = error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed);
        let error = if denied {
            let right = Right::WriteTopic(topic.to_owned());
            SendError::Denied(Box::new(if pending.is_question {
                self.access.denial(right)
            } else {
                self.access.denied(right)
            }))
        } else {
            SendError::from_kafka(error, pending.bytes, self.record_bytes_max)
        };
        self.metrics.error(error.kind());
        if matches!(error, SendError::Unavailable { .. }) {
            self.health.missed(topic);
        }
        error
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, report: &DeliveryResult<'_>, pending: Box<Pending>) {
        self.metrics.queued.dec();
        let outcome = match report {
            Ok(message) => {
                self.health.answered();
                if self.access.any() {
                    self.access
                        .granted(&Right::WriteTopic(message.topic().to_owned()));
                    self.access.granted(&Right::SignIn);
                }
                pending.produced.inc();
                let seconds = pending.since.elapsed().as_secs_f64();
                self.metrics.delivery.observe(seconds);
                Ok(Position {
                    partition: message.partition(),
                    offset: message.offset(),
                })
            }
            Err((error, message)) => Err(self.failed(error, message.topic(), &pending)),
        };
        // Whoever enqueued the record may have dropped the delivery: nobody waits, and nothing is lost.
        let _ = pending.sender.send(outcome);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        logging::forward(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if self.access.heard(code, reason) && code != Some(RDKafkaErrorCode::SSL) {
            self.access.denied(Right::SignIn);
        }
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.health.unreachable();
        }
        self.complaints.send_modify(|complaints| *complaints += 1);
        self.metrics.error("client");
        tracing::debug!(%error, reason, "the producer's client reports an error");
    }
}
