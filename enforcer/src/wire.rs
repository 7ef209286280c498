//! Records of the log to the enforcer's own types and back: the only file that knows them.

use std::collections::BTreeMap;

use bus::consumer::{Partition, Record};
use bus::follow;
use bus::producer::{Delivery, Producer};
use bus::{Bus, BusError, SendError};
use schemas::codec::Wire as _;
use schemas::orders::{Order, OrderKey};
use schemas::policy::{HARD, Policy};
use schemas::record::{
    self, Amount, Direction, Marker, PolicyError, PolicyRecord, PolicyVersion, Recorded,
};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use schemas::topic;

use crate::alert::{Alert, AlertKind};
use crate::decide::Output;
use crate::decision::{Cause, Cleared, Crossing, CspGroup, Decision, Origin, Signal, Verdict};
use crate::policy::Version;
use crate::store::{Entry, Said};

mod command;
mod happened;
mod order;

pub(crate) use command::{command, enqueue_command};
pub(crate) use happened::{Sought, events_of, happened_at};
pub(crate) use order::{end_order, orders, put_order};

// === Reading ===

/// Reads one record of `weir.signals.v1`; the error says what is wrong with it.
pub(crate) fn signal(record: &Record) -> Result<Signal, String> {
    let value = record.value.as_deref().ok_or("a signal without a value")?;
    signal_of(record::Signal::decode(value).map_err(|error| error.to_string())?)
}

/// What a signal says; the error says what is wrong with it.
pub(crate) fn signal_of(signal: record::Signal) -> Result<Signal, String> {
    match signal {
        record::Signal::Crossing(wire) => crossing(wire).map(Signal::Crossing),
        record::Signal::CspGroup(group) => Ok(Signal::CspGroup(CspGroup {
            id: group.id,
            tenant: group.tenant,
            directive: group.directive,
            blocked_host: group.blocked_host,
            document_uri: group.document_uri,
            at: group.at,
            new: group.new,
        })),
        record::Signal::Cleared(wire) => Ok(Signal::Cleared(Cleared {
            id: wire.id,
            subject: wire.subject,
            limit: wire.limit,
            meter: wire.meter,
            window: wire.window,
            at: wire.at,
            before: wire.before.0,
            after: wire.after.0,
            max: wire.max.0,
            command: wire.command,
            reason: wire.reason,
        })),
    }
}

fn crossing(wire: record::Crossing) -> Result<Crossing, String> {
    Ok(Crossing {
        id: wire.id,
        subject: wire.subject,
        limit: wire.limit,
        policy_version: version_number(wire.policy_version)?,
        meter: wire.meter,
        window: wire.window,
        mode: wire.mode,
        soft: (wire.level != HARD).then_some(wire.level),
        threshold: wire.threshold.0,
        up: wire.direction == Direction::Up,
        at: wire.at,
        sum: wire.sum.0,
        max: wire.max.0,
        falls_at: wire.falls_at,
        origin: origin(wire.origin),
    })
}

fn version_number(number: i64) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("policy version {number} is below zero"))
}

/// Where a record lies.
pub(crate) fn origin_of(record: &Record, partition: Partition) -> Origin {
    Origin {
        topic: partition.topic.to_owned(),
        partition: partition.index,
        offset: record.offset,
    }
}

fn origin(wire: record::Origin) -> Origin {
    Origin {
        topic: wire.topic,
        partition: wire.partition,
        offset: wire.offset,
    }
}

/// Reads one record of `weir.decisions.v1`; the error says what is wrong with it.
pub(crate) fn entry(record: &Record) -> Result<Entry, String> {
    let said = match &record.value {
        Some(value) => {
            let wire = record::Decision::decode(value).map_err(|error| error.to_string())?;
            Said::Put(decision(wire)?)
        }
        None => {
            let key = record.key.as_deref().ok_or("a tombstone without a key")?;
            let key = std::str::from_utf8(key).map_err(|error| error.to_string())?;
            let subject = Subject::parse(key).map_err(|error| error.to_string())?;
            let at = record.appended_at;
            Said::Lifted { subject, at }
        }
    };
    let offset = record.offset;
    Ok(Entry { said, offset })
}

fn decision(wire: record::Decision) -> Result<Decision, String> {
    let status = wire.status.map(u16::try_from).transpose();
    Ok(Decision {
        // PostgreSQL keeps no such character; no id of ours has one.
        id: wire.id.replace('\0', ""),
        subject: wire.subject,
        verdict: verdict(wire.verdict),
        causes: wire
            .causes
            .into_iter()
            .map(cause)
            .collect::<Result<_, _>>()?,
        status: status.map_err(|error| format!("status: {error}"))?,
        until: wire.until,
        terminal: wire.terminal,
        seq: wire.seq,
        issued_at: wire.issued_at,
        ttl_seconds: u32::try_from(wire.ttl_seconds).map_err(|error| format!("ttl: {error}"))?,
    })
}

