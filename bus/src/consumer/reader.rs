//! The thread behind a consumer.

mod committed;
mod denied;
mod ownership;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::context::Context;
use super::partition::{OpenPartition, Then};
use super::signals::Signals;
use super::{Event, Settings, Start, Subscription};
use crate::access::Access;
use crate::clock::Stopwatch;
use crate::error::BusError;
use crate::layout::Partitions;
use crate::logging::Repeats;
use crate::metrics::{Metrics, ReaderMetrics};
use crate::producer::setting_error;
use crate::record::Partition;

/// How long the thread sleeps when nothing happens; the group's business waits for it, records do not.
const TICK: Duration = Duration::from_millis(20);

/// How long leaving the group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

const LEAVE_POLL: Duration = Duration::from_millis(20);

/// How long the question for a partition's bounds may take, once it is known that an offset is outside of them.
const WATERMARKS_WITHIN: Duration = Duration::from_secs(2);

/// One look at a partition gives at most a batch and the news that it was the last one.
const EVENTS_PER_LOOK: usize = 2;

pub(super) struct Reader {
    consumer: Arc<BaseConsumer<Context>>,
    subscription: Subscription,
    hand_over_within: Duration,
    made: Arc<Partitions>,
    events: mpsc::Sender<Event>,
    signals: Arc<Signals>,
    metrics: ReaderMetrics,
    phase: Phase,
    turns: u64,
    open: Vec<OpenPartition>,
    /// Places in `open` that may have something to read, in the order in which they get their turn.
    to_read: VecDeque<usize>,
    /// Changes of ownership that wait for room in the channel.
    outbox: VecDeque<Event>,
    access: Arc<Access>,
    /// Partitions that the log gives no records of.
    denied: BTreeSet<Partition>,
    /// Since it was last asked for them.
    asked: Stopwatch,
    repeats: Repeats,
}

/// Where this member stands with its group.
enum Phase {
    Reading,
    /// The service was told of these partitions and is to say where to begin.
    Assigning {
        turn: u64,
        partitions: Arc<[Partition]>,
    },
    /// Where the group stood in these is asked of the log; `offsets` are the service's own answer.
    Locating {
        partitions: Arc<[Partition]>,
        offsets: Vec<(Partition, Option<i64>)>,
        /// Since it was last asked in vain.
        asked: Option<Stopwatch>,
    },
    /// The service was told that its partitions go, and finishes its work.
    Revoking {
        turn: u64,
        since: Stopwatch,
    },
}

fn fatal(error: &KafkaError) -> BusError {
    BusError::Fatal(error.to_string())
}

