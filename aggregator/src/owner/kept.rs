//! A counter with what was told of it, and how it is told.

use std::time::Duration;

use chrono_tz::Tz;
use schemas::policy::{HARD, Limit};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::counter::{Change, Counter, Direction, Rules};
use crate::event::{Crossing, Output, Prolonged};
use crate::plan::{Plan, Tier};
use crate::room::Room;

/// A level that falls later than was told by less than this is not told again: a bucket's fall moves with every event.
const PROLONGED_BY_MIN: Duration = Duration::from_secs(1);
/// Nor is one that falls later by less than this part of the time that is left of what was told: what is said of a
/// subject that goes on and on follows the length of its block, not its events. The difference is told before that time
/// is over.
const PROLONGED_BY_PART: u32 = 8;

/// A subject's counter in a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) series: u32,
    pub(super) counter: Counter,
    /// Absent while nothing stands on it, as on most.
    notice: Option<Box<Notice>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Notice {
    /// When it is to be looked at, in the owner's list: when its first level falls, or before.
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

/// How far an owner's time has gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// What stands falls when this, less the lateness, has passed the moment at which it falls.
    pub(super) clock: Timestamp,
    pub(super) lateness: Duration,
}

impl Passed {
    /// What falls until then has fallen.
    pub(super) fn by(self) -> Timestamp {
        self.clock.minus(self.lateness)
    }

    /// Whether and when to say that what was told to fall at `told` falls at `falls_at`.
    fn prolongs(self, told: Timestamp, falls_at: Timestamp) -> Prolongs {
        let later = falls_at.since(told);
        if later < PROLONGED_BY_MIN {
            return Prolongs::Never;
        }
        let at = told.minus(later.saturating_mul(PROLONGED_BY_PART));
        match at <= self.clock {
            true => Prolongs::Now,
            // A counter is looked at when the clock less the lateness comes there.
            false => Prolongs::At(at.minus(self.lateness)),
        }
    }
}

/// Whether what was told is to be told anew, if nothing more comes.
enum Prolongs {
    Never,
    Now,
    /// When the counter is looked at then.
    At(Timestamp),
}

/// Under which policy, of whom, by which record and into what crossings are told.
pub(crate) struct Teller<'a> {
    pub(crate) plan: &'a Plan,
    /// The owner's.
    pub(crate) tier: &'a Tier,
    /// The zone of the owner's calendars.
    pub(crate) zone: Tz,
    /// The owner's name.
    pub(crate) owner: &'a str,
    /// Whether it is a tenant, and not a scope wider than one.
    pub(crate) is_tenant: bool,
    pub(crate) passed: Passed,
    pub(crate) offset: i64,
    /// Source and id of the event, where it is one.
    pub(crate) event: Option<(&'a str, &'a str)>,
    pub(crate) out: &'a mut Vec<Output>,
    pub(crate) room: &'a mut Room,
}

/// The path of the subject that an owner itself is: all of its subjects begin with it.
pub(crate) fn root(owner: &str, is_tenant: bool) -> String {
    if is_tenant {
        Subject::tenant(owner).into()
    } else {
        owner.to_owned()
    }
}

impl Teller<'_> {
    /// The owner's subject of this name.
    fn subject(&self, name: &str) -> Subject {
        let path = root(self.owner, self.is_tenant) + name;
        Subject::parse(&path).expect("a pattern writes whole subjects")
    }

    pub(super) fn tell(&mut self, name: &str, changes: Vec<Change<'_>>) {
        if changes.is_empty() {
            return;
        }
        let subject = self.subject(name);
        for change in changes {
            let crossing = self.crossing(&subject, &change);
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
    pub(super) fn new(series: u32, counter: Counter) -> Self {
        Self {
            series,
            counter,
            notice: None,
        }
    }

    /// When it is to be looked at.
    pub(super) fn falls_at(&self) -> Option<Timestamp> {
        self.notice.as_ref()?.falls_at
    }

    pub(super) fn set_falls_at(&mut self, falls_at: Option<Timestamp>) {
        match (&mut self.notice, falls_at) {
            (None, None) => {}
            (Some(notice), None) if notice.told.is_empty() => self.notice = None,
            (notice, falls_at) => notice.get_or_insert_default().falls_at = falls_at,
        }
    }

    /// Bytes that it takes beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        let told = |told: &Told| size_of::<Told>() + told.limit.len();
        let notice = self.notice.as_ref().map_or(0, |notice| {
            size_of::<Notice>() + notice.told.iter().map(told).sum::<usize>()
        });
        self.counter.heap_bytes() + notice
    }

    pub(super) fn has_told(&self) -> bool {
        self.notice.as_ref().is_some_and(|n| !n.told.is_empty())
    }

    /// Tells changes, and what falls later than was told. Returns when to look at it next.
    pub(super) fn tell(
        &mut self,
        name: &str,
        rules: Rules<'_>,
        changes: Vec<Change<'_>>,
        teller: &mut Teller<'_>,
    ) -> Option<Timestamp> {
        self.note(&changes, teller.offset);
        teller.tell(name, changes);
        let falls_at = self.counter.next_fall(rules, Timestamp::MAX);
        earlier(falls_at, self.prolong(name, rules, teller))
    }

    /// Takes note of what is being told, by the record at `offset`.
    fn note(&mut self, changes: &[Change<'_>], offset: i64) {
        for change in changes.iter().filter(|change| change.level.name == HARD) {
            let told = &mut self.notice.get_or_insert_default().told;
            told.retain(|told| told.limit != change.limit.name);
            if let (Direction::Up, Some(falls_at)) = (change.direction, change.falls_at) {
                told.push(Told {
                    limit: change.limit.name.clone(),
                    at: change.at,
                    offset,
                    falls_at,
                });
            }
        }
    }

    /// Says again what falls later than was told. Returns when to look at what need not be said yet.
    pub(super) fn prolong(
        &mut self,
        name: &str,
        rules: Rules<'_>,
        teller: &mut Teller<'_>,
    ) -> Option<Timestamp> {
        let (counter, mut look_at) = (&self.counter, None);
        for told in self.notice.iter_mut().flat_map(|notice| &mut notice.told) {
            let Some((limit, falls_at)) = counter.hard_falls(rules, &told.limit) else {
                debug_assert!(false, "{} was told to stand, and does not", told.limit);
                continue;
            };
            match teller.passed.prolongs(told.falls_at, falls_at) {
                Prolongs::Never => {}
                Prolongs::At(at) => look_at = earlier(look_at, Some(at)),
                Prolongs::Now => {
                    let left = told.falls_at.since(teller.passed.clock);
                    told.falls_at = falls_at;
                    let change = still_up(limit, told, counter.sum(rules.terms));
                    let subject = teller.subject(name);
                    let crossing = Box::new(teller.crossing(&subject, &change));
                    let crossed_by = told.offset;
                    teller.out.push(Output::Prolonged(Prolonged {
                        crossing,
                        crossed_by,
                        left,
                    }));
                }
            }
        }
        look_at
    }
}

/// The earlier of two moments, where there are any.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
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
