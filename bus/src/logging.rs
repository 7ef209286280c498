//! What the client library has to say, in our log.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// Its errors are mostly connections that it will try again, so nothing of it is more than a warning here.
pub(crate) fn forward(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "bus::client", facility, "{text}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::debug!(target: "bus::client", facility, "{text}");
        }
        RDKafkaLogLevel::Debug => tracing::trace!(target: "bus::client", facility, "{text}"),
    }
}

/// Tells the same trouble once, then only each time it has doubled.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    last: Option<KafkaError>,
    times: u64,
}

impl Repeats {
    /// Warns that `what` because of `error`, about `topic`.
    pub(crate) fn warn(&mut self, error: &KafkaError, what: &str, topic: &str) {
        if self.last.as_ref() == Some(error) {
            self.times += 1;
        } else {
            self.last = Some(error.clone());
            self.times = 1;
        }
        if self.times.is_power_of_two() {
            tracing::warn!(%error, topic, times = self.times, "{what}");
        }
    }
}
