//! A counter with what was told of it, and how it is told.

use std::time::Duration;

use chrono_tz::Tz;
use schemas::policy::{HARD, Limit};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Status;
use crate::counter::{Change, Counter, Direction, Rules};
use crate::event::{Crossing, Output, Prolonged};
use crate::plan::{Family, Group, Plan, Tier};
use crate::room::Room;

/// A level that falls later than was told by less than this is not told again: a bucket's fall moves with every event.
const PROLONGED_BY_MIN: Duration = Duration::from_secs(1);
/// Nor is one that falls later by less than this part of the time that is left of what was told: what is said of a
/// subject that goes on and on follows the length of its block, not its events. The difference is told before that time
/// is over.
const PROLONGED_BY_PART: u32 = 8;

/// A subject's counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) counter: Counter,
    /// Of the windows on which something stands; absent while there are none, as on most.
    notices: Option<Box<Notices>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Notices(Vec<Notice>);

/// What is known of a window on which something stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Notice {
    series: u32,
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
    /// What the plan says of the owner.
    pub(crate) status: Status,
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

impl<'a> Teller<'a> {
    /// The tier by which the owner's subject of this name goes.
    pub(super) fn tier_of(&self, name: &str) -> &'a Tier {
        match self.status.has_narrow {
            false => self.tier,
            true => {
                let path = root(self.owner, self.is_tenant) + name;
                self.plan.tier_at(&path, self.status.tier)
            }
        }
    }

    /// What is counted for the subject of this path, which the pattern of a family of the owner's names.
    pub(crate) fn groups(&self, path: &str, family: &'a Family) -> &'a [Group] {
        match self.status.has_narrow {
            false => &family.groups,
            true => {
                let tier = self.plan.tier_at(path, self.status.tier);
                tier.groups(&family.pattern)
            }
        }
    }

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
    pub(super) fn new(counter: Counter) -> Self {
        Self {
            counter,
            notices: None,
        }
    }

    fn notices(&self) -> &[Notice] {
        let notices = self.notices.as_deref();
        notices.map_or(&[], |notices| &notices.0)
    }

    fn notice(&self, series: u32) -> Option<&Notice> {
        let mut notices = self.notices().iter();
        notices.find(|notice| notice.series == series)
    }

    fn notice_mut(&mut self, series: u32) -> &mut Notice {
        let notices = &mut self.notices.get_or_insert_default().0;
        let place = notices.iter().position(|notice| notice.series == series);
        let place = place.unwrap_or_else(|| {
            notices.reserve_exact(1);
            notices.push(Notice {
                series,
                falls_at: None,
                told: Vec::new(),
            });
            notices.len() - 1
        });
        &mut notices[place]
    }

    /// When the window of a series is to be looked at.
    pub(super) fn falls_at(&self, series: u32) -> Option<Timestamp> {
        self.notice(series)?.falls_at
    }

    /// Which windows are to be looked at, by their series, and when.
    pub(super) fn falls(&self) -> impl Iterator<Item = (u32, Timestamp)> {
        let notices = self.notices().iter();
        notices.filter_map(|notice| Some((notice.series, notice.falls_at?)))
    }

    pub(super) fn set_falls_at(&mut self, series: u32, falls_at: Option<Timestamp>) {
        if falls_at.is_some() || self.has_told(series) {
            self.notice_mut(series).falls_at = falls_at;
        } else {
            self.clear_notice(series);
        }
    }

    fn clear_notice(&mut self, series: u32) {
        if let Some(notices) = &mut self.notices {
            notices.0.retain(|notice| notice.series != series);
            if notices.0.is_empty() {
                self.notices = None;
            }
        }
    }

    /// Drops the window of a series, which is not the only one, with what was told of it.
    pub(super) fn remove(&mut self, series: u32) {
        self.counter.remove(series);
        self.clear_notice(series);
    }

    /// Bytes that it takes beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        let told = |told: &Told| size_of::<Told>() + told.limit.len();
        let notice =
            |notice: &Notice| size_of::<Notice>() + notice.told.iter().map(told).sum::<usize>();
        let notices = self.notices.as_ref().map_or(0, |notices| {
            size_of::<Notices>() + notices.0.iter().map(notice).sum::<usize>()
        });
        self.counter.heap_bytes() + notices
    }

    pub(super) fn has_told(&self, series: u32) -> bool {
        self.notice(series).is_some_and(|n| !n.told.is_empty())
    }

    pub(super) fn has_told_any(&self) -> bool {
        self.notices().iter().any(|n| !n.told.is_empty())
    }

    /// Tells changes of one window, and what falls later there than was told. Returns when to look at it next.
    pub(super) fn tell(
        &mut self,
        name: &str,
        rules: Rules<'_>,
        changes: Vec<Change<'_>>,
        teller: &mut Teller<'_>,
    ) -> Option<Timestamp> {
        self.note(rules.series, &changes, teller.offset);
        teller.tell(name, changes);
        let falls_at = self.counter.next_fall(rules, Timestamp::MAX);
        earlier(falls_at, self.prolong(name, rules, teller))
    }

    /// Takes note of what is being told, by the record at `offset`.
    fn note(&mut self, series: u32, changes: &[Change<'_>], offset: i64) {
        for change in changes.iter().filter(|change| change.level.name == HARD) {
            let told = &mut self.notice_mut(series).told;
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

    /// Says again what falls later on one window than was told. Returns when to look at what need not be said yet.
    pub(super) fn prolong(
        &mut self,
        name: &str,
        rules: Rules<'_>,
        teller: &mut Teller<'_>,
    ) -> Option<Timestamp> {
        let (counter, mut look_at) = (&self.counter, None);
        let notices = self.notices.iter_mut().flat_map(|notices| &mut notices.0);
        let notices = notices.filter(|notice| notice.series == rules.series);
        for told in notices.flat_map(|notice| &mut notice.told) {
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
                    let change = still_up((rules.series, limit), told, counter.sum(rules));
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

fn still_up<'p>((series, limit): (u32, &'p Limit), told: &Told, sum: i128) -> Change<'p> {
    Change {
        series,
        limit,
        level: limit.levels.last().expect("a limit has a hard level"),
        direction: Direction::Up,
        at: told.at,
        sum,
        falls_at: Some(told.falls_at),
    }
}
