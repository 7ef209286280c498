//! `GET /v1/limits`: every limit that applies to a subject, and how much of it is used now.
//!
//! What is used is summed from the rows of usage, by the windows' own rule: the oldest slice counts in full. It is as
//! fresh as the rows are, a second or two; gateways and decisions do not depend on it.

use std::collections::BTreeMap;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono_tz::Tz;
use schemas::access::Caller;
use schemas::calendar::bounds;
use schemas::money::format_usd;
use schemas::orders::InForce;
use schemas::policy::{HARD, Limit, Meter, Window};
use schemas::record::Amount;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::chain::chain;
use super::{App, Refusal, ask, forecast};
use crate::rules::Rules;
use crate::store::{Filter, Span};

/// How far back the filling of a bucket is looked at.
const BUCKET_REACH_SECONDS: i64 = 86_400;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    subject: String,
}

pub(super) async fn limits(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(params) = params.map_err(|error| Refusal::Query(error.body_text()))?;
    let Some(subject) = ask::subject(&params.subject, &caller)? else {
        return Ok(Json(json!([])).into_response());
    };
    let now = app.clock.now();
    let applying = applying(&app.rules.read(), &subject, now);
    let mut shown = Vec::new();
    for limit in applying {
        let used = used(&app, &limit, now).await?;
        let mut entry = limit.show(&used);
        entry["forecast"] = forecast(&app, &limit, &used, now).await?;
        shown.push(entry);
    }
    Ok(Json(shown).into_response())
}

/// A limit as it holds for a subject.
struct Applying {
    limit: Limit,
    on: Subject,
    /// What is counted for it; `None` for dimensions that usage is not kept by.
    usage: Option<Filter>,
    zone: Tz,
    policy_version: u64,
    /// The command that its numbers are from, where they are not the policy's.
    command: Option<String>,
    /// Every word said of it, from wide to narrow.
    chain: Vec<Value>,
    /// The last time it was cleared, and by which command: what came before counts no more.
    cleared: Option<(Timestamp, String)>,
    /// A wallet's.
    wallet: Option<Wallet>,
}

struct Wallet {
    /// All that was paid in, with what it starts with.
    paid_in: i128,
    /// What was used before it is not spent of it.
    since: Timestamp,
}

/// The limits counted for `subject` itself, and those of what holds it: its tenant's.
fn applying(rules: &Rules, subject: &Subject, now: Timestamp) -> Vec<Applying> {
    let mut subjects = vec![subject.clone()];
    let tenant = subject.tenant_id().map(|id| Subject::tenant(&id));
    subjects.extend(tenant.filter(|tenant| tenant != subject));
    let in_force = InForce {
        policy: &rules.policy,
        orders: &rules.orders,
        now,
    };
    let mut applying = Vec::new();
    for on in subjects {
        let held = in_force.limits_on(&on);
        applying.extend(held.map(|held| {
            Applying {
                chain: chain(in_force, &held, &on),
                zone: rules.policy.zone(on.tenant_id().as_deref()),
                policy_version: rules.policy.version,
                command: held.order.map(|order| order.command.clone()),
                cleared: in_force
                    .cleared(&held.limit, &on)
                    .map(|order| (order.at, order.command.clone())),
                wallet: (held.limit.window == Window::Wallet).then(|| Wallet {
                    paid_in: held.paid_in(),
                    since: rules.wallet_since(&held.limit),
                }),
                usage: Filter::of(&on, held.limit.meter.clone(), &[], &rules.policy.sets),
                limit: held.limit.into_owned(),
                on: on.clone(),
            }
        }));
    }
    applying
}

/// What is used at a moment.
struct Used {
    /// Absent for dimensions that usage is not kept by, and of what is in flight.
    sum: Option<i128>,
    /// When the sum falls below the hard number if nothing more comes; for a calendar, its period's end.
    reset_at: Option<Timestamp>,
}

