//! Why a call of the check endpoints was not answered, and how that is told. Only this file knows status codes.

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemas::access::Denied;
use schemas::problem::Problem;
use thiserror::Error;

use crate::ask::BadAsk;
use crate::ledger::Ending;
use crate::reservation::BadReservation;

#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("this key speaks for the tenant `{own}` only: name it as the tenant")]
    OtherTenant { own: String },
    #[error("content type `{0}` is not application/json")]
    MediaType(String),
    #[error("the body is larger than a check ever is")]
    TooLarge,
    #[error("the body ended early: {0}")]
    BrokenBody(String),
    #[error("deny_status `{0}` is no HTTP status of refusal (400-599)")]
    DenyStatus(String),
    #[error(transparent)]
    Ask(#[from] BadAsk),
    #[error(transparent)]
    Reservation(#[from] BadReservation),
    #[error("the reservation of this request_id {}: reserve under another one", ended(*.0))]
    Ended(Ending),
    #[error("nobody knows this reservation any more: it has ended, or a restart has forgotten it")]
    Unknown,
    #[error(
        "counted here, and not yet in the log, which does not answer: commit again, it counts once"
    )]
    NotLogged,
}

fn ended(ending: Ending) -> &'static str {
    match ending {
        Ending::Committed(_) => "was committed",
        Ending::Released => "was released",
        Ending::Expired => "has expired",
    }
}

impl Refusal {
    pub(crate) fn body(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            _ => Self::BrokenBody(rejection.body_text()),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Denied(Denied::Missing | Denied::Unknown) => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::Role) | Self::OtherTenant { .. } => StatusCode::FORBIDDEN,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BrokenBody(_) | Self::Ask(BadAsk::NotJson(_)) => StatusCode::BAD_REQUEST,
            Self::DenyStatus(_) | Self::Ask(BadAsk::Fields(_)) | Self::Reservation(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Ended(_) => StatusCode::CONFLICT,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::NotLogged => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Its name on metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Denied(_) | Self::OtherTenant { .. } => "denied",
            Self::MediaType(_) => "media_type",
            Self::TooLarge => "too_large",
            Self::BrokenBody(_) | Self::DenyStatus(_) | Self::Ask(_) | Self::Reservation(_) => {
                "bad_input"
            }
            Self::Ended(_) | Self::Unknown => "reservation_ended",
            Self::NotLogged => "not_logged",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut problem = Problem::new(status, self.to_string());
        if let Self::Ask(BadAsk::Fields(errors)) = self {
            problem = problem.with_errors(errors);
        }
        let mut response = problem.into_response::<Body>();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, soon);
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
