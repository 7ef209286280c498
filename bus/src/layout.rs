//! How many partitions each topic was made with: placement goes by these for ever.

use std::collections::BTreeMap;

use schemas::partition;
use schemas::topic::{Spread, TopicSpec};

/// The partitions of every topic of Weir's, as made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partitions(BTreeMap<String, i32>);

impl Partitions {
    pub(crate) fn new(counts: BTreeMap<String, i32>) -> Self {
        Self(counts)
    }

    /// # Panics
    /// When `topic` is not one of [`schemas::topic::ALL`]: `connect` saw each of those.
    pub(crate) fn of(&self, topic: &str) -> i32 {
        match self.0.get(topic) {
            Some(count) => *count,
            None => panic!("{topic} is not in schemas::topic::ALL"),
        }
    }

    pub(crate) fn place(&self, topic: &str, key: &[u8]) -> i32 {
        partition::partition_of(key, self.of(topic))
    }
}

/// How many partitions a topic that is yet to be made gets.
pub(crate) const fn wanted(spec: &TopicSpec, partitions: i32) -> i32 {
    match spec.spread {
        Spread::Many => partitions,
        Spread::One => 1,
    }
}
