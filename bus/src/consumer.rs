//! Reading partitions that a group shares out among its members.

use std::sync::Arc;

use schemas::topic::TopicSpec;

pub use crate::record::{Batch, Partition, Record};

use crate::error::BusError;

/// Where to begin with a partition that was just taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Stored,
    Committed,
}

/// What to read, and as whom.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub group: String,
    pub topics: Vec<TopicSpec>,
    pub start: Start,
    pub batch_records_max: usize,
}

pub struct Consumer(());

#[derive(Debug)]
pub enum Event {
    Assigned(Assigned),
    Records(Batch),
    CaughtUp(Partition),
    Revoked(Revoked),
    Failed(BusError),
}

#[derive(Debug)]
pub struct Assigned {
    partitions: Arc<[Partition]>,
}

impl Assigned {
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }
    pub fn start(self, _offsets: &[(Partition, Option<i64>)]) {}
}

#[derive(Debug)]
pub struct Revoked {
    partitions: Arc<[Partition]>,
}

impl Revoked {
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }
    pub fn lost(&self) -> bool {
        false
    }
    pub fn done(self) {}
}

impl Consumer {
    pub async fn next(&mut self) -> Event {
        Event::Failed(BusError::Closed)
    }
    pub fn commit(&self, _partition: Partition, _next_offset: i64) {}
    pub async fn close(self) {}
}
