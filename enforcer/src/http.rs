//! The enforcer's part of the management plane: what stands, what stood and why, and the policy.

pub(crate) mod commands;
mod explain;
mod operations;
mod page;
mod policy;
mod requests;
mod show;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bus::Bus;
use bus::clock::SharedClock;
use http::{StatusCode, header};
use parking_lot::RwLock;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemas::access::Caller;
use schemas::problem::{FieldError, Problem};
use schemas::subject::Subject;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::proposal::Proposal;
use crate::service::Board;
use crate::store::{Cursor, Filter, Listed, Store, StoreError};

pub use operations::OPERATIONS;

/// Decisions on a page unless asked otherwise, and at most.
const PAGE_MAX: usize = 1_000;

/// What handlers look at.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) clock: SharedClock,
    pub(crate) board: Arc<RwLock<Board>>,
    pub(crate) bus: Bus,
    pub(crate) propose: mpsc::Sender<Proposal>,
    /// Held while one call reads the log back.
    pub(crate) explaining: Arc<tokio::sync::Mutex<()>>,
}

/// What a call is answered that cannot be done.
#[derive(Debug)]
struct Refused(Box<Problem>);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/decisions", get(list_decisions))
        .route("/v1/decisions/{id}", get(get_decision))
        .merge(explain::router())
        .merge(policy::router())
        .with_state(shared)
}

/// The query of `GET /v1/decisions`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// This subject and all below it.
    subject: Option<String>,
    standing: Option<bool>,
    limit: Option<usize>,
    after: Option<String>,
}

async fn list_decisions(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<Params>, QueryRejection>,
) -> Response {
    let answer = async {
        let Query(params) = params.map_err(|error| bad("query", error.body_text()))?;
        let Some(filter) = filter(&params, &caller)? else {
            return Ok(Json(json!([])).into_response());
        };
        let now = shared.clock.now();
        let mut page = shared
            .store
            .list(&filter, now)
            .await
            .map_err(|e| away(&e))?;
        let more = page_max(&params) < page.len();
        page.truncate(page_max(&params));
        let shown: Vec<Value> = page
            .iter()
            .map(|listed| show::decision(listed, now))
            .collect();
        let mut response = Json(shown).into_response();
        if more
            && let Some(last) = page.last()
            && let Ok(link) = next_link(&params, last, !last.stands_at(now)).parse()
        {
            response.headers_mut().insert(header::LINK, link);
        }
        Ok(response)
    };
    answer
        .await
        .unwrap_or_else(|problem: Refused| problem.into_response())
}

async fn get_decision(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    let answer = async {
        // PostgreSQL keeps no such character, and no decision's id has one.
        let id = id.replace('\0', "");
        let found = shared.store.get(&id).await.map_err(|error| away(&error))?;
        let seen = found.filter(|listed| {
            Subject::parse(&listed.subject).is_ok_and(|subject| caller.may_see(&subject))
        });
        // What one may not see answers as if it did not exist.
        let missing = || problem(StatusCode::NOT_FOUND, "there is no decision of this id");
        let listed = seen.ok_or_else(missing)?;
        Ok(Json(show::decision(&listed, shared.clock.now())).into_response())
    };
    answer
        .await
        .unwrap_or_else(|problem: Refused| problem.into_response())
}

fn page_max(params: &Params) -> usize {
    params.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX)
}

/// What to read: one decision more than the page shows, to know whether there is another page. `None` where the caller
/// may not see the subject, which is as if there were no decisions on it.
fn filter(params: &Params, caller: &Caller) -> Result<Option<Filter>, Refused> {
    if params.limit == Some(0) {
        return Err(bad("limit", "must be at least 1"));
    }
    let subject = params.subject.as_deref().map(Subject::parse).transpose();
    let subject = subject.map_err(|error| bad("subject", error.to_string()))?;
    let is_hidden = |subject: &Subject| !caller.may_see(subject);
    let hidden = subject.as_ref().is_some_and(is_hidden);
    let stale = || bad("after", "not a cursor that an earlier page gave");
    let after = params
        .after
        .as_deref()
        .map(|text| decode_cursor(text).ok_or_else(stale));
    let filter = Filter {
        subject: subject.map(String::from),
        tenant: caller.tenant.clone(),
        standing: params.standing,
        after: after.transpose()?,
        limit: page_max(params) + 1,
    };
    Ok((!hidden).then_some(filter))
}

fn problem(status: StatusCode, detail: &str) -> Refused {
    Problem::new(status, detail).into()
}

fn bad(parameter: &str, detail: impl Into<String>) -> Refused {
    let detail = detail.into();
    let error = FieldError {
        pointer: parameter.to_owned(),
        detail: detail.clone(),
    };
    let problem = Problem::new(StatusCode::BAD_REQUEST, format!("{parameter}: {detail}"));
    problem.with_errors(vec![error]).into()
}

fn away(error: &StoreError) -> Refused {
    tracing::error!(%error, "decisions cannot be read");
    let detail = "the history of decisions does not answer; try again later";
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    problem.with_retry_after(5).into()
}

fn next_link(params: &Params, last: &Listed, ended: bool) -> String {
    let cursor = encode_cursor(&Cursor {
        ended,
        seq: last.seq,
        subject: last.subject.clone(),
    });
    let mut link = format!("</v1/decisions?after={cursor}&limit={}", page_max(params));
    if let Some(subject) = &params.subject {
        let subject = utf8_percent_encode(subject, NON_ALPHANUMERIC);
        link = format!("{link}&subject={subject}");
    }
    if let Some(standing) = params.standing {
        link = format!("{link}&standing={standing}");
    }
    format!("{link}>; rel=\"next\"")
}

fn encode_cursor(cursor: &Cursor) -> String {
    let Cursor {
        ended,
        seq,
        subject,
    } = cursor;
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}.{seq}.{subject}", u8::from(*ended)))
}

fn decode_cursor(text: &str) -> Option<Cursor> {
    let plain = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = plain.splitn(3, '.');
    let ended = match parts.next()? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some(Cursor {
        ended,
        seq: parts.next()?.parse().ok()?,
        subject: parts
            .next()
            .filter(|subject| !subject.contains('\0'))?
            .to_owned(),
    })
}
