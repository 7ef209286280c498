//! Orders that clear: what was counted of a limit for one subject before the marker counts no more.
//!
//! Windows of the limit begin anew for that subject, and no others do, also those that share slices with them. Scopes
//! wider than a tenant are not cleared: what other shards tell of them says nothing of before and after.

use schemas::orders::{Change, Order};

use super::Engine;
use crate::event::{Cleared, Output};
use crate::owner::{Status, Teller};

impl Engine {
    /// Obeys an order that clears, once: by its number one that comes again is known, and by its time after it has
    /// ended.
    pub(super) fn clear(&mut self, order: &Order, ended: bool, offset: i64, out: &mut Vec<Output>) {
        let (Some(tenant), Change::Cleared { limit, reason }) =
            (order.subject.tenant_id(), &order.change)
        else {
            return;
        };
        let (now, patience) = (self.state.now, self.settings.patience);
        let has_ended = ended || order.has_ended(now);
        if !self.plan.note_clearing(order.clone(), has_ended) || has_ended {
            return;
        }
        let status = Status::new(&self.plan, &tenant, true);
        let tier = self.plan.tier_at(order.subject.as_str(), status.tier);
        let mut owner = self.state.owners.get_mut(tenant.as_str());
        if let Some(owner) = &mut owner {
            // What is told must not depend on when was last dropped what makes no difference.
            owner.forget(&self.plan, owner.floor(now, patience));
        }
        let is_known = owner.is_some();
        for (member, held) in tier.clearable(&self.plan, (limit, &order.subject)) {
            let mut before = 0;
            if let Some(owner) = &mut owner {
                let mut teller = Teller {
                    plan: &self.plan,
                    tier: self.plan.tier(status.tier),
                    status,
                    zone: status.zone,
                    owner: &tenant,
                    is_tenant: true,
                    passed: owner.passed(now, patience.lateness),
                    offset,
                    event: None,
                    out: &mut *out,
                    room: &mut self.state.room,
                };
                before = owner.clear(&order.subject, member, order.at, &mut teller);
            }
            out.push(Output::Cleared(Box::new(Cleared {
                subject: order.subject.clone(),
                limit: held.name.clone(),
                policy_version: self.plan.policy.version,
                meter: held.meter.clone(),
                window: held.window,
                at: order.at,
                command: order.command.clone(),
                reason: reason.clone(),
                before,
                max: held.hard(),
                offset,
            })));
        }
        if is_known {
            self.schedule(&tenant);
        }
    }
}
