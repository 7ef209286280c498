//! Why a call of the check endpoints was not answered, and how that is told. Only this file knows status codes.

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemas::access::Denied;
use schemas::problem::Problem;
use thiserror::Error;

use crate::ask::BadAsk;

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
            Self::DenyStatus(_) | Self::Ask(BadAsk::Fields(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// Its name on metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Denied(_) | Self::OtherTenant { .. } => "denied",
            Self::MediaType(_) => "media_type",
            Self::TooLarge => "too_large",
            Self::BrokenBody(_) | Self::DenyStatus(_) | Self::Ask(_) => "bad_input",
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
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
