//! Requests: what tenants ask for, and what they were answered. They are commands, so the log has them before they are
//! answered over HTTP.

use std::collections::{BTreeMap, HashMap};

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use schemas::access::Caller;
use schemas::page::with_next;
use schemas::problem::Problem;
use schemas::subject::Subject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::commands::{Shared, parse, show, unprocessable};
use super::{Refused, away, bad, trail};
use crate::command::{Command, State, answer_id};
use crate::store::{Asked, Given, GivenFilter};

/// Requests of one tenant that wait for an answer. Several processes that are asked at one moment may take a few more.
const OPEN_MAX: usize = 10;

// === Asking ===

pub(super) async fn ask(
    Extract(shared): Extract<Shared>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let asked = async {
        let mut body = parse(&body)?;
        if let Some(fields) = body.as_object_mut() {
            fields.insert("kind".to_owned(), json!("ask"));
        }
        refuse_anothers(&body, &caller)?;
        shared.give(&caller, &HeaderMap::new(), body).await
    };
    match asked.await {
        Ok(request) => {
            let asked = Asked {
                request,
                answer: None,
            };
            (StatusCode::CREATED, Json(shared.show_asked(&asked))).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

/// What the caller may not see has no limits.
fn refuse_anothers(body: &Value, caller: &Caller) -> Result<(), Refused> {
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    let subject = text("subject").and_then(|subject| Subject::parse(subject).ok());
    let Some(subject) = subject.filter(|subject| !caller.may_see(subject)) else {
        return Ok(());
    };
    let name = text("limit").unwrap_or_default();
    Err(unprocessable(vec![schemas::problem::FieldError {
        pointer: "/limit".to_owned(),
        detail: format!("`{name}` is no limit of `{subject}`"),
    }]))
}

impl Shared {
    /// The request that is open already and asks for the same; or none, where there is room for one more.
    pub(super) async fn open_as(
        &self,
        recent: &HashMap<String, Given>,
        command: &Command,
    ) -> Result<Option<Given>, Refused> {
        let tenant = command.subject.tenant_id().unwrap_or_default();
        // In this order: what the history takes up in between is found twice, and not missed.
        let last = self.store.asked_last(&tenant).await;
        let last = last.map_err(|error| away(&error))?;
        let filter = GivenFilter {
            tenant: Some(tenant.clone()),
            limit: OPEN_MAX + 1,
            ..GivenFilter::default()
        };
        let open = self.store.requests(&filter, Some(State::Open)).await;
        let open = open.map_err(|error| away(&error))?;
        let stored = open.into_iter().map(|asked| asked.request);
        let newer = recent.values().filter(|given| {
            let subject = Subject::parse(&given.subject).ok();
            let theirs = subject.and_then(|subject| subject.tenant_id());
            given.kind == "ask" && last < given.at && theirs.as_ref() == Some(&tenant)
        });
        let open: BTreeMap<String, Given> = stored
            .chain(newer.cloned())
            .filter(|given| !recent.contains_key(&answer_id(&given.id)))
            .map(|given| (given.id.clone(), given))
            .collect();
        let wanted = Given::of(command);
        let same = open.values().find(|given| {
            let renamed = Given {
                id: wanted.id.clone(),
                ..(*given).clone()
            };
            renamed.orders_the_same_as(&wanted)
        });
        if same.is_none() && OPEN_MAX <= open.len() {
            let detail = format!("{OPEN_MAX} requests of this tenant wait for an answer already");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).into());
        }
        Ok(same.cloned())
    }

    fn show_asked(&self, asked: &Asked) -> Value {
        let mut shown = show(&asked.request, &self.board.read().in_force.policy);
        let state = asked
            .answer
            .as_ref()
            .map_or(State::Open, |answer| answer.state);
        shown["state"] = json!(state.name());
        if let Some(answer) = &asked.answer {
            shown["answer"] = json!({
                "at": answer.at.to_string(),
                "reason": answer.reason,
                "until": answer.until.map(|until| until.to_string()),
            });
        }
        shown
    }
}

// === Listing ===

/// The query of `GET /v1/requests`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    /// This subject and all below it.
    subject: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

pub(super) async fn list(
    Extract(shared): Extract<Shared>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<Params>, QueryRejection>,
) -> Response {
    let answer = async {
        let Query(params) = params.map_err(|error| bad("query", error.body_text()))?;
        let unknown = || bad("state", "use open, approved or declined");
        let state = params.state.as_deref();
        let state = state.map(|name| State::named(name).ok_or_else(unknown));
        let state = state.transpose()?;
        let query = trail::Params {
            subject: params.subject.clone(),
            kind: None,
            limit: params.limit,
            after: params.after.clone(),
        };
        let Some(filter) = trail::filter(&query, &caller)? else {
            return Ok(Json(json!([])).into_response());
        };
        let requests = shared.store.requests(&filter, state).await;
        let mut requests = requests.map_err(|error| away(&error))?;
        let size = filter.limit - 1;
        let more = size < requests.len();
        requests.truncate(size);
        let shown: Vec<Value> = requests
            .iter()
            .map(|asked| shared.show_asked(asked))
            .collect();
        let last = requests.last().filter(|_| more);
        let query = [
            ("subject", params.subject.as_deref()),
            ("state", params.state.as_deref()),
        ];
        let next = last.and_then(|last| trail::next("/v1/requests", &query, size, &last.request));
        Ok(with_next(Json(shown).into_response(), next))
    };
    answer
        .await
        .unwrap_or_else(|problem: Refused| problem.into_response())
}
