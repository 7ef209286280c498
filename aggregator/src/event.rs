//! What goes into an engine and comes out of it: plain values, borrowed on the way in. `wire.rs` turns records into
//! the former and the latter into records.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::orders::Order;
use schemas::policy::{Meter, Mode, Policy, Window};
use schemas::subject::{Dimension, Identity, Subject};
use schemas::time::Timestamp;
use thiserror::Error;

use crate::counter::Direction;
use crate::rollup::{Dims, Sums};
use crate::sketch::Ranked;

/// Where in its partition a record lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) offset: i64,
    /// When the log took it.
    pub(crate) appended_at: Timestamp,
}

/// One record, read.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every input is an event, and none outlives its step"
)]
pub(crate) enum Input<'a> {
    Event(Event<'a>),
    Partial(Partial<'a>),
    /// The policy that holds from here on, made at `at`.
    Policy {
        policy: Box<Policy>,
        at: Timestamp,
    },
    /// An order that holds from here on, or holds no more, since `at`.
    Order {
        order: Box<Order>,
        ended: bool,
        at: Timestamp,
    },
    /// Says by its append time that time goes on.
    Tick,
    /// Nobody could read it.
    Unreadable,
}

/// Something that happened, checked: ids are neither empty nor longer than a subject takes, amounts not below zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    /// With `id`: two events of a tenant that agree in both are one.
    pub(crate) source: &'a str,
    pub(crate) id: &'a str,
    pub(crate) tenant: &'a str,
    /// Has the tenant too.
    pub(crate) identity: Identity<'a>,
    pub(crate) at: Timestamp,
    pub(crate) amounts: Amounts<'a>,
    pub(crate) report: Option<Report<'a>>,
}

/// What an event adds to each meter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amounts<'a> {
    pub(crate) requests: i64,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    /// Pico-dollars.
    pub(crate) cost: i64,
    pub(crate) failures: i64,
    pub(crate) violations: i64,
    pub(crate) units: Option<&'a BTreeMap<String, i64>>,
}

impl Amounts<'_> {
    pub(crate) fn of(&self, meter: &Meter) -> i128 {
        match meter {
            Meter::Requests => self.requests.into(),
            Meter::InputTokens => self.input_tokens.into(),
            Meter::OutputTokens => self.output_tokens.into(),
            Meter::Tokens => i128::from(self.input_tokens) + i128::from(self.output_tokens),
            Meter::Cost => self.cost.into(),
            Meter::Failures => self.failures.into(),
            Meter::Violations => self.violations.into(),
            Meter::Unit(name) => {
                let amount = self.units.and_then(|units| units.get(name));
                amount.copied().unwrap_or(0).into()
            }
        }
    }
}

/// What a browser reported, as far as reports are told apart by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'a> {
    pub(crate) directive: &'a str,
    pub(crate) blocked_host: &'a str,
    pub(crate) document_uri: &'a str,
}

/// One shard's sum in one slice of a scope wider than a tenant: absolute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partial<'a> {
    pub(crate) scope: &'a Subject,
    pub(crate) meter: &'a Meter,
    /// Start of the slice.
    pub(crate) slice: Timestamp,
    pub(crate) slice_seconds: u32,
    pub(crate) sum: i128,
    /// The shard that it comes from, and the record that changed it last there.
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// What became of a record. Each is exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Counted,
    /// Its tenant's time had gone on too far.
    Late,
    /// Seen before.
    Duplicate,
    Dead(Cause),
    /// Belongs to another partition, and is to be sent there.
    Misplaced {
        partition: i32,
    },
    /// No event: a policy or a tick.
    Marker,
}

/// Why a record is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Cause {
    #[error("it could not be read")]
    Unreadable,
    #[error("its time {at} lies too far ahead of {appended_at}, when the log took it")]
    TooFarAhead {
        at: Timestamp,
        appended_at: Timestamp,
    },
    #[error("a record of this kind does not belong on this topic")]
    WrongTopic,
}

/// What follows from a record, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Crossing(Box<Crossing>),
    /// A hard level that stands will fall later than was told.
    Prolonged(Prolonged),
    Group(Group),
    Cleared(Box<Cleared>),
    Rollup(Rollup),
    Partial(PartialSum),
    Spread(Spread),
    Ranking(Ranking),
}

