//! Whom counters belong to: a tenant, or in a shard of partials a scope wider than a tenant. Each has a time of its
//! own, so that one with a wrong clock makes nobody else's events late and closes nobody else's windows.
//!
//! - Its *newest* time is that of its newest event. It decides what is late.
//! - Its *clock* goes on while nothing comes: the append time (when the log took a record) of the shard's newest record,
//!   plus the most by which this owner's events were ever ahead of theirs. What stands on a counter falls when the
//!   clock, less the lateness, has passed the moment at which it falls.

mod cleared;
mod kept;
mod sketched;
mod subjects;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono_tz::Tz;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::counter::{Change, Counter, Reform};
use crate::plan::{Group, Member, Plan, Replaced, Tier};
use crate::rollup::MINUTE_SECONDS;
use crate::sketch::Hours;
use crate::window::Amount;
use kept::{Kept, earlier};
use subjects::{Entry, Subjects};

pub(crate) use kept::{Passed, Teller, root};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    newest: Timestamp,
    /// Append time of the last event that was counted.
    counted_at: Timestamp,
    /// The most by which an event's time was ever ahead of its append time, in microseconds; below zero for one that
    /// is always behind.
    lead_us: i64,
    /// What is before this is late in any case.
    closed_until: Timestamp,
    subjects: Subjects,
    /// Absent before the first event that is in one; always for a scope wider than a tenant.
    sketches: Option<Box<Hours>>,
    /// The windows on which something stands, by when they are to be looked at. Follows from the counters.
    #[serde(skip)]
    falls: BTreeSet<Fall>,
    /// Append time at which the shard looks at this owner.
    pub(crate) due_at: Option<Timestamp>,
    /// What the policy says of it.
    #[serde(skip)]
    status: Status,
}

/// When a window is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fall {
    at: Timestamp,
    /// Of its subject.
    place: u32,
    series: u32,
}

/// What the policy that holds says of an owner: looked up once and not with every event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Place of its tier in the plan.
    pub(crate) tier: u32,
    pub(crate) zone: Tz,
    /// Whether something in it has a tier of its own.
    pub(crate) has_narrow: bool,
    /// Length of the path that all its subjects begin with.
    root_bytes: u32,
}

impl Status {
    /// Of the owner `name`.
    pub(crate) fn new(plan: &Plan, name: &str, is_tenant: bool) -> Self {
        let tenant = is_tenant.then_some(name);
        let root = root(name, is_tenant);
        Self {
            tier: plan.tier_of(name, is_tenant),
            zone: plan.policy.zone(tenant),
            has_narrow: plan.has_narrow(&root),
            root_bytes: u32::try_from(root.len()).expect("an id is far shorter than 4 GiB"),
        }
    }
}

/// How far back an owner's events may lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Against its newest time.
    pub(crate) lateness: Duration,
    /// After so long without an event, by append time, its newest minute is closed.
    pub(crate) idle: Duration,
}

/// Amounts for the counters of one subject.
#[derive(Clone, Copy)]
pub(crate) struct Deposit<'a, A> {
    /// The whole path.
    pub(crate) subject: &'a str,
    pub(crate) at: Timestamp,
    /// Nothing from before this can come any more.
    pub(crate) floor: Timestamp,
    /// How much for a group.
    pub(crate) amount: A,
}

/// What held before a change.
#[derive(Clone, Copy)]
pub(crate) struct Before<'p> {
    pub(crate) plan: &'p Plan,
    /// What the change has put into other tiers, where the plan is the same.
    pub(crate) replaced: &'p Replaced,
}

impl<'p> Before<'p> {
    /// The tier by which a subject of an owner with this path and status went.
    fn tier(self, root: &str, name: &str, status: Status) -> &'p Tier {
        match status.has_narrow {
            false => self.plan.tier(status.tier),
            true => {
                let path = format!("{root}{name}");
                self.plan.tier_before(&path, status.tier, self.replaced)
            }
        }
    }
}

impl Owner {
    /// An owner whose first event has time `at`, and was appended at `now`.
    pub(crate) fn new(at: Timestamp, now: Timestamp, status: Status) -> Self {
        Self {
            newest: at,
            counted_at: now,
            lead_us: at.as_micros().saturating_sub(now.as_micros()),
            closed_until: Timestamp::MIN,
            subjects: Subjects::default(),
            sketches: None,
            falls: BTreeSet::new(),
            due_at: None,
            status,
        }
    }

