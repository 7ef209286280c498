//! The check endpoints, for gateways that are not written in Rust.

mod operations;
mod refusal;
mod reservations;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{any, delete, get, post};
use axum::{Json, Router};
use parking_lot::RwLock;
use schemas::access::{Caller, Denied, KeyRing};
use schemas::record::Role;
use schemas::subject::Dimension;
use serde::{Deserialize, Serialize};

use crate::handle::Handle;
use crate::reply::Reply;
use crate::request::Ask;
use crate::{ask, headers, json, layer};
use operations::ROLES;
use refusal::Refusal;

pub use operations::OPERATIONS;

/// A gateway's own key, where `Authorization` is its client's and is passed on.
const OWN_AUTHORIZATION: HeaderName = HeaderName::from_static("x-weir-authorization");
/// Which status a refusal is to have for a proxy that knows few.
const DENY_STATUS: HeaderName = HeaderName::from_static("x-weir-deny-status");
/// The status that it would have had.
const TRUE_STATUS: HeaderName = HeaderName::from_static("x-weir-status");

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) handle: Handle,
    pub(crate) keys: Arc<RwLock<KeyRing>>,
    /// How long a commit waits for the log.
    pub(crate) logged_within: Duration,
}

pub(crate) fn router(app: App, body_bytes_max: usize) -> Router {
    Router::new()
        .route("/v1/check", post(check))
        .route("/v1/forward-auth", any(forward_auth))
        .route("/v1/key", get(key))
        .route("/v1/reservations", post(reservations::reserve))
        .route("/v1/reservations/{id}", delete(reservations::release))
        .route("/v1/reservations/{id}/commit", post(reservations::commit))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(app)
}

/// Answers 200 whatever the verdict: the caller acts on what the answer says.
async fn check(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let answered = app.check(&headers, body).await;
    app.counted(answered)
}

/// Answers as the request itself is to be answered: the real status, headers and body.
async fn forward_auth(
    State(app): State<App>,
    Query(query): Query<DenyStatus>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let answered = app.forward_auth(&query, &headers).await;
    app.counted(answered)
}

/// What the caller's key is and may do.
async fn key(State(app): State<App>, headers: HeaderMap) -> Result<Json<KeyAnswer>, Refusal> {
    let answered = app.key(&headers);
    app.counted(answered)
}

#[derive(Deserialize)]
struct DenyStatus {
    deny_status: Option<String>,
}

#[derive(Serialize)]
struct KeyAnswer {
    id: String,
    role: Role,
    /// `null`: the whole platform.
    tenant: Option<String>,
    may: &'static [&'static str],
    created_at: String,
    expires_at: Option<String>,
    note: String,
}

// === impl App ===

impl App {
    async fn check(
        &self,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Response, Refusal> {
        let caller = self.caller(headers)?;
        let body = json_body(headers, body)?;
        let ask = ask::from_json(&body)?;
        may_ask(&caller, &ask)?;
        let reply = self.handle.ask(ask).await;
        let mut response = Response::new(Body::from(json::answer(&reply)));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        if let Some(seconds) = reply.stale_s {
            let stale = HeaderValue::from(seconds);
            response.headers_mut().insert(headers::STALE, stale);
        }
        Ok(response)
    }

    async fn forward_auth(
        &self,
        query: &DenyStatus,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let caller = self.caller(headers)?;
        let deny_status = deny_status(query, headers)?;
        let ask = ask::from_headers(headers)?;
        may_ask(&caller, &ask)?;
        let reply = self.handle.ask(ask).await;
        Ok(forwarded(&reply, deny_status))
    }

    fn key(&self, headers: &HeaderMap) -> Result<Json<KeyAnswer>, Refusal> {
        let now = self.handle.shared().clock.now();
        let keys = self.keys.read();
        let caller = keys.authenticate(authorization(headers), now)?;
        let key = keys.keys().find(|key| key.id == caller.key_id);
        let key = key.ok_or(Denied::Unknown)?;
        Ok(Json(KeyAnswer {
            id: key.id.clone(),
            role: key.role,
            tenant: key.tenant.clone(),
            may: may(key.role),
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.map(|at| at.to_string()),
            note: key.note.clone(),
        }))
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let now = self.handle.shared().clock.now();
        self.keys
            .read()
            .authorize(authorization(headers), ROLES, now)
    }

    fn counted<T>(&self, answered: Result<T, Refusal>) -> Result<T, Refusal> {
        answered.inspect_err(|refusal| self.handle.shared().metrics.bad_request(refusal.reason()))
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    let own = headers.get(OWN_AUTHORIZATION);
    own.or_else(|| headers.get(AUTHORIZATION))?.to_str().ok()
}

/// A key that speaks for one tenant may ask for that one only.
fn may_ask(caller: &Caller, ask: &Ask) -> Result<(), Refusal> {
    match (&caller.tenant, ask.id(Dimension::Tenant)) {
        (None, _) => Ok(()),
        (Some(own), Some(tenant)) if own == tenant => Ok(()),
        (Some(own), _) => Err(Refusal::OtherTenant { own: own.clone() }),
    }
}

/// A body that was read whole, and does not say that it is something else than JSON.
fn json_body(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    let body = body.map_err(Refusal::body)?;
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(body);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(body)
    } else {
        Err(Refusal::MediaType(text.into_owned()))
    }
}

/// The status that refusals are to have, if the proxy asks for one.
fn deny_status(query: &DenyStatus, headers: &HeaderMap) -> Result<Option<StatusCode>, Refusal> {
    let header = headers
        .get(DENY_STATUS)
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let asked = query.deny_status.as_deref().or(header.as_deref());
    let Some(asked) = asked else { return Ok(None) };
    let status = asked
        .parse()
        .ok()
        .and_then(|n| StatusCode::from_u16(n).ok());
    let status = status.filter(|s| s.is_client_error() || s.is_server_error());
    status
        .map(Some)
        .ok_or_else(|| Refusal::DenyStatus(asked.to_owned()))
}

fn forwarded(reply: &Reply, deny_status: Option<StatusCode>) -> Response {
    if !reply.is_refused() {
        let mut response = Response::new(Body::empty());
        headers::add(reply, response.headers_mut());
        return response;
    }
    let mut response: Response = layer::refusal(reply);
    if let Some(status) = deny_status {
        let true_status = HeaderValue::from(response.status().as_u16());
        response.headers_mut().insert(TRUE_STATUS, true_status);
        *response.status_mut() = status;
    }
    response
}

fn may(role: Role) -> &'static [&'static str] {
    match role {
        Role::Ingest => &["report events", "ask for checks"],
        Role::Gateway => &["ask for checks"],
        Role::Operator => &["everything on the management plane"],
        Role::Auditor => &["read everything on the management plane"],
        Role::Tenant => &["read its tenant's on the management plane"],
    }
}
