//! Records of the log to the engine's values and back. The only file (with its parts) of the counting side that knows
//! wire records.

mod check;
mod read;
mod write;

use bus::{Bus, BusError};
use schemas::orders::Order;
use schemas::policy::{Policy, Stream};
use schemas::record::{
    LimitRecord, OverrideRecord, PolicyRecord, PolicyVersion, SetRecord, TenantRecord, WeightRecord,
};
use schemas::time::Timestamp;
use schemas::topic::{AUTH, CSP, PARTIALS, POLICIES, TopicSpec, USAGE};

use crate::past::Past;
use crate::plan::Kind;

pub(crate) use read::read_in;
#[cfg(test)]
pub(crate) use read::{Unreadable, read};
pub(crate) use write::{Outgoing, outgoing};

/// The topics that are counted.
pub(crate) const TOPICS: [TopicSpec; 4] = [USAGE.spec(), AUTH.spec(), CSP.spec(), PARTIALS.spec()];

/// Says where a record came from that was in the wrong partition: `topic/partition/offset`.
pub(crate) const MOVED_FROM: &str = "weir-moved-from";

/// What the records of a topic are; `None` for one that is not counted.
pub(crate) fn kind_of(topic: &str) -> Option<Kind> {
    let kinds = [
        (USAGE.name(), Kind::Events(Stream::Usage)),
        (AUTH.name(), Kind::Events(Stream::Auth)),
        (CSP.name(), Kind::Events(Stream::Csp)),
        (PARTIALS.name(), Kind::Partials),
    ];
    let found = kinds.into_iter().find(|(name, _)| *name == topic);
    found.map(|(_, kind)| kind)
}

/// What `weir.policies.v1` keeps of what held. What cannot be obeyed is told, and passed over.
pub(crate) async fn past(bus: &Bus) -> Result<Past, BusError> {
    let mut past = Past::default();
    for (key, value) in bus.read_all(&POLICIES).await? {
        match value {
            PolicyRecord::Policy(version) if key != PolicyVersion::KEY => {
                match Policy::try_from(&version) {
                    Ok(policy) => past.versions.push((version.at, policy)),
                    Err(error) => {
                        tracing::error!(key, %error, "a policy in the log cannot be obeyed")
                    }
                }
            }
            PolicyRecord::Order(order) => match Order::try_from(&order) {
                Ok(order) => past.orders.push(order),
                Err(error) => tracing::error!(%error, "an order in the log cannot be obeyed"),
            },
            PolicyRecord::Policy(_) | PolicyRecord::Layout(_) => {}
        }
    }
    Ok(past)
}

/// A policy as a snapshot keeps it: what counting needs, without who wrote it and why.
pub(crate) fn policy_to_record(policy: &Policy) -> PolicyVersion {
    let tenants = policy.tenants.iter().map(|(id, settings)| {
        let zone = settings.zone.map(|zone| zone.name().to_owned());
        let tier = settings.tier.clone();
        (id.clone(), TenantRecord { tier, zone })
    });
    PolicyVersion {
        version: i64::try_from(policy.version).unwrap_or(i64::MAX),
        at: Timestamp::default(),
        author: String::new(),
        reason: String::new(),
        source: String::new(),
        limits: policy.limits.iter().map(LimitRecord::from).collect(),
        overrides: OverrideRecord::all(&policy.overrides),
        tenants: tenants.collect(),
        default_tier: policy.default_tier.clone(),
        default_zone: policy.default_zone.map(|zone| zone.name().to_owned()),
        weights: policy.weights.iter().map(WeightRecord::from).collect(),
        sets: SetRecord::all(&policy.sets),
    }
}

#[cfg(test)]
mod tests;
