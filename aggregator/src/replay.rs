//! The dry run: past events under a policy that did not hold then, through the engines that count for real.
//!
//! A [`Replay`] is a fold as every shard is, with no clock and no I/O. It knows every partition at once, so time passes
//! in all of them together: where something is about to fall and no event comes to say so, it has the engine hear the
//! tick that would have been written. What events add to scopes wider than a tenant is passed on at once.
//!
//! The draft holds from the first record on. Policies that the log tells of pass time and nothing else.

mod summary;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bus::{Partition, Record};
use schemas::orders::Orders;
use schemas::policy::Policy;
use schemas::record::{Crossing, Signal};
use schemas::time::Timestamp;
use schemas::topic::{PARTIALS, TopicSpec};
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::engine::{Engine, Settings, ShardId, State, WentBack};
use crate::event::{Input, Outcome, Output, Place};
use crate::ledger::Ledger;
use crate::plan::Kind;
use crate::wire::{self, Outgoing};
use summary::Tally;

pub use summary::{LevelSummary, RefusedSummary};

/// Records of one partition after which it drops what can no longer make a difference, at the least.
const FORGET_AFTER: usize = 10_000;

/// The topics that hold events.
pub const EVENT_TOPICS: [TopicSpec; 3] = [wire::TOPICS[0], wire::TOPICS[1], wire::TOPICS[2]];

/// Why a dry run cannot go on.
#[derive(Debug, Error)]
pub enum ReplayError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0} holds no events that are counted, or has fewer partitions than that")]
    Unknown(Partition),
    #[error("{partition}: {error}")]
    WentBack {
        partition: Partition,
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a dry run finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A level of a limit that would have begun or ceased to stand.
    Crossing(Box<Crossing>),
    /// A crossing that stands, told again: it falls later than was told.
    Prolonged(Box<Crossing>),
    /// A record that nobody can read.
    Dead {
        partition: Partition,
        offset: i64,
        reason: String,
    },
}

/// What a dry run comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Each level of each limit, in the order of the policy.
    pub levels: Vec<LevelSummary>,
    /// Who would have been refused, by which limit; the longest first.
    pub refused: Vec<RefusedSummary>,
    /// Limits that were left out: events do not tell what is in flight.
    pub untold: Vec<String>,
    /// Of all events.
    pub ledger: Ledger,
}

/// A dry run: [`Replay::take`] every record in the order in which the log took them, then [`Replay::finish`].
pub struct Replay {
    settings: Settings,
    shards: BTreeMap<Partition, Shard>,
    /// Of all scopes wider than a tenant.
    wide: Shard,
    /// The newest append time.
    now: Timestamp,
    tally: Tally,
    untold: Vec<String>,
    out: Vec<Output>,
}

struct Shard {
    engine: Engine,
    /// Its own count of records and ticks: the ticks of a dry run have no offsets.
    next: i64,
    records: usize,
}

impl Shard {
    fn new(shard: ShardId, settings: Settings, policy: &Policy) -> Self {
        Self {
            engine: Engine::restore(
                shard,
                settings,
                (policy.clone(), Orders::default()),
                State::default(),
            ),
            next: 0,
            records: 0,
        }
    }

    fn step(
        &mut self,
        input: Input<'_>,
        appended_at: Timestamp,
        out: &mut Vec<Output>,
    ) -> Result<Outcome, WentBack> {
        let offset = self.next;
        self.next += 1;
        let place = Place {
            offset,
            appended_at,
        };
        let outcome = self.engine.step(place, input, out)?;
        self.engine.flush_partials(out);
        Ok(outcome)
    }

    /// Keeps memory as small as that of a shard that takes snapshots. Usage per minute is nobody's question here.
    fn forget_at_times(&mut self) {
        self.records += 1;
        if self.records < FORGET_AFTER.max(self.engine.sizes().owners) {
            return;
        }
        self.records = 0;
        self.engine.flush(&mut Vec::new());
        self.engine.forget();
    }
}

impl Replay {
    /// A dry run of `policy`. `partitions` says by how many partitions the events of each topic were placed.
    ///
    /// # Errors
    /// When the configuration has a number that cannot be worked with.
    pub fn new(
        config: &Config,
        policy: &Policy,
        partitions: impl Fn(TopicSpec) -> i32,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        // Of what a policy would have done they say nothing.
        let settings = Settings {
            sketch_usage: false,
            sketch_auth: false,
            ..config.settings()
        };
        let mut shards = BTreeMap::new();
        for spec in EVENT_TOPICS {
            let kind = wire::kind_of(spec.name).expect("topics of events are counted");
            let count = partitions(spec);
            for index in 0..count {
                let shard = ShardId {
                    kind,
                    partition: index,
                    partitions: count,
                };
                let topic = spec.name;
                shards.insert(
                    Partition { topic, index },
                    Shard::new(shard, settings, policy),
                );
            }
        }
        let wide = ShardId {
            kind: Kind::Partials,
            partition: 0,
            partitions: 1,
        };
        Ok(Self {
            settings,
            shards,
            wide: Shard::new(wide, settings, policy),
            now: Timestamp::MIN,
            tally: Tally::new(policy),
            untold: summary::untold(policy),
            out: Vec::new(),
        })
    }

