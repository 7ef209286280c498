//! Every topic as a typed constant: its name, how many partitions a new one gets, how it is cleaned, what it holds.

use std::marker::PhantomData;
use std::time::Duration;

use crate::record::{
    Alert, AuthRecord, Command, CspRecord, Dead, Decision, Key, PartialRecord, PolicyRecord,
    Refusal, Rollup, Share, Signal, Sketch, UsageRecord,
};

const DAY: Duration = Duration::from_secs(86_400);

/// What the log may throw away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Records older than this, by the time they were appended.
    Delete { retention: Duration },
    /// All but the newest record of each key.
    Compact,
    /// Nothing.
    Keep,
}

/// How a topic is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Over the installation's number of partitions (12 unless configured), by murmur2 of the key.
    Many,
    /// One partition: few records, and their order across keys matters.
    One,
}

/// A topic without its type, as the log's administration sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: &'static str,
    pub spread: Spread,
    pub cleanup: Cleanup,
}

/// A topic whose values are `V`.
pub struct Topic<V> {
    spec: TopicSpec,
    values: PhantomData<fn() -> V>,
}

impl<V> Topic<V> {
    const fn new(name: &'static str, spread: Spread, cleanup: Cleanup) -> Self {
        Self {
            spec: TopicSpec {
                name,
                spread,
                cleanup,
            },
            values: PhantomData,
        }
    }

    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.spec.name
    }

    #[must_use]
    pub const fn spec(&self) -> TopicSpec {
        self.spec
    }
}

const fn kept_for(days: u32) -> Cleanup {
    Cleanup::Delete {
        retention: DAY.saturating_mul(days),
    }
}

/// Usage as accepted, by tenant; markers of policy and time among them.
pub const USAGE: Topic<UsageRecord> = Topic::new("weir.usage.v1", Spread::Many, kept_for(7));
/// Sign-ins as accepted, by tenant; markers among them.
pub const AUTH: Topic<AuthRecord> = Topic::new("weir.auth.v1", Spread::Many, kept_for(7));
/// Reports of content security policy violations as accepted, by tenant; markers among them.
pub const CSP: Topic<CspRecord> = Topic::new("weir.csp.v1", Spread::Many, kept_for(7));
/// One partition's sums for scopes wider than a tenant, by scope; markers among them.
pub const PARTIALS: Topic<PartialRecord> =
    Topic::new("weir.partials.v1", Spread::Many, kept_for(7));
/// Crossings and new groups, by tenant (by scope where wider).
pub const SIGNALS: Topic<Signal> = Topic::new("weir.signals.v1", Spread::Many, kept_for(30));
/// Usage per minute as absolute values, by tenant.
pub const ROLLUPS: Topic<Rollup> = Topic::new("weir.rollups.v1", Spread::Many, kept_for(7));
/// How many different ids came with another, and which came most, per hour as absolute values, by tenant.
pub const SKETCHES: Topic<Sketch> = Topic::new("weir.sketches.v1", Spread::Many, kept_for(7));
/// What gateways obey, by subject. Losing the newest record of a key would reopen a closed gate, so: compacted.
pub const DECISIONS: Topic<Decision> =
    Topic::new("weir.decisions.v1", Spread::Many, Cleanup::Compact);
/// The policy and its versions, and how the topics were laid out, by id.
pub const POLICIES: Topic<PolicyRecord> =
    Topic::new("weir.policies.v1", Spread::One, Cleanup::Compact);
/// Keys and tokens by id: their hashes and standing, never the secret.
pub const KEYS: Topic<Key> = Topic::new("weir.keys.v1", Spread::One, Cleanup::Compact);
/// What a person or system ordered, by tenant: the audit trail.
pub const COMMANDS: Topic<Command> = Topic::new("weir.commands.v1", Spread::Many, Cleanup::Keep);
/// What people are to be told, by tenant.
pub const ALERTS: Topic<Alert> = Topic::new("weir.alerts.v1", Spread::Many, kept_for(30));
/// Requests that gateways refused, by tenant.
pub const REFUSALS: Topic<Refusal> = Topic::new("weir.refusals.v1", Spread::Many, kept_for(7));
/// How gateways share limits among them, by gateway. In one order for all: who shares is read from it.
pub const SHARES: Topic<Share> = Topic::new("weir.shares.v1", Spread::One, Cleanup::Compact);
/// Records that nobody could read, by the topic they came from: the original bytes, where from, why.
pub const DEAD: Topic<Dead> = Topic::new("weir.dead.v1", Spread::One, Cleanup::Keep);

/// All topics, in the order in which they are made.
pub const ALL: [TopicSpec; 15] = [
    USAGE.spec(),
    AUTH.spec(),
    CSP.spec(),
    PARTIALS.spec(),
    SIGNALS.spec(),
    ROLLUPS.spec(),
    SKETCHES.spec(),
    DECISIONS.spec(),
    POLICIES.spec(),
    KEYS.spec(),
    COMMANDS.spec(),
    ALERTS.spec(),
    REFUSALS.spec(),
    SHARES.spec(),
    DEAD.spec(),
];
