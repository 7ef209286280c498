//! Idempotent producers and a group of consumers under a fault, and the account of it: every acknowledged record must
//! be read once, where it was said to be, and in its producer's order.

mod account;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::ToBytes;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use crate::eventually;
pub use account::{Account, Read, read_all};

/// How long anybody waits for what should come soon.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than any fault lasts: a record is tried again until then.
const DELIVERED_WITHIN: &str = "300000";
/// As short as a load as fast as it goes needs it.
const ROOM_PAUSE: Duration = Duration::from_millis(1);
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);
const POLL: Duration = Duration::from_millis(20);
/// A member commits when it is idle, and after so many polls.
const POLLS_PER_COMMIT: u64 = 200;

/// A record's value: who wrote it, and how many that producer had written before it.
pub type Value = (u64, u64);

/// Where the traffic goes.
#[derive(Clone, Debug)]
pub struct Place {
    /// The value for `bootstrap.servers`.
    pub bootstrap: String,
    pub topic: String,
    pub partitions: i32,
    pub group: String,
    /// Records that a producer sends before it takes a breath of some milliseconds.
    pub records_per_breath: u64,
    pub breath: Duration,
}

impl Place {
    /// A client that comes back soon after it was cut off.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("log_level", "0")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            // A connection whose other side is gone without a word is given up soon.
            .set("socket.timeout.ms", "4000");
        config
    }

    /// Makes the topic, with these settings.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn create_topic(&self, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let topic = NewTopic::new(&self.topic, self.partitions, TopicReplication::Fixed(1));
        let topic = settings
            .iter()
            .fold(topic, |t, (name, value)| t.set(name, value));
        let made = admin.create_topics([&topic], &AdminOptions::new()).await;
        made.expect("an answer").remove(0).expect("the topic");
    }

    /// Offsets that the group has committed, by partition, as the server tells them.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn committed(&self) -> HashMap<i32, i64> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", &self.group)
            .create()
            .expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        let committed = consumer.committed_offsets(list, PATIENCE);
        let committed = committed.expect("committed offsets");
        let kept = committed.elements().into_iter().filter_map(|e| {
            let Offset::Offset(offset) = e.offset() else {
                return None;
            };
            Some((e.partition(), offset))
        });
        kept.collect()
    }

    /// The end of every partition.
    ///
    /// # Panics
    /// When the server does not tell.
    #[must_use]
    pub fn ends(&self) -> Vec<i64> {
        let consumer: BaseConsumer = self.client().create().expect("a client");
        let end = |p| consumer.fetch_watermarks(&self.topic, p, PATIENCE);
        (0..self.partitions)
            .map(|p| end(p).expect("a partition's end").1)
            .collect()
    }
}

/// What the log has promised: the offset of each acknowledged record.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged(Arc<Promises>);

#[derive(Debug, Default)]
struct Promises {
    /// By producer, then by number; -1 where nothing was promised.
    offsets: Mutex<HashMap<u64, Vec<i64>>>,
    count: AtomicU64,
    refused: Mutex<Vec<String>>,
}

impl Acknowledged {
    /// How many records were acknowledged so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Waits until more is acknowledged than now.
    pub async fn goes_on(&self) {
        let before = self.count();
        eventually("writes go on", PATIENCE, async || match self.count() {
            now if now > before => Ok(()),
            now => Err(format!("{now} acknowledged")),
        })
        .await;
    }

