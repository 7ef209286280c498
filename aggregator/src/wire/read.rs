//! A record's bytes to the engine's input: Avro as Weir writes it, or JSON CloudEvents in either form of their Kafka
//! binding.

use std::time::Duration;

use schemas::cloudevents::{self, ReadError, Rules};
use schemas::codec::{DecodeError, Wire, decode_usage};
use schemas::orders::Order;
use schemas::partition::partition_of;
use schemas::policy::{Policy, Stream};
use schemas::record::{
    Auth, AuthRecord, Csp, CspRecord, Marker, OrderError, Outcome, Partial, PartialRecord,
    PolicyError, PolicyVersion, Recorded, UsageRef,
};
use schemas::subject::Identity;
use schemas::time::Timestamp;
use thiserror::Error;

use super::{MOVED_FROM, check};
use crate::engine::ShardId;
use crate::event::{self, Amounts, Event, Input, Report};
use crate::plan::Kind;

/// How Avro's single-object encoding begins.
const AVRO: [u8; 2] = [0xc3, 0x01];
/// What the Kafka binding of CloudEvents puts before the names of attributes in headers.
const ATTRIBUTE_PREFIX: &str = "ce_";

/// Why a record is dead before it is counted.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error("it has no value")]
    Empty,
    #[error(transparent)]
    Avro(#[from] DecodeError),
    #[error(transparent)]
    Json(#[from] ReadError),
    #[error("its headers are not text as CloudEvents' Kafka binding has it")]
    Headers,
    #[error("{0}")]
    Rule(String),
    #[error("an event of another kind than its topic's")]
    WrongTopic,
    #[error("a policy that cannot be obeyed: {0}")]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error("it was moved here already, and yet belongs to partition {0}")]
    MovedAgain(i32),
}

/// A record that was read and checked. Usage, which nearly every record is, has its text in the record's own bytes.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every record is usage, and none outlives its step"
)]
pub(crate) enum Read<'a> {
    Usage(UsageRef<'a>),
    Auth(Box<Auth>),
    Csp(Box<Csp>),
    Partial(Box<Partial>),
    Policy {
        policy: Box<Policy>,
        version: Box<PolicyVersion>,
    },
    Order {
        order: Box<Order>,
        ended: bool,
        at: Timestamp,
    },
    Tick,
}

/// Reads one record of a topic. JSON is read by the record's append time and no clock: whenever it is read again,
/// it says the same.
pub(crate) fn read(
    kind: Kind,
    record: &bus::Record,
    ahead_max: Duration,
) -> Result<Read<'_>, Unreadable> {
    let value = record.value.as_deref().ok_or(Unreadable::Empty)?;
    if !value.starts_with(&AVRO) {
        return read_json(kind, record, value, ahead_max);
    }
    match kind {
        Kind::Events(Stream::Usage) => match decode_usage(value)? {
            Recorded::Event(usage) => read_usage(usage),
            Recorded::Marker(marker) => read_marker(marker),
        },
        Kind::Events(Stream::Auth) => match AuthRecord::decode(value)? {
            Recorded::Event(auth) => read_auth(auth),
            Recorded::Marker(marker) => read_marker(marker),
        },
        Kind::Events(Stream::Csp) => match CspRecord::decode(value)? {
            Recorded::Event(csp) => read_csp(csp),
            Recorded::Marker(marker) => read_marker(marker),
        },
        Kind::Partials => match PartialRecord::decode(value)? {
            Recorded::Event(partial) => {
                check::partial(&partial).map_err(Unreadable::Rule)?;
                Ok(Read::Partial(Box::new(partial)))
            }
            Recorded::Marker(marker) => read_marker(marker),
        },
    }
}

/// [`read`], for the shard in whose partition the record lies: one that was moved there from elsewhere, and belongs into
/// yet another, goes round no more.
pub(crate) fn read_in(
    shard: ShardId,
    record: &bus::Record,
    ahead_max: Duration,
) -> Result<Read<'_>, Unreadable> {
    let read = read(shard.kind, record, ahead_max)?;
    match returns_to(shard, record, read.key()) {
        Some(partition) => Err(Unreadable::MovedAgain(partition)),
        None => Ok(read),
    }
}

/// The partition in which a record belongs that was moved here from elsewhere, if it is yet another one.
fn returns_to(shard: ShardId, record: &bus::Record, key: Option<&str>) -> Option<i32> {
    if !record.headers.iter().any(|(name, _)| name == MOVED_FROM) {
        return None;
    }
    let belongs = partition_of(key?.as_bytes(), shard.partitions);
    (belongs != shard.partition).then_some(belongs)
}

