//! The embedded log on a disk that gets full: what it cannot store it refuses, with Kafka's storage error; what it has
//! acknowledged is there, what it has refused is not; and it goes on by itself when there is room.
//!
//! `DISK_FULL_ROUNDS` says how often the disk gets full (3 times unless it does). The disk is real, 16 MiB of memory
//! that is mounted in a namespace of its own: that takes root, or a system that lets users have namespaces.
#![cfg(test)]

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;
use tests::embedded::LogProcess;
use tests::eventually;
use tests::installed::program;
use tests::process::{Process, Signal};
use tests::setting;
use tests::traffic::{
    Account, Acknowledged, Committed, Consumers, PATIENCE, Place, Producers, read_all,
};

const ROUNDS_DEFAULT: u64 = 3;
const DISK_BYTES: u64 = 16 << 20;
/// What the compacted topic holds of each of its keys.
const VALUE_BYTES: usize = 8 << 10;
const KEYS: usize = 300;

/// A small disk of its own, gone when this is dropped.
struct SmallDisk {
    /// Leads to the disk, from outside of its namespace.
    data: PathBuf,
    filler: PathBuf,
    _holder: Process,
    _folder: TempDir,
}

impl SmallDisk {
    async fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let mut command = Command::new(program("unshare", &[]));
        let script = format!(
            "mount -t tmpfs -o size={DISK_BYTES} tmpfs \"$0\" && mkdir \"$0/data\" && echo mounted && exec sleep infinity"
        );
        command
            .args(["--map-root-user", "--mount", "sh", "-c", &script])
            .arg(&disk);
        let log = folder.path().join("holder.log");
        let mut holder = Process::start("the small disk", &mut command, &log, Signal::KILL);
        eventually("the disk is mounted", PATIENCE, async || {
            let output = holder.output();
            if let Some(status) = holder.ended() {
                panic!("cannot mount a disk of its own (as root, or where users may have namespaces, one can): {status}: {output}");
            }
            output.contains("mounted").then_some(()).ok_or(output)
        })
        .await;
        let inside = Path::new("/proc")
            .join(holder.id().to_string())
            .join("root");
        let inside = inside.join(disk.strip_prefix("/").unwrap());
        let data = folder.path().join("data");
        symlink(inside.join("data"), &data).unwrap();
        Self {
            data,
            filler: inside.join("filler"),
            _holder: holder,
            _folder: folder,
        }
    }

    /// Leaves no byte free. What the log makes free meanwhile is taken as well.
    fn fill(&self) {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(&self.filler)
            .unwrap();
        let mut piece = 1 << 20;
        while piece > 0 {
            match filler.write(&vec![0; piece]) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(e) => panic!("{e}"),
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(&self.filler).unwrap();
    }
}

fn place(log: &LogProcess, topic: &str, partitions: i32) -> Place {
    Place {
        bootstrap: log.bootstrap(),
        topic: topic.to_owned(),
        partitions,
        group: "disk".to_owned(),
        records_per_breath: 5,
        breath: Duration::from_millis(10),
    }
}

/// Sends a record once, and tells how that ended.
async fn send_once(place: &Place, key: &str, value: &[u8]) -> Result<(), RDKafkaErrorCode> {
    let producer: FutureProducer = place
        .client()
        .set("message.send.max.retries", "0")
        .create()
        .unwrap();
    let record = FutureRecord::to(&place.topic).key(key).payload(value);
    match producer.send(record, PATIENCE).await {
        Ok(_) => Ok(()),
        Err((KafkaError::MessageProduction(code), _)) => Err(code),
        Err((other, _)) => panic!("{other}"),
    }
}

/// Waits until `attempt` is refused for want of room; what little room is left may serve a few attempts before.
async fn is_refused(what: &str, attempt: impl AsyncFn() -> Result<(), RDKafkaErrorCode>) {
    eventually(what, PATIENCE, async || match attempt().await {
        Err(RDKafkaErrorCode::KafkaStorageError) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn create_topic(place: &Place, name: &str) -> Result<(), RDKafkaErrorCode> {
    let admin: AdminClient<DefaultClientContext> = place.client().create().unwrap();
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&topic], &AdminOptions::new()).await;
    let made = made.unwrap().remove(0);
    made.map(drop).map_err(|(_, code)| code)
}

fn commit(place: &Place, offset: i64) -> Result<(), RDKafkaErrorCode> {
    let consumer: BaseConsumer = place.client().set("group.id", "other").create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&place.topic, 0, Offset::Offset(offset))
        .unwrap();
    match consumer.commit(&offsets, CommitMode::Sync) {
        Ok(()) => Ok(()),
        Err(KafkaError::ConsumerCommit(code)) => Err(code),
        Err(other) => panic!("{other}"),
    }
}

