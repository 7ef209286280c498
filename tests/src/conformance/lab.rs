//! Clients as the cases need them.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

/// How long a client waits for what should come at once.
pub(super) const SOON: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);
/// Kafka looks for what retention drops every five minutes.
const SHIPPED_UPKEEP: Duration = Duration::from_secs(6 * 60);

/// Settings beside the usual ones.
pub(super) type Settings<'a> = &'a [(&'a str, &'a str)];

/// A place to run one case: a bootstrap address, and names of its own.
#[derive(Clone, Debug)]
pub struct Lab {
    pub(super) bootstrap: String,
    /// Within which retention and compaction have looked for work.
    pub(super) upkeep: Duration,
}

/// Where a record went, or why it did not: partition and offset.
pub(super) type Delivery = Result<(i32, i64), KafkaError>;

/// What became of the records that were sent.
#[derive(Clone, Default)]
pub(super) struct Deliveries(Arc<Mutex<Vec<Delivery>>>);

impl Deliveries {
    pub(super) fn all(&self) -> Vec<Delivery> {
        self.0.lock().expect("no panic while held").clone()
    }

    /// Fails unless `count` records arrived and none did not.
    pub(super) fn expect(&self, count: usize) -> anyhow::Result<()> {
        let all = self.all();
        if let Some(Err(e)) = all.iter().find(|d| d.is_err()) {
            bail!("a record was refused: {e}");
        }
        ensure!(
            all.len() == count,
            "{} of {count} records were delivered",
            all.len()
        );
        Ok(())
    }
}

impl ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let delivery = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((e, _)) => Err(e.clone()),
        };
        self.0.lock().expect("no panic while held").push(delivery);
    }
}

pub(super) type TestProducer = ThreadedProducer<Deliveries>;

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) timestamp: Option<i64>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl From<&BorrowedMessage<'_>> for Read {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            timestamp: message.timestamp().to_millis(),
            headers: headers.unwrap_or_default(),
        }
    }
}

