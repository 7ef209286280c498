//! `GET /v1/decisions/{id}/explanation`: why somebody was refused, told from the log alone.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use schemas::access::Caller;
use schemas::policy::{Meter, Policy};
use schemas::record::Amount;
use schemas::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{Refused, Shared, away, bad, commands, log_away, show, unavailable};
use crate::decide::Reason;
use crate::decision::{BLOCKED, Cause, Decision};
use crate::explain::{
    Changed, Ended, Happened, Number, number_then, touched_since, versions_since,
};
use crate::look_back::{Found, LookBack, Rests};
use crate::policy::Version;
use crate::store::Given;
use crate::wire;

/// Events that are shown of a cause unless asked otherwise, and at most.
const EVENTS: usize = 20;
const EVENTS_MAX: usize = 1_000;

/// How long reading the log may take.
const WITHIN: Duration = Duration::from_secs(25);

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/v1/decisions/{id}/explanation", get(explain))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    events: Option<usize>,
}

async fn explain(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let Query(params) = params.map_err(|error| bad("query", error.body_text()))?;
    let events = params.events.unwrap_or(EVENTS).min(EVENTS_MAX);
    // One after the other: each may hold a million records' hashes.
    let _turn = shared.explaining.lock().await;
    match timeout(WITHIN, shared.explanation(&id, &caller, events)).await {
        Ok(answer) => answer.map(Json),
        Err(_) => {
            let detail = format!("reading the log back takes longer than {WITHIN:?}");
            Err(unavailable(&detail))
        }
    }
}

impl Shared {
    async fn explanation(
        &self,
        id: &str,
        caller: &Caller,
        events: usize,
    ) -> Result<Value, Refused> {
        let now = self.clock.now();
        let unread = |error: bus::BusError| {
            tracing::warn!(%error, "the log cannot be read back");
            log_away()
        };
        let versions = wire::versions(&self.bus).await.map_err(unread)?.kept;
        let mut look = LookBack::start(&self.bus).await.map_err(unread)?;
        let found = look.find(id, &versions, now).await.map_err(unread)?;
        let seen = found.filter(|found| caller.may_see(&found.decision.subject));
        let Some(found) = seen else {
            return Err(self.not_in_the_log(id, caller).await);
        };
        let mut causes = Vec::new();
        let mut since = now;
        for cause in &found.decision.causes {
            let version = versions
                .get(&cause.policy_version)
                .cloned()
                .unwrap_or_else(|| self.board.read().in_force.clone());
            let rests = look
                .rests(&found.decision, cause, (&version, events))
                .await
                .map_err(unread)?;
            since = since.min(rests.at);
            causes.push((cause, rests));
        }
        let refused = look.refused(&found.decision).await.map_err(unread)?;
        let told = Telling {
            found: &found,
            versions: &versions,
            caller,
            now,
        };
        Ok(json!({
            "decision": told.decision(),
            "causes": causes.iter().map(|(cause, rests)| told.cause(cause, rests)).collect::<Vec<_>>(),
            "refused": {
                "requests": refused.requests,
                "last_at": refused.last_at.map(|at| at.to_string()),
            },
            "since": told.since(since),
        }))
    }

    /// Why there is nothing to tell: whether rows remember a decision that the log has forgotten.
    async fn not_in_the_log(&self, id: &str, caller: &Caller) -> Refused {
        let id = id.replace('\0', "");
        let known = match self.store.get(&id).await {
            Ok(known) => known,
            Err(error) => return away(&error),
        };
        let seen = known.filter(|listed| {
            schemas::subject::Subject::parse(&listed.subject)
                .is_ok_and(|subject| caller.may_see(&subject))
        });
        match seen {
            None => super::problem(StatusCode::NOT_FOUND, "there is no decision of this id"),
            Some(listed) => {
                let (subject, at) = (&listed.subject, listed.issued_at);
                let detail = format!(
                    "the decision on {subject} of {at} is past what the log keeps: neither it nor the signals that it \
                     came of are there any more, only the row that GET /v1/decisions/{id} shows"
                );
                super::problem(StatusCode::GONE, &detail)
            }
        }
    }
}

/// What an explanation is told from, and to whom.
struct Telling<'a> {
    found: &'a Found,
    versions: &'a BTreeMap<u64, Version>,
    caller: &'a Caller,
    now: Timestamp,
}

