//! One partition: its engine, and the records that come of it on their way to the log.

use std::collections::VecDeque;
use std::time::Duration;

use bus::clock::Stopwatch;
use bus::{Batch, Delivery, Partition, Producer, RawRecord, Record, SendError};
use bytes::Bytes;
use futures_util::FutureExt;
use schemas::record::{Dead, Marker, Recorded};
use schemas::time::Timestamp;
use schemas::topic::{AUTH, CSP, DEAD, PARTIALS, ROLLUPS, SIGNALS, SKETCHES, USAGE};
use thiserror::Error;

use crate::engine::{Engine, Settings, WentBack};
use crate::event::{Input, Outcome, Output, Place};
use crate::metrics::{Figures, Metrics};
use crate::plan::Kind;
use crate::snapshot::{self, Snapshots};
use crate::wire::{self, MOVED_FROM, Outgoing};

/// From one try to the next to hand over a record while too many wait for the log.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// Outputs that wait for the next time that the shard is tended, at most.
const UNTOLD_MAX: usize = 1_000;
/// From one telling of spreads to the next: one is several times as large as a sum.
const SPREADS_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Error)]
pub(crate) enum ShardError {
    #[error("{partition}: {error}")]
    WentBack {
        partition: Partition,
        error: WentBack,
    },
    #[error("what {partition} had to say was not acknowledged: {error}")]
    Output {
        partition: Partition,
        error: SendError,
    },
    #[error("a snapshot of {partition} cannot be encoded: {error}")]
    Encode {
        partition: Partition,
        error: postcard::Error,
    },
}

/// What all shards of a process share.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) producer: Producer,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) snapshots: Snapshots,
    /// Records of one shard that may wait for the log.
    pub(crate) unacknowledged_max: usize,
    /// How often a shard is tended.
    pub(crate) flush_interval: Duration,
    /// From one telling of rankings to the next.
    pub(crate) ranking_interval: Duration,
}

pub(crate) struct Shard {
    partition: Partition,
    engine: Engine,
    office: Office,
    /// Everything that the log holds was taken.
    is_caught_up: bool,
    /// Where the newest snapshot goes on, if it was written.
    saved: Option<i64>,
    /// When it was begun.
    saved_at: Timestamp,
    /// It is still on its way. Until it is written, or was not, there is no other: a later one would have to wait for
    /// the acknowledgement of everything that this one waits for, since all of that was said before it too.
    is_saving: bool,
    /// What follows from records that were taken and can wait to be told until the shard is tended.
    untold: Vec<Output>,
    /// When spreads were told, and rankings.
    spreads_told_at: Timestamp,
    rankings_told_at: Timestamp,
    /// What waits for the log's acknowledgement, oldest first.
    waiting: VecDeque<Delivery>,
}

/// A record that cannot be counted where it lies.
enum Astray {
    /// Nobody can read it, or nobody may count it.
    Dead(Box<Dead>),
    /// It belongs to another partition.
    Misplaced { partition: i32 },
}

impl Shard {
    pub(crate) fn new(
        partition: Partition,
        engine: Engine,
        office: Office,
        now: Timestamp,
    ) -> Self {
        let saved = Some(engine.next_offset());
        let shard = Self {
            partition,
            engine,
            office,
            is_caught_up: false,
            saved,
            saved_at: now,
            is_saving: false,
            untold: Vec::new(),
            spreads_told_at: now,
            rankings_told_at: now,
            waiting: VecDeque::new(),
        };
        shard.show();
        shard
    }

    pub(crate) fn caught_up(&mut self) {
        self.is_caught_up = true;
    }

