//! Whom counters belong to: a tenant, or in a shard of partials a scope wider than a tenant. Each has a time of its
//! own, so that one with a wrong clock makes nobody else's events late and closes nobody else's windows.
//!
//! - Its *newest* time is that of its newest event. It decides what is late.
//! - Its *clock* goes on while nothing comes: the append time (when the log took a record) of the shard's newest record,
//!   plus the most by which this owner's events were ever ahead of theirs. What stands on a counter falls when the
//!   clock, less the lateness, has passed the moment at which it falls.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono_tz::Tz;
use hashbrown::hash_map::EntryRef;
use hashbrown::{Equivalent, HashMap};
use schemas::policy::{HARD, Limit};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::counter::{Change, Counter, Direction, Reform, Rules};
use crate::event::{Crossing, Output, Prolonged};
use crate::plan::{Plan, Series};
use crate::rollup::MINUTE_SECONDS;
use crate::window::Terms;

/// A counter's series and subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct CounterKey {
    series: u32,
    subject: Subject,
}

/// A [`CounterKey`] on loan, with the same hash.
#[derive(Hash)]
struct CounterRef<'a> {
    series: u32,
    subject: &'a str,
}

impl From<&CounterRef<'_>> for CounterKey {
    fn from(key: &CounterRef<'_>) -> Self {
        Self {
            series: key.series,
            subject: Subject::parse(key.subject).expect("a pattern writes whole subjects"),
        }
    }
}

impl Equivalent<CounterKey> for CounterRef<'_> {
    fn equivalent(&self, key: &CounterKey) -> bool {
        self.series == key.series && self.subject == key.subject.as_str()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    counter: Counter,
    /// When it is to be looked at, in [`Owner::falls`]: when its first level falls, or before.
    falls_at: Option<Timestamp>,
    /// What was told of the hard levels that stand on it.
    told: Vec<Told>,
}

/// What was told of a hard level that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    limit: String,
    /// The crossing: when, and by which record.
    at: Timestamp,
    offset: i64,
    /// When it falls, as was told last.
    falls_at: Timestamp,
}

/// A level that falls later than was told by less than this is not told again: a bucket's fall moves with every event.
const PROLONGED_BY_MIN: Duration = Duration::from_secs(1);

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
    counters: HashMap<CounterKey, Kept>,
    /// The counters on which something stands, by when they are to be looked at.
    falls: BTreeSet<(Timestamp, CounterKey)>,
    /// Append time at which the shard looks at this owner.
    pub(crate) due_at: Option<Timestamp>,
}

/// How far back an owner's events may lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Against its newest time.
    pub(crate) lateness: Duration,
    /// After so long without an event, by append time, its newest minute is closed.
    pub(crate) idle: Duration,
}

/// An amount for a subject's counter in a series.
#[derive(Clone, Copy)]
pub(crate) struct Deposit<'a> {
    pub(crate) series: &'a Series,
    pub(crate) subject: &'a str,
    /// Absent for a scope wider than a tenant.
    pub(crate) tenant: Option<&'a str>,
    pub(crate) at: Timestamp,
    pub(crate) amount: i128,
}

/// When a new policy comes to hold.
#[derive(Clone, Copy)]
pub(crate) struct When {
    /// As the policy says.
    pub(crate) at: Timestamp,
    /// Append time.
    pub(crate) now: Timestamp,
    pub(crate) lateness: Duration,
}

/// Under which policy, by which record and into what crossings are told.
pub(crate) struct Teller<'a> {
    pub(crate) plan: &'a Plan,
    /// The zone of the owner's calendars.
    pub(crate) zone: Tz,
    pub(crate) offset: i64,
    /// Source and id of the event, where it is one.
    pub(crate) event: Option<(&'a str, &'a str)>,
    pub(crate) out: &'a mut Vec<Output>,
}

