//! Reading partitions that a group shares out among its members.
//!
//! A thread polls the client library; what it finds comes through a bounded channel as one closed enum, [`Event`].
//! When the channel is full the thread leaves records where they are (the library then stops fetching by itself) and
//! goes on polling, so that a slow service never loses its membership. Ownership changes hands cleanly: a partition's
//! next owner begins only after the old one has said [`Revoked::done`], or a bounded time has passed.

mod context;
mod partition;
mod reader;
mod signals;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use schemas::topic::TopicSpec;
use tokio::sync::mpsc;

pub use crate::record::{Batch, Partition, Record};

use crate::access::Access;
use crate::error::BusError;
use crate::layout::Partitions;
use crate::metrics::Metrics;
use reader::Reader;
use signals::{Answer, Signals};

/// Where to begin with a partition that was just taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The service keeps offsets of its own and answers [`Assigned`] with them. One that the log does not have ends
    /// the reader with [`BusError::Offset`]: nothing is skipped or read again in silence.
    Stored,
    /// Where the group last [committed](Consumer::commit), or else at the earliest record there is.
    Committed,
}

/// What to read, and as whom.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Members of one group share the partitions.
    pub group: String,
    pub topics: Vec<TopicSpec>,
    pub start: Start,
    /// The most records in one batch. A batch is handed over as soon as there is one record.
    pub batch_records_max: usize,
}

/// What happens to a member of a group.
#[derive(Debug)]
pub enum Event {
    /// These partitions are this member's now, at least one. Nothing is read before the answer.
    Assigned(Assigned),
    /// Records of one partition, in order.
    Records(Batch),
    /// The partition was read to its end; sent each time that becomes so.
    CaughtUp(Partition),
    /// These partitions go to another member.
    Revoked(Revoked),
    /// The reader ended. Trouble that passes by itself is logged and counted instead.
    Failed(BusError),
}

/// Partitions that this member reads from now on. Dropping it without an answer means: from the earliest record
/// ([`Start::Stored`]), or from the group's commit ([`Start::Committed`]).
#[derive(Debug)]
pub struct Assigned {
    partitions: Arc<[Partition]>,
    turn: Turn,
}

impl Assigned {
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Begins to read: each partition at the offset of the next record to be read, `None` for the earliest. Ones not
    /// mentioned begin as if this were dropped.
    pub fn start(self, offsets: &[(Partition, Option<i64>)]) {
        self.turn.answer(Answer::Start(offsets.to_vec()));
    }
}

/// Partitions that are no longer this member's once [`done`](Revoked::done) is called, this is dropped, or the time
/// for the hand-over has passed: write snapshots first.
#[derive(Debug)]
pub struct Revoked {
    partitions: Arc<[Partition]>,
    lost: bool,
    turn: Turn,
}

impl Revoked {
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The group took the partitions away without asking, because this member was silent for too long. Another may
    /// read them already, so what is written now may overwrite newer work.
    #[must_use]
    pub const fn lost(&self) -> bool {
        self.lost
    }

    /// Lets the next owner begin.
    pub fn done(self) {
        self.turn.answer(Answer::Done);
    }
}

/// One change of ownership, which waits for one answer.
#[derive(Debug)]
struct Turn {
    signals: Arc<Signals>,
    number: u64,
}

impl Turn {
    fn answer(&self, answer: Answer) {
        self.signals.answer(self.number, answer);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.answer(Answer::Dropped);
    }
}

/// One member of a group. Dropping it leaves the group too, but blocks until that is done:
/// [`close`](Consumer::close) does not.
pub struct Consumer {
    events: mpsc::Receiver<Event>,
    signals: Arc<Signals>,
    thread: Option<JoinHandle<()>>,
}

/// What the reader's thread needs of the bus.
pub(crate) struct Settings {
    pub(crate) client: ClientConfig,
    pub(crate) batches_max: usize,
    pub(crate) hand_over_within: Duration,
    /// How many partitions each topic was made with.
    pub(crate) made: Arc<Partitions>,
    pub(crate) access: Arc<Access>,
}

impl Consumer {
    pub(crate) fn start(
        subscription: Subscription,
        settings: Settings,
        metrics: &Metrics,
    ) -> Result<Self, BusError> {
        let (sender, events) = mpsc::channel(settings.batches_max);
        let signals = Arc::new(Signals::default());
        let name = format!("read-{}", subscription.group);
        let reader = Reader::new(
            subscription,
            settings,
            metrics,
            sender,
            Arc::clone(&signals),
        )?;
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || reader.run())
            .map_err(|error| BusError::Fatal(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            events,
            signals,
            thread: Some(thread),
        })
    }

    /// What happens next. May be dropped while waiting without losing anything. After [`Event::Failed`] nothing
    /// else comes.
    pub async fn next(&mut self) -> Event {
        let event = self.events.recv().await;
        self.signals.room_made();
        event.unwrap_or(Event::Failed(BusError::Closed))
    }

    /// Tells the group that everything before `next_offset` is done: for tools that show lag, and for
    /// [`Start::Committed`]. Returns at once; a newer commit replaces one that is still to be sent.
    pub fn commit(&self, partition: Partition, next_offset: i64) {
        self.signals.commit(partition, next_offset);
    }

    /// Sends the last commits and leaves the group, so that others take over at once. What was read and not yet taken
    /// is thrown away.
    pub async fn close(mut self) {
        self.signals.close();
        while self.events.recv().await.is_some() {}
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.signals.close();
        self.events.close();
        // Changes of ownership in the channel are answered by being dropped.
        while self.events.try_recv().is_ok() {}
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("a thread that reads for a group panicked");
        }
    }
}