impl Telling<'_> {
    fn decision(&self) -> Value {
        let Found {
            decision, ended, ..
        } = self.found;
        let over = decision.until.filter(|until| *until <= self.now);
        let over = over.map(|at| Ended {
            at,
            why: Some(Reason::Expiry),
        });
        let ended = ended.or(over);
        json!({
            "id": decision.id,
            "subject": decision.subject,
            "verdict": decision.verdict.name(),
            "status": decision.status,
            "issued_at": decision.issued_at.to_string(),
            "until": decision.until.map(|until| until.to_string()),
            "standing": ended.is_none(),
            "ended_at": ended.map(|ended| ended.at.to_string()),
            "ended_by": ended.and_then(|ended| ended.why).map(why),
        })
    }

    fn cause(&self, cause: &Cause, rests: &Rests) -> Value {
        let mut shown = show::cause_of(cause);
        if cause.limit == BLOCKED {
            let mut commands = self.found.commands.iter();
            let given = commands.find(|placed| placed.command.id == cause.crossing);
            shown["command"] = given.map_or(Value::Null, |placed| {
                commands::show(&Given::of(&placed.command), &Policy::default())
            });
            return shown;
        }
        let then = self.versions.get(&cause.policy_version);
        shown["policy"] = then.map_or(Value::Null, |version| self.version(version));
        let number = |version: Option<&Version>, at| {
            let about = (&self.found.decision.subject, cause.limit.as_str());
            let number = number_then(&version?.policy, &self.found.commands, about, at)?;
            Some(number_shown(&number))
        };
        shown["then"] = number(then, rests.at).into();
        let newest = self.versions.last_key_value().map(|(_, newest)| newest);
        shown["now"] = number(newest, self.now).into();
        shown["evidence"] = evidence(&cause.meter, rests);
        shown
    }

    /// What was ordered and applied since then.
    fn since(&self, at: Timestamp) -> Value {
        let Found {
            decision, commands, ..
        } = self.found;
        let newest = self.versions.last_key_value();
        let policy = newest.map(|(_, newest)| newest.policy.clone());
        let policy = policy.unwrap_or_default();
        let touched = touched_since(decision, commands, at);
        let touched = touched
            .into_iter()
            .map(|command| commands::show(&Given::of(command), &policy));
        json!({
            "commands": touched.collect::<Vec<_>>(),
            "versions": self.versions_since(decision),
        })
    }

    fn versions_since(&self, decision: &Decision) -> Vec<Value> {
        let mut by_number: BTreeMap<u64, (&Version, Vec<String>)> = BTreeMap::new();
        for cause in &decision.causes {
            for Changed { version, lines } in
                versions_since(cause, &decision.subject, self.versions)
            {
                let number = version.policy.version;
                let (_, known) = by_number
                    .entry(number)
                    .or_insert_with(|| (version, Vec::new()));
                known.extend(lines);
                known.dedup();
            }
        }
        let versions = by_number.into_values().map(|(version, lines)| {
            let mut shown = self.version(version);
            shown["changes"] = lines.into();
            shown
        });
        versions.collect()
    }

    /// Who made a version, and why: a tenant is told when only, since the words may be about others.
    fn version(&self, version: &Version) -> Value {
        let number = version.policy.version;
        match &self.caller.tenant {
            None => show::head(number, &version.head()),
            Some(_) => json!({ "version": number, "at": version.at.to_string() }),
        }
    }
}

const fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Crossing => "crossing",
        Reason::Expiry => "expiry",
        Reason::Policy => "policy",
        Reason::Command => "command",
        Reason::Reassert | Reason::Takeover => "takeover",
    }
}

/// A limit as it held, and the order that its numbers were from.
fn number_shown(number: &Number) -> Value {
    let order = number.order.as_ref();
    let mut shown = show::limit(&number.limit);
    shown["ordered_by"] = order.map(|order| order.command.clone()).into();
    shown
}

fn evidence(meter: &Meter, rests: &Rests) -> Value {
    let evidence = &rests.evidence;
    let newest = evidence.newest.iter().rev();
    let cleared = evidence.cleared.as_ref();
    let cleared =
        cleared.map(|order| json!({ "at": order.at.to_string(), "command": order.command }));
    json!({
        "from": evidence.from.to_string(),
        "cleared": cleared,
        "to": rests.at.to_string(),
        "events": newest.map(|happened| event(meter, happened)).collect::<Vec<_>>(),
        "more": evidence.more(),
        "total": evidence.events,
        "sum": Amount(evidence.sum).to_json_of(meter),
        "missing": rests.missing,
    })
}

fn event(meter: &Meter, happened: &Happened) -> Value {
    let by = happened.by.iter();
    let by: Map<String, Value> = by
        .map(|(dimension, id)| (dimension.name().to_owned(), id.clone().into()))
        .collect();
    json!({
        "at": happened.at.to_string(),
        "tenant": happened.tenant,
        "source": happened.source,
        "id": happened.id,
        "amount": Amount(happened.amount).to_json_of(meter),
        "by": by,
        "partition": happened.partition,
        "offset": happened.offset,
    })
}