    /// Why records were given back to their producers.
    ///
    /// # Panics
    /// When another user has.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.0.refused.lock().expect("no panic while held").clone()
    }

    /// The highest promised offset of each of `partitions` partitions.
    ///
    /// # Panics
    /// When another user has.
    #[must_use]
    pub fn highest(&self, partitions: i32) -> Vec<Option<i64>> {
        let mut highest = vec![None; partitions as usize];
        for offsets in self.0.offsets.lock().expect("no panic while held").values() {
            for (number, offset) in offsets.iter().enumerate().filter(|(_, o)| **o >= 0) {
                let of_partition = &mut highest[number % partitions as usize];
                *of_partition = (*of_partition).max(Some(*offset));
            }
        }
        highest
    }

    /// Forgets what was promised from `ends` on, which a power cut may take. Returns how many records that were.
    ///
    /// # Panics
    /// When another user has.
    pub fn forget_from(&self, ends: &[i64]) -> u64 {
        let mut forgotten = 0;
        for offsets in self
            .0
            .offsets
            .lock()
            .expect("no panic while held")
            .values_mut()
        {
            for (number, offset) in offsets.iter_mut().enumerate() {
                if *offset >= ends[number % ends.len()] {
                    *offset = -1;
                    forgotten += 1;
                }
            }
        }
        forgotten
    }

    fn refuse(&self, why: String) {
        let mut refused = self.0.refused.lock().expect("no panic while held");
        refused.push(why);
    }

    fn note(&self, (producer, number): Value, offset: i64) {
        let mut all = self.0.offsets.lock().expect("no panic while held");
        let offsets = all.entry(producer).or_default();
        let at = number as usize;
        if offsets.len() <= at {
            offsets.resize(at + 1, -1);
        }
        offsets[at] = offset;
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes what one producer is told.
struct Deliveries {
    acknowledged: Acknowledged,
    /// What is given back from now on was given up.
    abandoned: Arc<AtomicBool>,
}

impl ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Value>;

    fn delivery(&self, result: &DeliveryResult<'_>, value: Box<Value>) {
        match result {
            Ok(message) => self.acknowledged.note(*value, message.offset()),
            Err(_) if self.abandoned.load(Ordering::Relaxed) => {}
            Err((error, _)) => self.acknowledged.refuse(format!("{value:?}: {error}")),
        }
    }
}

/// Idempotent producers, each on a thread of its own. They try every record again until it is acknowledged.
pub struct Producers {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    abandoned: Arc<AtomicBool>,
}

impl Producers {
    /// Starts producers with these ids, which no others may have had.
    #[must_use]
    pub fn start(place: &Place, ids: std::ops::Range<u64>, acknowledged: &Acknowledged) -> Self {
        let (stop, abandoned) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let start = |id| {
            let (place, stop) = (place.clone(), stop.clone());
            let deliveries = Deliveries {
                acknowledged: acknowledged.clone(),
                abandoned: abandoned.clone(),
            };
            thread::spawn(move || produce(&place, id, deliveries, &stop))
        };
        Self {
            threads: ids.map(start).collect(),
            stop,
            abandoned,
        }
    }

    /// Waits until everything that was sent is acknowledged.
    ///
    /// # Panics
    /// When a producer has.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a producer");
        }
    }

    /// Ends them with what is under way given up, whatever became of it.
    ///
    /// # Panics
    /// When a producer has.
    pub fn abandon(self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.finish();
    }
}

fn produce(place: &Place, id: u64, deliveries: Deliveries, stop: &AtomicBool) {
    let abandoned = deliveries.abandoned.clone();
    let producer: ThreadedProducer<Deliveries> = place
        .client()
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("compression.type", "lz4")
        .set("message.timeout.ms", DELIVERED_WITHIN)
        .set("request.timeout.ms", "3000")
        .create_with_context(deliveries)
        .expect("a producer");
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let value = format!("{id}/{number}");
        let partition = (number % place.partitions as u64) as i32;
        let record = BaseRecord::with_opaque_to(&place.topic, Box::new((id, number)));
        let record = record.key("k").payload(&value).partition(partition);
        if producer.send(record).is_err() {
            thread::sleep(FULL_QUEUE_PAUSE);
            continue;
        }
        number += 1;
        if number.is_multiple_of(place.records_per_breath) {
            thread::sleep(place.breath);
        }
    }
    if abandoned.load(Ordering::Relaxed) {
        producer.purge(PurgeConfig::default().queue().inflight());
        return;
    }
    producer
        .flush(3 * PATIENCE)
        .expect("everything is acknowledged");
}

