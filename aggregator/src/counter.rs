//! A counter: windows of one subject and one meter that were made together, and which levels of which limits stand on
//! each.
//!
//! A level *stands* from the amount that takes the sum to its threshold until the sum falls below: while it stands, the
//! sum at its window's head is at or above its threshold. Both ways are told as a [`Change`], in the order of time.

use schemas::policy::{Level, Limit};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::window::{Amount, Resized, Terms, Windows};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    /// By the series that they are of.
    windows: Windows,
    /// For each limit that holds for a window; none of a window on which no level stands. Absent while none stands on
    /// any, as on most.
    standing: Option<Box<Standings>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standings(Vec<Standing>);

/// How many levels of one limit stand, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    /// Of the window that the limit looks at.
    series: u32,
    /// Place in the policy's list of limits.
    limit: u32,
    levels: u32,
}

impl Standing {
    fn none(series: u32, limit: usize) -> Self {
        Self {
            series,
            limit: u32::try_from(limit).expect("fewer than 2^32 limits are in a policy"),
            levels: 0,
        }
    }

    /// The levels that stand, and those that do not, lowest first.
    fn split<'p>(&self, limits: Limits<'p>) -> (&'p [Level], &'p [Level]) {
        self.limit(limits).levels.split_at(self.levels as usize)
    }

    fn limit<'p>(&self, limits: Limits<'p>) -> &'p Limit {
        limits.at(self.limit as usize)
    }
}

/// All limits of the policy, some of them with other numbers.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'p> {
    pub(crate) all: &'p [Limit],
    /// Those with other numbers, by their places among all.
    pub(crate) own: &'p [(usize, Limit)],
}

impl<'p> Limits<'p> {
    /// As the policy has them.
    #[cfg(test)]
    pub(crate) fn of(all: &'p [Limit]) -> Self {
        Self { all, own: &[] }
    }

    pub(crate) fn at(self, place: usize) -> &'p Limit {
        let own = self.own.iter().find(|(own, _)| *own == place);
        own.map_or_else(|| &self.all[place], |(_, limit)| limit)
    }
}

/// The policy's limits as one window needs them, and how it is read.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'p> {
    /// The window's.
    pub(crate) series: u32,
    pub(crate) limits: Limits<'p>,
    /// Those that hold for the window, by their places among all.
    pub(crate) places: &'p [usize],
    /// The lowest of their levels: below it none stands.
    pub(crate) lowest: i128,
    pub(crate) terms: Terms,
}

/// A change of policy, for one window.
#[derive(Clone, Copy)]
pub(crate) struct Reform<'p> {
    /// The limits before.
    pub(crate) old: Limits<'p>,
    pub(crate) new: Rules<'p>,
    /// From when on the new policy holds.
    pub(crate) at: Timestamp,
    /// Time has passed at least to here: it is judged by what is in the window then.
    pub(crate) passed: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// A level that began or ceased to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'p> {
    /// Of the window on which it stands.
    pub(crate) series: u32,
    pub(crate) limit: &'p Limit,
    pub(crate) level: &'p Level,
    pub(crate) direction: Direction,
    pub(crate) at: Timestamp,
    /// What is in the window after it.
    pub(crate) sum: i128,
    /// Upward: when the sum falls below the level if nothing more comes.
    pub(crate) falls_at: Option<Timestamp>,
}

