//! The shards of this process at work, and the snapshots that are made of them.
//!
//! A snapshot takes as long to encode as its shard is large, so it is encoded beside the loop: the shard is set aside
//! until that is done, what comes for it meanwhile waits for it, and all others count on.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::{Assigned, Batch, Consumer, Event, Partition, Revoked};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use schemas::time::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::load::load;
use super::{CountError, Parts};
use crate::shard::{Office, Shard, Snapshot, Written};

/// How long a stop or a hand-over takes at most for acknowledgements and snapshots. What is not written by then is
/// counted again.
const HAND_OVER: Duration = Duration::from_secs(5);
/// Snapshots that are made at the same time. Each is held in memory until it is written.
const SNAPSHOTS_MAX: usize = 4;
/// What may wait for one shard that is set aside; then everything waits for it.
const ARRIVALS_MAX: usize = 16;

/// What can happen.
enum Happening {
    Stop,
    Log(Event),
    Tend,
    Made(Result<Made, CountError>),
}

/// A shard, where it is.
enum Seat {
    Counting(Box<Shard>),
    /// It was set aside, and this came since, in order.
    Encoding(VecDeque<Arrival>),
}

/// What comes for a shard from the log.
enum Arrival {
    Records(Batch),
    CaughtUp,
}

/// A snapshot, so far.
enum Made {
    Encoded(Partition, Box<Shard>, Box<Snapshot>),
    Written(Written),
}

pub(super) struct Floor<'a> {
    parts: &'a Parts,
    shutdown: &'a CancellationToken,
    office: Office,
    seats: BTreeMap<Partition, Seat>,
    making: FuturesUnordered<BoxFuture<'static, Result<Made, CountError>>>,
}

impl<'a> Floor<'a> {
    pub(super) fn new(parts: &'a Parts, shutdown: &'a CancellationToken) -> Self {
        let office = Office {
            producer: parts.bus.producer(),
            settings: parts.config.settings(),
            metrics: parts.metrics.clone(),
            snapshots: parts.snapshots.clone(),
            unacknowledged_max: parts.config.unacknowledged_max,
            flush_interval: parts.config.flush_interval(),
            ranking_interval: parts.config.ranking_interval(),
        };
        Self {
            parts,
            shutdown,
            office,
            seats: BTreeMap::new(),
            making: FuturesUnordered::new(),
        }
    }

