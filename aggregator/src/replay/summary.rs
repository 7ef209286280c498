//! How often each level of each limit was crossed, by how many subjects, and for how long it stood.

use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use schemas::policy::Policy;
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

/// What one level has come to so far.
#[derive(Default)]
struct Level {
    crossings: u64,
    subjects: HashSet<Subject>,
    over: Duration,
    /// Since when it stands, and until when, as was told last.
    standing: HashMap<Subject, (Timestamp, Option<Timestamp>)>,
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
        for limit in &policy.limits {
            for level in &limit.levels {
                let levels = places.entry(limit.name.clone()).or_default();
                levels.insert(level.name.clone(), names.len());
                names.push((limit.name.clone(), level.name.clone()));
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
                level.crossings += 1;
                level.subjects.insert(crossing.subject.clone());
                let span = (crossing.at, crossing.falls_at);
                level.standing.insert(crossing.subject.clone(), span);
            }
            Direction::Down => {
                if let Some((since, _)) = level.standing.remove(&crossing.subject) {
                    level.over = level.over.saturating_add(crossing.at.since(since));
                }
            }
        }
    }

    /// Takes note that a level that stands falls later than was told.
    pub(super) fn prolong(&mut self, crossing: &Crossing) {
        let level = self.level(crossing);
        if let Some((_, falls_at)) = level.and_then(|l| l.standing.get_mut(&crossing.subject)) {
            *falls_at = crossing.falls_at;
        }
    }

    pub(super) fn finish(self, end: Timestamp) -> Vec<LevelSummary> {
        let named = self.names.into_iter().zip(self.levels);
        let summary = |((limit, name), level): ((String, String), Level)| {
            let standing = level.standing.values();
            let rest = standing.map(|(since, falls_at)| {
                let until = falls_at.map_or(end, |falls_at| falls_at.min(end));
                until.since(*since)
            });
            LevelSummary {
                limit,
                level: name,
                crossings: level.crossings,
                subjects: level.subjects.len(),
                over: rest.fold(level.over, Duration::saturating_add),
                standing: level.standing.len(),
            }
        };
        named.map(summary).collect()
    }
}
