//! A counter: one window of one subject, and which levels of which limits stand on it.
//!
//! A level *stands* from the amount that takes the sum to its threshold until the sum falls below: while it stands, the
//! sum at the window's head is at or above its threshold. Both ways are told as a [`Change`], in the order of time.

use schemas::policy::{Level, Limit};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::window::{Terms, WindowState};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    window: WindowState,
    /// For each limit that holds for the counter; absent while no level of any stands, as on most.
    standing: Option<Box<Standings>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standings(Vec<Standing>);

/// How many levels of one limit stand, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    /// Place in the policy's list of limits.
    limit: u32,
    levels: u32,
}

impl Standing {
    fn none(&limit: &usize) -> Self {
        let limit = u32::try_from(limit).expect("fewer than 2^32 limits are in a policy");
        Self { limit, levels: 0 }
    }

    fn limit<'p>(&self, limits: &'p [Limit]) -> &'p Limit {
        &limits[self.limit as usize]
    }

    /// The levels that stand, and those that do not, lowest first.
    fn split<'p>(&self, limits: &'p [Limit]) -> (&'p [Level], &'p [Level]) {
        self.limit(limits).levels.split_at(self.levels as usize)
    }
}

/// The policy's limits as a counter needs them, and how its window is read.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'p> {
    /// All limits of the policy.
    pub(crate) limits: &'p [Limit],
    /// Those that hold for the counter, by their places among all.
    pub(crate) places: &'p [usize],
    /// The lowest of their levels: below it none stands.
    pub(crate) lowest: i128,
    pub(crate) terms: Terms,
}