fn read_json<'a>(
    kind: Kind,
    record: &'a bus::Record,
    value: &'a [u8],
    ahead_max: Duration,
) -> Result<Read<'a>, Unreadable> {
    let rules = Rules {
        future_max: ahead_max,
        ..Rules::at(record.appended_at)
    };
    let attributes = attributes(record)?;
    let is_binary = attributes.iter().any(|(name, _)| *name == "specversion");
    if kind == Kind::Events(Stream::Usage)
        && !is_binary
        && let Some(usage) = cloudevents::read_plain_usage(value, &rules)
    {
        return read_usage(usage);
    }
    let event = if is_binary {
        cloudevents::read_binary(attributes, value, &rules)?
    } else {
        cloudevents::read_event(value, &rules)?
    };
    match (kind, event) {
        (Kind::Events(Stream::Usage), cloudevents::Event::Usage(usage)) => read_usage(usage.into()),
        (Kind::Events(Stream::Auth), cloudevents::Event::Auth(auth)) => read_auth(auth),
        (Kind::Events(Stream::Csp), cloudevents::Event::Csp(csp)) => read_csp(csp),
        _ => Err(Unreadable::WrongTopic),
    }
}

fn attributes(record: &bus::Record) -> Result<Vec<(&str, &str)>, Unreadable> {
    let mut attributes = Vec::new();
    for (name, value) in &record.headers {
        if let Some(name) = name.strip_prefix(ATTRIBUTE_PREFIX) {
            let value = std::str::from_utf8(value.as_deref().unwrap_or_default());
            attributes.push((name, value.map_err(|_| Unreadable::Headers)?));
        }
    }
    Ok(attributes)
}

#[inline]
fn read_usage(usage: UsageRef<'_>) -> Result<Read<'_>, Unreadable> {
    check::usage(&usage).map_err(Unreadable::Rule)?;
    Ok(Read::Usage(usage))
}

fn read_auth(auth: Auth) -> Result<Read<'static>, Unreadable> {
    check::auth(&auth).map_err(Unreadable::Rule)?;
    Ok(Read::Auth(Box::new(auth)))
}

fn read_csp(csp: Csp) -> Result<Read<'static>, Unreadable> {
    check::csp(&csp).map_err(Unreadable::Rule)?;
    Ok(Read::Csp(Box::new(csp)))
}

fn read_marker(marker: Marker) -> Result<Read<'static>, Unreadable> {
    if let Some(record) = marker.order {
        return Ok(Read::Order {
            order: Box::new(Order::try_from(&*record)?),
            ended: record.ended,
            at: record.at,
        });
    }
    let Some(version) = marker.policy else {
        return Ok(Read::Tick);
    };
    let policy = Box::new(Policy::try_from(&version)?);
    Ok(Read::Policy {
        policy,
        version: Box::new(version),
    })
}

impl Read<'_> {
    /// What decides where the record belongs: its tenant, or its scope where that is wider. `None` for markers,
    /// which are written to every partition.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Usage(usage) => Some(&usage.tenant),
            Self::Auth(auth) => Some(&auth.tenant),
            Self::Csp(csp) => Some(&csp.tenant),
            Self::Partial(partial) => Some(partial.scope.as_str()),
            Self::Policy { .. } | Self::Order { .. } | Self::Tick => None,
        }
    }

    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Self::Usage(usage) => Input::Event(usage_event(usage)),
            Self::Auth(auth) => Input::Event(auth_event(auth)),
            Self::Csp(csp) => Input::Event(csp_event(csp)),
            Self::Partial(partial) => Input::Partial(event::Partial {
                scope: &partial.scope,
                meter: &partial.meter,
                slice: partial.slice,
                slice_seconds: partial.slice_seconds.unsigned_abs(),
                sum: partial.sum.0,
                topic: &partial.origin.topic,
                partition: partial.origin.partition,
                offset: partial.origin.offset,
            }),
            Self::Policy { policy, version } => Input::Policy {
                policy: policy.clone(),
                at: version.at,
            },
            Self::Order { order, ended, at } => Input::Order {
                order: order.clone(),
                ended: *ended,
                at: *at,
            },
            Self::Tick => Input::Tick,
        }
    }
}

fn usage_event<'a>(usage: &'a UsageRef<'_>) -> Event<'a> {
    Event {
        source: &usage.event_source,
        id: &usage.event_id,
        tenant: &usage.tenant,
        identity: usage.identity(),
        at: usage.at,
        amounts: Amounts {
            requests: usage.requests,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost: usage.cost,
            units: Some(&usage.units),
            ..Amounts::default()
        },
        report: None,
    }
}

fn auth_event(auth: &Auth) -> Event<'_> {
    Event {
        source: &auth.event_source,
        id: &auth.event_id,
        tenant: &auth.tenant,
        identity: auth.identity(),
        at: auth.at,
        amounts: Amounts {
            failures: i64::from(auth.outcome == Outcome::Failure),
            ..Amounts::default()
        },
        report: None,
    }
}

fn csp_event(csp: &Csp) -> Event<'_> {
    Event {
        source: &csp.event_source,
        id: &csp.event_id,
        tenant: &csp.tenant,
        identity: Identity {
            tenant: Some(&csp.tenant),
            ..Identity::default()
        },
        at: csp.at,
        amounts: Amounts {
            violations: 1,
            ..Amounts::default()
        },
        report: Some(Report {
            directive: &csp.directive,
            blocked_host: &csp.blocked_host,
            document_uri: &csp.document_uri,
        }),
    }
}
