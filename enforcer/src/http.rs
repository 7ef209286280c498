//! The enforcer's part of the management plane: what stands, what stood and why, and the policy.

pub(crate) mod commands;
mod explain;
mod operations;
mod policy;
mod requests;
mod show;
mod trail;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bus::Bus;
use bus::clock::SharedClock;
use http::StatusCode;
use parking_lot::RwLock;
use schemas::access::Caller;
use schemas::page::{self, Asked, Place};
use schemas::problem::Problem;
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

impl From<Box<Problem>> for Refused {
    fn from(problem: Box<Problem>) -> Self {
        Self(problem)
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
        let mut listed = shared
            .store
            .list(&filter, now)
            .await
            .map_err(|e| away(&e))?;
        let size = filter.limit - 1;
        let more = size < listed.len();
        listed.truncate(size);
        let shown: Vec<Value> = listed
            .iter()
            .map(|listed| show::decision(listed, now))
            .collect();
        let query = [
            ("subject", params.subject.as_deref()),
            ("standing", params.standing.map(is)),
        ];
        let last = listed.last().filter(|_| more);
        let next = last.and_then(|last| {
            let place = place(last, !last.stands_at(now));
            page::next("/v1/decisions", &query, ("limit", size), &place)
        });
        Ok(page::with_next(Json(shown).into_response(), next))
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

/// What to read: one decision more than the page shows, to know whether there is another page. `None` where the caller
/// may not see the subject, which is as if there were no decisions on it.
fn filter(params: &Params, caller: &Caller) -> Result<Option<Filter>, Refused> {
    let (subject, after) = (params.subject.as_deref(), params.after.as_deref());
    let asked = Asked::read(caller, subject, after, (params.limit, PAGE_MAX))?;
    let Some(asked) = asked else {
        return Ok(None);
    };
    let after = asked
        .after
        .map(|place| cursor(place).ok_or_else(page::stale));
    Ok(Some(Filter {
        subject: asked.subject.map(String::from),
        tenant: caller.tenant.clone(),
        standing: params.standing,
        after: after.transpose()?,
        limit: asked.size + 1,
    }))
}

/// Those that stand come first, then by number.
fn place(last: &Listed, ended: bool) -> Place {
    (last.seq, format!("{}.{}", u8::from(ended), last.subject))
}

fn cursor((seq, name): Place) -> Option<Cursor> {
    let (ended, subject) = name.split_once('.')?;
    let ended = match ended {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some(Cursor {
        ended,
        seq,
        subject: subject.to_owned(),
    })
}

const fn is(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn problem(status: StatusCode, detail: &str) -> Refused {
    Problem::new(status, detail).into()
}

fn bad(parameter: &str, detail: impl Into<String>) -> Refused {
    Problem::parameter(parameter, detail).into()
}

fn away(error: &StoreError) -> Refused {
    tracing::error!(%error, "decisions cannot be read");
    unavailable("the history of decisions does not answer; try again later")
}

fn log_away() -> Refused {
    unavailable("the log does not answer; try again later")
}

/// It may help to ask again in a while.
fn unavailable(detail: &str) -> Refused {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    problem.with_retry_after(5).into()
}
