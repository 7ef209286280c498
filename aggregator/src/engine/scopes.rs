//! Scopes wider than a tenant, on both ends: what a shard of events passes on, and what the shard of the scopes makes
//! of it.

use std::collections::BTreeSet;

use schemas::time::Timestamp;

use super::{Engine, SCOPE_SPAN};
use crate::event::{Cause, Event, Outcome, Output, Partial, Place};
use crate::owner::{Deposit, Owner, Status, Teller};
use crate::partial::{FeedRef, Moment};
use crate::plan::{Group, Kind, Plan};

impl Engine {
    /// Adds an event to this shard's own sums for wider scopes.
    pub(super) fn contribute(&mut self, place: Place, event: &Event<'_>) {
        let moment = Moment {
            at: event.at,
            offset: place.offset,
            now: self.state.now,
        };
        for feed in &self.plan.feeds {
            let amount = event.amounts.of(&feed.meter);
            if amount == 0 {
                continue;
            }
            // Two patterns may name the same scope, which still gets the amount once.
            let mut fed: Vec<String> = Vec::new();
            for pattern in &feed.patterns {
                let is_named = pattern.write_subject(&event.identity, &mut self.path);
                if !is_named || fed.contains(&self.path) {
                    continue;
                }
                let feed_of_scope = FeedRef {
                    scope: &self.path,
                    meter: &feed.meter,
                    slice_seconds: feed.slice_seconds,
                };
                let (contributions, room) = (&mut self.state.contributions, &mut self.state.room);
                contributions.add(&feed_of_scope, amount, moment, room);
                if 1 < feed.patterns.len() {
                    fed.push(self.path.clone());
                }
            }
        }
    }

    pub(super) fn take_partial(
        &mut self,
        place: Place,
        partial: &Partial<'_>,
        out: &mut Vec<Output>,
    ) -> Outcome {
        if self.shard.kind != Kind::Partials {
            return Outcome::Dead(Cause::WrongTopic);
        }
        let name = partial.scope.as_str();
        if let Some(outcome) = self.refuse(place, name, partial.slice) {
            return outcome;
        }
        let now = self.state.now;
        let owner = self.state.owners.get(name);
        let is_known = owner.is_some_and(|owner| owner.stands() || !owner.is_idle(now, SCOPE_SPAN));
        let room = &mut self.state.room;
        if !is_known && !room.admits_scope(Owner::new_bytes()) {
            return Outcome::Counted;
        }
        let Some(grown) = self.state.parts.replace(partial, now, room) else {
            return Outcome::Duplicate;
        };
        let (patience, at) = (self.settings.patience, partial.slice);
        let new = || Owner::new(at, now, Status::new(&self.plan, name, false));
        let owner = self.state.owners.entry_ref(name).or_insert_with(new);
        if !owner.stands() && owner.is_idle(now, SCOPE_SPAN) {
            *owner = new();
        }
        owner.observe(at, now, patience);
        let status = owner.status();
        let mut teller = Teller {
            plan: &self.plan,
            tier: self.plan.tier(status.tier),
            status,
            zone: status.zone,
            owner: name,
            is_tenant: false,
            passed: owner.passed(now, patience.lateness),
            offset: place.offset,
            event: None,
            out,
            room: &mut self.state.room,
        };
        let takes = |group: &Group| group.takes(partial.meter, partial.slice_seconds);
        let families = teller.tier.families.iter();
        for family in families.filter(|family| family.pattern.accepts(partial.scope)) {
            let deposit = Deposit {
                subject: name,
                at,
                floor: Timestamp::MIN,
                amount: |group: &Group| if takes(group) { grown } else { 0 },
            };
            owner.add(&family.groups, deposit, &mut teller);
        }
        owner.fall(&mut teller);
        self.schedule(name);
        Outcome::Counted
    }

    /// Gives series that are new here what the parts of their scopes already hold: the shards of events may have
    /// learned of them before this one.
    pub(super) fn backfill(&mut self, old: &Plan, offset: i64, out: &mut Vec<Output>) {
        let tier = self.plan.tier(self.plan.named_tier_of(None));
        let (now, lateness) = (self.state.now, self.settings.patience.lateness);
        let mut touched = BTreeSet::new();
        let groups = tier.families.iter().flat_map(|family| {
            let parts = family.groups.iter();
            let parts = parts.filter_map(|group| group.part(|member| !old.counts(member.series)));
            parts.map(move |group| (family, group))
        });
        for (family, group) in groups {
            let takes = |scope: &_, meter: &_, seconds| {
                group.takes(meter, seconds) && family.pattern.accepts(scope)
            };
            for (scope, sums) in self.state.parts.history(takes) {
                let Some(owner) = self.state.owners.get_mut(scope.as_str()) else {
                    continue;
                };
                let status = owner.status();
                let mut teller = Teller {
                    plan: &self.plan,
                    tier: self.plan.tier(status.tier),
                    status,
                    zone: status.zone,
                    owner: scope.as_str(),
                    is_tenant: false,
                    passed: owner.passed(now, lateness),
                    offset,
                    event: None,
                    out,
                    room: &mut self.state.room,
                };
                // With the numbers that were ordered for the scope.
                let mut own = teller.tier.groups(&family.pattern).iter();
                let own = own.find(|own| own.is_as(&group));
                let own = own.and_then(|own| own.part(|member| !old.counts(member.series)));
                let group = own.as_ref().unwrap_or(&group);
                for (at, sum) in sums {
                    let deposit = Deposit {
                        subject: scope.as_str(),
                        at,
                        floor: Timestamp::MIN,
                        amount: |_: &Group| sum,
                    };
                    owner.add(std::slice::from_ref(group), deposit, &mut teller);
                }
                touched.insert(scope);
            }
        }
        for scope in touched {
            self.schedule(scope.as_str());
        }
    }
}