    /// Counts a batch, and hands what follows to the log.
    pub(crate) async fn take(&mut self, batch: &Batch) -> Result<(), ShardError> {
        self.is_caught_up = false;
        for record in &batch.records {
            let before = self.untold.len();
            match self.count(record)? {
                None => {}
                Some(Astray::Dead(dead)) => self.bury(*dead).await?,
                Some(Astray::Misplaced { partition }) => self.pass_on(record, partition).await?,
            }
            // Few records have anything follow from them.
            if before < self.untold.len() {
                self.tell_from(before).await?;
            }
        }
        let before = self.untold.len();
        self.engine.flush_partials(&mut self.untold);
        self.tell_from(before).await?;
        self.office
            .metrics
            .set_ledger(self.partition, self.engine.ledger());
        Ok(())
    }

    /// Counts a record, unless it is one that cannot be counted here.
    fn count(&mut self, record: &Record) -> Result<Option<Astray>, ShardError> {
        let shard = self.engine.shard();
        let read = wire::read_in(shard, record, self.office.settings.ahead_max);
        let place = Place {
            offset: record.offset,
            appended_at: record.appended_at,
        };
        let (input, reason) = match &read {
            Ok(read) => (read.input(), None),
            Err(error) => (Input::Unreadable, Some(error.to_string())),
        };
        let partition = self.partition;
        let outcome = self.engine.step(place, input, &mut self.untold);
        match outcome.map_err(|error| ShardError::WentBack { partition, error })? {
            Outcome::Dead(cause) => {
                let reason = reason.unwrap_or_else(|| cause.to_string());
                tracing::debug!(%partition, record.offset, reason, "a record is dead");
                let dead = record.to_dead(partition, reason, record.appended_at);
                Ok(Some(Astray::Dead(Box::new(dead))))
            }
            Outcome::Misplaced { partition } => Ok(Some(Astray::Misplaced { partition })),
            Outcome::Counted | Outcome::Late | Outcome::Duplicate | Outcome::Marker => Ok(None),
        }
    }

    /// Sends a record to the partition where it belongs, as it is.
    async fn pass_on(&mut self, record: &Record, to: i32) -> Result<(), ShardError> {
        let from = format!("{}/{}", self.partition, record.offset);
        let mut headers = record.headers.clone();
        headers.push((MOVED_FROM.to_owned(), Some(Bytes::from(from))));
        let topic = self.partition.topic;
        self.hand_over("moved", |producer| {
            producer.enqueue_raw(RawRecord {
                topic,
                partition: to,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            })
        })
        .await
    }

    /// Writes a dead record down. One too large to be written once more keeps its place, which says where it lies.
    async fn bury(&mut self, mut dead: Dead) -> Result<(), ShardError> {
        let topic = self.partition.topic;
        let sent = self.try_hand_over("dead", |producer| producer.enqueue(&DEAD, topic, &dead));
        match sent.await {
            Err(ShardError::Output {
                error: SendError::TooLarge { bytes, .. },
                ..
            }) => {
                dead.reason.push_str(&format!(
                    " ({bytes} bytes with all about it, left where it was)"
                ));
                (dead.value, dead.headers) = (None, Vec::new());
                self.hand_over("dead", |producer| producer.enqueue(&DEAD, topic, &dead))
                    .await
            }
            sent => sent,
        }
    }

    /// Tells what is untold if any of it, from this place on, cannot wait: the log keeps the order.
    async fn tell_from(&mut self, place: usize) -> Result<(), ShardError> {
        // It may be tended that late when there is much to do.
        let late = 2 * self.office.flush_interval;
        let can_wait = self.untold[place..]
            .iter()
            .all(|output| output.can_wait(late));
        match can_wait && self.untold.len() < UNTOLD_MAX {
            true => Ok(()),
            false => self.tell_untold().await,
        }
    }

    async fn tell_untold(&mut self) -> Result<(), ShardError> {
        for output in std::mem::take(&mut self.untold) {
            let outgoing = wire::outgoing(self.partition, output);
            let kind = outgoing.kind();
            self.hand_over(kind, |producer| match &outgoing {
                Outgoing::Signal { key, signal } => producer.enqueue(&SIGNALS, key, &**signal),
                Outgoing::Rollup(rollup) => producer.enqueue(&ROLLUPS, &rollup.tenant, &**rollup),
                Outgoing::Sketch { key, sketch } => producer.enqueue(&SKETCHES, key, &**sketch),
                Outgoing::Partial { key, partial } => producer.enqueue(&PARTIALS, key, &**partial),
            })
            .await?;
        }
        Ok(())
    }

