//! What changes how events are judged: another policy, and orders on single subjects. Who an order is about is judged by
//! other numbers from here on, and nobody else is looked at.

use std::sync::Arc;

use schemas::orders::Order;
use schemas::policy::Policy;
use schemas::subject::{Dimension, Subject};
use schemas::time::Timestamp;

use super::Engine;
use crate::event::Output;
use crate::owner::{Before, Status, Teller};
use crate::past::Past;
use crate::plan::{Plan, Replaced, lies_in};

impl Engine {
    /// Goes by what held at `at`, before any record was taken.
    pub(super) fn take_past(&mut self, past: &Past, at: Timestamp) {
        let kind = self.shard.kind;
        let (policy, orders) = past.at(at);
        let concerned = orders
            .iter()
            .filter(|order| Plan::is_concerned(kind, &order.subject));
        let orders = concerned.cloned().collect();
        self.plan = Plan::new(policy, orders, kind, &mut self.state.series);
    }

    /// Replaces the policy. One that is not newer than the one that holds changes nothing: markers are written at
    /// least once.
    pub(super) fn change_policy(
        &mut self,
        policy: Policy,
        at: Timestamp,
        offset: i64,
        out: &mut Vec<Output>,
    ) {
        if policy.version <= self.plan.policy.version {
            return;
        }
        // A day that is over may not be over in the tenant's new zone: whether it counts there must not depend on when
        // it was last dropped what is over.
        self.forget();
        let orders = self.plan.orders().into_iter().cloned().collect();
        let plan = Plan::new(policy, orders, self.shard.kind, &mut self.state.series);
        let old = std::mem::replace(&mut self.plan, plan);
        let replaced = Replaced::default();
        let before = Before {
            plan: &old,
            replaced: &replaced,
        };
        let (now, lateness) = (self.state.now, self.settings.patience.lateness);
        let mut names: Vec<Arc<str>> = self.state.owners.keys().cloned().collect();
        names.sort();
        for name in &names {
            let is_tenant = self.shard.has_tenants();
            let status = Status::new(&self.plan, name, is_tenant);
            let owner = self.state.owners.get_mut(name).expect("it was listed");
            let mut teller = Teller {
                plan: &self.plan,
                tier: self.plan.tier(status.tier),
                status,
                zone: status.zone,
                owner: name,
                is_tenant,
                passed: owner.passed(now, lateness),
                offset,
                event: None,
                out,
                room: &mut self.state.room,
            };
            owner.reform(before, None, at, &mut teller);
            self.schedule(name);
        }
        // What ends here was counted: whether it is told must not depend on when the batch ends.
        self.state.contributions.flush(out);
        let feeds = &self.plan.feeds;
        self.state
            .contributions
            .retain(|scope, meter, slice_seconds| {
                feeds.iter().any(|feed| {
                    feed.meter == *meter
                        && feed.slice_seconds == slice_seconds
                        && feed.patterns.iter().any(|pattern| pattern.accepts(scope))
                })
            });
        self.backfill(&old, offset, out);
    }

    /// Obeys an order from `at` on, or obeys it no more. One that is not newer than what holds changes nothing: markers are
    /// written at least once.
    pub(super) fn change_order(
        &mut self,
        (order, ended): (Order, bool),
        at: Timestamp,
        offset: i64,
        out: &mut Vec<Output>,
    ) {
        let subject = order.subject.clone();
        if !Plan::is_concerned(self.shard.kind, &subject) {
            return;
        }
        if !order.judges() {
            return self.clear(&order, ended, offset, out);
        }
        let replaced = match ended {
            true => self.plan.end_order(&order.key(), order.seq),
            false => self.plan.put_order(order),
        };
        let Some(replaced) = replaced else {
            return;
        };
        let (now, patience) = (self.state.now, self.settings.patience);
        for name in self.owners_of(&subject) {
            let is_tenant = self.shard.has_tenants();
            let status = Status::new(&self.plan, &name, is_tenant);
            let owner = self.state.owners.get_mut(&name).expect("it was listed");
            let mut teller = Teller {
                plan: &self.plan,
                tier: self.plan.tier(status.tier),
                status,
                zone: status.zone,
                owner: &name,
                is_tenant,
                passed: owner.passed(now, patience.lateness),
                offset,
                event: None,
                out,
                room: &mut self.state.room,
            };
            // What is told must not depend on when was last dropped what makes no difference.
            if is_tenant {
                owner.forget(&self.plan, owner.floor(now, patience));
            }
            let inside = is_tenant.then_some(&subject);
            let before = Before {
                plan: &self.plan,
                replaced: &replaced,
            };
            owner.reform(before, inside, at, &mut teller);
            self.schedule(&name);
        }
        self.plan.drop_replaced(replaced);
    }

    /// The owners that an order on `subject` may concern: its tenant, or the scopes that lie in it.
    fn owners_of(&self, subject: &Subject) -> Vec<Arc<str>> {
        let owners = &self.state.owners;
        if let Some(tenant) = subject.id(Dimension::Tenant) {
            let known = owners.get_key_value(tenant.as_str());
            return known.map(|(name, _)| name.clone()).into_iter().collect();
        }
        let inside = owners.keys().filter(|name| {
            let scope = Subject::parse(name);
            scope.is_ok_and(|scope| lies_in(&scope, subject))
        });
        let mut inside: Vec<Arc<str>> = inside.cloned().collect();
        inside.sort();
        inside
    }
}
