//! Records to what the gateway knows and back. No other file names a record.

mod shares;

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::codec::Wire;
use schemas::orders::{Order, OrderKey};
use schemas::policy::Policy;
use schemas::record::{self, OrderError, PolicyError, PolicyVersion, Recorded, UsageRecord};
use schemas::subject::{Dimension, Subject, SubjectError};
use schemas::time::Timestamp;
use thiserror::Error;

pub(crate) use schemas::record::{Decision, PolicyRecord};
pub(crate) use shares::{Share, left, share, share_key, told};

use crate::cache::{Cause, Standing, Verdict};
use crate::ledger::Id;
use crate::reports::{Kind, Refused, Report};
use crate::request::{Ask, Consume};

/// A decision from the log that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadDecision {
    #[error("its key `{key}` is not its subject `{subject}`")]
    Key { key: String, subject: Subject },
    #[error("its status {0} is no refusal's (400-599)")]
    Status(i32),
}

/// A value of `weir.decisions.v1`, by the key that it stood under.
pub(crate) fn standing(key: &str, decision: Decision) -> Result<Standing, BadDecision> {
    if decision.subject.as_str() != key {
        return Err(BadDecision::Key {
            key: key.to_owned(),
            subject: decision.subject,
        });
    }
    let verdict = verdict(decision.verdict);
    let status = match decision.status {
        Some(status) => u16::try_from(status)
            .ok()
            .filter(|status| (400..600).contains(status))
            .ok_or(BadDecision::Status(status))?,
        None => status_of(verdict, decision.until),
    };
    let ttl = Duration::from_secs(decision.ttl_seconds.max(0).unsigned_abs().into());
    Ok(Standing {
        id: decision.id,
        subject: decision.subject,
        verdict,
        causes: decision.causes.into_iter().map(cause).collect(),
        status,
        until: decision.until,
        terminal: decision.terminal,
        seq: decision.seq,
        issued_at: decision.issued_at,
        fresh_until: decision.issued_at.plus(ttl),
    })
}

/// The subject of a lifted decision.
pub(crate) fn subject(key: &str) -> Result<Subject, SubjectError> {
    Subject::parse(key)
}

/// The status of a refusal that names none.
fn status_of(verdict: Verdict, until: Option<Timestamp>) -> u16 {
    match (verdict, until) {
        (Verdict::Challenge, _) => 401,
        (Verdict::Block, None) => 403,
        _ => 429,
    }
}

fn verdict(verdict: record::Verdict) -> Verdict {
    match verdict {
        record::Verdict::Allow => Verdict::Allow,
        record::Verdict::Throttle => Verdict::Throttle,
        record::Verdict::Challenge => Verdict::Challenge,
        record::Verdict::Block => Verdict::Block,
    }
}

fn wire_verdict(verdict: Verdict) -> record::Verdict {
    match verdict {
        Verdict::Allow => record::Verdict::Allow,
        Verdict::Throttle => record::Verdict::Throttle,
        Verdict::Challenge => record::Verdict::Challenge,
        Verdict::Block => record::Verdict::Block,
    }
}

fn cause(cause: record::Cause) -> Cause {
    Cause {
        limit: cause.limit,
        policy_version: cause.policy_version,
        meter: cause.meter,
        window: cause.window,
        mode: cause.mode,
        verdict: verdict(cause.verdict),
        used: cause.used.0,
        max: cause.max.0,
        reset_at: cause.reset_at,
    }
}

/// What a value of `weir.policies.v1` is to a gateway.
#[derive(Debug)]
pub(crate) enum Ruled {
    Policy(Box<Policy>),
    Order(Box<Order>),
    /// Nothing: a former version, the layout of topics.
    Other,
}

/// A value of `weir.policies.v1` that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadRule {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error("an order's key `{0}` is not what it is about")]
    Key(String),
}

