//! What the client library has to say, in our log.

use rdkafka::config::RDKafkaLogLevel;

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