/// The highest offset of each partition that a member was told is committed.
#[derive(Clone, Debug, Default)]
pub struct Committed(Arc<Mutex<HashMap<i32, i64>>>);

impl Committed {
    /// What members were told until now.
    ///
    /// # Panics
    /// When another user has.
    #[must_use]
    pub fn told(&self) -> HashMap<i32, i64> {
        self.0.lock().expect("no panic while held").clone()
    }

    /// Partitions whose committed offset went back: what was told, and what is kept.
    #[must_use]
    pub fn gone_back(&self, place: &Place) -> Vec<(i32, i64, Option<i64>)> {
        // In this order: what is told meanwhile is not asked for.
        let told = self.told();
        let kept = place.committed();
        let of = |(partition, told): (i32, i64)| (partition, told, kept.get(&partition).copied());
        told.into_iter()
            .map(of)
            .filter(|(_, told, kept)| kept.is_none_or(|kept| kept < *told))
            .collect()
    }
}

/// Members of one group, each on a thread of its own, that read and commit.
pub struct Consumers {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Consumers {
    #[must_use]
    pub fn start(place: &Place, count: usize, committed: &Committed) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let start = |_| {
            let (place, committed, stop) = (place.clone(), committed.clone(), stop.clone());
            thread::spawn(move || consume(&place, &committed, &stop))
        };
        Self {
            threads: (0..count).map(start).collect(),
            stop,
        }
    }

    /// Has the members read and commit no more. One that waits for an answer to its last commit still does.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Lets the members leave, for which there must be a log.
    ///
    /// # Panics
    /// When one has.
    pub fn finish(self) {
        self.stop();
        for thread in self.threads {
            thread.join().expect("a consumer");
        }
    }
}

fn consume(place: &Place, committed: &Committed, stop: &AtomicBool) {
    let consumer: BaseConsumer = place
        .client()
        .set("group.id", &place.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[&place.topic]).expect("a subscription");
    let mut read: HashMap<i32, i64> = HashMap::new();
    let mut polls: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        polls += 1;
        let message = consumer.poll(POLL);
        let is_due = message.is_none() || polls.is_multiple_of(POLLS_PER_COMMIT);
        if let Some(Ok(message)) = message {
            read.insert(message.partition(), message.offset() + 1);
        }
        if is_due {
            commit(&consumer, place, &mut read, committed);
        }
    }
}

/// Commits what was read, and waits until that is done, for as long as there is no log. Between two generations it
/// fails, and is done again with the next one.
fn commit(
    consumer: &BaseConsumer,
    place: &Place,
    read: &mut HashMap<i32, i64>,
    committed: &Committed,
) {
    // What was read of a partition that is another's now is not for this member to commit.
    let assigned = consumer.assignment().expect("its partitions");
    read.retain(|p, _| assigned.find_partition(&place.topic, *p).is_some());
    let mut list = TopicPartitionList::new();
    for (partition, offset) in &*read {
        let added = list.add_partition_offset(&place.topic, *partition, Offset::Offset(*offset));
        added.expect("an offset");
    }
    if read.is_empty() || consumer.commit(&list, CommitMode::Sync).is_err() {
        return;
    }
    let mut committed = committed.0.lock().expect("no panic while held");
    for (partition, offset) in read.drain() {
        let told = committed.entry(partition).or_default();
        *told = offset.max(*told);
    }
}

/// Hands a record to the client library, and waits while too many are on their way.
///
/// # Panics
/// When it can never be sent.
pub fn send_when_room<C, K, P>(producer: &ThreadedProducer<C>, record: BaseRecord<'_, K, P>)
where
    C: ProducerContext<DeliveryOpaque = ()> + 'static,
    K: ToBytes + ?Sized,
    P: ToBytes + ?Sized,
{
    let mut record = record;
    while let Err((error, back)) = producer.send(record) {
        let full = RDKafkaErrorCode::QueueFull;
        assert!(
            matches!(error, KafkaError::MessageProduction(code) if code == full),
            "{error}"
        );
        thread::sleep(ROOM_PAUSE);
        record = back;
    }
}
