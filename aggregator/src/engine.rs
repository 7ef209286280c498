//! The engine of one shard: a pure value that takes one record after the other. See the crate's documentation for
//! what it promises.

#[cfg(test)]
mod bound;
mod cleared;
mod orders;
mod scopes;
mod sizes;
mod sketches;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod wide;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use schemas::orders::{Order, Orders};
use schemas::partition::partition_of;
use schemas::policy::{Policy, Stream};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{Cause, Event, Input, Outcome, Output, Place};
use crate::groups::Groups;
use crate::ledger::Ledger;
use crate::owner::{Deposit, Owner, Patience, Status, Teller};
use crate::partial::{Contributions, Parts};
use crate::past::Past;
use crate::plan::{Group, Kind, Plan, SeriesIds};
use crate::rollup::{Breakdown, Rollups};
use crate::room::Room;
use crate::seen::{Seen, SeenBounds, event_hash};

pub(crate) use sizes::Sizes;
use sketches::Sketched;

/// A scope that nothing came for in so long is forgotten once nothing stands on it.
const SCOPE_SPAN: Duration = Duration::from_secs(8 * 86_400);

/// Numbers that decide what is counted. The same log with other numbers gives other results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) patience: Patience,
    /// How far an event's time may lie ahead of its append time.
    pub(crate) ahead_max: Duration,
    pub(crate) seen: SeenBounds,
    /// Groups of reports that are told apart in one tenant.
    pub(crate) groups_max: usize,
    /// By what usage per minute is told apart.
    pub(crate) rollup_by: Breakdown,
    /// Whether sketches are kept of usage, and of sign-ins.
    pub(crate) sketch_usage: bool,
    pub(crate) sketch_auth: bool,
    /// What all that is kept may take in memory, without the memory of duplicates.
    pub(crate) state_bytes_max: usize,
}

impl Settings {
    fn sketches(&self, stream: Stream) -> bool {
        match stream {
            Stream::Usage => self.sketch_usage,
            Stream::Auth => self.sketch_auth,
            Stream::Csp => false,
        }
    }
}

/// Which shard it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardId {
    pub(crate) kind: Kind,
    pub(crate) partition: i32,
    /// How many there are in its topic.
    pub(crate) partitions: i32,
}

impl ShardId {
    /// Whether owners are tenants, and not scopes wider than one.
    fn has_tenants(self) -> bool {
        self.kind != Kind::Partials
    }
}

/// A record that lies before one that was taken already. To take it would be to count twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("record {offset} comes after record {} was taken: the log went back", .next_offset - 1)]
pub(crate) struct WentBack {
    offset: i64,
    next_offset: i64,
}

/// All that a snapshot keeps, besides the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Of the record that comes next.
    next_offset: i64,
    /// The newest append time.
    now: Timestamp,
    series: SeriesIds,
    /// Tenants by their ids; in a shard of partials, scopes by their paths.
    owners: HashMap<Arc<str>, Owner>,
    /// The owners on whose counters something stands, by the append time at which it may fall.
    due: BTreeSet<(Timestamp, Arc<str>)>,
    seen: Seen,
    rollups: Rollups,
    groups: Groups,
    contributions: Contributions,
    parts: Parts,
    sketched: Sketched,
    ledger: Ledger,
    room: Room,
}

#[derive(Debug)]
pub(crate) struct Engine {
    shard: ShardId,
    settings: Settings,
    plan: Plan,
    state: State,
    /// What held before the first record; absent once that was taken, or where a snapshot knows.
    past: Option<Arc<Past>>,
    /// Room to write to: the path of a subject, and what a row of usage is told apart by.
    path: String,
    dims: Vec<u8>,
}

impl Engine {
    /// A shard at the beginning of its log.
    pub(crate) fn new(shard: ShardId, settings: Settings) -> Self {
        let (policy, orders) = (Policy::default(), Orders::default());
        Self::restore(shard, settings, (policy, orders), State::default())
    }

    /// A shard without a snapshot, which may begin where its log's first records are gone.
    pub(crate) fn begin(shard: ShardId, settings: Settings, past: Arc<Past>) -> Self {
        Self {
            past: Some(past),
            ..Self::new(shard, settings)
        }
    }

    /// A shard as it was when `state` was saved, under the policy and the orders that held.
    pub(crate) fn restore(
        shard: ShardId,
        settings: Settings,
        (policy, orders): (Policy, Orders),
        mut state: State,
    ) -> Self {
        let plan = Plan::new(policy, orders, shard.kind, &mut state.series);
        state.room.set_bound(settings.state_bytes_max);
        for (name, owner) in &mut state.owners {
            owner.complete(Status::new(&plan, name, shard.has_tenants()));
        }
        Self {
            shard,
            settings,
            plan,
            state,
            past: None,
            path: String::new(),
            dims: Vec::new(),
        }
    }