impl Teller<'_> {
    fn tell(&mut self, subject: &Subject, changes: Vec<Change<'_>>) {
        for change in changes {
            let crossing = self.crossing(subject, &change);
            self.out.push(Output::Crossing(Box::new(crossing)));
        }
    }

    fn crossing(&self, subject: &Subject, change: &Change<'_>) -> Crossing {
        let owned = |(source, id): (&str, &str)| (source.to_owned(), id.to_owned());
        Crossing {
            subject: subject.clone(),
            limit: change.limit.name.clone(),
            policy_version: self.plan.policy.version,
            meter: change.limit.meter.clone(),
            window: change.limit.window,
            mode: change.limit.mode,
            level: change.level.name.clone(),
            threshold: change.level.threshold,
            direction: change.direction,
            at: change.at,
            sum: change.sum,
            max: change.limit.hard(),
            falls_at: change.falls_at,
            event: self
                .event
                .filter(|_| change.direction == Direction::Up)
                .map(owned),
            offset: self.offset,
        }
    }
}

impl Kept {
    fn new(counter: Counter) -> Self {
        Self {
            counter,
            falls_at: None,
            told: Vec::new(),
        }
    }

    /// Takes note of what is being told, by the record at `offset`.
    fn note(&mut self, changes: &[Change<'_>], offset: i64) {
        for change in changes.iter().filter(|change| change.level.name == HARD) {
            self.told.retain(|told| told.limit != change.limit.name);
            if let (Direction::Up, Some(falls_at)) = (change.direction, change.falls_at) {
                self.told.push(Told {
                    limit: change.limit.name.clone(),
                    at: change.at,
                    offset,
                    falls_at,
                });
            }
        }
    }

    /// Says again what falls later than was told.
    fn prolong(&mut self, subject: &Subject, rules: Rules<'_>, teller: &mut Teller<'_>) {
        let (counter, sum) = (&self.counter, self.counter.sum(rules.terms));
        for told in &mut self.told {
            let Some((limit, falls_at)) = counter.hard_falls(rules, &told.limit) else {
                debug_assert!(false, "{} was told to stand, and does not", told.limit);
                continue;
            };
            if falls_at < told.falls_at.plus(PROLONGED_BY_MIN) {
                continue;
            }
            told.falls_at = falls_at;
            let change = still_up(limit, told, sum);
            let crossing = Box::new(teller.crossing(subject, &change));
            let crossed_by = told.offset;
            teller.out.push(Output::Prolonged(Prolonged {
                crossing,
                crossed_by,
            }));
        }
    }
}

fn still_up<'p>(limit: &'p Limit, told: &Told, sum: i128) -> Change<'p> {
    Change {
        limit,
        level: limit.levels.last().expect("a limit has a hard level"),
        direction: Direction::Up,
        at: told.at,
        sum,
        falls_at: Some(told.falls_at),
    }
}