    /// Makes up what a snapshot does not keep.
    pub(crate) fn complete(&mut self, status: Status) {
        self.status = status;
        self.list_falls();
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    fn list_falls(&mut self) {
        let falls = self.subjects.iter().flat_map(|(place, entry)| {
            let falls = entry.counters().iter().flat_map(Kept::falls);
            falls.map(move |(series, at)| Fall { at, place, series })
        });
        self.falls = falls.collect();
    }

    /// The time before which every event is late at append time `now`, and ever after.
    pub(crate) fn floor(&self, now: Timestamp, patience: Patience) -> Timestamp {
        let mut floor = self.closed_until.max(self.newest.minus(patience.lateness));
        if self.is_idle(now, patience.idle) {
            let minute = self.newest.second().div_euclid(MINUTE_SECONDS);
            floor = floor.max(Timestamp::from_seconds((minute + 1) * MINUTE_SECONDS));
        }
        floor
    }

    /// Whether nothing was counted for longer than `span` of append time.
    pub(crate) fn is_idle(&self, now: Timestamp, span: Duration) -> bool {
        span < now.since(self.counted_at)
    }

    /// Takes note of an event that is going to be counted.
    pub(crate) fn observe(&mut self, at: Timestamp, now: Timestamp, patience: Patience) {
        self.closed_until = self.floor(now, patience);
        self.close_sketches(now, patience);
        self.newest = self.newest.max(at);
        self.counted_at = now;
        let lead_us = at.as_micros().saturating_sub(now.as_micros());
        self.lead_us = self.lead_us.max(lead_us);
    }

    pub(crate) fn stands(&self) -> bool {
        !self.falls.is_empty()
    }

    /// Counts amounts of one subject. Makes the counters that there are none of, where there is room.
    pub(crate) fn add(
        &mut self,
        groups: &[Group],
        deposit: Deposit<'_, impl Fn(&Group) -> i128>,
        teller: &mut Teller<'_>,
    ) {
        let (_, name) = deposit.subject.split_at(self.status.root_bytes as usize);
        let mut place = self.subjects.place(name);
        for (hint, group) in groups.iter().enumerate() {
            let amount = Amount {
                amount: (deposit.amount)(group),
                at: deposit.at,
                floor: deposit.floor,
            };
            if amount.amount == 0 {
                continue;
            }
            let whole = place.and_then(|place| {
                let entry = self.subjects.get(place);
                let number = entry.number_of_all(&group.series, hint)?;
                self.is_known(&entry.counters()[number], teller.plan, amount.floor)
                    .then_some((place, number))
            });
            match whole {
                Some(spot) => self.count(spot, group, amount, teller),
                None => place = self.add_apart((place, name), group, amount, teller),
            }
        }
    }

    /// Adds to the counters of a group that are not one, and makes one of all that there are none of. Returns the
    /// subject's place.
    fn add_apart(
        &mut self,
        (place, name): (Option<u32>, &str),
        group: &Group,
        amount: Amount,
        teller: &mut Teller<'_>,
    ) -> Option<u32> {
        for member in place.map_or(&[][..], |_| &group.members) {
            let known =
                place.and_then(|place| self.known(place, member, teller.plan, amount.floor));
            if let Some((spot, true)) = known {
                self.count(spot, group, amount, teller);
            }
        }
        let is_absent = |member: &&Member| {
            let place = place?;
            self.known(place, member, teller.plan, amount.floor)
        };
        let absent = group
            .members
            .iter()
            .filter(|member| is_absent(member).is_none());
        if absent.clone().next().is_none() {
            return place;
        }
        let rules = absent.map(|member| teller.plan.rules(member, teller.zone));
        let kept = Kept::new(Counter::new(rules, amount.at));
        let entry = place.map(|place| self.subjects.get(place));
        let is_known = entry.is_some_and(|entry| {
            let mut counters = entry.counters().iter();
            counters.any(|kept| self.is_known(kept, teller.plan, amount.floor))
        });
        let bytes = match is_known {
            true => size_of::<Kept>(),
            false => Entry::new_bytes(name),
        };
        let windows = kept.counter.series().len();
        if !teller
            .room
            .admits_counter(bytes + kept.heap_bytes(), windows)
        {
            return place;
        }
        let spot = match place {
            Some(place) => (place, self.subjects.get_mut(place).put(kept)),
            None => (self.subjects.add(name, kept), 0),
        };
        self.count(spot, group, amount, teller);
        Some(spot.0)
    }

    /// Where the counter lies that has the window of a member for the subject at `place`, unless it makes no difference;
    /// and whether the member's is its first window.
    fn known(
        &self,
        place: u32,
        member: &Member,
        plan: &Plan,
        floor: Timestamp,
    ) -> Option<((u32, usize), bool)> {
        let entry = self.subjects.get(place);
        let number = entry.number(member.series)?;
        let kept = &entry.counters()[number];
        let is_first = kept.counter.series()[0] == member.series;
        self.is_known(kept, plan, floor)
            .then_some(((place, number), is_first))
    }

    /// Whether a counter makes a difference, when no event from before `floor` can come.
    fn is_known(&self, kept: &Kept, plan: &Plan, floor: Timestamp) -> bool {
        let zone = self.status.zone;
        let terms = |_, series| plan.terms(series, zone);
        !kept.counter.is_forgettable(terms, floor)
    }

    /// Counts an amount on the counter of this number, of the subject at `place`.
    fn count(
        &mut self,
        (place, number): (u32, usize),
        group: &Group,
        amount: Amount,
        teller: &mut Teller<'_>,
    ) {
        let (name, kept) = self.subjects.get_mut(place).numbered(number);
        let (plan, zone) = (teller.plan, teller.zone);
        let rules = |number, series| plan.rules(group.member(number, series), zone);
        let mut changes = Vec::new();
        let resized = kept.counter.add(rules, amount, &mut changes);
        teller.room.resize(resized.before, resized.after);
        if changes.is_empty() && !kept.has_told_any() {
            return;
        }
        let name = name.as_str();
        for number in 0..kept.counter.series().len() {
            let rules = rules(number, kept.counter.series()[number]);
            let series = rules.series;
            let own = changes.iter().filter(|change| change.series == series);
            let own: Vec<Change<'_>> = own.copied().collect();
            if own.is_empty() && !kept.has_told(series) {
                continue;
            }
            let next = match own.is_empty() {
                true => earlier(kept.falls_at(series), kept.prolong(name, rules, teller)),
                false => kept.tell(name, rules, own, teller),
            };
            reschedule(&mut self.falls, place, (kept, series), next);
        }
    }

    /// Lets fall what falls by the teller's time.
    pub(crate) fn fall(&mut self, teller: &mut Teller<'_>) {
        let by = teller.passed.by();
        if self.falls.first().is_none_or(|fall| by < fall.at) {
            return;
        }
        let due = self.falls.iter().take_while(|fall| fall.at <= by);
        let mut due: Vec<Fall> = due.copied().collect();
        // Where a subject lies depends on what was dropped when, and what is told must not.
        due.sort_by_cached_key(|fall| {
            let name = self.subjects.get(fall.place).name.as_str().to_owned();
            (fall.at, fall.series, name)
        });
        for Fall { place, series, .. } in due {
            let tier = teller.tier_of(self.subjects.get(place).name.as_str());
            let member = tier.member(series);
            let rules = teller
                .plan
                .rules(member.expect("its series is counted"), teller.zone);
            let (name, kept) = self.subjects.get_mut(place).named(series);
            let mut changes = Vec::new();
            kept.counter.fall(rules, by, &mut changes);
            let next = kept.tell(name, rules, changes, teller);
            reschedule(&mut self.falls, place, (kept, series), next);
        }
    }

    /// How far its time has gone at append time `now`.
    pub(crate) fn passed(&self, now: Timestamp, lateness: Duration) -> Passed {
        let clock = now.as_micros().saturating_add(self.lead_us);
        Passed {
            clock: Timestamp::from_micros(clock),
            lateness,
        }
    }

    /// The append time from which on [`Owner::fall`] has something to do.
    pub(crate) fn next_due(&self, lateness: Duration) -> Option<Timestamp> {
        let by_clock = self.falls.first()?.at.plus(lateness).as_micros();
        Some(Timestamp::from_micros(
            by_clock.saturating_sub(self.lead_us),
        ))
    }

    /// Puts windows under a new plan (the teller's) that holds from `at`, in the order of series and subject: of all its
    /// subjects, or of those that lie in one.
    pub(crate) fn reform(
        &mut self,
        old: Before<'_>,
        inside: Option<&Subject>,
        at: Timestamp,
        teller: &mut Teller<'_>,
    ) {
        let passed = teller.passed.by();
        let before = std::mem::replace(&mut self.status, teller.status);
        let root = root(teller.owner, teller.is_tenant);
        let is_inside = |name: &str| {
            let inside = inside.map_or("", |subject| &subject.as_str()[root.len()..]);
            name.strip_prefix(inside)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let subjects = self.subjects.iter();
        let subjects = subjects.filter(|(_, entry)| is_inside(entry.name.as_str()));
        let windows = subjects.flat_map(|(place, entry)| {
            let series = entry
                .counters()
                .iter()
                .flat_map(|kept| kept.counter.series());
            series.map(move |series| (*series, place))
        });
        let mut windows: Vec<(u32, u32)> = windows.collect();
        windows.sort_by_cached_key(|(series, place)| {
            let name = self.subjects.get(*place).name.as_str().to_owned();
            (*series, name)
        });
        for (series, place) in windows {
            let entry = self.subjects.get_mut(place);
            let mut changes = Vec::new();
            let tier = old.tier(&root, entry.name.as_str(), before);
            let stood = tier.member(series).expect("it was counted before");
            match teller.tier_of(entry.name.as_str()).member(series) {
                Some(member) => {
                    let rules = teller.plan.rules(member, teller.zone);
                    let (name, kept) = entry.named(series);
                    let reform = Reform {
                        old: old.plan.limits_of(stood),
                        new: rules,
                        at,
                        passed,
                    };
                    kept.counter.reform(reform, &mut changes);
                    let next = kept.tell(name, rules, changes, teller);
                    reschedule(&mut self.falls, place, (kept, series), next);
                }
                None => {
                    let rules = old.plan.rules(stood, before.zone);
                    let (name, kept) = entry.named(series);
                    kept.counter.retire(rules, (at, passed), &mut changes);
                    teller.tell(name, changes);
                    entry.remove(series);
                }
            }
        }
        self.subjects.retain(|entry| !entry.counters().is_empty());
        self.list_falls();
    }

    /// Drops the counters that would be the same if made anew, when no event from before `floor` can come, and empties the
    /// windows of others that would.
    pub(crate) fn forget(&mut self, plan: &Plan, floor: Timestamp) {
        let zone = self.status.zone;
        let terms = |_, series| plan.terms(series, zone);
        let keep = |kept: &mut Kept| {
            let is_kept = !kept.counter.is_forgettable(terms, floor);
            if is_kept {
                kept.counter.forget(terms, floor);
            }
            is_kept
        };
        let moves = self.subjects.retain(|entry| entry.retain(keep));
        if moves.is_some() && !self.falls.is_empty() {
            self.list_falls();
        }
    }

    /// What it takes in memory, with all that belongs to it.
    pub(crate) fn bytes(&self) -> usize {
        let subjects = self.subjects.iter().map(|(_, entry)| entry.bytes());
        Self::new_bytes() + subjects.sum::<usize>()
    }

    /// What an owner takes that has no subjects yet: with its name and its place in a map, which is half empty.
    pub(crate) const fn new_bytes() -> usize {
        2 * size_of::<Self>()
    }

    /// How many of its windows hold something.
    pub(crate) fn counters(&self) -> usize {
        let counters = self.subjects.iter().flat_map(|(_, entry)| entry.counters());
        counters.map(|kept| kept.counter.holding()).sum()
    }
}

fn reschedule(
    falls: &mut BTreeSet<Fall>,
    place: u32,
    (kept, series): (&mut Kept, u32),
    next: Option<Timestamp>,
) {
    let before = kept.falls_at(series);
    if before != next {
        if let Some(at) = before {
            falls.remove(&Fall { at, place, series });
        }
        if let Some(at) = next {
            falls.insert(Fall { at, place, series });
        }
    }
    kept.set_falls_at(series, next);
}