    /// Takes one record, and appends what follows from it to `out`.
    pub(crate) fn step(
        &mut self,
        place: Place,
        input: Input<'_>,
        out: &mut Vec<Output>,
    ) -> Result<Outcome, WentBack> {
        if place.offset < self.state.next_offset {
            return Err(WentBack {
                offset: place.offset,
                next_offset: self.state.next_offset,
            });
        }
        if let Some(past) = self.past.take().filter(|_| 0 < place.offset) {
            self.take_past(&past, place.appended_at);
        }
        self.state.next_offset = place.offset + 1;
        let before = self.state.now;
        self.state.now = before.max(place.appended_at);
        if day(before) != day(self.state.now) {
            // Sums for wider scopes are begun anew after a silent day, and must have been told by then.
            self.state.contributions.flush(out);
        }
        self.pass_time(place.offset, out);
        if minute(before) != minute(self.state.now) {
            self.forget();
            let bytes = self.bytes();
            self.state.room.count_anew(bytes);
        }
        let outcome = match input {
            Input::Event(event) => self.take_event(place, &event, out),
            Input::Partial(partial) => self.take_partial(place, &partial, out),
            Input::Policy { policy, at } => {
                self.change_policy(*policy, at, place.offset, out);
                Outcome::Marker
            }
            Input::Order { order, ended, at } => {
                self.change_order((*order, ended), at, place.offset, out);
                Outcome::Marker
            }
            Input::Tick => Outcome::Marker,
            Input::Unreadable => Outcome::Dead(Cause::Unreadable),
        };
        self.state.ledger.note(outcome);
        Ok(outcome)
    }

    /// Tells sums that changed since they were last told, for which telling each change would be too much. When this
    /// is called is up to the caller: it changes nothing but which values are told, and each told value is absolute.
    pub(crate) fn flush(&mut self, out: &mut Vec<Output>) {
        self.flush_sums(out);
        self.flush_spreads(out);
        self.flush_rankings(out);
    }

    /// As [`Engine::flush`], without sketches.
    pub(crate) fn flush_sums(&mut self, out: &mut Vec<Output>) {
        self.flush_sums_but_rollups(out);
        self.state.rollups.flush(usize::MAX, out);
    }

    /// As [`Engine::flush_sums`], but of many rollups a part, so that what one takes to tell does not grow with the
    /// events that change it. The others come in the next turns; a snapshot knows of them.
    pub(crate) fn flush_turn(&mut self, out: &mut Vec<Output>) {
        self.flush_sums_but_rollups(out);
        self.state.rollups.flush(self.state.rollups.turn(), out);
    }

    fn flush_sums_but_rollups(&mut self, out: &mut Vec<Output>) {
        self.state.groups.flush(out);
        self.state.contributions.flush(out);
    }

    /// As [`Engine::flush`], for wider scopes only, whose crossings wait for it.
    pub(crate) fn flush_partials(&mut self, out: &mut Vec<Output>) {
        if self.state.contributions.is_dirty() {
            self.state.contributions.flush(out);
        }
    }

    /// Drops what can no longer make a difference. When this is called changes nothing that is ever told.
    pub(crate) fn forget(&mut self) {
        let now = self.state.now;
        let patience = self.settings.patience;
        match self.shard.kind {
            Kind::Events(_) => {
                let owners = &mut self.state.owners;
                for owner in owners.values_mut() {
                    owner.forget(&self.plan, owner.floor(now, patience));
                    owner.forget_sketches(now, patience);
                }
                let owners = &self.state.owners;
                let is_open = is_open(owners, (now, patience));
                self.state.rollups.forget(is_open);
            }
            Kind::Partials => {
                let owners = &mut self.state.owners;
                owners.retain(|_, owner| owner.stands() || !owner.is_idle(now, SCOPE_SPAN));
            }
        }
        self.state.contributions.forget(now);
        self.state.parts.forget(now);
    }

