//! Whom counters belong to: a tenant, or in a shard of partials a scope wider than a tenant. Each has a time of its
//! own, so that one with a wrong clock makes nobody else's events late and closes nobody else's windows.
//!
//! - Its *newest* time is that of its newest event. It decides what is late.
//! - Its *clock* goes on while nothing comes: the append time (when the log took a record) of the shard's newest record,
//!   plus the most by which this owner's events were ever ahead of theirs. What stands on a counter falls when the
//!   clock, less the lateness, has passed the moment at which it falls.

mod kept;
mod sketched;
mod subjects;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono_tz::Tz;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::counter::{Counter, Reform, Rules};
use crate::plan::{Family, Member, Plan};
use crate::rollup::MINUTE_SECONDS;
use crate::sketch::Hours;
use crate::window::Terms;
use kept::{Kept, earlier, root};
use subjects::{Entry, Subjects};

pub(crate) use kept::{Passed, Teller};

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
    /// The counters on which something stands, by when they are to be looked at. Follows from these.
    #[serde(skip)]
    falls: BTreeSet<Fall>,
    /// Append time at which the shard looks at this owner.
    pub(crate) due_at: Option<Timestamp>,
    /// What the policy says of it.
    #[serde(skip)]
    status: Status,
}

/// When a counter is to be looked at.
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
    /// Length of the path that all its subjects begin with.
    root_bytes: u32,
}

