//! What held before the first record of a shard whose log no longer begins at its beginning. Policy and orders come to a
//! shard as markers among its events, and go with them when these are past what the log keeps; `weir.policies.v1` keeps
//! each version of the policy and the orders that stand. Only a shard without a snapshot asks.

use schemas::orders::{Order, Orders};
use schemas::policy::Policy;
use schemas::time::Timestamp;

/// All versions that were, and the orders that stand today.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) versions: Vec<(Timestamp, Policy)>,
    pub(crate) orders: Vec<Order>,
}

impl Past {
    /// The newest version that was made by `at`, and the orders that stood then and still do. Those of then that have
    /// ended since are not known any more.
    pub(crate) fn at(&self, at: Timestamp) -> (Policy, Orders) {
        let made = self.versions.iter().filter(|(made, _)| *made <= at);
        let newest = made.max_by_key(|(_, policy)| policy.version);
        let policy = newest.map(|(_, policy)| policy.clone()).unwrap_or_default();
        let orders = self.orders.iter().filter(|order| order.at <= at);
        (policy, orders.cloned().collect())
    }
}