async fn used(app: &App, applying: &Applying, now: Timestamp) -> Result<Used, Refusal> {
    let Applying {
        limit, usage, zone, ..
    } = applying;
    let Some(filter) = usage else {
        return Ok(Used {
            sum: None,
            reset_at: None,
        });
    };
    let to = now.second() + 1;
    let cleared = applying.cleared.as_ref().map(|(at, _)| at.second());
    // Of the second in which it was cleared all is counted: rows tell no moments within it.
    let ask = async |from: i64, step: i64| match cleared.filter(|at| from < *at) {
        Some(from) => {
            let span = Span { from, to, step: 1 };
            Ok(in_steps(&sums(app, filter, span).await?, step))
        }
        None => sums(app, filter, Span { from, to, step }).await,
    };
    Ok(match limit.window {
        Window::Sliding { seconds } => {
            let slice = i64::from(limit.window.slice_seconds().unwrap_or(1));
            let head = now.second().div_euclid(slice) * slice;
            let seconds = i64::from(seconds);
            let sums = ask(head - seconds, slice).await?;
            sliding(&sums, limit.hard(), seconds + slice)
        }
        Window::Calendar(period) => {
            let (from, reset_at) = bounds(period, *zone, now);
            let sums = ask(from.second(), i64::from(u32::MAX)).await?;
            Used {
                sum: Some(sums.values().sum()),
                reset_at: Some(reset_at),
            }
        }
        Window::Bucket {
            amount, seconds, ..
        } => {
            let sums = ask(to - BUCKET_REACH_SECONDS, 1).await?;
            bucket(&sums, amount, seconds, to)
        }
        // Gateways alone know it.
        Window::Concurrent => Used {
            sum: None,
            reset_at: None,
        },
        Window::Wallet => {
            let since = applying.wallet.as_ref().map(|wallet| wallet.since);
            let since = since.unwrap_or(Timestamp::MIN);
            Used {
                sum: Some(spent(app, filter, since, to).await?),
                reset_at: None,
            }
        }
    })
}

type Sums = BTreeMap<i64, i128>;

/// Sums by the second, in wider steps, each told by its start.
fn in_steps(sums: &Sums, step: i64) -> Sums {
    let mut stepped = Sums::new();
    for (at, sum) in sums {
        *stepped.entry(at.div_euclid(step) * step).or_default() += sum;
    }
    stepped
}

async fn sums(app: &App, filter: &Filter, span: Span) -> Result<Sums, Refusal> {
    let sums = app.store.usage(filter, span).await?;
    Ok(sums.into_values().next().unwrap_or_default())
}

/// All since then: rows are kept for good. But for its first minute it is read by minutes, of which there may be years.
async fn spent(app: &App, filter: &Filter, since: Timestamp, to: i64) -> Result<i128, Refusal> {
    let from = since.second().max(0);
    let minutes = |second: i64| (second + 59).div_euclid(60) * 60;
    let whole = minutes(from);
    let first = Span {
        from,
        to: whole,
        step: 60,
    };
    let others = Span {
        from: whole,
        to: whole.max(minutes(to)),
        step: 60 * i64::from(u32::MAX),
    };
    let mut spent = 0;
    for span in [first, others] {
        if span.from < span.to {
            spent += sums(app, filter, span).await?.values().sum::<i128>();
        }
    }
    Ok(spent)
}

async fn forecast(
    app: &App,
    applying: &Applying,
    used: &Used,
    now: Timestamp,
) -> Result<Value, Refusal> {
    let limit = &applying.limit;
    let span = forecast::span(limit.window, now);
    let (Some(filter), Some(span), Some(sum)) = (&applying.usage, span, used.sum) else {
        return Ok(Value::Null);
    };
    let lately = sums(app, filter, span).await?.values().sum();
    let reached_at = forecast::reached_at(limit, (sum, lately), used.reset_at, now);
    Ok(forecast::show(reached_at))
}