impl Status {
    /// Of the owner `name`.
    pub(crate) fn new(plan: &Plan, name: &str, is_tenant: bool) -> Self {
        let tenant = is_tenant.then_some(name);
        let root_bytes = root(name, is_tenant).len();
        Self {
            tier: plan.tier_of(tenant),
            zone: plan.policy.zone(tenant),
            root_bytes: u32::try_from(root_bytes).expect("an id is far shorter than 4 GiB"),
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
    /// How much for a series.
    pub(crate) amount: A,
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
            let counters = entry.counters().iter();
            counters.filter_map(move |kept| {
                let (at, series) = (kept.falls_at()?, kept.series);
                Some(Fall { at, place, series })
            })
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
        family: &Family,
        deposit: Deposit<'_, impl Fn(&Member) -> i128>,
        teller: &mut Teller<'_>,
    ) {
        let (_, name) = deposit.subject.split_at(self.status.root_bytes as usize);
        let mut place = self.subjects.place(name);
        for (hint, member) in family.members.iter().enumerate() {
            let amount = (deposit.amount)(member);
            if amount == 0 {
                continue;
            }
            let rules = teller.plan.rules(member, teller.zone);
            let (subjects, floor) = (&self.subjects, deposit.floor);
            let known = place.and_then(|place| {
                let entry = subjects.get(place);
                let number = entry.number(member.series, hint)?;
                let counter = &entry.counters()[number].counter;
                let is_new = counter.is_forgettable(rules.terms, floor);
                (!is_new).then_some((place, number))
            });
            let spot = match known {
                Some(spot) => spot,
                None => {
                    let is_known = place.is_some_and(|p| self.is_known(p, teller.plan, floor));
                    let bytes = match is_known {
                        true => size_of::<Kept>(),
                        false => Entry::new_bytes(name),
                    };
                    if !teller.room.admits_counter(bytes) {
                        continue;
                    }
                    let counter = Counter::new(rules.terms, deposit.at);
                    self.put(place, name, Kept::new(member.series, counter))
                }
            };
            place = Some(spot.0);
            self.count(spot, rules, (deposit.at, amount), teller);
        }
    }

    /// Whether any counter of the subject at `place` makes a difference, when no event from before `floor` can come.
    fn is_known(&self, place: u32, plan: &Plan, floor: Timestamp) -> bool {
        let zone = self.status.zone;
        let mut counters = self.subjects.get(place).counters().iter();
        counters.any(|kept| {
            let window = plan.window(kept.series);
            !kept.counter.is_forgettable(Terms { window, zone }, floor)
        })
    }

    /// Puts a counter where it belongs: to the subject at `place`, or to a new one of this name. Returns the subject's
    /// place, and the counter's number there.
    fn put(&mut self, place: Option<u32>, name: &str, kept: Kept) -> (u32, usize) {
        match place {
            Some(place) => (place, self.subjects.get_mut(place).put(kept)),
            None => (self.subjects.add(name, kept), 0),
        }
    }

    /// Counts an amount on the counter of this number, of the subject at `place`.
    fn count(
        &mut self,
        (place, number): (u32, usize),
        rules: Rules<'_>,
        (at, amount): (Timestamp, i128),
        teller: &mut Teller<'_>,
    ) {
        let (name, kept) = self.subjects.get_mut(place).numbered(number);
        let (before, mut changes) = (kept.heap_bytes(), Vec::new());
        kept.counter.add(rules, at, amount, &mut changes);
        teller.room.resize(before, kept.heap_bytes());
        if changes.is_empty() && !kept.has_told() {
            return;
        }
        let name = name.as_str();
        let next = match changes.is_empty() {
            true => earlier(kept.falls_at(), kept.prolong(name, rules, teller)),
            false => kept.tell(name, rules, changes, teller),
        };
        reschedule(&mut self.falls, place, kept, next);
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
            let member = teller.tier.member(series);
            let rules = teller
                .plan
                .rules(member.expect("its series is counted"), teller.zone);
            let (name, kept) = self.subjects.get_mut(place).named(series);
            let mut changes = Vec::new();
            kept.counter.fall(rules, by, &mut changes);
            let next = kept.tell(name, rules, changes, teller);
            reschedule(&mut self.falls, place, kept, next);
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

    /// Puts every counter under a new plan (the teller's) that holds from `at`, in the order of series and subject.
    pub(crate) fn reform(
        &mut self,
        old: &Plan,
        status: Status,
        at: Timestamp,
        teller: &mut Teller<'_>,
    ) {
        let passed = teller.passed.by();
        let before = std::mem::replace(&mut self.status, status);
        let counters = self.subjects.iter().flat_map(|(place, entry)| {
            let series = entry.counters().iter().map(|kept| kept.series);
            series.map(move |series| (series, place))
        });
        let mut counters: Vec<(u32, u32)> = counters.collect();
        counters.sort_by_cached_key(|(series, place)| {
            let name = self.subjects.get(*place).name.as_str().to_owned();
            (*series, name)
        });
        for (series, place) in counters {
            let entry = self.subjects.get_mut(place);
            let mut changes = Vec::new();
            match teller.tier.member(series) {
                Some(member) => {
                    let rules = teller.plan.rules(member, teller.zone);
                    let (name, kept) = entry.named(series);
                    let reform = Reform {
                        old: &old.policy.limits,
                        new: rules,
                        at,
                        passed,
                    };
                    kept.counter.reform(reform, &mut changes);
                    let next = kept.tell(name, rules, changes, teller);
                    reschedule(&mut self.falls, place, kept, next);
                }
                None => {
                    let kept = entry.remove(series).expect("it was listed");
                    let member = old.tier(before.tier).member(series);
                    let rules = old.rules(member.expect("it was counted before"), before.zone);
                    kept.counter.retire(rules, (at, passed), &mut changes);
                    teller.tell(entry.name.as_str(), changes);
                }
            }
        }
        self.subjects.retain(|entry| !entry.counters().is_empty());
        self.list_falls();
    }

    /// Drops the counters that would be the same if made anew, when no event from before `floor` can come.
    pub(crate) fn forget(&mut self, plan: &Plan, floor: Timestamp) {
        let zone = self.status.zone;
        let is_kept = |kept: &Kept| {
            let window = plan.window(kept.series);
            !kept.counter.is_forgettable(Terms { window, zone }, floor)
        };
        let moves = self.subjects.retain(|entry| entry.retain(is_kept));
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

    pub(crate) fn counters(&self) -> usize {
        let entries = self.subjects.iter();
        entries.map(|(_, entry)| entry.counters().len()).sum()
    }
}

fn reschedule(falls: &mut BTreeSet<Fall>, place: u32, kept: &mut Kept, next: Option<Timestamp>) {
    let (before, series) = (kept.falls_at(), kept.series);
    if before != next {
        if let Some(at) = before {
            falls.remove(&Fall { at, place, series });
        }
        if let Some(at) = next {
            falls.insert(Fall { at, place, series });
        }
    }
    kept.set_falls_at(next);
}
