//! What can go wrong between Weir and its log.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::codec::EncodeError;
use thiserror::Error;

use crate::access::Denial;

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
    /// The servers do not take this client's credentials or certificate, or it does not take theirs.
    #[error("{bootstrap} and this client do not trust one another ({reason}): {remedy}")]
    Untrusted {
        bootstrap: String,
        reason: String,
        remedy: &'static str,
    },
    /// The log does not let this client do what it must.
    #[error("{0}")]
    Denied(Box<Denial>),
    /// A topic that is not as Weir needs it, and what mends that.
    #[error("topic {topic}: {reason}; {remedy}")]
    Topic {
        topic: String,
        reason: String,
        remedy: String,
    },
    /// Topics that do not exist and that this client cannot make, with the commands that do.
    #[error(
        "{topics} topics do not show and cannot be made: {reason}, or let an administrator run:{commands}"
    )]
    NotMade {
        topics: usize,
        reason: String,
        commands: String,
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
    /// The log does not let this client write there. Trying again helps once that is granted.
    #[error("{0}")]
    Denied(Box<Denial>),
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
        matches!(
            self,
            Self::Full { .. } | Self::Unavailable { .. } | Self::Denied(_)
        )
    }

    /// The label of this error on metrics.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Unavailable { .. } => "unavailable",
            Self::Denied(_) => "denied",
            Self::TooLarge { .. } => "too_large",
            Self::Encode(_) => "encode",
            Self::Fatal(_) => "refused",
        }
    }

    /// What the client library says of a record of `bytes` bytes, in our words. That it is denied is the caller's to
    /// tell: only it knows what for.
    pub(crate) fn from_kafka(error: &KafkaError, bytes: usize, bytes_max: usize) -> Self {
        let Some(code) = error.rdkafka_error_code() else {
            return Self::Fatal(error.to_string());
        };
        match Trouble::of(code) {
            Trouble::Passing => Self::Unavailable {
                reason: code.to_string(),
            },
            Trouble::TooLarge => Self::TooLarge { bytes, bytes_max },
            Trouble::Denied | Trouble::Refused | Trouble::Fatal => Self::Fatal(code.to_string()),
        }
    }
}

/// What an error of the client library calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Waiting: a log that is away, starting or moving leaders gives it, and it ends by itself.
    Passing,
    /// An administrator, who grants a right; then it ends by itself.
    Denied,
    /// A smaller record.
    TooLarge,
    /// Another request: this one can never succeed. The client can go on.
    Refused,
    /// A new client: this one is finished.
    Fatal,
}

impl Trouble {
    pub(crate) fn of(code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode as Code;
        match code {
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
            | Code::NotController
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::KafkaStorageError
            | Code::PurgeQueue
            | Code::PurgeInflight => Self::Passing,
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed => Self::Denied,
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
                Self::TooLarge
            }
            Code::Fatal
            | Code::Fenced
            | Code::FencedInstanceId
            | Code::InvalidProducerEpoch
            | Code::ProducerFenced
            | Code::OutOfOrderSequenceNumber => Self::Fatal,
            _ => Self::Refused,
        }
    }
}

/// The reason where TLS is missing on this side.
pub(crate) const ONLY_THEY_ENCRYPT: &str = "they speak TLS, and this client does not";

/// Whether it is the servers' certificate that the client library does not take.
pub(crate) fn is_about_their_certificate(reason: &str) -> bool {
    reason.contains("certificate verify failed")
}

/// What to do when client and servers do not trust one another, by the client library's words.
pub(crate) fn remedy(reason: &str) -> &'static str {
    let says = |part: &str| reason.contains(part);
    if reason == ONLY_THEY_ENCRYPT {
        return "add a section [kafka.tls]";
    }
    if says("SASL") {
        return "correct `mechanism`, `username` and `password` under [kafka.sasl], or add the user to the cluster";
    }
    if says("hostname mismatch") || says("IP address mismatch") {
        return "name the servers in `bootstrap`, and they themselves in `advertised.listeners`, as their certificates do";
    }
    if says("certificate has expired") || says("not yet valid") {
        return "renew the servers' certificate, or set the clock of this machine";
    }
    if is_about_their_certificate(reason) || says("their certificate") {
        return "set `ca` under [kafka.tls] to the file of the certificate that signed the servers'";
    }
    if says("wrong version number") || says("PLAINTEXT") {
        return "nobody speaks TLS there: name the servers' TLS listener in `bootstrap`, or take out [kafka.tls]";
    }
    if says("alert") || says("certificate") {
        return "the servers ask for a certificate that they know: set `certificate` and `key` under [kafka.tls]";
    }
    "compare [kafka.tls] and [kafka.sasl] with the servers' listener"
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
        check(RDKafkaErrorCode::Fatal, "refused", false);
    }

    #[track_caller]
    fn check_trouble(code: RDKafkaErrorCode, expected: Trouble) {
        assert_eq!(Trouble::of(code), expected, "{code:?}");
    }

    #[test]
    fn tells_what_trouble_calls_for() {
        check_trouble(RDKafkaErrorCode::NotCoordinator, Trouble::Passing);
        check_trouble(RDKafkaErrorCode::NetworkException, Trouble::Passing);
        check_trouble(RDKafkaErrorCode::TopicAuthorizationFailed, Trouble::Denied);
        check_trouble(RDKafkaErrorCode::GroupAuthorizationFailed, Trouble::Denied);
        check_trouble(RDKafkaErrorCode::Authentication, Trouble::Denied);
        check_trouble(RDKafkaErrorCode::MessageSizeTooLarge, Trouble::TooLarge);
        check_trouble(RDKafkaErrorCode::InvalidRecord, Trouble::Refused);
        check_trouble(RDKafkaErrorCode::PolicyViolation, Trouble::Refused);
        check_trouble(RDKafkaErrorCode::Fatal, Trouble::Fatal);
        check_trouble(RDKafkaErrorCode::Fenced, Trouble::Fatal);
        check_trouble(RDKafkaErrorCode::OutOfOrderSequenceNumber, Trouble::Fatal);
    }

    #[track_caller]
    fn check_remedy(reason: &str, part: &str) {
        assert!(
            remedy(reason).contains(part),
            "{reason}: {}",
            remedy(reason)
        );
    }

    #[test]
    fn says_what_to_do_about_distrust() {
        check_remedy(
            "SASL authentication error: Authentication failed",
            "`password`",
        );
        check_remedy("their certificate: IP address mismatch", "`bootstrap`");
        check_remedy("their certificate: hostname mismatch", "`bootstrap`");
        check_remedy("their certificate: certificate has expired", "renew");
        check_remedy(
            "their certificate: unable to get local issuer certificate",
            "`ca`",
        );
        check_remedy("SSL handshake failed: certificate verify failed", "`ca`");
        check_remedy(
            "Receive failed: sslv3 alert bad certificate: SSL alert number 42",
            "`key`",
        );
        check_remedy(
            "SSL handshake failed: wrong version number",
            "nobody speaks TLS",
        );
        check_remedy(ONLY_THEY_ENCRYPT, "add a section [kafka.tls]");
        check_remedy("something new", "compare");
    }
}
