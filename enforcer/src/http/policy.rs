//! The policy over HTTP: what holds, what held, who changed it why, and changing it.

mod change;

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use schemas::page::with_next;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Refused, Shared, bad, log_away, problem, show};
use crate::policy::{self, POLICY_BYTES_MAX, Version};
use crate::wire;
use change::{put_policy, roll_back};

/// JSON needs more room than the TOML that is kept of it.
const BODY_BYTES_MAX: usize = 4 * POLICY_BYTES_MAX;

/// Versions on a page unless asked otherwise, and at most.
const PAGE_MAX: usize = 100;

/// How long a call waits for the log.
const LOG_WITHIN: Duration = Duration::from_secs(10);

const TOML: &str = "application/toml";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/policy", get(get_policy).put(put_policy))
        .route("/v1/policy/versions", get(list_versions))
        .route("/v1/policy/versions/{version}", get(get_version))
        .route("/v1/policy/diff", get(get_diff))
        .route("/v1/policy/rollback", post(roll_back))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

// === Reading ===

async fn get_policy(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Refused> {
    let board = shared.board.read();
    Ok(shown(&board.in_force, &headers, || show::policy(&board)))
}

/// The query of `GET /v1/policy/versions`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
    /// The last version of the page before.
    after: Option<u64>,
}

async fn list_versions(
    State(shared): State<Shared>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(page) = page.map_err(|error| bad("query", error.body_text()))?;
    if page.limit == Some(0) {
        return Err(bad("limit", "must be at least 1"));
    }
    let size = page.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let board = shared.board.read();
    let before = page.after.unwrap_or(u64::MAX);
    let mut left = board.versions.range(..before).rev().peekable();
    let mut listed = Vec::new();
    let mut last = 0;
    for (number, head) in left.by_ref().take(size) {
        listed.push(show::head(*number, head));
        last = *number;
    }
    let more = left.peek().is_some();
    let link = format!("</v1/policy/versions?after={last}&limit={size}>; rel=\"next\"");
    let next = HeaderValue::from_str(&link).ok().filter(|_| more);
    Ok(with_next(Json(listed).into_response(), next))
}

async fn get_version(
    State(shared): State<Shared>,
    Path(number): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let number = number.parse().ok().ok_or_else(missing)?;
    let version = version(&shared, number).await?.ok_or_else(missing)?;
    Ok(shown(&version, &headers, || show::version(&version)))
}

/// The query of `GET /v1/policy/diff`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    /// The one before `to`, unless it is given.
    from: Option<u64>,
    /// The one that holds, unless it is given.
    to: Option<u64>,
}

async fn get_diff(
    State(shared): State<Shared>,
    between: Result<Query<Between>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(between) = between.map_err(|error| bad("query", error.body_text()))?;
    let (from, to) = {
        let board = shared.board.read();
        let to = between.to.unwrap_or(board.in_force.policy.version);
        let before = board.versions.range(..to).next_back().map(|(n, _)| *n);
        (between.from.or(before), to)
    };
    let unknown = |parameter: &str| bad(parameter, "there is no such version of the policy");
    let from = from.ok_or_else(|| bad("from", "there is no version before this one"))?;
    let older = version(&shared, from).await?;
    let older = older.ok_or_else(|| unknown("from"))?;
    let newer = version(&shared, to).await?;
    let newer = newer.ok_or_else(|| unknown("to"))?;
    let diff = policy::diff(&older.policy, &newer.policy);
    let mut shown = json!({ "from": from, "to": to });
    if let (Value::Object(shown), Ok(Value::Object(diff))) =
        (&mut shown, serde_json::to_value(&diff))
    {
        shown.extend(diff);
    }
    Ok(Json(shown).into_response())
}

/// A version by its number, from the log unless it is the one that holds.
async fn version(shared: &Shared, number: u64) -> Result<Option<Version>, Refused> {
    {
        let board = shared.board.read();
        if board.in_force.policy.version == number {
            return Ok(Some(board.in_force.clone()));
        }
        if !board.versions.contains_key(&number) {
            return Ok(None);
        }
    }
    match timeout(LOG_WITHIN, wire::versions(&shared.bus)).await {
        Ok(Ok(mut versions)) => Ok(versions.kept.remove(&number)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "versions of the policy cannot be read");
            Err(log_away())
        }
        Err(_) => Err(log_away()),
    }
}

// === Answers ===

/// A version as TOML where that is asked for, as JSON else.
fn shown(version: &Version, headers: &HeaderMap, json: impl Fn() -> Value) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let kinds = accepted.into_iter().flat_map(|text| text.split(','));
    let mut kinds = kinds.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let wants_toml = kinds.any(|kind| kind.eq_ignore_ascii_case(TOML));
    let mut response = if wants_toml {
        ([(CONTENT_TYPE, TOML)], version.source.clone()).into_response()
    } else {
        Json(json()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, etag(version));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn etag(version: &Version) -> HeaderValue {
    let tag = format!("\"{}\"", version.policy.version);
    HeaderValue::from_str(&tag).expect("a number in quotes is a header's value")
}

fn missing() -> Refused {
    let detail = "there is no version of the policy with this number";
    problem(StatusCode::NOT_FOUND, detail)
}