    // === What it knows ===

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.plan.policy
    }

    /// The orders that hold, in an order that is always the same.
    pub(crate) fn orders(&self) -> Vec<&Order> {
        self.plan.orders()
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.state.next_offset
    }

    /// The append time from which on something falls, if a record comes to say so.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.state.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.state.ledger
    }

    pub(crate) fn duplicates_reach_back(&self) -> Duration {
        self.state.seen.reaches_back(self.state.now)
    }

    // === Events ===

    fn take_event(&mut self, place: Place, event: &Event<'_>, out: &mut Vec<Output>) -> Outcome {
        let Kind::Events(stream) = self.shard.kind else {
            return Outcome::Dead(Cause::WrongTopic);
        };
        if let Some(outcome) = self.refuse(place, event.tenant, event.at) {
            return outcome;
        }
        let now = self.state.now;
        let hash = event_hash(event.tenant, event.source, event.id);
        if !self.state.seen.insert(hash, now, self.settings.seen) {
            return Outcome::Duplicate;
        }
        let patience = self.settings.patience;
        let owner = match self.state.owners.get_mut(event.tenant) {
            Some(owner) if event.at < owner.floor(now, patience) => return Outcome::Late,
            Some(owner) => owner,
            None => {
                let status = Status::new(&self.plan, event.tenant, true);
                self.state.room.charge(Owner::new_bytes());
                let owners = self.state.owners.entry(event.tenant.into());
                owners.or_insert(Owner::new(event.at, now, status))
            }
        };
        owner.observe(event.at, now, patience);
        let status = owner.status();
        let mut teller = Teller {
            plan: &self.plan,
            tier: self.plan.tier(status.tier),
            status,
            zone: status.zone,
            owner: event.tenant,
            is_tenant: true,
            passed: owner.passed(now, patience.lateness),
            offset: place.offset,
            event: Some((event.source, event.id)),
            out,
            room: &mut self.state.room,
        };
        let floor = owner.floor(now, patience);
        count_event(owner, (event, floor), &mut self.path, &mut teller);
        teller.event = None;
        owner.fall(&mut teller);
        if self.settings.sketches(stream) {
            let news = owner.sketch(stream, event, place.offset, teller.room);
            self.state.sketched.note(event.tenant, news);
        }
        if owner.due_at != owner.next_due(patience.lateness) {
            self.schedule(event.tenant);
        }
        let rollup_by = self.settings.rollup_by;
        let (rollups, room) = (&mut self.state.rollups, &mut self.state.room);
        rollups.add(event, place.offset, (rollup_by, room), &mut self.dims);
        if let Some(report) = event.report {
            let groups_max = self.settings.groups_max;
            out.extend(
                self.state
                    .groups
                    .add(event, report, groups_max, place.offset),
            );
        }
        self.contribute(place, event);
        Outcome::Counted
    }

    /// What becomes of a record that may not be counted here, whatever it says.
    fn refuse(&self, place: Place, key: &str, at: Timestamp) -> Option<Outcome> {
        let partition = partition_of(key.as_bytes(), self.shard.partitions);
        if partition != self.shard.partition {
            return Some(Outcome::Misplaced { partition });
        }
        let appended_at = place.appended_at;
        let is_too_far = appended_at.plus(self.settings.ahead_max) < at;
        is_too_far.then_some(Outcome::Dead(Cause::TooFarAhead { at, appended_at }))
    }

    // === Time and policy ===

    /// Lets fall what falls because append time has come this far.
    fn pass_time(&mut self, offset: i64, out: &mut Vec<Output>) {
        let (now, lateness) = (self.state.now, self.settings.patience.lateness);
        while let Some((_, name)) = self.state.due.first().filter(|(at, _)| *at <= now).cloned() {
            let owner = self.state.owners.get_mut(&name);
            let owner = owner.expect("who is due is known");
            let status = owner.status();
            let mut teller = Teller {
                plan: &self.plan,
                tier: self.plan.tier(status.tier),
                status,
                zone: status.zone,
                owner: &name,
                is_tenant: self.shard.has_tenants(),
                passed: owner.passed(now, lateness),
                offset,
                event: None,
                out,
                room: &mut self.state.room,
            };
            owner.fall(&mut teller);
            self.schedule(&name);
        }
    }

    /// Keeps `due` in step with what stands on an owner's counters.
    fn schedule(&mut self, name: &str) {
        let found = self.state.owners.get_key_value_mut(name);
        let (name, owner) = found.expect("only a known owner is scheduled");
        let next = owner.next_due(self.settings.patience.lateness);
        if owner.due_at == next {
            return;
        }
        if let Some(before) = owner.due_at {
            self.state.due.remove(&(before, name.clone()));
        }
        if let Some(next) = next {
            self.state.due.insert((next, name.clone()));
        }
        owner.due_at = next;
    }
}

/// Whether an event may still come for a minute of a tenant that ends then, by what is late at append time `now`.
fn is_open(
    owners: &HashMap<Arc<str>, Owner>,
    (now, patience): (Timestamp, Patience),
) -> impl Fn(&str, Timestamp) -> bool {
    let floors = owners.values().map(|owner| owner.floor(now, patience));
    let latest = floors.max().unwrap_or(Timestamp::MIN);
    move |tenant, end| {
        // Most minutes are newer than what is late with any tenant.
        latest < end
            || owners
                .get(tenant)
                .is_none_or(|owner| owner.floor(now, patience) < end)
    }
}

/// The minute since 1970.
fn minute(at: Timestamp) -> i64 {
    at.second().div_euclid(60)
}

/// The day since 1970.
fn day(at: Timestamp) -> i64 {
    at.second().div_euclid(86_400)
}

/// Adds an event to the counters of its tenant, for which nothing from before `floor` can come any more. `path` is a place to write to.
fn count_event(
    owner: &mut Owner,
    (event, floor): (&Event<'_>, Timestamp),
    path: &mut String,
    teller: &mut Teller<'_>,
) {
    for family in &teller.tier.families {
        if family.pattern.write_subject(&event.identity, path) {
            let deposit = Deposit {
                subject: path.as_str(),
                at: event.at,
                floor,
                amount: |group: &Group| event.amounts.of(&group.meter),
            };
            owner.add(teller.groups(path, family), deposit, teller);
        }
    }
}