/// `stays`: for how long after its start a slice counts.
fn sliding(sums: &BTreeMap<i64, i128>, hard: i128, stays: i64) -> Used {
    let sum: i128 = sums.values().sum();
    let mut left = sum;
    let mut reset_at = None;
    for (slice, amount) in sums {
        if left < hard {
            break;
        }
        left -= amount;
        reset_at = Some(Timestamp::from_seconds(slice + stays));
    }
    Used {
        sum: Some(sum),
        reset_at,
    }
}

/// Fills and drains a bucket second by second.
fn bucket(sums: &BTreeMap<i64, i128>, amount: u64, seconds: u32, to: i64) -> Used {
    // In units of which `seconds` make one of the meter, so that draining is whole.
    let (drain, scale) = (i128::from(amount), i128::from(seconds));
    let mut level = 0_i128;
    let mut last = None;
    let second_after = [(to, 0)];
    for (at, sum) in sums.iter().map(|(at, sum)| (*at, *sum)).chain(second_after) {
        let passed = last.map_or(0, |last: i64| i128::from(at - last));
        level = (level - passed * drain).max(0) + sum * scale;
        last = Some(at);
    }
    Used {
        sum: Some((level + scale - 1) / scale),
        reset_at: None,
    }
}

impl Applying {
    fn show(&self, used: &Used) -> Value {
        let limit = &self.limit;
        let soft = limit.levels.iter().filter(|level| level.name != HARD);
        let soft: Vec<_> = soft
            .map(|level| {
                let threshold = Amount(level.threshold).to_json_of(&limit.meter);
                json!({ "name": level.name, "threshold": threshold })
            })
            .collect();
        let mut shown = json!({
            "name": limit.name,
            "subject": self.on,
            "meter": limit.meter,
            "window": limit.window,
            "mode": limit.mode,
            "soft": soft,
            "reset_at": used.reset_at.map(|at| at.to_string()),
            "inherited_from": { "subject": limit.pattern.as_str(), "tier": limit.tier },
            "chain": self.chain,
            "policy_version": self.policy_version,
        });
        if let Some(command) = &self.command {
            shown["command"] = json!(command);
        }
        if let Some((at, command)) = &self.cleared {
            shown["cleared"] = json!({ "at": at.to_string(), "command": command });
        }
        let mut amount = |name: &str, amount: Option<i128>| {
            shown[name] = json!(amount.map(|amount| Amount(amount).to_json_of(&limit.meter)));
            if limit.meter == Meter::Cost {
                shown[format!("{name}_usd")] = json!(amount.map(format_usd));
            }
        };
        amount("used", used.sum);
        amount("max", Some(limit.hard()));
        if let Some(wallet) = &self.wallet {
            amount("paid_in", Some(wallet.paid_in));
            amount("keep", Some(limit.keep));
            amount("balance", used.sum.map(|spent| wallet.paid_in - spent));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `slices`: `amount@start`.
    fn sums(slices: &str) -> BTreeMap<i64, i128> {
        let slice = |text: &str| {
            let (amount, at) = text.split_once('@').unwrap();
            (at.parse().unwrap(), amount.parse().unwrap())
        };
        slices.split_whitespace().map(slice).collect()
    }

    #[test]
    fn a_sliding_sum_resets_when_it_falls_below() {
        let check = |slices: &str, sum: i128, reset: Option<i64>| {
            let used = sliding(&sums(slices), 10, 61);
            assert_eq!(used.sum, Some(sum));
            assert_eq!(used.reset_at, reset.map(Timestamp::from_seconds));
        };
        check("", 0, None);
        check("9@5", 9, None);
        check("10@5", 10, Some(66));
        check("5@0 5@3 1@7", 11, Some(61));
    }

    #[test]
    fn a_bucket_drains() {
        let check = |slices: &str, to: i64, level: i128| {
            assert_eq!(bucket(&sums(slices), 1, 2, to).sum, Some(level));
        };
        check("", 10, 0);
        check("10@0", 0, 10);
        check("10@0", 4, 8);
        check("10@0 3@40", 40, 3);
        check("10@0", 5, 8);
    }
}
