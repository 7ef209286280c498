//! Commands: given by operators, written to the log before they are answered, listed for all who may see them.

mod back;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bus::Bus;
use bus::clock::SharedClock;
use http::{HeaderMap, StatusCode, header};
use parking_lot::RwLock;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemas::access::Caller;
use schemas::policy::{Meter, Policy};
use schemas::problem::{FieldError, Problem};
use schemas::record::Amount;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Refused, away, bad, problem};
use crate::command::{Action, Command, Draft, Drafted, Undone, is_id, read};
use crate::service::Board;
use crate::store::{Given, GivenCursor, GivenFilter, Store};
use crate::wire;
use back::earlier;

/// Commands on a page unless asked otherwise, and at most.
const PAGE_MAX: usize = 1_000;
/// Commands that are remembered until the history has them.
const RECENT_MAX: usize = 10_000;

/// What handlers look at.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) bus: Bus,
    pub(crate) store: Store,
    pub(crate) clock: SharedClock,
    pub(crate) board: Arc<RwLock<Board>>,
    /// Those that were given here lately, by id: the history has them a little later.
    pub(crate) recent: Arc<Mutex<HashMap<String, Given>>>,
}

pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/commands", get(list).post(give))
        .with_state(shared)
}

// === Giving ===

async fn give(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let given = shared.give(&caller, &headers, &body).await;
    match given {
        Ok(given) => {
            let shown = show(&given, &shared.board.read().in_force.policy);
            (StatusCode::CREATED, Json(shown)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

impl Shared {
    async fn give(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Given, Refused> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| problem(StatusCode::BAD_REQUEST, &format!("not JSON: {error}")))?;
        let now = self.clock.now();
        let draft = {
            let board = self.board.read();
            read(&body, &board.in_force.policy, now).map_err(unprocessable)?
        };
        let id = own_id(&draft, headers)?;
        // Held until the log has the command: a repetition of it waits for the first.
        let mut recent = self.recent.lock().await;
        let command = self.command(&recent, draft, id, (caller, now)).await?;
        let given = Given::of(&command);
        if let Some(before) = self.known(&recent, &given.id).await? {
            if before.orders_the_same_as(&given) {
                return Ok(before);
            }
            let detail = "another command has this id: give this one an id of its own";
            return Err(problem(StatusCode::CONFLICT, detail));
        }
        let sent = match wire::enqueue_command(&self.bus.producer(), &command) {
            Ok(delivery) => delivery.await.map(|_| ()),
            Err(error) => Err(error),
        };
        sent.map_err(|error| {
            tracing::warn!(%error, "a command is not in the log");
            let detail =
                "the log does not answer; the command may be sent again with the same `id`";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_retry_after(5)
        })?;
        if RECENT_MAX <= recent.len() {
            recent.clear();
        }
        recent.insert(given.id.clone(), given.clone());
        Ok(given)
    }

    async fn command(
        &self,
        recent: &HashMap<String, Given>,
        draft: Draft,
        id: Option<String>,
        (caller, now): (&Caller, Timestamp),
    ) -> Result<Command, Refused> {
        let (subject, action) = match draft.order {
            Drafted::On { subject, action } => (subject, action),
            Drafted::Undo { command } => self.undo(recent, command, now).await?,
        };
        // Of what adds up only one undoing may be, whoever orders it.
        let id = match &action {
            Action::Undo {
                command,
                what: Undone::TopUp { .. },
                ..
            } => Some(format!("undo-{command}")),
            _ => id,
        };
        Ok(Command {
            id: id.unwrap_or_else(|| format!("c-{}", Uuid::new_v4())),
            subject,
            at: now,
            actor: caller.key_id.clone(),
            reason: draft.reason,
            until: draft.until,
            action,
        })
    }

    async fn undo(
        &self,
        recent: &HashMap<String, Given>,
        command: String,
        now: Timestamp,
    ) -> Result<(Subject, Action), Refused> {
        let wrong = |detail: String| {
            let pointer = "/command".to_owned();
            unprocessable(vec![FieldError { pointer, detail }])
        };
        let found = self.known(recent, &command).await?;
        let found = found.ok_or_else(|| wrong(format!("no command has the id `{command}`")))?;
        let kind = &found.kind;
        let what = found.undone().ok_or_else(|| {
            wrong(format!(
                "`{kind}` cannot be undone; give the opposite command instead"
            ))
        })?;
        let subject = Subject::parse(&found.subject).map_err(|error| wrong(error.to_string()))?;
        let trail = self.trail(recent, &subject).await?;
        let back = earlier(&found, &trail, now).map(Box::new);
        Ok((
            subject,
            Action::Undo {
                command,
                what,
                back,
            },
        ))
    }

    /// The newest commands on a subject.
    async fn trail(
        &self,
        recent: &HashMap<String, Given>,
        subject: &Subject,
    ) -> Result<Vec<Given>, Refused> {
        let filter = GivenFilter {
            subject: Some(subject.to_string()),
            limit: PAGE_MAX,
            ..GivenFilter::default()
        };
        let kept = self.store.commands(&filter).await;
        let mut trail = kept.map_err(|error| away(&error))?;
        let known: HashSet<String> = trail.iter().map(|given| given.id.clone()).collect();
        let newer = recent.values().filter(|given| {
            given.subject == subject.as_str() && !known.contains(given.id.as_str())
        });
        trail.extend(newer.cloned());
        Ok(trail)
    }

    async fn known(
        &self,
        recent: &HashMap<String, Given>,
        id: &str,
    ) -> Result<Option<Given>, Refused> {
        match recent.get(id) {
            Some(given) => Ok(Some(given.clone())),
            None => self.store.command(id).await.map_err(|error| away(&error)),
        }
    }
}

fn unprocessable(errors: Vec<FieldError>) -> Refused {
    let first = errors.first().map_or(String::new(), |error| {
        format!("{}: {}", error.pointer, error.detail)
    });
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, first);
    problem.with_errors(errors).into()
}

/// The id that the sender gave it, in the body or as `Idempotency-Key`.
fn own_id(draft: &Draft, headers: &HeaderMap) -> Result<Option<String>, Refused> {
    const KEY: &str = "idempotency-key";
    let Some(value) = headers.get(KEY) else {
        return Ok(draft.id.clone());
    };
    let key = value.to_str().unwrap_or_default().trim_matches('"');
    if !is_id(key) {
        return Err(bad(
            KEY,
            "has 1 to 128 of a-z, A-Z, 0-9, `-`, `_`, `.` and `:`",
        ));
    }
    if draft.id.as_deref().is_some_and(|id| id != key) {
        return Err(bad(KEY, "is another than the body's `id`"));
    }
    Ok(Some(key.to_owned()))
}

// === Listing ===

/// The query of `GET /v1/commands`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// This subject and all below it.
    subject: Option<String>,
    kind: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<Params>, QueryRejection>,
) -> Response {
    let answer = async {
        let Query(params) = params.map_err(|error| bad("query", error.body_text()))?;
        let Some(filter) = filter(&params, &caller)? else {
            return Ok(Json(json!([])).into_response());
        };
        let page = shared.store.commands(&filter).await;
        let mut page = page.map_err(|error| away(&error))?;
        let page_max = filter.limit - 1;
        let more = page_max < page.len();
        page.truncate(page_max);
        let policy = &shared.board.read().in_force.policy;
        let shown: Vec<Value> = page.iter().map(|given| show(given, policy)).collect();
        let mut response = Json(shown).into_response();
        if more
            && let Some(last) = page.last()
            && let Ok(link) = next_link(&params, page_max, last).parse()
        {
            response.headers_mut().insert(header::LINK, link);
        }
        Ok(response)
    };
    answer
        .await
        .unwrap_or_else(|problem: Refused| problem.into_response())
}

/// What to read, one more than the page shows. `None` where the caller may not see the subject, which is as if there
/// were no commands on it.
fn filter(params: &Params, caller: &Caller) -> Result<Option<GivenFilter>, Refused> {
    if params.limit == Some(0) {
        return Err(bad("limit", "must be at least 1"));
    }
    let subject = params.subject.as_deref().map(Subject::parse).transpose();
    let subject = subject.map_err(|error| bad("subject", error.to_string()))?;
    if subject
        .as_ref()
        .is_some_and(|subject| !caller.may_see(subject))
    {
        return Ok(None);
    }
    let stale = || bad("after", "not a cursor that an earlier page gave");
    let after = params.after.as_deref();
    let after = after.map(|text| decode_cursor(text).ok_or_else(stale));
    Ok(Some(GivenFilter {
        subject: subject.map(String::from),
        tenant: caller.tenant.clone(),
        kind: params.kind.as_ref().map(|kind| kind.replace('\0', "")),
        after: after.transpose()?,
        limit: params.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX) + 1,
    }))
}