/// What stands under `key`.
pub(crate) fn ruled(key: &str, value: &PolicyRecord) -> Result<Ruled, BadRule> {
    match value {
        PolicyRecord::Policy(version) if key == PolicyVersion::KEY => {
            Ok(Ruled::Policy(Box::new(Policy::try_from(version)?)))
        }
        PolicyRecord::Order(record) => {
            let order = Order::try_from(record)?;
            if order.key().to_string() != key {
                return Err(BadRule::Key(key.to_owned()));
            }
            Ok(Ruled::Order(Box::new(order)))
        }
        _ => Ok(Ruled::Other),
    }
}

/// Whether `key` is that of the policy that holds.
pub(crate) fn is_policy(key: &str) -> bool {
    key == PolicyVersion::KEY
}

/// Which order has stood under `key`, if any.
pub(crate) fn order_key(key: &str) -> Option<OrderKey> {
    OrderKey::parse(key)
}

/// The source of the events that settle reservations.
const RESERVATIONS: &str = "weir-reservations";

/// What one event spent under limits in mode `strict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) id: Id,
    pub(crate) at: Timestamp,
    pub(crate) ask: Ask,
}

/// A value of `weir.usage.v1` that settles a reservation of a gateway's.
pub(crate) fn spent(value: &[u8]) -> Option<Spent> {
    let Ok(Recorded::Event(usage)) = <UsageRecord as Wire>::decode(value) else {
        return None;
    };
    if usage.event_source != RESERVATIONS {
        return None;
    }
    let name = usage.reservation.as_deref()?;
    let id = name.split_once('-').map_or(name, |(id, _)| id);
    let count = |amount: i64| Some(u64::try_from(amount).unwrap_or(0));
    let consume = Consume {
        requests: count(usage.requests),
        input_tokens: count(usage.input_tokens),
        output_tokens: count(usage.output_tokens),
        tokens: None,
        cost: count(usage.cost),
        units: usage
            .units
            .iter()
            .map(|(name, amount)| (name.clone(), u64::try_from(*amount).unwrap_or(0)))
            .collect(),
    };
    let identity = usage.identity();
    let mut ask = Ask::default().using(consume);
    for dimension in Dimension::ALL {
        ask.set(dimension, identity.get(dimension).map(str::to_owned));
    }
    Some(Spent {
        id: Id::from_str_radix(id, 16).ok()?,
        at: usage.at,
        ask,
    })
}

/// A report, as the record that tells it and the key that it goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Usage(String, Box<UsageRecord>),
    Refusal(String, Box<record::Refusal>),
}

/// What tells `report` to the log. `None` for a request without a tenant that was admitted: usage is a tenant's.
pub(crate) fn outgoing(gateway: &str, report: &Report) -> Option<Outgoing> {
    let tenant = report.ask.id(Dimension::Tenant);
    match &report.kind {
        Kind::Admitted | Kind::Spent { .. } => {
            let tenant = tenant?;
            let usage = Recorded::Event(usage(gateway, tenant, report));
            Some(Outgoing::Usage(tenant.to_owned(), Box::new(usage)))
        }
        Kind::Refused(refused) => {
            let key = tenant.map_or_else(|| refused.subject.partition_key(), str::to_owned);
            let refusal = refusal(gateway, report, refused);
            Some(Outgoing::Refusal(key, Box::new(refusal)))
        }
    }
}

