//! Why a request was not taken, and how that is told. Only this file knows status codes.

use axum::body::Body;
use axum::http::header::{CONNECTION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bus::SendError;
use schemas::access::Denied;
use schemas::cloudevents::ReadError;
use schemas::problem::{FieldError, Problem, TEMPORARY_REDUCED_CAPACITY};
use thiserror::Error;

/// Seconds after which a client may try again when the log is away or Weir has too much in hand.
const RETRY_SECONDS: u64 = 1;

#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("this key speaks for one tenant only, and {} of these events are another's", errors.len())]
    OtherTenant { errors: Vec<FieldError> },
    #[error(
        "`{0}` marks no tenant here; the token is part of the report-to address that your operator gave you"
    )]
    UnknownToken(String),
    #[error(
        "content type `{0}` is none of application/cloudevents+json, application/cloudevents-batch+json, \
         application/x-ndjson, or application/json with ce- headers"
    )]
    EventType(String),
    #[error("content type `{0}` is neither application/csp-report nor application/reports+json")]
    ReportType(String),
    #[error("content encoding `{0}` is not known: send gzip, zstd, or none")]
    Encoding(String),
    #[error("the body is larger than {bytes_max} bytes; send fewer events at a time")]
    TooLarge { bytes_max: usize },
    #[error("the body inflates to more than {bytes_max} bytes; send fewer events at a time")]
    InflatesTooLarge { bytes_max: usize },
    #[error("the body ended early or is not the {encoding} that it says: {reason}")]
    BrokenBody {
        encoding: &'static str,
        reason: String,
    },
    #[error("header `{0}` is not text in UTF-8 with percent-encoding")]
    BadHeader(String),
    #[error(transparent)]
    Unread(#[from] ReadError),
    #[error("no report in this body can be read")]
    BadReports { errors: Vec<FieldError> },
    #[error("too many reports from this tenant's browsers")]
    TooManyReports { retry_after_seconds: u64 },
    #[error(
        "Weir has as much in hand as it can hold; sending the same events again is safe, they are one by source and id"
    )]
    Busy,
    #[error(
        "the log does not acknowledge; sending the same events again is safe, they are one by source and id"
    )]
    LogAway(#[source] Option<SendError>),
    #[error("one of these events makes a record that is too large for the log ({0})")]
    RecordTooLarge(#[source] SendError),
    #[error("something is wrong inside Weir; its own log says what")]
    Internal(#[source] SendError),
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full { .. } => Self::Busy,
            SendError::Unavailable { .. } | SendError::Denied(_) => Self::LogAway(Some(error)),
            SendError::TooLarge { .. } => Self::RecordTooLarge(error),
            SendError::Encode(_) | SendError::Fatal(_) => Self::Internal(error),
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Denied(Denied::Missing | Denied::Unknown) => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::Role) | Self::OtherTenant { .. } => StatusCode::FORBIDDEN,
            Self::UnknownToken(_) => StatusCode::NOT_FOUND,
            Self::EventType(_) | Self::ReportType(_) | Self::Encoding(_) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::TooLarge { .. }
            | Self::InflatesTooLarge { .. }
            | Self::RecordTooLarge(_)
            | Self::Unread(ReadError::TooMany { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BrokenBody { .. } | Self::BadHeader(_) | Self::Unread(ReadError::NotJson(_)) => {
                StatusCode::BAD_REQUEST
            }
            Self::Unread(ReadError::Bad(_)) | Self::BadReports { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::TooManyReports { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::LogAway(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::TooManyReports {
                retry_after_seconds,
            } => Some(*retry_after_seconds),
            Self::Busy | Self::LogAway(_) => Some(RETRY_SECONDS),
            _ => None,
        }
    }

    /// Whether the body may not have been read to its end: no other request can follow on its connection then.
    const fn leaves_body_unread(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::InflatesTooLarge { .. } | Self::BrokenBody { .. }
        )
    }

    /// Its name on metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Denied(_) | Self::OtherTenant { .. } | Self::UnknownToken(_) => "denied",
            Self::EventType(_) | Self::ReportType(_) | Self::Encoding(_) => "media_type",
            Self::TooLarge { .. } | Self::InflatesTooLarge { .. } | Self::RecordTooLarge(_) => {
                "too_large"
            }
            Self::BrokenBody { .. }
            | Self::BadHeader(_)
            | Self::Unread(_)
            | Self::BadReports { .. } => "bad_input",
            Self::TooManyReports { .. } => "too_many_reports",
            Self::Busy => "busy",
            Self::LogAway(_) => "log_away",
            Self::Internal(_) => "internal",
        }
    }

    fn problem(&self) -> Problem {
        let mut problem = Problem::new(self.status(), self.to_string());
        problem.retry_after_seconds = self.retry_after_seconds();
        match self {
            Self::OtherTenant { errors } | Self::BadReports { errors } => {
                problem.with_errors(errors.clone())
            }
            Self::Unread(ReadError::Bad(bad)) => problem.with_errors(bad.errors.clone()),
            Self::Busy | Self::LogAway(_) => Problem {
                kind: TEMPORARY_REDUCED_CAPACITY,
                ..problem
            },
            _ => problem,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match &self {
            Self::Internal(cause) => tracing::error!(%cause, "an event cannot be written"),
            Self::LogAway(Some(cause)) => tracing::debug!(%cause, "the log is away"),
            _ => {}
        }
        let mut response = self.problem().into_response::<Body>();
        if self.leaves_body_unread() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