fn next_link(params: &Params, page_max: usize, last: &Given) -> String {
    let cursor = format!("{}.{}", last.at.as_micros(), last.id);
    let cursor = BASE64_URL_SAFE_NO_PAD.encode(cursor);
    let mut link = format!("</v1/commands?after={cursor}&limit={page_max}");
    for (name, value) in [("subject", &params.subject), ("kind", &params.kind)] {
        if let Some(value) = value {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            link = format!("{link}&{name}={value}");
        }
    }
    format!("{link}>; rel=\"next\"")
}

fn decode_cursor(text: &str) -> Option<GivenCursor> {
    let plain = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (at, id) = plain.split_once('.')?;
    Some(GivenCursor {
        at: Timestamp::from_micros(at.parse().ok()?),
        id: id.replace('\0', ""),
    })
}

/// A command as people see it; `policy` says in which unit a limit's number is.
pub(super) fn show(given: &Given, policy: &Policy) -> Value {
    let body = &given.body;
    let limit = body.limit.as_deref().and_then(|name| policy.limit(name));
    let meter = limit.map_or(Meter::Requests, |limit| limit.meter.clone());
    let number = |digits: &Option<String>| {
        let number = digits.as_deref()?.parse().ok()?;
        Some(Amount(number).to_json_of(&meter))
    };
    let mut shown = json!({
        "id": given.id,
        "kind": given.kind,
        "subject": given.subject,
        "at": given.at.to_string(),
        "actor": given.actor,
        "reason": given.reason,
    });
    let rest = [
        ("until", body.until.map(|until| until.to_string().into())),
        ("limit", body.limit.clone().map(Value::from)),
        ("hard", number(&body.hard)),
        ("amount", number(&body.amount)),
        ("mode", body.mode.clone().map(Value::from)),
        ("tier", body.tier.clone().map(Value::from)),
        ("command", body.command.clone().map(Value::from)),
        ("back", body.back.clone().map(Value::from)),
    ];
    for (name, value) in rest {
        if let Some(value) = value {
            shown[name] = value;
        }
    }
    shown
}