    /// Counts until the process is to stop.
    pub(super) async fn work(&mut self, consumer: &mut Consumer) -> Result<(), CountError> {
        let mut tend = tokio::time::interval(self.parts.config.flush_interval());
        tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let happening = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => Happening::Stop,
                Some(made) = self.making.next() => Happening::Made(made),
                _ = tend.tick() => Happening::Tend,
                event = consumer.next() => Happening::Log(event),
            };
            match happening {
                Happening::Stop => return Ok(()),
                Happening::Made(made) => self.made(made?, consumer).await?,
                Happening::Tend => self.tend().await?,
                Happening::Log(event) => self.take(event, consumer).await?,
            }
        }
    }

    async fn take(&mut self, event: Event, consumer: &Consumer) -> Result<(), CountError> {
        match event {
            Event::Assigned(assigned) => self.assigned(assigned).await,
            Event::Records(batch) => {
                let partition = batch.partition;
                self.arrived(partition, Arrival::Records(batch), consumer)
                    .await
            }
            Event::CaughtUp(partition) => {
                self.arrived(partition, Arrival::CaughtUp, consumer).await
            }
            Event::Revoked(revoked) => self.revoked(revoked, consumer).await,
            Event::Failed(error) => Err(error.into()),
        }
    }

    // === Ownership ===

    /// Takes partitions over where their snapshots end.
    async fn assigned(&mut self, assigned: Assigned) -> Result<(), CountError> {
        let loaded = tokio::select! {
            // Not answered, it reads from the beginning; but it reads no more.
            () = self.shutdown.cancelled() => return Ok(()),
            loaded = load(self.parts, assigned.partitions()) => loaded?,
        };
        let mut starts = Vec::new();
        for (partition, engine) in loaded {
            let next_offset = engine.next_offset();
            tracing::debug!(%partition, next_offset, "counts a partition");
            // At the beginning there is no offset to insist on: the log may have begun to forget.
            starts.push((partition, (next_offset != 0).then_some(next_offset)));
            let now = self.parts.clock.now();
            let shard = Shard::new(partition, engine, self.office.clone(), now);
            let seat = Seat::Counting(Box::new(shard));
            self.seats.insert(partition, seat);
        }
        let resumed = starts.iter().filter(|(_, offset)| offset.is_some()).count();
        tracing::info!(partitions = starts.len(), resumed, "counts partitions");
        assigned.start(&starts);
        self.parts.ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn revoked(&mut self, revoked: Revoked, consumer: &Consumer) -> Result<(), CountError> {
        debug_assert!(
            self.seats.keys().all(|p| revoked.partitions().contains(p)),
            "a member is given all of its partitions at once, and loses them so"
        );
        // Who lost a partition writes nothing about it: its next owner may be further already.
        if !revoked.lost() {
            self.hand_over(consumer).await?;
        }
        self.clear();
        revoked.done();
        Ok(())
    }

    /// Leaves snapshots from which whoever comes next goes on, as far as time allows. To be followed by
    /// [`Floor::clear`].
    pub(super) async fn hand_over(&mut self, consumer: &Consumer) -> Result<(), CountError> {
        match tokio::time::timeout(HAND_OVER, self.snapshot_all(consumer)).await {
            Ok(written) => written,
            Err(_) => {
                tracing::warn!(
                    "snapshots are not written in time: the newest records are counted again by the next owner"
                );
                Ok(())
            }
        }
    }

    /// Counts no more. Snapshots that are still being made are given up.
    pub(super) fn clear(&mut self) {
        self.making.clear();
        let seats = mem::take(&mut self.seats);
        for partition in seats.keys() {
            self.parts.metrics.remove(*partition);
        }
        // A million keys take seconds to free. Nobody waits for that; and where the process ends, nobody needs it.
        if self.shutdown.is_cancelled() {
            mem::forget(seats);
        } else {
            drop(spawn_blocking(move || drop(seats)));
        }
    }

    // === Shards ===

    /// Gives a shard what came for it, or lets it wait there.
    async fn arrived(
        &mut self,
        partition: Partition,
        arrival: Arrival,
        consumer: &Consumer,
    ) -> Result<(), CountError> {
        loop {
            match self.seats.get_mut(&partition) {
                // Handed over while it was on its way here; its next owner reads it.
                None => return Ok(()),
                Some(Seat::Counting(shard)) => return give(shard, arrival).await,
                Some(Seat::Encoding(arrivals)) if arrivals.len() < ARRIVALS_MAX => {
                    arrivals.push_back(arrival);
                    return Ok(());
                }
                Some(Seat::Encoding(_)) => self.wait(consumer).await?,
            }
        }
    }

    async fn tend(&mut self) -> Result<(), CountError> {
        let now = self.parts.clock.now();
        let interval = self.parts.config.snapshot_interval();
        for (partition, seat) in &mut self.seats {
            let Seat::Counting(shard) = seat else {
                continue;
            };
            shard.tend(now).await?;
            if self.making.len() < SNAPSHOTS_MAX && shard.is_snapshot_due(now, interval) {
                self.making.extend(set_aside(*partition, seat, now));
            }
        }
        Ok(())
    }

    // === Snapshots ===

    /// Leaves a snapshot of every shard that has taken anything since its last one.
    async fn snapshot_all(&mut self, consumer: &Consumer) -> Result<(), CountError> {
        // A shard's last snapshot follows the one that is on its way.
        while !self.making.is_empty() {
            self.wait(consumer).await?;
        }
        let now = self.parts.clock.now();
        let partitions: Vec<Partition> = self.seats.keys().copied().collect();
        for partition in partitions {
            while SNAPSHOTS_MAX <= self.making.len() {
                self.wait(consumer).await?;
            }
            let Some(seat) = self.seats.get_mut(&partition) else {
                continue;
            };
            if let Seat::Counting(shard) = seat
                && shard.has_news()
            {
                shard.tell().await?;
                self.making.extend(set_aside(partition, seat, now));
            }
        }
        while !self.making.is_empty() {
            self.wait(consumer).await?;
        }
        Ok(())
    }

    /// Waits for the next step of any snapshot, of which there must be one.
    async fn wait(&mut self, consumer: &Consumer) -> Result<(), CountError> {
        match self.making.next().await {
            Some(made) => self.made(made?, consumer).await,
            None => Ok(()),
        }
    }

    async fn made(&mut self, made: Made, consumer: &Consumer) -> Result<(), CountError> {
        match made {
            Made::Encoded(partition, shard, snapshot) => {
                let write = async { Ok(Made::Written(snapshot.write().await?)) };
                self.making.push(Box::pin(write));
                self.put_back(partition, shard).await
            }
            Made::Written(written) => {
                let partition = written.partition;
                if let Some(Seat::Counting(shard)) = self.seats.get_mut(&partition) {
                    shard.written(written);
                }
                if let Some(next_offset) = written.next_offset {
                    // Tools that show lag learn from it how far snapshots are.
                    consumer.commit(partition, next_offset);
                }
                Ok(())
            }
        }
    }

    async fn put_back(
        &mut self,
        partition: Partition,
        shard: Box<Shard>,
    ) -> Result<(), CountError> {
        let seat = self.seats.get_mut(&partition);
        let seat = seat.expect("a shard that is set aside keeps its seat");
        let Seat::Encoding(arrivals) = mem::replace(seat, Seat::Counting(shard)) else {
            unreachable!("a shard is set aside once at a time");
        };
        if let Seat::Counting(shard) = seat {
            for arrival in arrivals {
                give(shard, arrival).await?;
            }
        }
        Ok(())
    }
}

async fn give(shard: &mut Shard, arrival: Arrival) -> Result<(), CountError> {
    match arrival {
        Arrival::Records(batch) => shard.take(&batch).await?,
        Arrival::CaughtUp => shard.caught_up(),
    }
    Ok(())
}

/// Sets a shard aside to encode a snapshot of it; `None` when it is already.
fn set_aside(
    partition: Partition,
    seat: &mut Seat,
    now: Timestamp,
) -> Option<BoxFuture<'static, Result<Made, CountError>>> {
    let arrivals = VecDeque::new();
    match mem::replace(seat, Seat::Encoding(arrivals)) {
        Seat::Counting(mut shard) => {
            let encode = move || -> Result<Made, CountError> {
                let snapshot = shard.snapshot(now)?;
                Ok(Made::Encoded(partition, shard, Box::new(snapshot)))
            };
            // Begins at once, not when it is first waited for.
            let encoding = spawn_blocking(encode);
            Some(Box::pin(async { encoding.await? }))
        }
        encoding @ Seat::Encoding(_) => {
            *seat = encoding;
            None
        }
    }
}