    /// Hands a record to the log. One that the log can never take is lost, counted, and stops nothing.
    async fn hand_over(
        &mut self,
        kind: &'static str,
        enqueue: impl Fn(&Producer) -> Result<Delivery, SendError>,
    ) -> Result<(), ShardError> {
        match self.try_hand_over(kind, enqueue).await {
            Err(ShardError::Output {
                error: error @ (SendError::TooLarge { .. } | SendError::Encode(_)),
                partition,
            }) => {
                tracing::error!(%partition, kind, %error, "an output is lost");
                self.office.metrics.output_lost(kind);
                Ok(())
            }
            handed_over => handed_over,
        }
    }

    /// Hands a record to the log, waiting while too many are on their way.
    async fn try_hand_over(
        &mut self,
        kind: &'static str,
        enqueue: impl Fn(&Producer) -> Result<Delivery, SendError>,
    ) -> Result<(), ShardError> {
        let delivery = loop {
            match enqueue(&self.office.producer) {
                Err(SendError::Full { .. }) => tokio::time::sleep(FULL_PAUSE).await,
                Err(error) => return Err(self.unacknowledged(error)),
                Ok(delivery) => break delivery,
            }
        };
        self.office.metrics.output(kind);
        self.waiting.push_back(delivery);
        if self.office.unacknowledged_max < self.waiting.len()
            && let Some(oldest) = self.waiting.pop_front()
        {
            oldest.await.map_err(|error| self.unacknowledged(error))?;
        }
        Ok(())
    }

    fn unacknowledged(&self, error: SendError) -> ShardError {
        let partition = self.partition;
        ShardError::Output { partition, error }
    }

    /// What is to be done from time to time: tells sums that changed, looks what was acknowledged, and lets time
    /// enter the log where something is about to fall and no event comes to say that it does.
    pub(crate) async fn tend(&mut self, now: Timestamp) -> Result<(), ShardError> {
        if SPREADS_INTERVAL <= now.since(self.spreads_told_at) {
            self.engine.flush_spreads(&mut self.untold);
            self.spreads_told_at = now;
        }
        if self.office.ranking_interval <= now.since(self.rankings_told_at) {
            self.engine.flush_rankings(&mut self.untold);
            self.rankings_told_at = now;
        }
        self.engine.flush_turn(&mut self.untold);
        self.tell_untold().await?;
        while let Some(acknowledged) = self.waiting.front_mut().and_then(FutureExt::now_or_never) {
            self.waiting.pop_front();
            acknowledged.map_err(|error| self.unacknowledged(error))?;
        }
        if self.is_caught_up && self.engine.next_due().is_some_and(|due| due <= now) {
            self.tick(now).await?;
            // Until the tick is read there is no need of another one.
            self.is_caught_up = false;
        }
        Ok(())
    }

    async fn tick(&mut self, now: Timestamp) -> Result<(), ShardError> {
        let marker = Marker {
            policy: None,
            tick: Some(now),
            order: None,
        };
        let (kind, index) = (self.engine.shard().kind, self.partition.index);
        self.office.metrics.ticks.inc();
        self.hand_over("tick", |producer| {
            use schemas::policy::Stream::{Auth, Csp, Usage};
            let marker = marker.clone();
            match kind {
                Kind::Events(Usage) => {
                    producer.enqueue_to(&USAGE, index, "", &Recorded::Marker(marker))
                }
                Kind::Events(Auth) => {
                    producer.enqueue_to(&AUTH, index, "", &Recorded::Marker(marker))
                }
                Kind::Events(Csp) => {
                    producer.enqueue_to(&CSP, index, "", &Recorded::Marker(marker))
                }
                Kind::Partials => {
                    producer.enqueue_to(&PARTIALS, index, "", &Recorded::Marker(marker))
                }
            }
        })
        .await
    }

