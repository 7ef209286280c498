//! The loop that counts: what the group's consumer brings, time to tend the shards, snapshots that are written.
//!
//! Outputs that the log does not acknowledge are no reason to stop: all shards go back to their snapshots and count
//! again from there, which says the same things with the same ids.

mod floor;
mod load;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bus::clock::SharedClock;
use bus::{Bus, BusError, Start, Subscription};
use thiserror::Error;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::shard::ShardError;
use crate::snapshot::{SnapshotError, Snapshots};
use crate::wire;
use floor::Floor;

const GROUP: &str = "weir-aggregator";
/// Before counting again from the snapshots.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Why counting stopped.
#[derive(Debug, Error)]
pub(crate) enum CountError {
    #[error("the aggregator can no longer read the log: {0}")]
    Bus(#[from] BusError),
    #[error("the aggregator cannot go on: {0}")]
    Shard(#[from] ShardError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the making of a snapshot ended early: {0}")]
    Task(#[from] JoinError),
}

impl CountError {
    /// Whether counting again from the snapshots can help.
    fn passes(&self) -> bool {
        matches!(self, Self::Shard(ShardError::Output { error, .. }) if error.is_retriable())
    }
}

/// What counting needs.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) bus: Bus,
    pub(crate) clock: SharedClock,
    pub(crate) snapshots: Snapshots,
    pub(crate) metrics: Metrics,
    pub(crate) ready: Arc<AtomicBool>,
}

/// Counts until `shutdown`, or until something is wrong that does not pass.
pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) -> Result<(), CountError> {
    loop {
        match session(parts, shutdown).await {
            Err(error) if error.passes() && !shutdown.is_cancelled() => {
                tracing::warn!(%error, "all partitions go back to their snapshots");
                parts.metrics.restarts.inc();
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = tokio::time::sleep(RESTART_PAUSE) => {}
                }
            }
            ended => return ended,
        }
    }
}

/// From joining the group to leaving it.
async fn session(parts: &Parts, shutdown: &CancellationToken) -> Result<(), CountError> {
    let mut consumer = parts.bus.consume(Subscription {
        group: GROUP.to_owned(),
        topics: wire::TOPICS.to_vec(),
        start: Start::Stored,
        batch_records_max: parts.config.batch_records_max,
    })?;
    let mut floor = Floor::new(parts, shutdown);
    let mut ended = floor.work(&mut consumer).await;
    if ended.is_ok() {
        ended = floor.hand_over(&consumer).await;
    }
    floor.clear();
    consumer.close().await;
    ended
}