/// A change of policy, for one counter.
#[derive(Clone, Copy)]
pub(crate) struct Reform<'p> {
    /// All limits of the old policy.
    pub(crate) old: &'p [Limit],
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
    pub(crate) fn new(terms: Terms, at: Timestamp) -> Self {
        Self {
            window: WindowState::new(terms, at),
            standing: None,
        }
    }

    pub(crate) fn sum(&self, terms: Terms) -> i128 {
        self.window.sum(terms)
    }

    /// Counts `amount`, which happened at `at`: what falls until then falls first.
    pub(crate) fn add<'p>(
        &mut self,
        rules: Rules<'p>,
        at: Timestamp,
        amount: i128,
        changes: &mut Vec<Change<'p>>,
    ) {
        self.fall(rules, at, changes);
        self.window.advance(rules.terms, at);
        if self.window.add(rules.terms, at, amount) {
            self.raise(rules, at, self.window.sum(rules.terms), changes);
        }
    }

    /// Lets time pass up to `by`, but moves the window's head only as far as a level falls: what may still come from
    /// before `by` finds its place.
    pub(crate) fn fall<'p>(
        &mut self,
        rules: Rules<'p>,
        by: Timestamp,
        changes: &mut Vec<Change<'p>>,
    ) {
        while let Some(at) = self.next_fall(rules, by) {
            self.window.advance(rules.terms, at);
            self.lower(rules, at, changes);
        }
    }

    /// When the first of the standing levels falls if nothing more comes; `None` when none does by `by`.
    pub(crate) fn next_fall(&self, rules: Rules<'_>, by: Timestamp) -> Option<Timestamp> {
        let tops = self.standings().iter().filter_map(|standing| {
            let (stand, _) = standing.split(rules.limits);
            stand.last().map(|level| level.threshold)
        });
        let falls = tops.filter_map(|top| self.window.falls_below(rules.terms, top, by));
        falls.min()
    }

    /// When the hard level of the limit `name` falls, if it stands and nothing more comes.
    pub(crate) fn hard_falls<'p>(
        &self,
        rules: Rules<'p>,
        name: &str,
    ) -> Option<(&'p Limit, Timestamp)> {
        let mut limits = self.standings().iter();
        let standing = limits.find(|standing| standing.limit(rules.limits).name == name)?;
        let limit = standing.limit(rules.limits);
        let stands = standing.levels as usize == limit.levels.len();
        let falls_at = stands
            .then(|| {
                self.window
                    .falls_below(rules.terms, limit.hard(), Timestamp::MAX)
            })
            .flatten()?;
        Some((limit, falls_at))
    }

    pub(crate) fn stands(&self) -> bool {
        self.standing.is_some()
    }

    fn standings(&self) -> &[Standing] {
        let standing = self.standing.as_deref();
        standing.map_or(&[], |standing| &standing.0)
    }

    /// Bytes that it takes beside itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let standing = self.standing.as_ref();
        let standing = standing.map_or(0, |s| size_of::<Standings>() + size_of_val(&*s.0));
        self.window.heap_bytes() + standing
    }

    /// Whether nothing would change by dropping it, when no amount from before `floor` can come any more.
    pub(crate) fn is_forgettable(&self, terms: Terms, floor: Timestamp) -> bool {
        !self.stands() && self.window.forgettable_from(terms) <= floor
    }

    /// Puts the counter under a new policy's limits. What no longer stands is told first. A level that stands with
    /// another threshold than before, or until another end of its period, is told again: what was said of when it
    /// falls holds no more.
    pub(crate) fn reform<'p>(&mut self, reform: Reform<'p>, changes: &mut Vec<Change<'p>>) {
        let Reform {
            old,
            new,
            at,
            passed,
        } = reform;
        let ends_anew = self.window.change_zone(new.terms);
        let sum = self.window.sum_by(new.terms, passed);
        let stood: Vec<(&Limit, &Level)> = self.standing_levels(old).collect();
        for (limit, level) in stood.iter().rev().copied() {
            let here = new.places.iter().map(|&place| &new.limits[place]);
            let kept = here.filter(|now| now.name == limit.name).find_map(|now| {
                let level = now.levels.iter().find(|l| l.name == level.name)?;
                Some((now, level))
            });
            if kept.is_none_or(|(_, level)| sum < level.threshold) {
                let (limit, level) = kept.unwrap_or((limit, level));
                changes.push(Change::down(limit, level, at, sum));
            }
        }
        self.standing = None;
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

    /// Tells that nothing stands any more as of `at`, when time has passed to `passed`: the counter is about to be
    /// dropped.
    pub(crate) fn retire<'p>(
        self,
        old: Rules<'p>,
        (at, passed): (Timestamp, Timestamp),
        changes: &mut Vec<Change<'p>>,
    ) {
        let sum = self.window.sum_by(old.terms, passed);
        let stood: Vec<_> = self.standing_levels(old.limits).collect();
        let downs = stood.into_iter().rev();
        changes.extend(downs.map(|(limit, level)| Change::down(limit, level, at, sum)));
    }

    /// Lowest first, limit by limit.
    fn standing_levels<'p>(
        &self,
        limits: &'p [Limit],
    ) -> impl Iterator<Item = (&'p Limit, &'p Level)> {
        self.standings().iter().flat_map(move |standing| {
            let limit = standing.limit(limits);
            let (stand, _) = standing.split(limits);
            stand.iter().map(move |level| (limit, level))
        })
    }

    /// Tells the levels that `sum` reaches and that do not stand yet.
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
        let standings = self.standing.get_or_insert_with(|| {
            let none = rules.places.iter().map(Standing::none);
            Box::new(Standings(none.collect()))
        });
        for standing in &mut standings.0 {
            let limit = standing.limit(rules.limits);
            let (_, others) = standing.split(rules.limits);
            for level in others.iter().take_while(|level| level.threshold <= sum) {
                let end = Timestamp::MAX;
                changes.push(Change {
                    limit,
                    level,
                    direction: Direction::Up,
                    at,
                    sum,
                    falls_at: self.window.falls_below(rules.terms, level.threshold, end),
                });
                standing.levels += 1;
            }
        }
    }

    fn lower<'p>(&mut self, rules: Rules<'p>, at: Timestamp, changes: &mut Vec<Change<'p>>) {
        let sum = self.window.sum(rules.terms);
        for standing in self.standing.iter_mut().flat_map(|s| &mut s.0) {
            let limit = standing.limit(rules.limits);
            let (stand, _) = standing.split(rules.limits);
            for level in stand.iter().rev().take_while(|level| sum < level.threshold) {
                changes.push(Change::down(limit, level, at, sum));
                standing.levels -= 1;
            }
        }
        if self.standings().iter().all(|standing| standing.levels == 0) {
            self.standing = None;
        }
    }
}

impl<'p> Change<'p> {
    fn down(limit: &'p Limit, level: &'p Level, at: Timestamp, sum: i128) -> Self {
        Self {
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
