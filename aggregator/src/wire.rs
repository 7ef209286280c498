//! Records of the log to the engine's values and back. The only file (with its parts) of the counting side that knows
//! wire records.

mod check;
mod read;
mod write;

use bus::{Bus, BusError};
use schemas::orders::Order;
use schemas::policy::{Policy, Stream};
use schemas::record::{PolicyRecord, PolicyVersion};
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

#[cfg(test)]
mod tests;
