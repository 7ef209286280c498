//! `GET /v1/signals`, `/v1/refusals`, `/v1/csp/groups`: arrays, with a `Link` to the next page where there is one.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemas::access::Caller;
use schemas::page;
use schemas::record::{Crossing, CspGroup, Refusal as RefusedRequest};
use schemas::subject::Subject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, Refusal, ask};
use crate::store::{Listing, Page};

const SIGNALS_MAX: i64 = 10_000;
const LIST_MAX: i64 = 1_000;

/// Here `limit` is a limit's name, so the page's size has another.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SignalParams {
    subject: Option<String>,
    limit: Option<String>,
    level: Option<String>,
    direction: Option<String>,
    page_size: Option<i64>,
    after: Option<String>,
}

pub(super) async fn signals(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<SignalParams>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(params) = params.map_err(|error| Refusal::Query(error.body_text()))?;
    let page = ask::page(
        params.after.as_deref(),
        params.page_size,
        ("page_size", SIGNALS_MAX),
    )?;
    let Some(mut filters) = visible(params.subject.as_deref(), &caller)? else {
        return Ok(Json(json!([])).into_response());
    };
    let named = [
        ("limit_name", &params.limit),
        ("level", &params.level),
        ("direction", &params.direction),
    ];
    filters.extend(
        named
            .into_iter()
            .filter_map(|(column, value)| Some((column, value.clone()?))),
    );
    let listing = app.store.crossings(&filters, &page).await?;
    let query = [
        ("subject", params.subject.as_deref()),
        ("limit", params.limit.as_deref()),
        ("level", params.level.as_deref()),
        ("direction", params.direction.as_deref()),
    ];
    Ok(list(
        "/v1/signals",
        &query,
        ("page_size", &page),
        listing,
        crossing,
    ))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListParams {
    subject: Option<String>,
    limit: Option<i64>,
    after: Option<String>,
}

pub(super) async fn refusals(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<ListParams>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(params) = params.map_err(|error| Refusal::Query(error.body_text()))?;
    let page = ask::page(params.after.as_deref(), params.limit, ("limit", LIST_MAX))?;
    let Some(filters) = visible(params.subject.as_deref(), &caller)? else {
        return Ok(Json(json!([])).into_response());
    };
    let listing = app.store.refusals(&filters, &page).await?;
    let query = [("subject", params.subject.as_deref())];
    Ok(list(
        "/v1/refusals",
        &query,
        ("limit", &page),
        listing,
        refused,
    ))
}

pub(super) async fn csp_groups(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<ListParams>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(params) = params.map_err(|error| Refusal::Query(error.body_text()))?;
    let page = ask::page(None, params.limit, ("limit", LIST_MAX))?;
    let subject = params
        .subject
        .as_deref()
        .map(|text| ask::subject(text, &caller))
        .transpose()?;
    let tenant = match subject {
        Some(None) => return Ok(Json(json!([])).into_response()),
        Some(Some(subject)) => subject.tenant_id(),
        None => caller.tenant.clone(),
    };
    let groups = app.store.csp_groups(tenant.as_deref(), page.limit).await?;
    Ok(Json(groups.iter().map(group).collect::<Vec<_>>()).into_response())
}

/// The filter on what the caller asked for and may see; `None` when it may see nothing of that.
fn visible(
    subject: Option<&str>,
    caller: &Caller,
) -> Result<Option<Vec<(&'static str, String)>>, Refusal> {
    let Some(text) = subject else {
        let own = caller
            .tenant
            .iter()
            .map(|tenant| ("tenant", tenant.clone()));
        return Ok(Some(own.collect()));
    };
    let subject = ask::subject(text, caller)?
        .filter(|subject| *subject != Subject::platform() || caller.tenant.is_none());
    Ok(subject.map(|subject| vec![("subject", subject.to_string())]))
}

fn list<T>(
    path: &str,
    query: &[(&str, Option<&str>)],
    (size_name, asked): (&str, &Page),
    listing: Listing<T>,
    show: fn(&T) -> Value,
) -> Response {
    let entries: Vec<Value> = listing.entries.iter().map(show).collect();
    let next = listing.next.as_ref();
    let next = next.and_then(|next| page::next(path, query, (size_name, asked.limit), next));
    page::with_next(Json(entries).into_response(), next)
}

fn crossing(crossing: &Crossing) -> Value {
    let mut shown = crossing.to_json();
    shown["id"] = crossing.id.as_str().into();
    shown["policy_version"] = crossing.policy_version.into();
    shown
}

fn refused(refusal: &RefusedRequest) -> Value {
    json!({
        "request_id": refusal.request_id,
        "at": refusal.at.to_string(),
        "gateway": refusal.gateway,
        "tenant": refusal.tenant,
        "key": refusal.key,
        "user": refusal.user,
        "route": refusal.route,
        "account": refusal.account,
        "source": refusal.source,
        "subject": refusal.subject,
        "limits": refusal.limits,
        "verdict": refusal.verdict,
        "status": refusal.status,
        "retry_after_s": refusal.retry_after_seconds,
        "decision": refusal.decision,
    })
}

fn group(group: &CspGroup) -> Value {
    json!({
        "tenant": group.tenant,
        "directive": group.directive,
        "blocked_host": group.blocked_host,
        "document_uri": group.document_uri,
        "first_at": group.at.to_string(),
        "count": group.count,
    })
}