impl Read {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

impl Lab {
    /// At a log whose background work is frequent.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            upkeep: SOON,
        }
    }

    /// At a log that somebody else has started, as it is shipped perhaps.
    #[must_use]
    pub fn elsewhere(bootstrap: &str) -> Self {
        Self {
            upkeep: SHIPPED_UPKEEP,
            ..Self::new(bootstrap)
        }
    }

    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A name that no other case and no other run uses.
    pub(super) fn name(&self, prefix: &str) -> String {
        static RUN: OnceLock<String> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let run = RUN.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let name = folder
                .path()
                .file_name()
                .map(|n| n.to_string_lossy().into_owned());
            name.unwrap_or_default().trim_start_matches('.').to_owned()
        });
        format!("{prefix}-{run}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn client(&self, settings: Settings<'_>) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("log_level", "0");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config
    }

    pub(super) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client(&[]).create().expect("an admin client")
    }

    /// An idempotent producer, and what becomes of its records.
    pub(super) fn producer(&self, settings: Settings<'_>) -> (TestProducer, Deliveries) {
        let deliveries = Deliveries::default();
        let mut config = self.client(&[
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("message.timeout.ms", "30000"),
        ]);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let producer = config
            .create_with_context(deliveries.clone())
            .expect("a producer");
        (producer, deliveries)
    }

    pub(super) fn consumer_config(&self, group: &str, settings: Settings<'_>) -> ClientConfig {
        let mut config = self.client(&[
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
            ("check.crcs", "true"),
        ]);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config
    }

    pub(super) fn consumer(&self, group: &str, settings: Settings<'_>) -> BaseConsumer {
        self.consumer_config(group, settings)
            .create()
            .expect("a consumer")
    }

    /// Creates a topic of a new name and waits until metadata shows its partitions.
    pub(super) fn topic(&self, partitions: i32, settings: Settings<'_>) -> anyhow::Result<String> {
        let name = self.name("topic");
        self.create(&name, partitions, settings)
            .map_err(|e| anyhow::anyhow!("create: {e:?}"))?;
        self.await_partitions(&name, partitions)?;
        Ok(name)
    }

    pub(super) fn create(
        &self,
        name: &str,
        partitions: i32,
        settings: Settings<'_>,
    ) -> Result<(), RDKafkaErrorCode> {
        self.create_replicated(name, partitions, 1, settings)
    }

    pub(super) fn create_replicated(
        &self,
        name: &str,
        partitions: i32,
        replicas: i32,
        settings: Settings<'_>,
    ) -> Result<(), RDKafkaErrorCode> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let created = wait(self.admin().create_topics([&topic], &options()));
        match created.map(|mut results| results.remove(0)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((_, code))) => Err(code),
            Err(e) => Err(e.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        }
    }

    /// Kafka acknowledges a change of topics before its metadata shows it.
    pub(super) fn await_partitions(&self, topic: &str, wanted: i32) -> anyhow::Result<()> {
        let client = self.consumer("observer", &[]);
        until(&format!("{topic} with {wanted} partitions"), || {
            let metadata = client.fetch_metadata(Some(topic), SOON)?;
            let partitions = metadata.topics()[0].partitions();
            let led = partitions
                .iter()
                .filter(|p| p.leader() >= 0 && p.error().is_none());
            Ok(led.count() == wanted as usize && partitions.len() == wanted as usize)
        })
    }

    /// Sends values `v0 v1 …` with keys `k0 … k9`, round robin over the partitions.
    pub(super) fn send(
        &self,
        topic: &str,
        partitions: i32,
        count: usize,
        settings: Settings<'_>,
    ) -> anyhow::Result<()> {
        let (producer, deliveries) = self.producer(settings);
        for i in 0..count {
            let (key, value) = (format!("k{}", i % 10), format!("v{i}"));
            let record = BaseRecord::to(topic).key(&key).payload(&value);
            let partition = i as i32 % partitions;
            producer
                .send(record.partition(partition))
                .map_err(|(e, _)| e)
                .context("send")?;
        }
        producer.flush(SOON)?;
        deliveries.expect(count)
    }

    /// Reads every partition from its start to its end.
    pub(super) fn read_all(&self, topic: &str, partitions: i32) -> anyhow::Result<Vec<Read>> {
        let consumer = self.consumer("reader", &[("enable.partition.eof", "true")]);
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let mut ended = HashSet::new();
        let mut read = vec![];
        let deadline = clock() + SOON;
        while ended.len() < partitions as usize {
            match consumer.poll(STEP) {
                Some(Ok(message)) => read.push(Read::from(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(e)) => bail!("{e} after {} records", read.len()),
                None => ensure!(clock() < deadline, "no end after {} records", read.len()),
            }
        }
        Ok(read)
    }

    /// The next record, whatever happens before it.
    pub(super) fn next<C: rdkafka::consumer::ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
    ) -> anyhow::Result<Read> {
        let deadline = clock() + SOON;
        loop {
            match consumer.poll(STEP) {
                Some(Ok(message)) => return Ok(Read::from(&message)),
                Some(Err(e)) => bail!("instead of a record: {e}"),
                None => ensure!(clock() < deadline, "no record within {SOON:?}"),
            }
        }
    }

    pub(super) fn watermarks(&self, topic: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
        Ok(self
            .consumer("observer", &[])
            .fetch_watermarks(topic, partition, SOON)?)
    }
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(SOON))
        .request_timeout(Some(SOON))
}

/// The result of an administrator's call, on a thread that has no runtime.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// Asks again until the answer is yes.
pub(super) fn until(what: &str, holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    until_within(SOON, what, holds)
}

/// As [`until`], with another patience.
pub(super) fn until_within(
    within: Duration,
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = clock() + within;
    while !holds()? {
        ensure!(clock() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(STEP);
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "patience of a test that waits for another process"
)]
pub(super) fn clock() -> Instant {
    Instant::now()
}

/// Fails unless each partition's offsets are 0, 1, 2, … in the order they were read.
pub(super) fn check_gapless(read: &[Read]) -> anyhow::Result<()> {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for record in read {
        let next = next.entry(record.partition).or_default();
        ensure!(
            record.offset == *next,
            "offset {} where {next} was due",
            record.offset
        );
        *next += 1;
    }
    Ok(())
}

/// Fails unless the values are all of `v0 … v(count-1)`, each once.
pub(super) fn check_each_once(read: &[Read], count: usize) -> anyhow::Result<()> {
    let values: HashSet<String> = read.iter().map(Read::text).collect();
    ensure!(
        read.len() == count,
        "{} records read, {count} sent",
        read.len()
    );
    ensure!(
        (0..count).all(|i| values.contains(&format!("v{i}"))),
        "other values than were sent"
    );
    Ok(())
}