fn cause(wire: record::Cause) -> Result<Cause, String> {
    Ok(Cause {
        limit: wire.limit,
        policy_version: version_number(wire.policy_version)?,
        meter: wire.meter,
        window: wire.window,
        mode: wire.mode,
        verdict: verdict(wire.verdict),
        used: wire.used.0,
        max: wire.max.0,
        reset_at: wire.reset_at,
        crossing: wire.crossing,
        origin: origin(wire.origin),
    })
}

fn verdict(wire: record::Verdict) -> Verdict {
    match wire {
        record::Verdict::Allow => Verdict::Allow,
        record::Verdict::Throttle => Verdict::Throttle,
        record::Verdict::Challenge => Verdict::Challenge,
        record::Verdict::Block => Verdict::Block,
    }
}

/// All decisions that stand in the log now. Ones that nobody can read are passed over: they stand until their
/// subject's next decision.
pub(crate) async fn standing(bus: &Bus) -> Result<Vec<Decision>, BusError> {
    let all = bus.read_all(&topic::DECISIONS).await?;
    let read = all
        .into_iter()
        .filter_map(|(subject, wire)| match decision(wire) {
            Ok(decision) => Some(decision),
            Err(reason) => {
                tracing::warn!(subject, reason, "a decision in the log cannot be read");
                None
            }
        });
    Ok(read.collect())
}

/// The versions of the policy that `weir.policies.v1` has now.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// The one that holds.
    pub(crate) in_force: Option<Version>,
    /// Each that was kept, also the one that holds, by its number.
    pub(crate) kept: BTreeMap<u64, Version>,
}

pub(crate) async fn versions(bus: &Bus) -> Result<Versions, BusError> {
    let mut versions = Versions::default();
    for (key, record) in bus.read_all(&topic::POLICIES).await? {
        match version(record) {
            Some(version) if key == PolicyVersion::KEY => versions.in_force = Some(version),
            Some(version) => {
                versions.kept.insert(version.policy.version, version);
            }
            None => {}
        }
    }
    Ok(versions)
}

/// What following `weir.policies.v1` shows.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The version that holds from here on.
    Policy(Box<Version>),
    /// A version that is kept, whether it holds or not.
    Kept(Box<Version>),
    /// An order that holds from here on.
    Order(Box<Order>),
    /// The order of this key holds no more.
    OrderEnded(OrderKey),
    /// Everything that was there at the start has been seen.
    CaughtUp,
    Other,
}

pub(crate) fn followed(seen: follow::Followed<PolicyRecord>) -> Followed {
    match seen {
        follow::Followed::Put { key, value, .. } if OrderKey::parse(&key).is_some() => {
            match order::order(&key, &value) {
                Some(order) => Followed::Order(Box::new(order)),
                None => Followed::Other,
            }
        }
        follow::Followed::Lifted { key, .. } => {
            OrderKey::parse(&key).map_or(Followed::Other, Followed::OrderEnded)
        }
        follow::Followed::Put { key, value, .. } => match version(value) {
            Some(version) if key == PolicyVersion::KEY => Followed::Policy(Box::new(version)),
            Some(version) => Followed::Kept(Box::new(version)),
            None => Followed::Other,
        },
        follow::Followed::CaughtUp => Followed::CaughtUp,
        _ => Followed::Other,
    }
}

fn version(record: PolicyRecord) -> Option<Version> {
    let PolicyRecord::Policy(wire) = record else {
        return None;
    };
    let policy: Result<Policy, PolicyError> = Policy::try_from(&wire);
    match policy {
        Ok(policy) => Some(Version {
            policy,
            at: wire.at,
            author: wire.author,
            reason: wire.reason,
            source: wire.source,
        }),
        Err(error) => {
            let version = wire.version;
            tracing::error!(version, %error, "a policy in the log cannot be obeyed; the one before it holds");
            None
        }
    }
}

// === Writing ===

/// Sends one output of deciding. Of an order that clears, or has ended, it tells those who count; [`put_order`] and
/// [`end_order`] are for after that.
pub(crate) fn enqueue(bus: &Bus, output: &Output) -> Result<Vec<Delivery>, SendError> {
    let producer = bus.producer();
    let delivery = match output {
        Output::Put(decision, _) => {
            let key = decision.subject.as_str();
            producer.enqueue(&topic::DECISIONS, key, &decision_record(decision))
        }
        Output::Lift(subject, _) => producer.enqueue_lift(&topic::DECISIONS, subject.as_str()),
        Output::Alert(alert) => {
            let key = alert.subject.partition_key();
            producer.enqueue(&topic::ALERTS, &key, &alert_record(alert))
        }
        Output::Order(order) => return order::enqueue_order(bus, order),
        Output::OrderEnded(order, at) => return order::enqueue_ended(bus, order, *at),
    };
    Ok(vec![delivery?])
}

