//! What the bench asks of a log, through librdkafka.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use tests::traffic::send_when_room;

use crate::home::{Home, now};

/// A record when much is to be stored.
pub(crate) const LARGE_BYTES: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes to cut record values from, so that making them costs nothing.
const POOL_BYTES: usize = 1 << 20;

/// A topic of one log, made for one measurement.
pub(crate) struct Topic {
    bootstrap: String,
    name: String,
    partitions: i32,
}

/// Counts what the log has acknowledged, and tells a waiting sender.
struct Acknowledged {
    count: AtomicUsize,
    tell: SyncSender<()>,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        result.as_ref().expect("the log takes every record");
        self.count.fetch_add(1, Ordering::Relaxed);
        // A sender that does not wait leaves this full.
        let _ = self.tell.try_send(());
    }
}

impl Topic {
    pub(crate) fn create(home: &Home, name: &str, partitions: i32) -> Self {
        let topic = Self {
            bootstrap: home.bootstrap(),
            name: name.to_owned(),
            partitions,
        };
        let admin: AdminClient<DefaultClientContext> = topic.config().create().expect("a client");
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let runtime = tokio::runtime::Handle::try_current();
        let create = async { admin.create_topics([&new], &AdminOptions::new()).await };
        let created = match runtime {
            Ok(handle) => tokio::task::block_in_place(|| handle.block_on(create)),
            Err(_) => tokio::runtime::Runtime::new()
                .expect("a runtime")
                .block_on(create),
        };
        created.expect("an answer").remove(0).expect("a new topic");
        topic.wait_until_known();
        topic
    }

    /// Kafka acknowledges a topic before its metadata shows it.
    fn wait_until_known(&self) {
        let client: BaseConsumer = self.config().create().expect("a client");
        let start = now();
        while start.elapsed() < PATIENCE {
            let metadata = client.fetch_metadata(Some(&self.name), PATIENCE);
            let led = metadata.is_ok_and(|metadata| {
                let partitions = metadata.topics()[0].partitions();
                partitions.len() == self.partitions as usize
                    && partitions.iter().all(|p| p.leader() >= 0)
            });
            if led {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{} is not there after {PATIENCE:?}", self.name);
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn producer(
        &self,
        settings: &[(&str, &str)],
    ) -> (ThreadedProducer<Acknowledged>, Receiver<()>) {
        let (tell, told) = sync_channel(1);
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("acks", "all");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let count = AtomicUsize::new(0);
        let producer = config.create_with_context(Acknowledged { count, tell });
        (producer.expect("a producer"), told)
    }

    /// A reader of all partitions from `offset` on, once it has been told where each ends.
    fn reader(&self, offset: Offset) -> BaseConsumer {
        let mut config = self.config();
        config
            .set("group.id", "bench")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition_offset(&self.name, partition, offset)
                .expect("a position");
        }
        consumer.assign(&list).expect("an assignment");
        consumer
    }

    /// Sends `records` of `bytes` each as fast as the log takes them: how long until all are acknowledged.
    pub(crate) fn produce(&self, records: usize, bytes: usize, codec: &str) -> Duration {
        let (producer, _told) = self.producer(&[("linger.ms", "5"), ("compression.type", codec)]);
        let pool = pool();
        let start = now();
        for at in 0..records {
            let from = at * 97 % (POOL_BYTES - bytes);
            let partition = at as i32 % self.partitions;
            let record = BaseRecord::<(), [u8]>::to(&self.name)
                .payload(&pool[from..from + bytes])
                .partition(partition);
            send_when_room(&producer, record);
        }
        producer.flush(10 * PATIENCE).expect("all is sent");
        let took = start.elapsed();
        let acknowledged = producer.context().count.load(Ordering::Relaxed);
        assert_eq!(acknowledged, records);
        took
    }

    /// Reads `records` from the start: how long it takes.
    pub(crate) fn consume(&self, records: usize) -> Duration {
        let start = now();
        let reader = self.reader(Offset::Beginning);
        for _ in 0..records {
            next(&reader);
        }
        start.elapsed()
    }

    /// Sends one record at a time: how long until each is acknowledged.
    pub(crate) fn acknowledged(&self, records: usize) -> Vec<Duration> {
        let (producer, told) = self.producer(&[("linger.ms", "0")]);
        let send = |at: usize| {
            let start = now();
            self.send_one(&producer, at);
            told.recv_timeout(PATIENCE).expect("an acknowledgement");
            start.elapsed()
        };
        measured(records, send)
    }

    /// Sends one record at a time to a topic that is empty: how long until a reader that waits has it.
    pub(crate) fn end_to_end(&self, records: usize) -> Vec<Duration> {
        let (producer, _told) = self.producer(&[("linger.ms", "0")]);
        let reader = self.reader(Offset::Beginning);
        let send = |at: usize| {
            let start = now();
            self.send_one(&producer, at);
            next(&reader);
            start.elapsed()
        };
        measured(records, send)
    }

    fn send_one(&self, producer: &ThreadedProducer<Acknowledged>, at: usize) {
        let record = BaseRecord::<(), [u8]>::to(&self.name)
            .payload(&[7; 200])
            .partition(at as i32 % self.partitions);
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("room for one");
    }

    /// Does `something` while `consumers` members of a group wait for records.
    pub(crate) fn while_waiting<T>(&self, consumers: usize, something: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        let joined = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..consumers {
                scope.spawn(|| {
                    let mut config = self.config();
                    config.set("group.id", "waiting");
                    let member: BaseConsumer = config.create().expect("a consumer");
                    member.subscribe(&[&self.name]).expect("a subscription");
                    let mut has_share = false;
                    while !done.load(Ordering::Relaxed) {
                        let record = member.poll(Duration::from_millis(200));
                        assert!(record.is_none_or(|r| r.is_ok()), "the group is disturbed");
                        let share = member.assignment().expect("an assignment").count();
                        if !has_share && share == self.partitions as usize / consumers {
                            has_share = true;
                            joined.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            while joined.load(Ordering::Relaxed) < consumers {
                std::thread::sleep(Duration::from_millis(50));
            }
            let result = something();
            done.store(true, Ordering::Relaxed);
            result
        })
    }
}

/// Times `one` after a tenth as many that only warm up.
fn measured(records: usize, mut one: impl FnMut(usize) -> Duration) -> Vec<Duration> {
    let warm_up = records / 10;
    let all = (0..warm_up + records).map(|at| {
        // Not in step with any timer of the log or the client.
        std::thread::sleep(Duration::from_micros(300 + at as u64 * 37 % 700));
        one(at)
    });
    all.skip(warm_up).collect()
}

fn next(reader: &BaseConsumer) {
    let record = reader.poll(PATIENCE).expect("a record in time");
    let record = record.expect("a record");
    assert!(record.payload().is_some_and(|value| !value.is_empty()));
}

/// Half of it random, so that it compresses about as text does.
fn pool() -> Vec<u8> {
    let mut random = rand::rngs::SmallRng::seed_from_u64(7);
    let mut pool = vec![0; POOL_BYTES];
    for chunk in pool.chunks_mut(16) {
        random.fill_bytes(&mut chunk[..8]);
    }
    pool
}
