//! What is cleared, by the naive engine.

use schemas::orders::{InForce, Order};
use schemas::policy::{Limit, Window};
use schemas::time::Timestamp;

use super::{Crossings, Naive, series};

impl Naive {
    /// Clears a limit for one subject, unless the order is known or over. Returns what counted before, where that is
    /// told.
    pub(super) fn clear(
        &mut self,
        order: &Order,
        now: Timestamp,
        out: &mut Crossings,
    ) -> Vec<i128> {
        if order.has_ended(now) {
            self.orders.end(&order.key(), order.seq);
            return Vec::new();
        }
        if !self.orders.put(order.clone()) {
            return Vec::new();
        }
        let (subject, tenant) = (&order.subject, order.subject.tenant_id().unwrap());
        let in_force = InForce {
            policy: &self.policy,
            orders: &self.orders,
            now: Timestamp::MIN,
        };
        let held = in_force
            .limits_on(subject)
            .map(|held| held.limit.into_owned());
        let is_it = |limit: &Limit| {
            Some(limit.name.as_str()) == order.clears() && limit.window != Window::Wallet
        };
        let named: Vec<Limit> = held.filter(is_it).collect();
        let cleared = named.iter().map(|limit| {
            let Some(counter) = self.counters.remove(&(series(limit), subject.clone())) else {
                return 0;
            };
            let tenant = &self.tenants[tenant.as_str()];
            if counter.is_over(tenant.floor(now)) {
                return 0;
            }
            let mut told = Vec::new();
            let by = tenant.passed(now).max(order.at);
            let before = counter.clear((order.at, by), &mut told);
            out.extend(told.into_iter().map(|told| (subject.clone(), told)));
            before
        });
        cleared.collect()
    }
}
