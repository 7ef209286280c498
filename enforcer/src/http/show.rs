//! Decisions and the policy as JSON.

use std::sync::Arc;

use schemas::money::format_usd;
use schemas::policy::{Limit, Meter, Override, Policy, TenantSettings, Weight};
use schemas::record::Amount;
use schemas::subject::{IdSet, Subject};
use schemas::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::decision::Cause;
use crate::policy::{Head, Version};
use crate::service::Board;
use crate::store::{CauseBody, Listed};

pub(super) fn decision(listed: &Listed, now: Timestamp) -> Value {
    let body = &listed.body;
    let standing = listed.stands_at(now);
    let wait = body
        .until
        .filter(|_| standing)
        .map(|until| seconds_until(until, now));
    json!({
        "id": listed.id,
        "subject": listed.subject,
        "verdict": body.verdict,
        "status": body.status,
        "standing": standing,
        "until": time(body.until),
        "retry_after_s": wait,
        "terminal": body.terminal,
        "seq": listed.seq,
        "issued_at": time(Some(listed.issued_at)),
        "lifted_at": time(listed.lifted_at),
        "causes": body.causes.iter().map(cause).collect::<Vec<_>>(),
    })
}

/// A cause as the log has it.
pub(super) fn cause_of(of: &Cause) -> Value {
    cause(&CauseBody::of(of))
}

fn cause(cause: &CauseBody) -> Value {
    let mut shown = json!({
        "limit": cause.limit,
        "meter": cause.meter,
        "window": cause.window,
        "mode": cause.mode,
        "verdict": cause.verdict,
        "used": amount(&cause.meter, cause.used),
        "max": amount(&cause.meter, cause.max),
        "reset_at": time(cause.reset_at),
        "policy_version": cause.policy_version,
        "crossing": cause.crossing,
        "origin": {"topic": cause.topic, "partition": cause.partition, "offset": cause.offset},
    });
    if cause.meter == Meter::Cost {
        shown["used_usd"] = format_usd(cause.used).into();
        shown["max_usd"] = format_usd(cause.max).into();
    }
    shown
}

/// A number while every reader keeps it exactly, text beyond. Money is text always: a field does not change its type
/// when a budget grows.
fn amount(meter: &Meter, amount: i128) -> Value {
    Amount(amount).to_json_of(meter)
}

fn time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| at.to_string().into())
}

/// Whole seconds, rounded up.
fn seconds_until(until: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(until.since(now).as_micros().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The version that holds, and the last edit of the file that was refused.
pub(super) fn policy(board: &Board) -> Value {
    let refused = board
        .refused
        .as_ref()
        .map(|(at, refusal)| json!({"at": time(Some(*at)), "problems": refusal.lines}));
    let mut shown = version(&board.in_force);
    shown["refused"] = refused.into();
    shown
}

/// A version, in a list of them.
pub(super) fn head(number: u64, head: &Head) -> Value {
    json!({
        "version": number,
        "at": time(Some(head.at)),
        "author": head.author,
        "reason": head.reason,
    })
}

/// A version and what it says.
pub(super) fn version(version: &Version) -> Value {
    let policy = &version.policy;
    let tenants = policy
        .tenants
        .iter()
        .map(|(id, settings)| (id.clone(), tenant(settings)));
    json!({
        "version": policy.version,
        "at": time(Some(version.at)),
        "author": version.author,
        "reason": version.reason,
        "default_tier": policy.default_tier,
        "zone": policy.default_zone.map(|zone| zone.name()),
        "limits": policy.limits.iter().map(limit).collect::<Vec<_>>(),
        "overrides": policy.overrides.iter().map(overridden(policy)).collect::<Vec<_>>(),
        "tenants": tenants.collect::<Map<_, _>>(),
        "sets": policy.sets.iter().map(set).collect::<Map<_, _>>(),
        "weights": policy.weights.iter().map(weight).collect::<Vec<_>>(),
        "source": version.source,
    })
}

fn set((name, set): (&str, &Arc<IdSet>)) -> (String, Value) {
    let shown = json!({"dimension": set.dimension().name(), "ids": set.ids()});
    (name.to_owned(), shown)
}

fn weight(weight: &Weight) -> Value {
    json!({"route": weight.route(), "requests": weight.requests})
}

/// An override, with amounts of the unit that its limit has in `policy`.
fn overridden(policy: &Policy) -> impl Fn((&Subject, &str, &Override)) -> Value {
    move |(subject, limit, overridden)| {
        let numbers = &overridden.numbers;
        let own = policy.limit_on(subject, limit);
        let meter = own.map_or(&Meter::Requests, |own| &own.meter);
        let soft = numbers.soft.iter().map(|level| level.name.as_str());
        json!({
            "subject": subject,
            "limit": limit,
            "hard": numbers.hard.map(|hard| amount(meter, hard)),
            "soft": soft.collect::<Vec<_>>(),
            "mode": numbers.mode,
            "reason": overridden.reason,
        })
    }
}

pub(super) fn limit(limit: &Limit) -> Value {
    let soft = limit.levels.split_last().map_or(&[][..], |(_, soft)| soft);
    let soft = soft.iter().map(
        |level| json!({"name": level.name, "threshold": amount(&limit.meter, level.threshold)}),
    );
    let mut shown = json!({
        "name": limit.name,
        "subject": limit.pattern.as_str(),
        "meter": limit.meter,
        "window": limit.window,
        "soft": soft.collect::<Vec<_>>(),
        "hard": amount(&limit.meter, limit.hard()),
        "mode": limit.mode,
        "stale": limit.stale,
        "tier": limit.tier,
        "status": limit.status,
        "headers": limit.headers,
    });
    if limit.meter == Meter::Cost {
        shown["hard_usd"] = format_usd(limit.hard()).into();
    }
    shown
}

fn tenant(settings: &TenantSettings) -> Value {
    json!({"tier": settings.tier, "zone": settings.zone.map(|zone| zone.name())})
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT_MAX: i128 = 1 << 53;

    #[track_caller]
    fn check(meter: Meter, number: i128, expected: Value) {
        assert_eq!(amount(&meter, number), expected);
    }

    #[test]
    fn amounts_stay_exact() {
        check(Meter::Tokens, 60_000, json!(60_000));
        check(Meter::Tokens, EXACT_MAX, json!(9_007_199_254_740_992_i64));
        check(Meter::Tokens, EXACT_MAX + 1, json!("9007199254740993"));
        check(Meter::Tokens, -EXACT_MAX - 1, json!("-9007199254740993"));
        check(Meter::Tokens, i128::MAX, json!(i128::MAX.to_string()));
        check(Meter::Cost, 1, json!("1"));
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let until = Timestamp::from_micros(1_000_001);
        assert_eq!(seconds_until(until, Timestamp::from_seconds(0)), 2);
        assert_eq!(seconds_until(until, Timestamp::from_micros(1)), 1);
        assert_eq!(seconds_until(until, Timestamp::from_seconds(2)), 0);
    }
}
