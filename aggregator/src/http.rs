//! Queries on what was counted: usage, sketches, limits, crossings, groups of violations, refusals. The caller is found in the
//! request, put there by whoever authenticates the management plane; what one may not see is not there.

mod ask;
mod chain;
mod forecast;
mod limits;
mod lists;
mod operations;
mod sketches;
mod usage;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bus::clock::SharedClock;
use http::StatusCode;
use parking_lot::RwLock;
use schemas::problem::Problem;

use crate::rules::Rules;
use crate::store::{Store, StoreError};

pub use operations::OPERATIONS;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) clock: SharedClock,
    /// What holds, as the log has it.
    pub(crate) rules: Arc<RwLock<Rules>>,
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/usage", get(usage::usage))
        .route("/v1/limits", get(limits::limits))
        .route("/v1/signals", get(lists::signals))
        .route("/v1/spread", get(sketches::spread))
        .route("/v1/top", get(sketches::top))
        .route("/v1/refusals", get(lists::refusals))
        .route("/v1/csp/groups", get(lists::csp_groups))
        .with_state(app)
}

/// Why a query is not answered.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A parameter that cannot be taken, and why.
    Bad {
        parameter: &'static str,
        detail: String,
    },
    /// The query string is none.
    Query(String),
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = match self {
            Self::Bad { parameter, detail } => Problem::parameter(parameter, detail),
            Self::Query(detail) => Problem::new(StatusCode::BAD_REQUEST, detail),
            Self::Store(error) => {
                tracing::error!(%error, "a query cannot be answered");
                let detail = "the store of usage does not answer; try again later";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_retry_after(5)
            }
        };
        problem.into_response()
    }
}

#[cfg(test)]
mod tests;