impl Counter {
    /// Empty windows that are read by these rules, one at least, in the order of their ranks, with their heads at `at`.
    pub(crate) fn new<'p>(rules: impl Iterator<Item = Rules<'p>> + Clone, at: Timestamp) -> Self {
        Self {
            windows: Windows::new(rules.map(|rules| (rules.series, rules.terms)), at),
            standing: None,
        }
    }

    /// The series of its windows.
    pub(crate) fn series(&self) -> &[u32] {
        self.windows.ids()
    }

    /// Whether one of its windows is of this series.
    pub(crate) fn is_of(&self, series: u32) -> bool {
        self.series().contains(&series)
    }

    fn number(&self, series: u32) -> usize {
        let mut all = self.series().iter();
        let number = all.position(|one| *one == series);
        number.expect("rules are given to a counter that has their window")
    }

    pub(crate) fn sum(&self, rules: Rules<'_>) -> i128 {
        self.windows.sum(self.number(rules.series), rules.terms)
    }

    /// Counts an amount in every window: what falls until then falls first. `rules` are those of the window of a number,
    /// which is of that series. The changes of each window are told in the order of time.
    pub(crate) fn add<'p>(
        &mut self,
        rules: impl Fn(usize, u32) -> Rules<'p>,
        amount: Amount,
        changes: &mut Vec<Change<'p>>,
    ) -> Resized {
        let before = self.standing_bytes();
        if self.stands() {
            for number in 0..self.series().len() {
                let rules = rules(number, self.series()[number]);
                self.fall(rules, amount.at, changes);
            }
        }
        let terms = |number, series| rules(number, series).terms;
        let resized = self.windows.add(terms, amount);
        for number in 0..self.series().len() {
            let rules = rules(number, self.series()[number]);
            let sum = self.windows.sum(number, rules.terms);
            if rules.lowest <= sum && self.windows.holds(number, rules.terms, amount.at) {
                self.raise(rules, amount.at, sum, changes);
            }
        }
        Resized {
            before: resized.before + before,
            after: resized.after + self.standing_bytes(),
        }
    }

    /// Lets time pass up to `by` for one window, but moves its head only as far as a level falls: what may still come
    /// from before `by` finds its place.
    pub(crate) fn fall<'p>(
        &mut self,
        rules: Rules<'p>,
        by: Timestamp,
        changes: &mut Vec<Change<'p>>,
    ) {
        while let Some(at) = self.next_fall(rules, by) {
            let number = self.number(rules.series);
            self.windows.advance(number, rules.terms, at);
            self.lower(rules, at, changes);
        }
    }

    /// When the first of the levels that stand on one window falls if nothing more comes; `None` when none does by `by`.
    pub(crate) fn next_fall(&self, rules: Rules<'_>, by: Timestamp) -> Option<Timestamp> {
        let tops = self.standings_of(rules.series).filter_map(|standing| {
            let (stand, _) = standing.split(rules.limits);
            stand.last().map(|level| level.threshold)
        });
        let falls = tops.filter_map(|top| self.falls_below(rules, top, by));
        falls.min()
    }

    /// When the hard level of the limit `name` falls, if it stands and nothing more comes.
    pub(crate) fn hard_falls<'p>(
        &self,
        rules: Rules<'p>,
        name: &str,
    ) -> Option<(&'p Limit, Timestamp)> {
        let mut limits = self.standings_of(rules.series);
        let standing = limits.find(|standing| standing.limit(rules.limits).name == name)?;
        let limit = standing.limit(rules.limits);
        let stands = standing.levels as usize == limit.levels.len();
        let falls_at = stands
            .then(|| self.falls_below(rules, limit.hard(), Timestamp::MAX))
            .flatten()?;
        Some((limit, falls_at))
    }

    fn falls_below(&self, rules: Rules<'_>, threshold: i128, by: Timestamp) -> Option<Timestamp> {
        let number = self.number(rules.series);
        self.windows
            .falls_below(number, rules.terms, (threshold, by))
    }

    /// Whether anything stands on any of the windows.
    pub(crate) fn stands(&self) -> bool {
        self.standing.is_some()
    }

    fn standings(&self) -> &[Standing] {
        let standing = self.standing.as_deref();
        standing.map_or(&[], |standing| &standing.0)
    }

    fn standings_of(&self, series: u32) -> impl Iterator<Item = &Standing> {
        let all = self.standings().iter();
        all.filter(move |standing| standing.series == series)
    }

    fn standing_bytes(&self) -> usize {
        let standing = self.standing.as_ref();
        standing.map_or(0, |s| size_of::<Standings>() + size_of_val(&*s.0))
    }

    /// Bytes that it takes beside itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.windows.heap_bytes() + self.standing_bytes()
    }

    /// How many of its windows hold something.
    pub(crate) fn holding(&self) -> usize {
        self.windows.holding()
    }

    /// Whether nothing would change by dropping it, when no amount from before `floor` can come any more. `terms` are
    /// those of the window of a number, which is of that series.
    pub(crate) fn is_forgettable(
        &self,
        terms: impl Fn(usize, u32) -> Terms,
        floor: Timestamp,
    ) -> bool {
        let mut windows = self.series().iter().enumerate();
        !self.stands()
            && windows.all(|(number, series)| {
                let terms = terms(number, *series);
                self.windows.is_forgettable(number, terms, floor)
            })
    }

    /// Empties each window in which nothing makes a difference any more, when no amount from before `floor` can come:
    /// the others keep it from being dropped.
    pub(crate) fn forget(&mut self, terms: impl Fn(usize, u32) -> Terms, floor: Timestamp) {
        self.windows.forget(terms, floor);
    }

    /// Drops a window, which is not the only one, and what stands on it.
    pub(crate) fn remove(&mut self, series: u32) {
        self.windows.remove(self.number(series));
        self.clear_standing(series);
    }

    fn clear_standing(&mut self, series: u32) {
        if let Some(standing) = &mut self.standing {
            standing.0.retain(|standing| standing.series != series);
            if standing.0.is_empty() {
                self.standing = None;
            }
        }
    }

    /// Puts one window under a new policy's limits. What no longer stands is told first. A level that stands with
    /// another threshold than before, or until another end of its period, is told again: what was said of when it
    /// falls holds no more.
    pub(crate) fn reform<'p>(&mut self, reform: Reform<'p>, changes: &mut Vec<Change<'p>>) {
        let Reform {
            old,
            new,
            at,
            passed,
        } = reform;
        let number = self.number(new.series);
        let ends_anew = self.windows.change_zone(number, new.terms);
        let sum = self.windows.sum_by(number, new.terms, passed);
        let stood: Vec<(&Limit, &Level)> = self.standing_levels(new.series, old).collect();
        for (limit, level) in stood.iter().rev().copied() {
            let here = new.places.iter().map(|&place| new.limits.at(place));
            let kept = here.filter(|now| now.name == limit.name).find_map(|now| {
                let level = now.levels.iter().find(|l| l.name == level.name)?;
                Some((now, level))
            });
            if kept.is_none_or(|(_, level)| sum < level.threshold) {
                let (limit, level) = kept.unwrap_or((limit, level));
                changes.push(Change::down(new.series, (limit, level), at, sum));
            }
        }
        self.clear_standing(new.series);
        let first = changes.len();
        self.raise(new, at, sum, changes);
        let risen = changes.split_off(first).into_iter().filter(|change| {
            let as_before = |(limit, level): &(&Limit, &Level)| {
                limit.name == change.limit.name && *level == change.level
            };
            ends_anew || !stood.iter().any(as_before)
        });
        changes.extend(risen);
    }

    /// Tells that nothing stands any more on one window as of `at`, when time has passed to `passed`: it is about to be
    /// dropped.
    pub(crate) fn retire<'p>(
        &self,
        old: Rules<'p>,
        (at, passed): (Timestamp, Timestamp),
        changes: &mut Vec<Change<'p>>,
    ) {
        let sum = self.sum_by(old, passed);
        let stood: Vec<_> = self.standing_levels(old.series, old.limits).collect();
        let downs = stood.into_iter().rev();
        changes.extend(downs.map(|level| Change::down(old.series, level, at, sum)));
    }

    /// As [`Counter::retire`], for a window that begins anew: nothing of what is in it counts any more.
    pub(crate) fn clear<'p>(&self, rules: Rules<'p>, at: Timestamp, changes: &mut Vec<Change<'p>>) {
        let stood: Vec<_> = self.standing_levels(rules.series, rules.limits).collect();
        let downs = stood.into_iter().rev();
        changes.extend(downs.map(|level| Change::down(rules.series, level, at, 0)));
    }

    /// What is in one window at `by`, or at its head where that is later, if nothing more comes.
    pub(crate) fn sum_by(&self, rules: Rules<'_>, by: Timestamp) -> i128 {
        let number = self.number(rules.series);
        self.windows.sum_by(number, rules.terms, by)
    }

    /// Lowest first, limit by limit.
    fn standing_levels<'p>(
        &self,
        series: u32,
        limits: Limits<'p>,
    ) -> impl Iterator<Item = (&'p Limit, &'p Level)> {
        self.standings_of(series).flat_map(move |standing| {
            let limit = standing.limit(limits);
            let (stand, _) = standing.split(limits);
            stand.iter().map(move |level| (limit, level))
        })
    }

    /// Tells the levels that `sum` reaches on one window and that do not stand yet.
    fn raise<'p>(
        &mut self,
        rules: Rules<'p>,
        at: Timestamp,
        sum: i128,
        changes: &mut Vec<Change<'p>>,
    ) {
        if sum < rules.lowest {
            return;
        }
        let number = self.number(rules.series);
        let all = &mut self
            .standing
            .get_or_insert_with(|| Box::new(Standings(Vec::new())))
            .0;
        if all.iter().all(|standing| standing.series != rules.series) {
            all.reserve_exact(rules.places.len());
            all.extend(
                rules
                    .places
                    .iter()
                    .map(|place| Standing::none(rules.series, *place)),
            );
        }
        for standing in all.iter_mut().filter(|s| s.series == rules.series) {
            let limit = standing.limit(rules.limits);
            let (_, others) = standing.split(rules.limits);
            for level in others.iter().take_while(|level| level.threshold <= sum) {
                let until = (level.threshold, Timestamp::MAX);
                changes.push(Change {
                    series: rules.series,
                    limit,
                    level,
                    direction: Direction::Up,
                    at,
                    sum,
                    falls_at: self.windows.falls_below(number, rules.terms, until),
                });
                standing.levels += 1;
            }
        }
    }

    fn lower<'p>(&mut self, rules: Rules<'p>, at: Timestamp, changes: &mut Vec<Change<'p>>) {
        let (series, sum) = (rules.series, self.sum(rules));
        let mut is_any_left = false;
        let all = self.standing.iter_mut().flat_map(|s| &mut s.0);
        for standing in all.filter(|standing| standing.series == series) {
            let limit = standing.limit(rules.limits);
            let (stand, _) = standing.split(rules.limits);
            for level in stand.iter().rev().take_while(|level| sum < level.threshold) {
                changes.push(Change::down(series, (limit, level), at, sum));
                standing.levels -= 1;
            }
            is_any_left |= standing.levels != 0;
        }
        if !is_any_left {
            self.clear_standing(series);
        }
    }
}

impl<'p> Change<'p> {
    fn down(series: u32, (limit, level): (&'p Limit, &'p Level), at: Timestamp, sum: i128) -> Self {
        Self {
            series,
            limit,
            level,
            direction: Direction::Down,
            at,
            sum,
            falls_at: None,
        }
    }
}

#[cfg(test)]
mod tests;
