//! Orders, as a gateway obeys them: what one clears begins anew in the own windows and in the ledger.

use schemas::orders::Order;
use schemas::time::Timestamp;

use super::Handle;
use crate::check::Feed;
use crate::ledger::{Line, Mark};
use crate::place::{Accounts, Clearing, Name};
use crate::window::Tally;

impl Handle {
    /// Obeys an order from here on. One that comes again changes nothing; what was cleared before this gateway was is
    /// left out when the ledger is read back.
    pub(crate) fn obey(&self, order: Order) {
        let shared = self.shared();
        let now = shared.clock.now();
        let cleared = order.clears().is_some().then(|| order.clone());
        let is_news =
            shared.gate.put_order(order) && shared.gate.freshness.was_read(Feed::Policies);
        let cleared = cleared.filter(|order| is_news && !order.has_ended(now));
        if let Some(clearing) = cleared.and_then(|order| self.clearing(&order, now)) {
            shared.ledger.clear(clearing, now);
        }
    }

    /// What is cleared, by the orders that stand.
    pub(crate) fn cleared(&self) -> Vec<Clearing> {
        let now = self.shared().clock.now();
        let orders = self.shared().gate.clearing(now).into_iter();
        orders
            .filter_map(|order| self.clearing(&order, now))
            .collect()
    }

    /// The ledger's part of an order; `None` where no limit is strict.
    fn clearing(&self, order: &Order, now: Timestamp) -> Option<Clearing> {
        let shared = self.shared();
        let view = shared.gate.view(now);
        if !shared.gate.has_strict(&view) {
            return None;
        }
        let zone = view.policy().zone(order.subject.tenant_id().as_deref());
        let is_shared = shared.ledger.is_shared();
        let mut accounts = Accounts {
            at: now,
            ..Accounts::default()
        };
        for (planned, key) in shared.gate.cleared(order) {
            if is_shared {
                let name = Name::new(
                    &planned.counter(),
                    order.subject.as_str(),
                    &planned.limit.meter,
                );
                accounts.names.push(name);
            }
            accounts.lines.push(Line {
                key,
                rule: planned.rule,
                zone,
                amount: 0,
                tally: Tally::default(),
                full: false,
            });
        }
        let mark = Mark {
            seq: order.seq,
            at: order.at,
            until: order.until?,
        };
        Some(Clearing { mark, accounts })
    }
}
