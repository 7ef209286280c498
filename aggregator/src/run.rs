//! The loop that counts: what the group's consumer brings, time to tend the shards, snapshots that are written.
//!
//! Outputs that the log does not acknowledge are no reason to stop: all shards go back to their snapshots and count
//! again from there, which says the same things with the same ids.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::clock::SharedClock;
use bus::{Assigned, Bus, BusError, Consumer, Event, Partition, Revoked, Start, Subscription};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use thiserror::Error;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::{Engine, ShardId};
use crate::metrics::Metrics;
use crate::shard::{Office, Shard, ShardError};
use crate::snapshot::{SnapshotError, Snapshots};
use crate::wire;

const GROUP: &str = "weir-aggregator";
/// How long a stop or a hand-over waits for acknowledgements and snapshots. What is not written is counted again.
const HAND_OVER: Duration = Duration::from_secs(5);
/// Before counting again from the snapshots.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Snapshots that are written at the same time.
const SNAPSHOTS_MAX: usize = 4;

/// Why counting stopped.
#[derive(Debug, Error)]
pub(crate) enum CountError {
    #[error("the aggregator can no longer read the log: {0}")]
    Bus(#[from] BusError),
    #[error("the aggregator cannot go on: {0}")]
    Shard(#[from] ShardError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the reading of snapshots ended early: {0}")]
    Load(#[from] tokio::task::JoinError),
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
    let mut floor = Floor::new(parts);
    let ended = floor.work(&mut consumer, shutdown).await;
    let ended = match ended {
        Ok(()) => floor.hand_over_all(&consumer).await,
        failed => failed,
    };
    for partition in floor.shards.keys() {
        parts.metrics.remove(*partition);
    }
    consumer.close().await;
    ended
}

/// What can happen.
enum Happening {
    Stop,
    Log(Event),
    Tend,
    Written(Result<Option<(Partition, i64)>, ShardError>),
}

type Writing = Pin<Box<dyn Future<Output = Result<Option<(Partition, i64)>, ShardError>> + Send>>;

/// The shards of this process, and the snapshots that are being written.
struct Floor<'a> {
    parts: &'a Parts,
    office: Office,
    shards: BTreeMap<Partition, Shard>,
    writing: FuturesUnordered<Writing>,
}

impl<'a> Floor<'a> {
    fn new(parts: &'a Parts) -> Self {
        let office = Office {
            producer: parts.bus.producer(),
            settings: parts.config.settings(),
            metrics: parts.metrics.clone(),
            snapshots: parts.snapshots.clone(),
            unacknowledged_max: parts.config.unacknowledged_max,
        };
        Self {
            parts,
            office,
            shards: BTreeMap::new(),
            writing: FuturesUnordered::new(),
        }
    }

    async fn work(
        &mut self,
        consumer: &mut Consumer,
        shutdown: &CancellationToken,
    ) -> Result<(), CountError> {
        let mut tend = tokio::time::interval(self.parts.config.flush_interval());
        tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let happening = tokio::select! {
                biased;
                () = shutdown.cancelled() => Happening::Stop,
                Some(written) = self.writing.next() => Happening::Written(written),
                _ = tend.tick() => Happening::Tend,
                event = consumer.next() => Happening::Log(event),
            };
            match happening {
                Happening::Stop => return Ok(()),
                Happening::Written(written) => committed(consumer, written?),
                Happening::Tend => self.tend().await?,
                Happening::Log(event) => self.take(event, consumer).await?,
            }
        }
    }

    async fn take(&mut self, event: Event, consumer: &Consumer) -> Result<(), CountError> {
        match event {
            Event::Assigned(assigned) => self.assigned(assigned).await,
            Event::Records(batch) => match self.shards.get_mut(&batch.partition) {
                Some(shard) => Ok(shard.take(&batch).await?),
                // Handed over while it was on its way here; its next owner reads it.
                None => Ok(()),
            },
            Event::CaughtUp(partition) => {
                if let Some(shard) = self.shards.get_mut(&partition) {
                    shard.caught_up();
                }
                Ok(())
            }
            Event::Revoked(revoked) => self.revoked(revoked, consumer).await,
            Event::Failed(error) => Err(error.into()),
        }
    }

    /// Takes partitions over where their snapshots end.
    async fn assigned(&mut self, assigned: Assigned) -> Result<(), CountError> {
        let mut starts = Vec::new();
        for &partition in assigned.partitions() {
            let engine = load(self.parts, partition).await?;
            let next_offset = engine.next_offset();
            tracing::debug!(%partition, next_offset, "counts a partition");
            // At the beginning there is no offset to insist on: the log may have begun to forget.
            starts.push((partition, (next_offset != 0).then_some(next_offset)));
            let now = self.parts.clock.now();
            let shard = Shard::new(partition, engine, self.office.clone(), now);
            self.shards.insert(partition, shard);
        }
        let resumed = starts.iter().filter(|(_, offset)| offset.is_some()).count();
        tracing::info!(partitions = starts.len(), resumed, "counts partitions");
        assigned.start(&starts);
        self.parts.ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn tend(&mut self) -> Result<(), CountError> {
        let now = self.parts.clock.now();
        let interval = self.parts.config.snapshot_interval();
        for shard in self.shards.values_mut() {
            shard.tend(now).await?;
            if self.writing.len() < SNAPSHOTS_MAX
                && let Some(snapshot) = shard.snapshot_when_due(now, interval).await?
            {
                self.writing.push(Box::pin(snapshot.finish()));
            }
        }
        Ok(())
    }

    async fn revoked(&mut self, revoked: Revoked, consumer: &Consumer) -> Result<(), CountError> {
        let now = self.parts.clock.now();
        for partition in revoked.partitions() {
            let Some(mut shard) = self.shards.remove(partition) else {
                continue;
            };
            // Who lost a partition writes nothing about it: its next owner may be further already.
            if !revoked.lost()
                && let Some(snapshot) = shard.snapshot(now).await?
            {
                self.writing.push(Box::pin(snapshot.finish()));
            }
            self.parts.metrics.remove(*partition);
        }
        self.finish_writing(consumer).await?;
        revoked.done();
        Ok(())
    }

    /// Leaves everything so that whoever comes next goes on from here.
    async fn hand_over_all(&mut self, consumer: &Consumer) -> Result<(), CountError> {
        match tokio::time::timeout(HAND_OVER, self.snapshot_all()).await {
            Ok(begun) => begun?,
            Err(_) => tracing::warn!(
                "the log takes nothing: the newest records are counted again at the next start"
            ),
        }
        self.finish_writing(consumer).await
    }

    async fn snapshot_all(&mut self) -> Result<(), ShardError> {
        let now = self.parts.clock.now();
        for shard in self.shards.values_mut() {
            if let Some(snapshot) = shard.snapshot(now).await? {
                self.writing.push(Box::pin(snapshot.finish()));
            }
        }
        Ok(())
    }

    async fn finish_writing(&mut self, consumer: &Consumer) -> Result<(), CountError> {
        let finish = async {
            while let Some(written) = self.writing.next().await {
                committed(consumer, written?);
            }
            Ok::<(), ShardError>(())
        };
        match tokio::time::timeout(HAND_OVER, finish).await {
            Ok(finished) => finished?,
            Err(_) => tracing::warn!(
                "snapshots are not written in time: records are counted again by the next owner"
            ),
        }
        Ok(())
    }
}

/// A partition's engine as its newest snapshot has it, or at the beginning of its log.
async fn load(parts: &Parts, partition: Partition) -> Result<Engine, CountError> {
    let spec = wire::TOPICS
        .into_iter()
        .find(|spec| spec.name == partition.topic);
    let kind = wire::kind_of(partition.topic);
    let (spec, kind) = spec
        .zip(kind)
        .expect("only topics that are counted are read");
    let shard = ShardId {
        kind,
        partition: partition.index,
        partitions: parts.bus.partitions(spec),
    };
    let (snapshots, settings) = (parts.snapshots.clone(), parts.config.settings());
    let load = move || snapshots.load(partition, shard, settings);
    let loaded = tokio::task::spawn_blocking(load).await??;
    Ok(loaded.unwrap_or_else(|| Engine::new(shard, settings)))
}

/// Tells tools that show lag how far snapshots are.
fn committed(consumer: &Consumer, written: Option<(Partition, i64)>) {
    if let Some((partition, next_offset)) = written {
        consumer.commit(partition, next_offset);
    }
}
