//! Changing the policy: a new text, or back to an older version's. Both become the next version.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use http::{HeaderMap, StatusCode};
use schemas::access::Caller;
use schemas::policy::Policy;
use schemas::problem::{FieldError, Problem};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{LOG_WITHIN, TOML, etag, version};
use crate::http::{Refused, Shared, bad, log_away, problem, show, unavailable};
use crate::policy;
use crate::proposal::{Answer, Proposal};

/// The query of `PUT /v1/policy`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Because {
    reason: Option<String>,
}

pub(super) async fn put_policy(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    because: Result<Query<Because>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let Query(because) = because.map_err(|error| bad("query", error.body_text()))?;
    let reason = because.reason.unwrap_or_default();
    policy::check_reason(&reason).map_err(|error| bad("reason", error))?;
    let based_on = if_match(&headers)?;
    let body = body.map_err(|error| problem(error.status(), &error.body_text()))?;
    let source = source(&headers, &body)?;
    let policy = policy::read_located(&source).map_err(|problems| unreadable(&problems))?;
    let wanted = Wanted {
        policy,
        source,
        reason,
        based_on,
    };
    propose(&shared, &caller, wanted).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    version: u64,
    reason: String,
}

pub(super) async fn roll_back(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Json<Rollback>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(asked) = body.map_err(|error| problem(error.status(), &error.body_text()))?;
    policy::check_reason(&asked.reason).map_err(|error| bad("/reason", error))?;
    let based_on = if_match(&headers)?;
    let unknown = || bad("/version", "there is no such version of the policy");
    let found = version(&shared, asked.version).await?.ok_or_else(unknown)?;
    let wanted = Wanted {
        policy: found.policy,
        source: found.source,
        reason: asked.reason,
        based_on,
    };
    propose(&shared, &caller, wanted).await
}

/// A checked policy that is to hold.
struct Wanted {
    policy: Policy,
    source: String,
    reason: String,
    based_on: Option<Vec<u64>>,
}

/// Hands it to the loop that publishes versions, and tells what came of it.
async fn propose(shared: &Shared, caller: &Caller, wanted: Wanted) -> Result<Response, Refused> {
    let (answer, answered) = oneshot::channel();
    let proposal = Proposal {
        policy: wanted.policy,
        source: wanted.source,
        author: caller.key_id.clone(),
        reason: wanted.reason,
        based_on: wanted.based_on,
        answer,
    };
    if shared.propose.try_send(proposal).is_err() {
        return Err(log_away());
    }
    match timeout(LOG_WITHIN, answered).await {
        Ok(Ok(Answer::InForce(version))) => {
            let mut response = Json(show::version(&version)).into_response();
            response.headers_mut().insert(ETAG, etag(&version));
            Ok(response)
        }
        Ok(Ok(Answer::MovedOn(held))) => {
            let detail = format!(
                "version {held} holds by now, which is none of those in `If-Match`: look at what changed, and try again"
            );
            Err(problem(StatusCode::PRECONDITION_FAILED, &detail))
        }
        Ok(Err(_)) | Err(_) => {
            let detail = "the log has not acknowledged it in time and may still: look at `GET /v1/policy` before \
                          trying again";
            Err(unavailable(detail))
        }
    }
}

/// The TOML text that a body says.
fn source(headers: &HeaderMap, body: &[u8]) -> Result<String, Refused> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/json" => policy::toml_of(body).map_err(|error| unprocessable(&error)),
        TOML | "text/plain" => String::from_utf8(body.to_vec()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            unprocessable(&format!("the policy is not text in UTF-8 (byte {at})"))
        }),
        _ => {
            let detail = "send the policy as `Content-Type: application/toml`, or as `application/json` of the same \
                          shape";
            Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

/// The versions that `If-Match` names; `None`: whatever holds.
fn if_match(headers: &HeaderMap) -> Result<Option<Vec<u64>>, Refused> {
    let mut versions = Vec::new();
    for value in headers.get_all(IF_MATCH) {
        let text = value.to_str().unwrap_or_default();
        for tag in text.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(None);
            }
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let number = number.and_then(|number| number.parse().ok());
            let wrong = || {
                bad(
                    "If-Match",
                    "write the number of a version in quotes, such as \"7\"",
                )
            };
            versions.push(number.ok_or_else(wrong)?);
        }
    }
    Ok((!versions.is_empty()).then_some(versions))
}

fn unprocessable(detail: &str) -> Refused {
    problem(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// Everything that is wrong with a policy, each with its line and column in the TOML text.
fn unreadable(problems: &[policy::Located]) -> Refused {
    let errors = problems.iter().map(|located| FieldError {
        pointer: located.pointer.clone(),
        detail: located.problem.to_string(),
    });
    let detail = match problems {
        [one] => format!("the policy cannot be obeyed: {}", one.problem),
        many => format!("the policy cannot be obeyed for {} reasons", many.len()),
    };
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    problem.with_errors(errors.collect()).into()
}