fn usage(gateway: &str, tenant: &str, report: &Report) -> record::Usage {
    let own = |dimension| id(&report.ask, dimension);
    let consume = &report.ask.consume;
    let (input_tokens, output_tokens) = tokens(consume);
    // Whichever gateway it is committed at, and however often: one event.
    let (event_source, event_id, reservation) = match &report.kind {
        Kind::Spent { reservation, .. } => (
            RESERVATIONS.to_owned(),
            reservation.clone(),
            Some(reservation.clone()),
        ),
        _ => {
            let source = format!("weir-gateway/{gateway}");
            (source, report.request_id.clone(), None)
        }
    };
    record::Usage {
        event_source,
        event_id,
        reservation,
        tenant: tenant.to_owned(),
        at: report.at,
        received_at: report.at,
        key: own(Dimension::Key),
        user: own(Dimension::User),
        route: own(Dimension::Route),
        provider: own(Dimension::Provider),
        model: own(Dimension::Model),
        source: own(Dimension::Source),
        fingerprint: own(Dimension::Fingerprint),
        action: own(Dimension::Action),
        request_id: Some(report.request_id.clone()),
        requests: whole(consume.requests.unwrap_or(0)),
        input_tokens,
        output_tokens,
        cost: whole(consume.cost.unwrap_or(0)),
        units: consume
            .units
            .iter()
            .map(|(name, amount)| (name.clone(), whole(*amount)))
            .collect::<BTreeMap<_, _>>(),
        ..record::Usage::default()
    }
}

/// Input and output tokens. What a total has beyond its parts is input.
fn tokens(consume: &Consume) -> (i64, i64) {
    let input = consume.input_tokens.unwrap_or(0);
    let output = consume.output_tokens.unwrap_or(0);
    let beyond = consume.tokens.unwrap_or(0).saturating_sub(input + output);
    (whole(input + beyond), whole(output))
}

fn refusal(gateway: &str, report: &Report, refused: &Refused) -> record::Refusal {
    let own = |dimension| id(&report.ask, dimension);
    record::Refusal {
        request_id: report.request_id.clone(),
        at: report.at,
        gateway: gateway.to_owned(),
        tenant: own(Dimension::Tenant),
        key: own(Dimension::Key),
        user: own(Dimension::User),
        route: own(Dimension::Route),
        account: own(Dimension::Account),
        source: own(Dimension::Source),
        subject: refused.subject.clone(),
        limits: refused.limits.clone(),
        verdict: wire_verdict(refused.verdict),
        status: refused.status.into(),
        retry_after_seconds: refused.retry_after_s.map(whole),
        decision: refused.decision.clone(),
    }
}