pub(crate) fn decision_record(decision: &Decision) -> record::Decision {
    record::Decision {
        id: decision.id.clone(),
        subject: decision.subject.clone(),
        verdict: verdict_record(decision.verdict),
        causes: decision.causes.iter().map(cause_record).collect(),
        status: decision.status.map(i32::from),
        until: decision.until,
        terminal: decision.terminal,
        seq: decision.seq,
        issued_at: decision.issued_at,
        ttl_seconds: i32::try_from(decision.ttl_seconds).unwrap_or(i32::MAX),
    }
}

fn cause_record(cause: &Cause) -> record::Cause {
    record::Cause {
        limit: cause.limit.clone(),
        policy_version: number_record(cause.policy_version),
        meter: cause.meter.clone(),
        window: cause.window,
        mode: cause.mode,
        verdict: verdict_record(cause.verdict),
        used: Amount(cause.used),
        max: Amount(cause.max),
        reset_at: cause.reset_at,
        crossing: cause.crossing.clone(),
        origin: record::Origin {
            topic: cause.origin.topic.clone(),
            partition: cause.origin.partition,
            offset: cause.origin.offset,
        },
    }
}

fn verdict_record(verdict: Verdict) -> record::Verdict {
    match verdict {
        Verdict::Allow => record::Verdict::Allow,
        Verdict::Throttle => record::Verdict::Throttle,
        Verdict::Challenge => record::Verdict::Challenge,
        Verdict::Block => record::Verdict::Block,
    }
}

pub(crate) fn alert_record(alert: &Alert) -> record::Alert {
    record::Alert {
        id: alert.id.clone(),
        kind: match alert.kind {
            AlertKind::Soft => record::AlertKind::Soft,
            AlertKind::Hard => record::AlertKind::Hard,
            AlertKind::Lifted => record::AlertKind::Lifted,
            AlertKind::CspGroup => record::AlertKind::CspGroup,
            AlertKind::Asked => record::AlertKind::Asked,
            AlertKind::Answered => record::AlertKind::Answered,
            AlertKind::Cleared => record::AlertKind::Cleared,
        },
        tenant: alert.subject.tenant_id(),
        subject: alert.subject.clone(),
        title: alert.title.clone(),
        body: alert.body.clone(),
        at: alert.at,
        limit: alert.limit.clone(),
        level: alert.level.clone(),
        used: alert.used.map(Amount),
        max: alert.max.map(Amount),
        decision: alert.decision.clone(),
        until: alert.until,
    }
}

/// A record that nobody can read, as it came.
pub(crate) struct Dead(record::Dead);

pub(crate) fn dead(record: &Record, partition: Partition, reason: String, now: Timestamp) -> Dead {
    Dead(record.to_dead(partition, reason, now))
}

pub(crate) fn enqueue_dead(producer: &Producer, dead: &Dead) -> Result<Delivery, SendError> {
    producer.enqueue(&topic::DEAD, &dead.0.origin.topic, &dead.0)
}

/// Sends a version to `weir.policies.v1`: as itself first, so that what holds is always also kept.
pub(crate) fn enqueue_version(
    producer: &Producer,
    version: &Version,
) -> Result<Vec<Delivery>, SendError> {
    let wire = version_record(version);
    let key = wire.version_key();
    let record = PolicyRecord::Policy(wire);
    Ok(vec![
        producer.enqueue(&topic::POLICIES, &key, &record)?,
        producer.enqueue(&topic::POLICIES, PolicyVersion::KEY, &record)?,
    ])
}

/// Sends a marker of `version` into every partition of every topic of events.
pub(crate) fn enqueue_markers(bus: &Bus, version: &Version) -> Result<Vec<Delivery>, SendError> {
    let marker = Marker {
        policy: Some(version_record(version)),
        tick: None,
        order: None,
    };
    let mut deliveries = Vec::new();
    deliveries.extend(mark(bus, &topic::USAGE, &Recorded::Marker(marker.clone()))?);
    deliveries.extend(mark(bus, &topic::AUTH, &Recorded::Marker(marker.clone()))?);
    deliveries.extend(mark(bus, &topic::CSP, &Recorded::Marker(marker.clone()))?);
    deliveries.extend(mark(bus, &topic::PARTIALS, &Recorded::Marker(marker))?);
    Ok(deliveries)
}

fn mark<E>(
    bus: &Bus,
    topic: &topic::Topic<Recorded<E>>,
    marker: &Recorded<E>,
) -> Result<Vec<Delivery>, SendError>
where
    Recorded<E>: schemas::codec::Wire,
{
    let producer = bus.producer();
    let partitions = 0..bus.partitions(topic.spec());
    partitions
        .map(|partition| producer.enqueue_to(topic, partition, PolicyVersion::KEY, marker))
        .collect()
}

fn version_record(version: &Version) -> PolicyVersion {
    PolicyVersion {
        at: version.at,
        author: version.author.clone(),
        reason: version.reason.clone(),
        source: version.source.clone(),
        ..PolicyVersion::from(&version.policy)
    }
}

fn number_record(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
