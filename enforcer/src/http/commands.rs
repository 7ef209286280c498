//! Commands: given by operators, written to the log before they are answered, listed for all who may see them.

mod back;
mod clear;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bus::Bus;
use bus::clock::SharedClock;
use http::{HeaderMap, StatusCode};
use parking_lot::RwLock;
use schemas::access::Caller;
use schemas::orders::Numbers;
use schemas::page::with_next;
use schemas::policy::{Meter, Policy};
use schemas::problem::{FieldError, Problem};
use schemas::record::Amount;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::trail::{self, Params};
use super::{Refused, away, bad, problem, requests, unavailable};
use crate::command::{Action, Command, Draft, Drafted, Undone, answer_id, is_id, read};
use crate::service::Board;
use crate::store::{Given, GivenFilter, Store};
use crate::wire;
use back::earlier;

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
        .route("/v1/requests", get(requests::list).post(requests::ask))
        .with_state(shared)
}

// === Giving ===

async fn give(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let given = async { shared.give(&caller, &headers, parse(&body)?).await };
    match given.await {
        Ok(given) => {
            let shown = show(&given, &shared.board.read().in_force.policy);
            (StatusCode::CREATED, Json(shown)).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

pub(super) fn parse(body: &[u8]) -> Result<Value, Refused> {
    serde_json::from_slice(body)
        .map_err(|error| problem(StatusCode::BAD_REQUEST, &format!("not JSON: {error}")))
}

impl Shared {
    /// Takes a command, and returns with it once the log has it.
    pub(super) async fn give(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: Value,
    ) -> Result<Given, Refused> {
        let now = self.clock.now();
        let draft = {
            let board = self.board.read();
            read(&body, &board.in_force.policy, now).map_err(unprocessable)?
        };
        self.check_clearing(&draft, now).await?;
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
        if matches!(command.action, Action::Ask { .. })
            && let Some(open) = self.open_as(&recent, &command).await?
        {
            return Ok(open);
        }
        let sent = match wire::enqueue_command(&self.bus.producer(), &command) {
            Ok(delivery) => delivery.await.map(|_| ()),
            Err(error) => Err(error),
        };
        sent.map_err(|error| {
            tracing::warn!(%error, "a command is not in the log");
            unavailable("the log does not answer; the command may be sent again with the same `id`")
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
            Drafted::Answer { request, approves } => self.answer(recent, request, approves).await?,
        };
        // Of what adds up only one undoing may be, and of a request one answer, whoever orders it.
        let id = match &action {
            Action::Approve { request, .. } | Action::Decline { request, .. } => {
                Some(answer_id(request))
            }
            // Who asks chooses no name that another's command has, or could have.
            Action::Ask { .. } => None,
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
            wrong(match kind.as_str() {
                "clear" => "`clear` cannot be undone: what was counted before is gone; to refuse again, order `block`, or \
                            `raise` with a lower number"
                    .to_owned(),
                kind => format!("`{kind}` cannot be undone; give the opposite command instead"),
            })
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
            limit: trail::PAGE_MAX,
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

    async fn answer(
        &self,
        recent: &HashMap<String, Given>,
        request: String,
        approves: bool,
    ) -> Result<(Subject, Action), Refused> {
        let wrong = |detail: String| {
            let pointer = "/request".to_owned();
            unprocessable(vec![FieldError { pointer, detail }])
        };
        let found = self.known(recent, &request).await?;
        let found = found.filter(|found| found.kind == "ask");
        let found = found.ok_or_else(|| wrong(format!("no request has the id `{request}`")))?;
        let subject = Subject::parse(&found.subject).map_err(|error| wrong(error.to_string()))?;
        let limit = found.body.limit.unwrap_or_default();
        if !approves {
            return Ok((subject, Action::Decline { request, limit }));
        }
        if self.board.read().in_force.policy.limit(&limit).is_none() {
            return Err(wrong(format!("the policy has no limit `{limit}` any more")));
        }
        let hard = found.body.hard.and_then(|hard| hard.parse().ok());
        let numbers = Numbers {
            hard,
            ..Numbers::default()
        };
        let approve = Action::Approve {
            request,
            limit,
            numbers,
        };
        Ok((subject, approve))
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

pub(super) fn unprocessable(errors: Vec<FieldError>) -> Refused {
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

async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<Params>, QueryRejection>,
) -> Response {
    let answer = async {
        let Query(params) = params.map_err(|error| bad("query", error.body_text()))?;
        let Some(filter) = trail::filter(&params, &caller)? else {
            return Ok(Json(json!([])).into_response());
        };
        let page = shared.store.commands(&filter).await;
        let mut given = page.map_err(|error| away(&error))?;
        let size = filter.limit - 1;
        let more = size < given.len();
        given.truncate(size);
        let policy = &shared.board.read().in_force.policy;
        let shown: Vec<Value> = given.iter().map(|given| show(given, policy)).collect();
        let last = given.last().filter(|_| more);
        let query = [
            ("subject", params.subject.as_deref()),
            ("kind", params.kind.as_deref()),
        ];
        let next = last.and_then(|last| trail::next("/v1/commands", &query, size, last));
        Ok(with_next(Json(shown).into_response(), next))
    };
    answer
        .await
        .unwrap_or_else(|problem: Refused| problem.into_response())
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