/// Waits until the log says so behind what it said before.
async fn log_says(log: &LogProcess, before: &str, what: &str) {
    eventually(what, PATIENCE, async || {
        let output = log.output();
        let new = output.strip_prefix(before).unwrap_or(&output);
        new.contains(what).then_some(()).ok_or(output)
    })
    .await;
}

/// Writes all keys of the compacted topic anew.
async fn write_keys(place: &Place) {
    let producer: FutureProducer = place.client().create().unwrap();
    let value = vec![b'v'; VALUE_BYTES];
    for key in 0..KEYS {
        let key = key.to_string();
        let record = FutureRecord::to(&place.topic).key(&key).payload(&value);
        producer.send(record, PATIENCE).await.unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

struct Trial {
    disk: SmallDisk,
    log: LogProcess,
    many: Place,
    once: Place,
    acknowledged: Acknowledged,
}

impl Trial {
    /// Everything that writes is refused, each with the storage error; what is there can be read.
    async fn refuses_all(&self) {
        is_refused("a record is refused", async || {
            send_once(&self.once, "k", &[7; 512]).await
        })
        .await;
        let stored = self.once.ends()[0];
        is_refused("a record is refused again", async || {
            send_once(&self.once, "k", &[7; 4096]).await
        })
        .await;
        assert_eq!(self.once.ends()[0], stored, "what is refused is not stored");
        is_refused("a topic is refused", async || {
            // Its name makes the catalog longer than the room that is left in its file.
            create_topic(&self.once, &"n".repeat(200)).await
        })
        .await;
        let mut offset = 0;
        eventually("a commit is refused", PATIENCE, async || {
            offset += 1;
            match commit(&self.once, offset) {
                Err(RDKafkaErrorCode::KafkaStorageError) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let read = read_all(&self.many);
        assert!(!read.is_empty(), "what is there can be read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_nothing_else_is_lost() {
    let rounds = setting("DISK_FULL_ROUNDS", ROUNDS_DEFAULT);
    let disk = SmallDisk::mount().await;
    let log = LogProcess::start(&disk.data, "50").await;
    let mut trial = Trial {
        many: place(&log, "many", 3),
        once: place(&log, "once", 1),
        acknowledged: Acknowledged::default(),
        disk,
        log,
    };
    let small = ("segment.bytes", "1048576");
    trial.many.create_topic(&[small]).await;
    trial.once.create_topic(&[small]).await;
    let latest = place(&trial.log, "latest", 1);
    let compacted = [
        small,
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.1"),
    ];
    latest.create_topic(&compacted).await;
    let producers = Producers::start(&trial.many, 0..3, &trial.acknowledged);
    let committed = Committed::default();
    let consumers = Consumers::start(&trial.many, 2, &committed);
    for round in 0..rounds {
        trial.acknowledged.goes_on().await;
        write_keys(&latest).await;
        let mut before = trial.log.output();
        trial.disk.fill();
        trial.refuses_all().await;
        if round == 1 {
            trial.log.kill9();
            trial.log.restart().await;
            before.clear();
            trial.refuses_all().await;
        }
        // Compaction needs room for a copy. What it makes free at its end is taken until it cannot begin.
        let fails = "retention or compaction has failed";
        eventually(fails, PATIENCE, async || {
            trial.disk.fill();
            let output = trial.log.output();
            let new = output.strip_prefix(&before).unwrap_or(&output);
            new.contains(fails).then_some(()).ok_or(output)
        })
        .await;
        trial.disk.make_room();
        trial.acknowledged.goes_on().await;
        assert_eq!(send_once(&trial.once, "k", &[7; 4096]).await, Ok(()));
        log_says(&trial.log, &before, "takes batches again").await;
        log_says(&trial.log, &before, "retention and compaction work again").await;
    }
    producers.finish();
    consumers.finish();
    assert_eq!(trial.acknowledged.refused(), [] as [String; 0]);
    Account::of(&read_all(&trial.many), &trial.acknowledged).expect_exact();
    assert_eq!(committed.gone_back(&trial.many), []);
    let keys = read_keys(&latest);
    assert_eq!(keys, KEYS, "compaction keeps every key");
    trial.log.stop();
    let found = broker::verify(&trial.disk.data).unwrap();
    assert_eq!(
        found.all_findings().collect::<Vec<_>>(),
        [] as [&broker::Finding; 0]
    );
}

/// How many different keys a compacted topic holds.
fn read_keys(place: &Place) -> usize {
    use rdkafka::Message;
    let consumer: BaseConsumer = place.client().set("group.id", "keys").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&place.topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let end = place.ends()[0];
    let mut keys = std::collections::HashSet::new();
    loop {
        let message = consumer.poll(PATIENCE).expect("a record in time").unwrap();
        keys.insert(message.key().unwrap().to_vec());
        if message.offset() + 1 == end {
            return keys.len();
        }
    }
}
