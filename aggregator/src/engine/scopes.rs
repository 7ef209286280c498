//! Scopes wider than a tenant, on both ends: what a shard of events passes on, and what the shard of the scopes makes
//! of it.

use std::collections::BTreeSet;

use super::{Engine, SCOPE_SPAN};
use crate::event::{Cause, Event, Outcome, Output, Partial, Place};
use crate::owner::{Deposit, Owner, Teller};
use crate::partial::{FeedRef, Moment};
use crate::plan::{Kind, Plan};

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
            let subjects = feed
                .patterns
                .iter()
                .filter_map(|p| p.subject_of(&event.identity));
            // Two patterns may name the same scope, which still gets the amount once.
            let scopes: BTreeSet<_> = subjects.collect();
            for scope in &scopes {
                let feed = FeedRef {
                    scope: scope.as_str(),
                    meter: &feed.meter,
                    slice_seconds: feed.slice_seconds,
                };
                self.state.contributions.add(&feed, amount, moment);
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
        let Some(grown) = self.state.parts.replace(partial, now) else {
            return Outcome::Duplicate;
        };
        let (patience, at) = (self.settings.patience, partial.slice);
        let owner = self
            .state
            .owners
            .entry_ref(name)
            .or_insert_with(|| Owner::new(at, now));
        if !owner.stands() && owner.is_idle(now, SCOPE_SPAN) {
            *owner = Owner::new(at, now);
        }
        owner.observe(at, now, patience);
        let mut teller = Teller {
            plan: &self.plan,
            zone: self.plan.policy.zone(None),
            offset: place.offset,
            event: None,
            out,
        };
        for series in &self.plan.series {
            if 0 < grown && series.takes(partial.scope, partial.meter, partial.slice_seconds) {
                let deposit = Deposit {
                    series,
                    subject: name,
                    tenant: None,
                    at,
                    amount: grown,
                };
                owner.add(deposit, &mut teller);
            }
        }
        owner.fall(now, patience.lateness, &mut teller);
        self.schedule(name);
        Outcome::Counted
    }

    /// Gives a series that is new here what the parts of its scopes already hold: the shards of events may have
    /// learned of it before this one.
    pub(super) fn backfill(&mut self, old: &Plan, offset: i64, out: &mut Vec<Output>) {
        let new = |id: u32| old.series_of(id).is_none();
        let mut touched = BTreeSet::new();
        for series in self.plan.series.iter().filter(|series| new(series.id)) {
            let takes = |scope: &_, meter: &_, seconds| series.takes(scope, meter, seconds);
            for (scope, sums) in self.state.parts.history(takes) {
                let Some(owner) = self.state.owners.get_mut(scope.as_str()) else {
                    continue;
                };
                let mut teller = Teller {
                    plan: &self.plan,
                    zone: self.plan.policy.zone(None),
                    offset,
                    event: None,
                    out,
                };
                for (at, amount) in sums {
                    let deposit = Deposit {
                        series,
                        subject: scope.as_str(),
                        tenant: None,
                        at,
                        amount,
                    };
                    owner.add(deposit, &mut teller);
                }
                touched.insert(scope);
            }
        }
        for scope in touched {
            self.schedule(scope.as_str());
        }
    }
}
