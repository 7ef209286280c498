//! Keeps rows for queries: follows rollups, sketches, signals and refusals, and writes them to the store. A record's place is
//! committed once its rows are; when the store is away, the recorder waits for it and loses nothing.

use std::sync::Arc;
use std::time::Duration;

use bus::{Batch, Bus, Consumer, Event, Producer, SendError, Start, Subscription};
use bus::{BusError, Follower};
use parking_lot::RwLock;
use schemas::codec::{DecodeError, Wire};
use schemas::record::{PolicyRecord, Refusal, Rollup, Signal, Sketch};
use schemas::topic::{DEAD, POLICIES, REFUSALS, ROLLUPS, SIGNALS, SKETCHES};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::rules::Rules;
use crate::store::{Rows, Store};

const GROUP: &str = "weir-recorder";
const BATCH_RECORDS_MAX: usize = 2_000;
/// From one try to write to the next while the store is away.
const STORE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub(crate) enum RecorderError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("a record that nobody can read cannot be set aside: {0}")]
    Dead(#[from] SendError),
}

pub(crate) struct Recorder {
    consumer: Consumer,
    policies: Follower<PolicyRecord>,
    producer: Producer,
    store: Store,
    rules: Arc<RwLock<Rules>>,
}

impl Recorder {
    pub(crate) fn new(
        bus: &Bus,
        store: Store,
        rules: Arc<RwLock<Rules>>,
    ) -> Result<Self, BusError> {
        let consumer = bus.consume(Subscription {
            group: GROUP.to_owned(),
            topics: vec![
                ROLLUPS.spec(),
                SKETCHES.spec(),
                SIGNALS.spec(),
                REFUSALS.spec(),
            ],
            start: Start::Committed,
            batch_records_max: BATCH_RECORDS_MAX,
        })?;
        let policies = bus.follow(&POLICIES)?;
        Ok(Self {
            consumer,
            policies,
            producer: bus.producer(),
            store,
            rules,
        })
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), RecorderError> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                followed = self.policies.next() => self.rules.write().follow(followed?),
                event = self.consumer.next() => match event {
                    Event::Records(batch) => {
                        let written = self.record(&batch);
                        // A store that is away must not hold up the end; what is not written is read again.
                        tokio::select! {
                            () = shutdown.cancelled() => break,
                            written = written => written?,
                        }
                    }
                    Event::Revoked(revoked) => revoked.done(),
                    Event::Assigned(_) | Event::CaughtUp(_) => {}
                    Event::Failed(error) => return Err(error.into()),
                },
            }
        }
        self.consumer.close().await;
        Ok(())
    }

    async fn record(&self, batch: &Batch) -> Result<(), RecorderError> {
        let mut rows = Rows::default();
        let mut dead = Vec::new();
        for record in &batch.records {
            let value = record.value.as_deref().unwrap_or_default();
            if let Err(error) = add(&mut rows, batch.partition.topic, value) {
                dead.push(self.set_aside(batch, record, &error)?);
            }
        }
        for delivery in dead {
            delivery.await?;
        }
        while !rows.is_empty() {
            match self.store.write(&rows).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "rows wait for the store");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
        if let Some(last) = batch.records.last() {
            self.consumer.commit(batch.partition, last.offset + 1);
        }
        Ok(())
    }

    fn set_aside(
        &self,
        batch: &Batch,
        record: &bus::Record,
        error: &DecodeError,
    ) -> Result<bus::Delivery, SendError> {
        let (partition, offset) = (batch.partition, record.offset);
        tracing::warn!(%partition, offset, %error, "a record that cannot be read is set aside");
        let dead = record.to_dead(partition, error.to_string(), record.appended_at);
        self.producer.enqueue(&DEAD, &dead.origin.topic, &dead)
    }
}

fn add(rows: &mut Rows, topic: &str, value: &[u8]) -> Result<(), DecodeError> {
    if topic == ROLLUPS.name() {
        rows.add_rollup(Rollup::decode(value)?);
    } else if topic == SKETCHES.name() {
        rows.add_sketch(Sketch::decode(value)?);
    } else if topic == SIGNALS.name() {
        match Signal::decode(value)? {
            Signal::Crossing(crossing) => rows.add_crossing(crossing),
            Signal::CspGroup(group) => rows.add_group(group),
            // An alert tells of it.
            Signal::Cleared(_) => {}
        }
    } else {
        debug_assert_eq!(topic, REFUSALS.name(), "the recorder asked for four topics");
        rows.add_refusal(Refusal::decode(value)?);
    }
    Ok(())
}
