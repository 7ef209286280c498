//! Who is calling: an extractor, so that a handler without a caller does not compile.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use schemas::access;
use schemas::record::Role;

use crate::refusal::Refusal;
use crate::run::App;

/// A caller who may report events.
pub(crate) struct Caller(pub(crate) access::Caller);

impl FromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let now = app.clock.now();
        let caller = app.keys.read().authorize(header, &[Role::Ingest], now);
        caller.map(Self).map_err(|denied| {
            app.metrics.refused("denied", 1);
            denied.into()
        })
    }
}