fn id(ask: &Ask, dimension: Dimension) -> Option<String> {
    ask.id(dimension).map(str::to_owned)
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use schemas::record::Amount;

    use super::*;

    fn decision() -> record::Decision {
        record::Decision {
            id: "d".to_owned(),
            subject: Subject::tenant("acme"),
            verdict: record::Verdict::Block,
            causes: vec![record::Cause {
                limit: "rate".to_owned(),
                policy_version: 3,
                meter: "requests".parse().unwrap(),
                window: "sliding 60s".parse().unwrap(),
                mode: schemas::policy::Mode::Block,
                verdict: record::Verdict::Block,
                used: Amount(100),
                max: Amount(100),
                reset_at: None,
                crossing: "c".to_owned(),
                origin: record::Origin::default(),
            }],
            status: Some(402),
            until: Some(Timestamp::from_seconds(9)),
            terminal: true,
            seq: 7,
            issued_at: Timestamp::from_seconds(1),
            ttl_seconds: 60,
        }
    }

    #[test]
    fn a_decision_is_taken_as_it_is() {
        let standing = standing("tenant/acme", decision()).unwrap();
        assert_eq!(
            (standing.status, standing.seq, standing.terminal),
            (402, 7, true)
        );
        assert_eq!(standing.fresh_until, Timestamp::from_seconds(61));
        assert_eq!(standing.causes[0].used, 100);
    }

    #[test]
    fn a_decision_without_a_status_gets_the_usual_one() {
        let status = |verdict, until: Option<i64>| {
            let decision = record::Decision {
                verdict,
                until: until.map(Timestamp::from_seconds),
                status: None,
                ..decision()
            };
            standing("tenant/acme", decision).unwrap().status
        };
        assert_eq!(status(record::Verdict::Block, Some(9)), 429);
        assert_eq!(status(record::Verdict::Block, None), 403);
        assert_eq!(status(record::Verdict::Throttle, None), 429);
        assert_eq!(status(record::Verdict::Challenge, Some(9)), 401);
    }

    #[test]
    fn a_decision_that_nobody_could_obey_is_refused() {
        let error = standing("tenant/other", decision()).unwrap_err();
        assert!(matches!(error, BadDecision::Key { .. }));
        for status in [-1, 200, 600, 70_000] {
            let decision = record::Decision {
                status: Some(status),
                ..decision()
            };
            assert_eq!(
                standing("tenant/acme", decision),
                Err(BadDecision::Status(status))
            );
        }
    }

    fn report(ask: Ask, kind: Kind) -> Report {
        Report {
            request_id: "r".to_owned(),
            at: Timestamp::from_seconds(5),
            ask,
            kind,
        }
    }

    #[track_caller]
    fn check_tokens(
        input: Option<u64>,
        output: Option<u64>,
        tokens: Option<u64>,
        expected: (i64, i64),
    ) {
        let consume = Consume {
            input_tokens: input,
            output_tokens: output,
            tokens,
            ..Consume::default()
        };
        let ask = Ask::default()
            .with(Dimension::Tenant, "acme")
            .using(consume.clone());
        let Some(Outgoing::Usage(key, usage)) = outgoing("g", &report(ask, Kind::Admitted)) else {
            panic!("an admission of a tenant is usage");
        };
        let Recorded::Event(usage) = *usage else {
            panic!("no event")
        };
        assert_eq!(key, "acme");
        assert_eq!(
            (usage.input_tokens, usage.output_tokens, usage.requests),
            (expected.0, expected.1, 0)
        );
        // The aggregator counts what was counted here.
        let meter = "tokens".parse().unwrap();
        assert_eq!(
            usage.amount(&meter),
            consume.amount(&meter).unwrap_or(0).into()
        );
    }

    #[test]
    fn usage_adds_up_to_what_was_counted() {
        check_tokens(None, None, None, (0, 0));
        check_tokens(Some(1), Some(2), None, (1, 2));
        check_tokens(None, None, Some(9), (9, 0));
        check_tokens(Some(1), Some(2), Some(9), (7, 2));
    }

    #[test]
    fn usage_is_known_by_gateway_and_request() {
        let ask = Ask::default()
            .with(Dimension::Tenant, "acme")
            .with(Dimension::User, "u");
        let Some(Outgoing::Usage(_, usage)) = outgoing("g1", &report(ask, Kind::Admitted)) else {
            panic!("an admission of a tenant is usage");
        };
        let Recorded::Event(usage) = *usage else {
            panic!("no event")
        };
        assert_eq!(
            (usage.event_source.as_str(), usage.event_id.as_str()),
            ("weir-gateway/g1", "r")
        );
        assert_eq!((usage.requests, usage.user.as_deref()), (1, Some("u")));
        let nobodys = Ask::default().with(Dimension::Source, "192.0.2.1");
        assert_eq!(outgoing("g1", &report(nobodys, Kind::Admitted)), None);
    }

    #[test]
    fn a_refusal_goes_by_tenant_or_scope() {
        let refused = |subject: &str| {
            Kind::Refused(Refused {
                subject: Subject::parse(subject).unwrap(),
                limits: vec!["rate".to_owned()],
                verdict: Verdict::Block,
                status: 429,
                retry_after_s: Some(51),
                decision: None,
            })
        };
        let key = |ask: Ask, subject: &str| match outgoing("g", &report(ask, refused(subject))) {
            Some(Outgoing::Refusal(key, refusal)) => {
                (key, refusal.retry_after_seconds, refusal.status)
            }
            other => panic!("{other:?}"),
        };
        let source = Ask::default().with(Dimension::Source, "192.0.2.1");
        let scope = "source/192.0.2.1";
        assert_eq!(
            key(source.clone(), scope),
            (scope.to_owned(), Some(51), 429)
        );
        let acme = source.with(Dimension::Tenant, "acme");
        assert_eq!(key(acme, scope), ("acme".to_owned(), Some(51), 429));
    }
}