impl Output {
    /// Whether nobody misses it if it is told so much later.
    pub(crate) fn can_wait(&self, span: Duration) -> bool {
        matches!(self, Self::Prolonged(prolonged) if span < prolonged.left)
    }
}

/// A level of a limit that began or ceased to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crossing {
    pub(crate) subject: Subject,
    pub(crate) limit: String,
    pub(crate) policy_version: u64,
    pub(crate) meter: Meter,
    pub(crate) window: Window,
    pub(crate) mode: Mode,
    pub(crate) level: String,
    pub(crate) threshold: i128,
    pub(crate) direction: Direction,
    pub(crate) at: Timestamp,
    pub(crate) sum: i128,
    /// The limit's hard number.
    pub(crate) max: i128,
    pub(crate) falls_at: Option<Timestamp>,
    /// Source and id of the event that did it.
    pub(crate) event: Option<(String, String)>,
    /// The record that did it, or that let time pass.
    pub(crate) offset: i64,
}

/// The crossing of a hard level said again, since more came and it falls later now. A decision that rests on it would
/// end too early otherwise: nothing crosses upward while the level stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prolonged {
    /// As it was, with what the sum is now and when it falls now, by the record that made it so.
    pub(crate) crossing: Box<Crossing>,
    /// The record that crossed.
    pub(crate) crossed_by: i64,
    /// By the owner's clock, what is left of the block as it was told before.
    pub(crate) left: Duration,
}

/// What was counted of a limit for one subject counts no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cleared {
    pub(crate) subject: Subject,
    pub(crate) limit: String,
    pub(crate) policy_version: u64,
    pub(crate) meter: Meter,
    pub(crate) window: Window,
    /// When it was ordered, by which command, and why.
    pub(crate) at: Timestamp,
    pub(crate) command: String,
    pub(crate) reason: String,
    pub(crate) before: i128,
    /// The limit's hard number.
    pub(crate) max: i128,
    /// The marker.
    pub(crate) offset: i64,
}

/// Reports of one tenant with the same directive and blocked host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) tenant: String,
    pub(crate) directive: String,
    pub(crate) blocked_host: String,
    /// Of the first report.
    pub(crate) document_uri: String,
    pub(crate) first_at: Timestamp,
    pub(crate) count: i64,
    /// Whether this is the first.
    pub(crate) new: bool,
    pub(crate) offset: i64,
}

/// What one combination of dimensions used in one minute, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rollup {
    pub(crate) dims: Dims,
    /// Start of the minute.
    pub(crate) minute: Timestamp,
    /// By second of the minute.
    pub(crate) seconds: Vec<(u8, Sums)>,
    /// The record that changed it last.
    pub(crate) offset: i64,
}

/// This shard's sum in one slice of a scope wider than a tenant, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartialSum {
    pub(crate) scope: Subject,
    pub(crate) meter: Meter,
    pub(crate) slice: Timestamp,
    pub(crate) slice_seconds: u32,
    pub(crate) sum: i128,
    /// The record that changed it last.
    pub(crate) offset: i64,
}

impl PartialSum {
    /// As the shard of wider scopes takes it from the shard of this topic and partition.
    pub(crate) fn told_by<'a>(&'a self, topic: &'a str, partition: i32) -> Partial<'a> {
        Partial {
            scope: &self.scope,
            meter: &self.meter,
            slice: self.slice,
            slice_seconds: self.slice_seconds,
            sum: self.sum,
            topic,
            partition,
            offset: self.offset,
        }
    }
}

/// How many different ids of one dimension came with an id of another in one hour, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) tenant: String,
    pub(crate) of: Dimension,
    pub(crate) per: Dimension,
    pub(crate) id: String,
    /// Start of the hour.
    pub(crate) hour: Timestamp,
    pub(crate) count: u64,
    /// Events of `id` in this hour that may not be in the count: from before it was told apart, or when there was no room.
    pub(crate) missed_max: u64,
    /// Of `crate::sketch::Distinct`.
    pub(crate) sketch: Vec<u8>,
    /// The record that changed it last.
    pub(crate) offset: i64,
}

/// Which ids of a dimension came most in one hour, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranking {
    pub(crate) tenant: String,
    pub(crate) by: Dimension,
    pub(crate) meter: Meter,
    /// Start of the hour.
    pub(crate) hour: Timestamp,
    pub(crate) ranked: Ranked,
    /// The record that changed it last.
    pub(crate) offset: i64,
}