    /// Takes one record, and appends what is found to `found`.
    ///
    /// # Errors
    /// When the dry run does not know its partition.
    pub fn take(
        &mut self,
        partition: Partition,
        record: &Record,
        found: &mut Vec<Found>,
    ) -> Result<(), ReplayError> {
        self.pass(record.appended_at, found)?;
        let shard = self.shards.get(&partition);
        let id = shard.ok_or(ReplayError::Unknown(partition))?.engine.shard();
        let read = wire::read_in(id, record, self.settings.ahead_max);
        let (input, reason) = match &read {
            Ok(read) => match read.input() {
                Input::Policy { .. } => (Input::Tick, None),
                input => (input, None),
            },
            Err(error) => (Input::Unreadable, Some(error.to_string())),
        };
        self.step((partition, record.offset), input, reason, found)
    }

    /// Takes a record that cannot be read, for `reason`.
    ///
    /// # Errors
    /// When the dry run does not know its partition.
    pub fn take_unreadable(
        &mut self,
        place: (Partition, i64),
        reason: String,
        found: &mut Vec<Found>,
    ) -> Result<(), ReplayError> {
        self.step(place, Input::Unreadable, Some(reason), found)
    }

    fn step(
        &mut self,
        (partition, offset): (Partition, i64),
        input: Input<'_>,
        reason: Option<String>,
        found: &mut Vec<Found>,
    ) -> Result<(), ReplayError> {
        let shard = self.shards.get_mut(&partition);
        let shard = shard.ok_or(ReplayError::Unknown(partition))?;
        let stepped = shard.step(input, self.now, &mut self.out);
        let outcome = stepped.map_err(|error| went_back(partition, error))?;
        shard.forget_at_times();
        if let Outcome::Dead(cause) = outcome {
            found.push(Found::Dead {
                partition,
                offset,
                reason: reason.unwrap_or_else(|| cause.to_string()),
            });
        }
        self.tell(partition, found)
    }

    /// Lets time pass in every partition until `at`.
    ///
    /// # Errors
    /// None that an honest engine makes.
    pub fn pass(&mut self, at: Timestamp, found: &mut Vec<Found>) -> Result<(), ReplayError> {
        if at <= self.now {
            return Ok(());
        }
        while let Some((due, partition)) = self.next_due().filter(|(due, _)| *due <= at) {
            let shard = self.shards.get_mut(&partition);
            let shard = shard.unwrap_or(&mut self.wide);
            let stepped = shard.step(Input::Tick, due, &mut self.out);
            stepped.map_err(|error| went_back(partition, error))?;
            self.tell(partition, found)?;
        }
        self.now = at;
        Ok(())
    }

    /// What it comes to when nothing more happens until the newest time that has passed.
    #[must_use]
    pub fn finish(self) -> Summary {
        let mut ledger = Ledger::default();
        for shard in self.shards.values() {
            ledger.add(shard.engine.ledger());
        }
        let (levels, refused) = self.tally.finish(self.now);
        Summary {
            levels,
            refused,
            untold: self.untold,
            ledger,
        }
    }

    /// Where something falls first, and when.
    fn next_due(&self) -> Option<(Timestamp, Partition)> {
        let due = |(partition, shard): (&Partition, &Shard)| {
            shard.engine.next_due().map(|due| (due, *partition))
        };
        let wide = self.wide.engine.next_due().map(|due| (due, WIDE));
        self.shards.iter().filter_map(due).chain(wide).min()
    }

    /// Tells what the shard of `partition` said, after what it passed on to wider scopes was counted there.
    fn tell(&mut self, partition: Partition, found: &mut Vec<Found>) -> Result<(), ReplayError> {
        let mut said = std::mem::take(&mut self.out);
        let (now, tally) = (self.now, &mut self.tally);
        for output in said.drain(..) {
            match output {
                Output::Partial(sum) => {
                    let input = Input::Partial(sum.told_by(partition.topic, partition.index));
                    let stepped = self.wide.step(input, now, &mut self.out);
                    stepped.map_err(|error| went_back(WIDE, error))?;
                    for output in self.out.drain(..) {
                        found.extend(crossing(WIDE, output, tally));
                    }
                    self.wide.forget_at_times();
                }
                output => found.extend(crossing(partition, output, tally)),
            }
        }
        // Keeps its room for the next record.
        self.out = said;
        Ok(())
    }
}

/// Under which name the shard of wider scopes speaks.
const WIDE: Partition = Partition {
    topic: PARTIALS.name(),
    index: 0,
};

fn went_back(partition: Partition, error: WentBack) -> ReplayError {
    let error = Box::new(error);
    ReplayError::WentBack { partition, error }
}

/// The crossing that an output tells, if it does.
fn crossing(partition: Partition, output: Output, tally: &mut Tally) -> Option<Found> {
    let is_prolonged = match &output {
        Output::Crossing(crossing) => {
            tally.note(crossing);
            false
        }
        Output::Prolonged(prolonged) => {
            tally.prolong(&prolonged.crossing);
            true
        }
        Output::Group(_)
        | Output::Cleared(_)
        | Output::Rollup(_)
        | Output::Partial(_)
        | Output::Spread(_)
        | Output::Ranking(_) => return None,
    };
    match wire::outgoing(partition, output) {
        Outgoing::Signal { signal, .. } => match *signal {
            Signal::Crossing(crossing) if is_prolonged => {
                Some(Found::Prolonged(Box::new(crossing)))
            }
            Signal::Crossing(crossing) => Some(Found::Crossing(Box::new(crossing))),
            Signal::CspGroup(_) | Signal::Cleared(_) => None,
        },
        Outgoing::Rollup(_) | Outgoing::Partial { .. } | Outgoing::Sketch { .. } => None,
    }
}