    /// Whether the last snapshot is written and old enough for another one, and anything was taken since.
    pub(crate) fn is_snapshot_due(&self, now: Timestamp, interval: Duration) -> bool {
        !self.is_saving && interval <= now.since(self.saved_at) && self.has_news()
    }

    /// Whether anything was taken since the last snapshot.
    pub(crate) fn has_news(&self) -> bool {
        self.saved != Some(self.engine.next_offset())
    }

    /// Tells all that waits and every sum that changed, as it should be before the last snapshot: nobody may come after it
    /// for long.
    pub(crate) async fn tell(&mut self) -> Result<(), ShardError> {
        self.engine.flush_sums(&mut self.untold);
        self.tell_untold().await
    }

    /// A snapshot, after [`Shard::tend`] or [`Shard::tell`], and once the one before it was [written](Shard::written). What
    /// it holds is not told again, but for rollups and sketches, of which it knows what was not told. It takes long where
    /// many keys are counted, and belongs on a thread of its own.
    pub(crate) fn snapshot(&mut self, now: Timestamp) -> Result<Snapshot, ShardError> {
        let partition = self.partition;
        let since = Stopwatch::start();
        self.engine.forget();
        self.show();
        let bytes = snapshot::encode(partition, &self.engine);
        let bytes = bytes.map_err(|error| ShardError::Encode { partition, error })?;
        let next_offset = self.engine.next_offset();
        (self.saved, self.saved_at) = (Some(next_offset), now);
        self.is_saving = true;
        Ok(Snapshot {
            partition,
            next_offset,
            bytes: bytes.into(),
            since,
            outputs: self.waiting.drain(..).collect(),
            snapshots: self.office.snapshots.clone(),
            metrics: self.office.metrics.clone(),
        })
    }

    /// Takes note of what became of the last snapshot. Where it was not written another one is due, even if nothing
    /// comes.
    pub(crate) fn written(&mut self, written: Written) {
        self.is_saving = false;
        self.saved = written.next_offset;
    }

    fn show(&self) {
        let figures = Figures {
            ledger: self.engine.ledger(),
            sizes: self.engine.sizes(),
            duplicates_reach_s: self.engine.duplicates_reach_back().as_secs(),
        };
        self.office.metrics.set_figures(self.partition, figures);
    }
}

/// A snapshot on its way to where snapshots are kept.
pub(crate) struct Snapshot {
    partition: Partition,
    next_offset: i64,
    bytes: Bytes,
    /// It was begun.
    since: Stopwatch,
    /// What was said before it.
    outputs: Vec<Delivery>,
    snapshots: Snapshots,
    metrics: Metrics,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) partition: Partition,
    /// Where it goes on; `None` when it could not be written: counting goes on all the same, and a later one may
    /// succeed.
    pub(crate) next_offset: Option<i64>,
}

impl Snapshot {
    /// Writes it, once the log has acknowledged everything that was said before.
    pub(crate) async fn write(self) -> Result<Written, ShardError> {
        let (partition, next_offset) = (self.partition, self.next_offset);
        for output in self.outputs {
            let acknowledged = output.await;
            acknowledged.map_err(|error| ShardError::Output { partition, error })?;
        }
        let length = self.bytes.len() as u64;
        let saved = self
            .snapshots
            .save(partition, next_offset, self.bytes)
            .await;
        if let Err(error) = &saved {
            tracing::error!(%partition, %error, "a snapshot is not written");
            self.metrics.snapshot_failures.inc();
        } else {
            let took = self.since.elapsed().as_secs_f64();
            self.metrics.snapshot_seconds.observe(took);
            self.metrics.snapshots.inc();
            self.metrics.snapshot_bytes.inc_by(length);
        }
        Ok(Written {
            partition,
            next_offset: saved.ok().map(|()| next_offset),
        })
    }
}