impl Reader {
    pub(super) fn new(
        subscription: Subscription,
        settings: Settings,
        metrics: &Metrics,
        events: mpsc::Sender<Event>,
        signals: Arc<Signals>,
    ) -> Result<Self, BusError> {
        let mut client = settings.client;
        let reset = match subscription.start {
            Start::Stored => "error",
            Start::Committed => "earliest",
        };
        client.set("auto.offset.reset", reset);
        let consumer: BaseConsumer<Context> = client
            .create_with_context(Context::new(metrics))
            .map_err(|error| setting_error(&error))?;
        let topics: Vec<&str> = subscription.topics.iter().map(|spec| spec.name).collect();
        consumer.subscribe(&topics).map_err(|error| fatal(&error))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            metrics: metrics.reader(&subscription.group),
            subscription,
            hand_over_within: settings.hand_over_within,
            made: settings.made,
            events,
            signals,
            phase: Phase::Reading,
            turns: 0,
            open: Vec::new(),
            to_read: VecDeque::new(),
            outbox: VecDeque::new(),
            access: settings.access,
            denied: BTreeSet::new(),
            asked: Stopwatch::start(),
            repeats: Repeats::default(),
        })
    }

    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            self.metrics.error("failed");
            // When this fails nobody listens any more.
            let _ = self.events.blocking_send(Event::Failed(error));
        }
        self.leave();
    }

    /// Until closed, or until going on would be wrong.
    fn serve(&mut self) -> Result<(), BusError> {
        let mut wait = Duration::ZERO;
        loop {
            let inbox = self.signals.take(wait);
            self.commit(&inbox.commits);
            if inbox.closing {
                return Ok(());
            }
            for place in inbox.ready {
                self.enqueue(place);
            }
            self.poll_group()?;
            self.take_answer(inbox.answers)?;
            self.locate()?;
            self.take_change()?;
            self.note_statistics();
            self.send_outbox();
            self.ask_for_denied();
            self.read()?;
            wait = if self.has_work() {
                Duration::ZERO
            } else {
                TICK
            };
        }
    }

    /// Whether there is something to do that needs nobody else.
    fn has_work(&self) -> bool {
        let readable = matches!(self.phase, Phase::Reading) && !self.to_read.is_empty();
        if !readable && self.outbox.is_empty() {
            return false;
        }
        self.signals.starve();
        EVENTS_PER_LOOK <= self.events.capacity()
    }

    /// Serves the group's business. Records never come this way.
    fn poll_group(&mut self) -> Result<(), BusError> {
        match self.consumer.poll(Duration::ZERO) {
            None => Ok(()),
            Some(Ok(message)) => {
                use rdkafka::Message as _;
                let (topic, partition) = (message.topic(), message.partition());
                Err(BusError::Fatal(format!(
                    "a record of {topic}/{partition} came outside of its queue and would be lost"
                )))
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => Err(fatal(&error)),
            Some(Err(error)) => {
                self.tell_group(&error);
                Ok(())
            }
        }
    }

    /// Trouble with the group, which passes by itself or with a right that is given.
    fn tell_group(&mut self, error: &KafkaError) {
        if !self.group_denied(error) {
            self.metrics.error("group");
            self.repeats
                .warn(error, "the group waits", &self.subscription.group);
        }
    }

    fn send_outbox(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.outbox.push_front(event);
                    break;
                }
                // The one who listened is gone and has asked to close: that is taken next.
                Err(mpsc::error::TrySendError::Closed(_)) => break,
            }
        }
    }

    // === records ===

    /// Gives each partition that may have something one look, as far as there is room.
    fn read(&mut self) -> Result<(), BusError> {
        if !matches!(self.phase, Phase::Reading) {
            return Ok(());
        }
        for _ in 0..self.to_read.len() {
            if !self.outbox.is_empty() || self.events.capacity() < EVENTS_PER_LOOK {
                break;
            }
            let Some(place) = self.to_read.pop_front() else {
                break;
            };
            self.look(place)?;
        }
        Ok(())
    }

    fn look(&mut self, place: usize) -> Result<(), BusError> {
        // A signal from before the last change of ownership.
        let Some(open) = self.open.get_mut(place) else {
            return Ok(());
        };
        let partition = open.partition;
        let found = open.read(self.subscription.batch_records_max)?;
        let lag = open.lag();
        if found.batch.is_some() || matches!(found.then, Then::End) {
            self.read_granted(partition);
        }
        if let Some(batch) = found.batch {
            self.metrics.consumed(partition.topic, batch.records.len());
            self.metrics.lag(partition, lag);
            self.send(Event::Records(batch));
        }
        match found.then {
            Then::Empty => return Ok(()),
            Then::Full => {}
            Then::End => self.send(Event::CaughtUp(partition)),
            Then::Error(error) => self.judge(place, &error)?,
        }
        self.enqueue(place);
        Ok(())
    }

    /// Gives a partition a turn, unless it waits for one already.
    fn enqueue(&mut self, place: usize) {
        if !self.to_read.contains(&place) {
            self.to_read.push_back(place);
        }
    }

    /// There is room: it was looked for before.
    fn send(&self, event: Event) {
        // A closed channel means that the one who listened has asked to close: that is taken next.
        let _ = self.events.try_send(event);
    }

    /// Most errors pass by themselves. These do not, or going on would skip records or count them twice.
    fn judge(&mut self, place: usize, error: &KafkaError) -> Result<(), BusError> {
        let open = &self.open[place];
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(fatal(error));
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            return Err(self.impossible(open.partition, open.next));
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
            let partition = open.partition;
            self.read_denied(partition);
            return Ok(());
        }
        self.metrics.error("fetch");
        self.repeats
            .warn(error, "reading waits", open.partition.topic);
        Ok(())
    }

    /// The log has no record for this offset, and no place for one.
    fn impossible(&self, partition: Partition, offset: i64) -> BusError {
        let Partition { topic, index } = partition;
        let bounds = self
            .consumer
            .fetch_watermarks(topic, index, WATERMARKS_WITHIN);
        let (low, high) = bounds.unwrap_or((-1, -1));
        BusError::Offset {
            topic: topic.to_owned(),
            partition: index,
            offset,
            low,
            high,
        }
    }

    fn note_statistics(&mut self) {
        let Some(statistics) = self.consumer.context().latest_statistics() else {
            return;
        };
        for open in &mut self.open {
            let Partition { topic, index } = open.partition;
            if let Some(end) = statistics.end_offset(topic, index) {
                open.end = open.end.max(end);
                self.metrics.lag(open.partition, open.lag());
            }
        }
    }

    // === the end ===

    fn commit(&self, commits: &BTreeMap<Partition, i64>) {
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for (partition, next) in commits {
            let ours = self.open.iter().any(|open| open.partition == *partition);
            if ours {
                let offset = Offset::Offset(*next);
                let added = list.add_partition_offset(partition.topic, partition.index, offset);
                debug_assert!(added.is_ok(), "{next} is no offset");
            }
        }
        if list.count() == 0 {
            return;
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            self.metrics.error("commit");
            tracing::debug!(%error, "cannot commit; the next commit replaces it");
        }
    }

    fn leave(mut self) {
        self.forget_open();
        self.consumer.context().leave();
        // A change that was noted and not answered yet would keep the group waiting.
        if !matches!(self.phase, Phase::Reading) || self.consumer.context().next_change().is_some()
        {
            let given_back = self.consumer.unassign();
            if let Err(error) = given_back {
                tracing::debug!(%error, "cannot give partitions back");
            }
        }
        if let Err(error) = self.consumer.close_queue() {
            tracing::warn!(%error, "cannot leave the group; it will notice by itself");
            return;
        }
        let since = Stopwatch::start();
        while !self.consumer.closed() && since.elapsed() < LEAVE_WITHIN {
            self.consumer.poll(LEAVE_POLL);
        }
    }
}
