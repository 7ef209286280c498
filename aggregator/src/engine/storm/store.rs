//! What an engine tells, as others keep it.

use std::collections::BTreeMap;

use schemas::policy::HARD;
use schemas::subject::Subject;
use schemas::time::Timestamp;

use super::{Crossings, hour};
use crate::event::{Crossing, Output};
use crate::model::Told;

/// What the engine's rollups told last of each second: events and tokens.
#[derive(Default)]
pub(super) struct Store {
    pub(super) seconds: BTreeMap<(String, String, i64), (i64, i128)>,
    /// When each hard level that stands falls, by subject and limit, as was told last.
    pub(super) until: BTreeMap<(Subject, String), Timestamp>,
    /// What counted before each clearing since this was looked at.
    pub(super) cleared: Vec<i128>,
    /// Requests of users by tenant and hour.
    pub(super) requests: BTreeMap<(String, i64), BTreeMap<String, u128>>,
}

impl Store {
    fn note(&mut self, crossing: &Crossing) {
        if crossing.level == HARD {
            let key = (crossing.subject.clone(), crossing.limit.clone());
            match crossing.falls_at {
                Some(falls_at) => self.until.insert(key, falls_at),
                None => self.until.remove(&key),
            };
        }
    }

    pub(super) fn apply(&mut self, out: &mut Vec<Output>) -> Crossings {
        let mut crossings = Vec::new();
        for output in out.drain(..) {
            match output {
                Output::Crossing(crossing) => {
                    self.note(&crossing);
                    crossings.push(told(&crossing));
                }
                Output::Rollup(rollup) => {
                    for (second, sums) in rollup.seconds {
                        let user = rollup.dims.ids()[1].unwrap().to_owned();
                        let second = rollup.minute.second() + i64::from(second);
                        let key = (rollup.dims.tenant().to_owned(), user.clone(), second);
                        self.seconds.insert(key, (sums.events, sums.input_tokens));
                    }
                }
                Output::Ranking(ranking) => {
                    let entries = ranking.ranked.entries.into_iter();
                    let users = entries.map(|entry| (entry.id, entry.count)).collect();
                    let key = (ranking.tenant, hour(ranking.hour));
                    self.requests.insert(key, users);
                }
                Output::Cleared(cleared) => self.cleared.push(cleared.before),
                Output::Prolonged(prolonged) => self.note(&prolonged.crossing),
                other => panic!("{other:?} was not asked for"),
            }
        }
        crossings
    }
}

fn told(crossing: &Crossing) -> (Subject, Told) {
    let c = crossing.clone();
    (
        c.subject,
        (c.limit, c.level, c.direction, c.at, c.sum, c.falls_at),
    )
}
