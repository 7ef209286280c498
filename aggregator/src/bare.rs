//! One shard's engine without a log, for this crate's bench.

use schemas::policy::{Policy, Stream};
use schemas::subject::Identity;
use schemas::time::Timestamp;

use crate::config::{Config, ConfigError};
use crate::engine::{Engine, ShardId};
use crate::event::{Amounts, Event, Input, Outcome, Output, Place};
use crate::plan::Kind;

/// The engine of the one partition of a topic of usage.
#[derive(Debug)]
pub struct Bare {
    engine: Engine,
    out: Vec<Output>,
    offset: i64,
}

/// A call to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub id: &'a str,
    /// Has a tenant.
    pub identity: Identity<'a>,
    pub at: Timestamp,
    pub input_tokens: i64,
}

impl Bare {
    /// An engine that counts under `policy` from its first record on.
    ///
    /// # Errors
    /// When a number in `config` has no bound that fits.
    pub fn new(policy: Policy, config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        let shard = ShardId {
            kind: Kind::Events(Stream::Usage),
            partition: 0,
            partitions: 1,
        };
        let mut bare = Self {
            engine: Engine::new(shard, config.settings()),
            out: Vec::new(),
            offset: 0,
        };
        let (policy, at) = (Box::new(policy), Timestamp::MIN);
        bare.step(at, Input::Policy { policy, at });
        Ok(bare)
    }

    /// Counts a call that the log took when it was made, and says whether it was counted. Drops what comes of it.
    pub fn count(&mut self, call: &Call<'_>) -> bool {
        let event = Event {
            source: "bench",
            id: call.id,
            tenant: call.identity.tenant.unwrap_or_default(),
            identity: call.identity,
            at: call.at,
            amounts: Amounts {
                requests: 1,
                input_tokens: call.input_tokens,
                ..Amounts::default()
            },
            report: None,
        };
        let outcome = self.step(call.at, Input::Event(event));
        self.out.clear();
        outcome == Outcome::Counted
    }

    fn step(&mut self, appended_at: Timestamp, input: Input<'_>) -> Outcome {
        let offset = self.offset;
        self.offset += 1;
        let place = Place {
            offset,
            appended_at,
        };
        let stepped = self.engine.step(place, input, &mut self.out);
        stepped.expect("offsets only rise")
    }

    /// Tells the rows of usage that changed, and how many they are.
    pub fn flush(&mut self) -> usize {
        self.engine.flush(&mut self.out);
        let told = self.out.len();
        self.out.clear();
        told
    }

    /// Counters in memory.
    #[must_use]
    pub fn counters(&self) -> usize {
        self.engine.sizes().counters
    }

    /// Amounts that no counter was made for.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.engine.sizes().refused.counters
    }
}