impl Owner {
    /// An owner whose first event has time `at`, and was appended at `now`.
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self {
            newest: at,
            counted_at: now,
            lead_us: at.as_micros().saturating_sub(now.as_micros()),
            closed_until: Timestamp::MIN,
            counters: HashMap::new(),
            falls: BTreeSet::new(),
            due_at: None,
        }
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
        self.newest = self.newest.max(at);
        self.counted_at = now;
        let lead_us = at.as_micros().saturating_sub(now.as_micros());
        self.lead_us = self.lead_us.max(lead_us);
    }

    pub(crate) fn stands(&self) -> bool {
        !self.falls.is_empty()
    }

    /// Counts an amount. Makes the counter when there is none and a limit holds for the tenant.
    pub(crate) fn add(&mut self, deposit: Deposit<'_>, teller: &mut Teller<'_>) {
        let plan = teller.plan;
        let rules = plan.rules(deposit.series, teller.zone);
        let key = CounterRef {
            series: deposit.series.id,
            subject: deposit.subject,
        };
        let mut entry = match self.counters.entry_ref(&key) {
            EntryRef::Occupied(entry) => entry,
            EntryRef::Vacant(entry) => {
                let limits = plan.limits_for(deposit.series, deposit.tenant);
                if limits.is_empty() {
                    return;
                }
                let counter = Counter::new(rules.terms, deposit.at, &limits);
                entry.insert_entry(Kept::new(counter))
            }
        };
        let mut changes = Vec::new();
        let kept = entry.get_mut();
        kept.counter
            .add(rules, deposit.at, deposit.amount, &mut changes);
        if changes.is_empty() && kept.told.is_empty() {
            return;
        }
        let key = entry.key().clone();
        let kept = entry.into_mut();
        if !changes.is_empty() {
            kept.note(&changes, teller.offset);
            teller.tell(&key.subject, changes);
            let next = kept.counter.next_fall(rules, Timestamp::MAX);
            reschedule(&mut self.falls, &key, kept, next);
        }
        kept.prolong(&key.subject, rules, teller);
    }

    /// Lets fall what falls by the owner's clock at append time `now`.
    pub(crate) fn fall(&mut self, now: Timestamp, lateness: Duration, teller: &mut Teller<'_>) {
        let by = self.clock(now).minus(lateness);
        while let Some((_, key)) = self.falls.first().filter(|(at, _)| *at <= by).cloned() {
            let kept = self
                .counters
                .get_mut(&key)
                .expect("what is to fall has a counter");
            let series = teller
                .plan
                .series_of(key.series)
                .expect("and its series is counted");
            let rules = teller.plan.rules(series, teller.zone);
            let mut changes = Vec::new();
            kept.counter.fall(rules, by, &mut changes);
            kept.note(&changes, teller.offset);
            teller.tell(&key.subject, changes);
            let next = kept.counter.next_fall(rules, Timestamp::MAX);
            reschedule(&mut self.falls, &key, kept, next);
        }
    }

    fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros().saturating_add(self.lead_us))
    }

    /// The append time from which on [`Owner::fall`] has something to do.
    pub(crate) fn next_due(&self, lateness: Duration) -> Option<Timestamp> {
        let (falls_at, _) = self.falls.first()?;
        let by_clock = falls_at.plus(lateness).as_micros();
        Some(Timestamp::from_micros(
            by_clock.saturating_sub(self.lead_us),
        ))
    }

    /// Puts every counter under a new plan (the teller's), in the order of series and subject.
    pub(crate) fn reform(
        &mut self,
        old: (&Plan, Tz),
        tenant: Option<&str>,
        when: When,
        teller: &mut Teller<'_>,
    ) {
        let (old, old_zone) = old;
        let When { at, now, lateness } = when;
        let passed = self.clock(now).minus(lateness);
        let mut keys: Vec<CounterKey> = self.counters.keys().cloned().collect();
        keys.sort();
        for key in keys {
            let Some(mut kept) = self.counters.remove(&key) else {
                continue;
            };
            let mut changes = Vec::new();
            let plan = teller.plan;
            let series = plan.series_of(key.series);
            let limits = series
                .map(|s| plan.limits_for(s, tenant))
                .unwrap_or_default();
            let mut next = None;
            match series {
                Some(series) if !limits.is_empty() => {
                    let rules = plan.rules(series, teller.zone);
                    let counter = &mut kept.counter;
                    let reform = Reform {
                        old: &old.policy.limits,
                        new: rules,
                        limits: &limits,
                        at,
                        passed,
                    };
                    counter.reform(reform, &mut changes);
                    kept.note(&changes, teller.offset);
                    next = kept.counter.next_fall(rules, Timestamp::MAX);
                    reschedule(&mut self.falls, &key, &mut kept, next);
                    self.counters.insert(key.clone(), kept);
                }
                _ => {
                    reschedule(&mut self.falls, &key, &mut kept, next);
                    let before = old.series_of(key.series).expect("it was counted before");
                    let rules = old.rules(before, old_zone);
                    kept.counter.retire(rules, (at, passed), &mut changes);
                }
            }
            teller.tell(&key.subject, changes);
        }
    }

    /// Drops the counters that would be the same if made anew, when no event from before `floor` can come.
    pub(crate) fn forget(&mut self, plan: &Plan, zone: Tz, floor: Timestamp) {
        self.counters.retain(|key, kept| {
            let series = plan
                .series_of(key.series)
                .expect("every counter's series is counted");
            let window = series.window;
            !kept.counter.is_forgettable(Terms { window, zone }, floor)
        });
    }

    pub(crate) fn counters(&self) -> usize {
        self.counters.len()
    }
}

fn reschedule(
    falls: &mut BTreeSet<(Timestamp, CounterKey)>,
    key: &CounterKey,
    kept: &mut Kept,
    next: Option<Timestamp>,
) {
    if kept.falls_at == next {
        return;
    }
    if let Some(before) = kept.falls_at {
        falls.remove(&(before, key.clone()));
    }
    if let Some(next) = next {
        falls.insert((next, key.clone()));
    }
    kept.falls_at = next;
}
