//! What can go wrong between Weir and its log.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::codec::EncodeError;
use thiserror::Error;

/// Trouble with the log itself, with its topics, or with reading them.
#[derive(Debug, Error)]
pub enum BusError {
    /// A setting that would break what Weir relies on, or that the client library refuses.
    #[error("kafka setting `{name}`: {reason}")]
    Setting { name: String, reason: String },
    /// Nothing answered at start.
    #[error(
        "no log answers at {bootstrap} after {waited:?} ({reason}): start it, or correct `bootstrap` under [kafka]"
    )]
    Unreachable {
        bootstrap: String,
        waited: Duration,
        reason: String,
    },
    /// A topic that is not as Weir needs it, and what mends that.
    #[error("topic {topic}: {reason}; {remedy}")]
    Topic {
        topic: String,
        reason: String,
        remedy: String,
    },
    /// A position that the log does not have: reading on would lose records or count them twice.
    #[error(
        "{topic} partition {partition} cannot be read from offset {offset}: the log holds {low} to {high}; \
         records were deleted before they were read, or the log is not the one that was read before"
    )]
    Offset {
        topic: String,
        partition: i32,
        offset: i64,
        low: i64,
        high: i64,
    },
    /// A record that was read before came again.
    #[error(
        "{partition} gave offset {offset} after {next} was due: reading on would count it twice"
    )]
    Backwards {
        partition: String,
        offset: i64,
        next: i64,
    },
    /// The client library gave up for good.
    #[error("the log's client stopped: {0}")]
    Fatal(String),
    /// A record could not be copied to where it belongs.
    #[error("{topic} partition {partition} offset {offset} cannot be copied: {reason}")]
    Copy {
        topic: String,
        partition: i32,
        offset: i64,
        reason: String,
    },
    /// An administrative request failed.
    #[error("the log refused to {what}: {reason}")]
    Refused { what: String, reason: String },
    /// Writing what `connect` has to write failed.
    #[error("cannot record the layout of the topics in {topic}: {source}")]
    Record {
        topic: &'static str,
        source: SendError,
    },
    /// The reader was closed, or its thread ended after an error that was told before.
    #[error("the reader is closed")]
    Closed,
}

/// Why a record was not acknowledged.
#[derive(Debug, Error)]
pub enum SendError {
    /// Too many records wait for the log. Nothing was sent; try again later.
    #[error("{queued} records wait for the log already: try again later")]
    Full { queued: usize },
    /// The log did not acknowledge in time. The record **may or may not** be in the log: a retry can write it twice,
    /// so it needs an id by which readers know it again.
    #[error("the log does not answer ({reason}): try again later")]
    Unavailable { reason: String },
    #[error("a record of {bytes} bytes is more than the {bytes_max} that the log takes")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Trying again cannot help.
    #[error("the log refused the record: {0}")]
    Fatal(String),
}

impl SendError {
    /// Whether the same record may go through later.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Unavailable { .. })
    }

    /// The label of this error on metrics.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Unavailable { .. } => "unavailable",
            Self::TooLarge { .. } => "too_large",
            Self::Encode(_) => "encode",
            Self::Fatal(_) => "refused",
        }
    }

    /// What the client library says of a record of `bytes` bytes, in our words.
    pub(crate) fn from_kafka(error: &KafkaError, bytes: usize, bytes_max: usize) -> Self {
        let Some(code) = error.rdkafka_error_code() else {
            return Self::Fatal(error.to_string());
        };
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::InvalidMessageSize => Self::TooLarge { bytes, bytes_max },
            code if is_passing(code) => Self::Unavailable {
                reason: code.to_string(),
            },
            code => Self::Fatal(code.to_string()),
        }
    }
}

/// Errors that a log which is away, starting or moving leaders gives, and that end by themselves.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageTimedOut
            | Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::BrokerDestroy
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::TimedOutQueue
            | Code::Resolve
            | Code::NetworkException
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::KafkaStorageError
            | Code::PurgeQueue
            | Code::PurgeInflight
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: RDKafkaErrorCode, kind: &str, retriable: bool) {
        let error = SendError::from_kafka(&KafkaError::MessageProduction(code), 7, 5);
        assert_eq!(
            (error.kind(), error.is_retriable()),
            (kind, retriable),
            "{code:?}"
        );
    }

    #[test]
    fn tells_what_may_be_tried_again() {
        check(RDKafkaErrorCode::MessageTimedOut, "unavailable", true);
        check(RDKafkaErrorCode::AllBrokersDown, "unavailable", true);
        check(RDKafkaErrorCode::NotLeaderForPartition, "unavailable", true);
        check(RDKafkaErrorCode::PurgeInflight, "unavailable", true);
        check(RDKafkaErrorCode::MessageSizeTooLarge, "too_large", false);
        check(RDKafkaErrorCode::TopicAuthorizationFailed, "refused", false);
        check(RDKafkaErrorCode::Fatal, "refused", false);
    }
}
