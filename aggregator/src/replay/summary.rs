//! How often each level of each limit was crossed, by how many subjects, and for how long it stood.

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashMap;
use schemas::policy::{HARD, Mode, Policy, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use crate::counter::Direction;
use crate::event::Crossing;

/// A level of a limit in a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelSummary {
    pub limit: String,
    /// `hard`, or the soft level as the policy has it.
    pub level: String,
    /// How often it was crossed upward.
    pub crossings: u64,
    /// How many subjects crossed it.
    pub subjects: usize,
    /// For how long it stood, by event time, all subjects together. Where it stands at the end: until then, or until it
    /// falls if nothing more comes.
    pub over: Duration,
    /// On how many subjects it stands at the end.
    pub standing: usize,
}

/// A subject that a limit would have refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedSummary {
    pub subject: Subject,
    pub limit: String,
    /// When it would have been refused first, by event time.
    pub first: Timestamp,
    /// How often refusing would have begun.
    pub times: u64,
    /// For how long it would have lasted, all times together; counted as [`LevelSummary::over`].
    pub over: Duration,
    /// Whether it would last at the end.
    pub standing: bool,
}

/// The limits of which events tell nothing: those on what is in flight.
pub(super) fn untold(policy: &Policy) -> Vec<String> {
    let limits = policy.limits.iter();
    let untold = limits.filter(|limit| limit.window == Window::Concurrent);
    let names: BTreeSet<String> = untold.map(|limit| limit.name.clone()).collect();
    names.into_iter().collect()
}

/// What one level has come to so far.
#[derive(Default)]
struct Level {
    subjects: HashMap<Subject, Spans>,
}

/// The times at which one subject was over one level.
struct Spans {
    first: Timestamp,
    times: u64,
    /// Whether calls are refused while it is over: of one tier's limit they may be, of another's of this name not.
    refuses: bool,
    /// Of those that have ended.
    over: Duration,
    /// Since when it stands, and until when, as was told last.
    standing: Option<(Timestamp, Option<Timestamp>)>,
}

impl Spans {
    fn over_at(&self, end: Timestamp) -> Duration {
        let rest = self.standing.map_or(Duration::ZERO, |(since, falls_at)| {
            let until = falls_at.map_or(end, |falls_at| falls_at.min(end));
            until.since(since)
        });
        self.over.saturating_add(rest)
    }
}

/// The levels of a policy.
pub(super) struct Tally {
    /// Limit and level by place, in the order of the policy.
    names: Vec<(String, String)>,
    places: HashMap<String, HashMap<String, usize>>,
    levels: Vec<Level>,
}

impl Tally {
    pub(super) fn new(policy: &Policy) -> Self {
        let mut names = Vec::new();
        let mut places: HashMap<String, HashMap<String, usize>> = HashMap::new();
        let limits = policy.limits.iter();
        for limit in limits.filter(|limit| limit.window != Window::Concurrent) {
            for level in &limit.levels {
                let named = places.entry(limit.name.clone()).or_default();
                // Limits of several tiers may have one name; crossings tell no more than that.
                named.entry(level.name.clone()).or_insert_with(|| {
                    names.push((limit.name.clone(), level.name.clone()));
                    names.len() - 1
                });
            }
        }
        let levels = names.iter().map(|_| Level::default()).collect();
        Self {
            names,
            places,
            levels,
        }
    }

    fn level(&mut self, crossing: &Crossing) -> Option<&mut Level> {
        let levels = self.places.get(&crossing.limit)?;
        self.levels.get_mut(*levels.get(&crossing.level)?)
    }

    pub(super) fn note(&mut self, crossing: &Crossing) {
        let Some(level) = self.level(crossing) else {
            debug_assert!(false, "{} is in the policy", crossing.limit);
            return;
        };
        match crossing.direction {
            Direction::Up => {
                let subject = level.subjects.entry(crossing.subject.clone());
                let spans = subject.or_insert(Spans {
                    first: crossing.at,
                    times: 0,
                    refuses: false,
                    over: Duration::ZERO,
                    standing: None,
                });
                spans.times += 1;
                spans.refuses |= crossing.mode != Mode::Open && crossing.level == HARD;
                spans.standing = Some((crossing.at, crossing.falls_at));
            }
            Direction::Down => {
                let spans = level.subjects.get_mut(&crossing.subject);
                if let Some(spans) = spans
                    && let Some((since, _)) = spans.standing.take()
                {
                    spans.over = spans.over.saturating_add(crossing.at.since(since));
                }
            }
        }
    }

    /// Takes note that a level that stands falls later than was told.
    pub(super) fn prolong(&mut self, crossing: &Crossing) {
        let level = self.level(crossing);
        let spans = level.and_then(|level| level.subjects.get_mut(&crossing.subject));
        if let Some((_, falls_at)) = spans.and_then(|spans| spans.standing.as_mut()) {
            *falls_at = crossing.falls_at;
        }
    }

    pub(super) fn finish(self, end: Timestamp) -> (Vec<LevelSummary>, Vec<RefusedSummary>) {
        let mut levels = Vec::new();
        let mut refused = Vec::new();
        for ((limit, name), level) in self.names.into_iter().zip(self.levels) {
            let spans = level.subjects.values();
            levels.push(LevelSummary {
                limit: limit.clone(),
                level: name,
                crossings: spans.clone().map(|spans| spans.times).sum(),
                subjects: level.subjects.len(),
                over: spans
                    .clone()
                    .map(|spans| spans.over_at(end))
                    .fold(Duration::ZERO, Duration::saturating_add),
                standing: spans.filter(|spans| spans.standing.is_some()).count(),
            });
            let subjects = level.subjects.into_iter();
            let subjects = subjects.filter(|(_, spans)| spans.refuses);
            refused.extend(subjects.map(|(subject, spans)| RefusedSummary {
                over: spans.over_at(end),
                subject,
                limit: limit.clone(),
                first: spans.first,
                times: spans.times,
                standing: spans.standing.is_some(),
            }));
        }
        let key = |one: &RefusedSummary| (std::cmp::Reverse(one.over), one.first);
        refused.sort_by(|a, b| {
            let order = key(a).cmp(&key(b));
            order
                .then_with(|| a.subject.cmp(&b.subject))
                .then_with(|| a.limit.cmp(&b.limit))
        });
        (levels, refused)
    }
}
