//! The loop that keeps the history: decisions and commands out of the log, into the store. The store may be away for as long as it
//! likes: deciding does not wait for it, and the log keeps what is still to be recorded.

use std::time::Duration;

use bus::consumer::{Batch, Consumer, Event, Partition, Record, Start, Subscription};
use schemas::time::Timestamp;
use schemas::topic::{COMMANDS, DECISIONS};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::service::{Parts, RunError};
use crate::store::{Entry, StoreError};
use crate::wire;

/// The consumer group of all that keep the history.
const GROUP: &str = "weir-decisions-recorder";

/// Records that one transaction takes at most.
const BATCH_RECORDS_MAX: usize = 500;

/// Between two tries while the store does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// How often old decisions are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// Records until `stop`.
pub(crate) async fn record(parts: &Parts, stop: CancellationToken) -> Result<(), RunError> {
    let mut consumer = parts.bus.consume(Subscription {
        group: GROUP.to_owned(),
        topics: vec![DECISIONS.spec(), COMMANDS.spec()],
        start: Start::Committed,
        batch_records_max: BATCH_RECORDS_MAX,
    })?;
    let mut recorder = Recorder {
        parts,
        forgot_at: None,
    };
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            event = consumer.next() => event,
        };
        match event {
            Event::Records(batch) => {
                tokio::select! {
                    () = recorder.take(&batch, &consumer) => {}
                    () = stop.cancelled() => break,
                }
            }
            Event::Assigned(assigned) => assigned.start(&[]),
            // Nothing is kept between batches, so there is nothing to hand over.
            Event::Revoked(revoked) => revoked.done(),
            Event::CaughtUp(_) => {}
            Event::Failed(error) => return Err(RunError::Read(error)),
        }
    }
    consumer.close().await;
    Ok(())
}

/// What a batch holds.
enum History {
    Decisions(Vec<Entry>),
    Commands(Vec<Command>),
}

impl History {
    fn len(&self) -> usize {
        match self {
            History::Decisions(entries) => entries.len(),
            History::Commands(commands) => commands.len(),
        }
    }
}

struct Recorder<'a> {
    parts: &'a Parts,
    forgot_at: Option<Timestamp>,
}

impl Recorder<'_> {
    /// Stores a batch, trying until it is stored, then commits its offset.
    async fn take(&mut self, batch: &Batch, consumer: &Consumer) {
        let metrics = &self.parts.metrics;
        let read = match batch.partition.topic == COMMANDS.name() {
            true => History::Commands(self.read(batch, wire::command)),
            false => History::Decisions(self.read(batch, wire::entry)),
        };
        let mut in_trouble = false;
        while let Err(error) = self.store(&read).await {
            metrics.store_error();
            if !in_trouble {
                tracing::warn!(%error, "the history cannot be recorded for now; trying again");
            }
            in_trouble = true;
            sleep(PAUSE).await;
        }
        if in_trouble {
            tracing::info!("the history is recorded again");
        }
        metrics.recorded(read.len());
        if let Some(last) = batch.records.last() {
            consumer.commit(batch.partition, last.offset + 1);
        }
    }

    /// Reads the records that can be read.
    fn read<T>(&self, batch: &Batch, read: impl Fn(&Record) -> Result<T, String>) -> Vec<T> {
        let mut entries = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            match read(record) {
                Ok(entry) => entries.push(entry),
                Err(reason) => {
                    let Partition { topic, index } = batch.partition;
                    let offset = record.offset;
                    tracing::error!(
                        topic,
                        partition = index,
                        offset,
                        reason,
                        "a record cannot be read; it is not in the history"
                    );
                    self.parts.metrics.not_recorded();
                }
            }
        }
        entries
    }

    async fn store(&mut self, read: &History) -> Result<(), StoreError> {
        match read {
            History::Decisions(entries) => self.parts.store.record(entries).await?,
            History::Commands(commands) => self.parts.store.record_commands(commands).await?,
        }
        let now = self.parts.clock.now();
        if self
            .forgot_at
            .is_none_or(|at| FORGET_EVERY <= now.since(at))
        {
            let keep = self.parts.config.keep();
            self.parts.store.forget(now.minus(keep)).await?;
            self.forgot_at = Some(now);
        }
        Ok(())
    }
}
