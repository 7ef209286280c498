//! The embedded log is killed under load, again and again, and the power of its machine is cut: nothing acknowledged
//! is lost, nothing is doubled, order holds, committed offsets do not go back.
//!
//! `LOG_KILLS` and `LOG_CUTS` say how often (5 times each unless they do), `LOG_SEED` repeats the same cuts. The figures
//! are printed, which `--nocapture` shows.
#![cfg(test)]

mod power;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tests::embedded::LogProcess;
use tests::eventually;
use tests::setting;
use tests::traffic::{
    Account, Acknowledged, Committed, Consumers, PATIENCE, Place, Producers, read_all,
};

use power::Synced;

const TOPIC: &str = "crash";
const PARTITIONS: i32 = 4;
const PRODUCERS: u64 = 8;
const CONSUMERS: usize = 3;
const ROUNDS_DEFAULT: u64 = 5;
/// What a log that does not sync always may lose, in milliseconds.
const SYNC_EVERY: &str = "50";
/// What a client has read from its connection is told to its user within so much.
const QUIET: Duration = Duration::from_millis(300);

/// A log under load, and what was promised by it.
struct Trial {
    log: LogProcess,
    place: Place,
    acknowledged: Acknowledged,
    committed: Committed,
    began: Instant,
    /// Ids that producers have had.
    producers: u64,
    folder: TempDir,
}

impl Trial {
    async fn start(fsync: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = LogProcess::start(&folder.path().join("data"), fsync).await;
        let place = Place {
            bootstrap: log.bootstrap(),
            topic: TOPIC.to_owned(),
            partitions: PARTITIONS,
            group: "crash".to_owned(),
            records_per_breath: 20,
            breath: Duration::from_millis(5),
        };
        // Small segments, so that kills also meet the change from one to the next.
        place.create_topic(&[("segment.bytes", "1048576")]).await;
        Self {
            log,
            place,
            acknowledged: Acknowledged::default(),
            committed: Committed::default(),
            began: now(),
            producers: 0,
            folder,
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn produce(&mut self) -> Producers {
        let ids = self.producers..self.producers + PRODUCERS;
        self.producers = ids.end;
        Producers::start(&self.place, ids, &self.acknowledged)
    }

    fn consume(&self) -> Consumers {
        Consumers::start(&self.place, CONSUMERS, &self.committed)
    }

    async fn group_reads_all(&self) {
        let end: i64 = self.place.ends().iter().sum();
        eventually("the group has read all", PATIENCE, async || {
            match self.committed.told().values().sum::<i64>() {
                told if told == end => Ok(()),
                told => Err(format!("{told} of {end}")),
            }
        })
        .await;
    }

    /// Waits until the clients of a log that is dead know all that it has said.
    async fn clients_have_heard(&self) {
        let port = self.place.bootstrap.rsplit_once(':').unwrap().1;
        let port = port.parse().unwrap();
        eventually(
            "clients see their connections end",
            PATIENCE,
            async || match open_connections(port) {
                0 => Ok(()),
                open => Err(format!("{open} are open")),
            },
        )
        .await;
        loop {
            let before = (self.acknowledged.count(), self.committed.told());
            tokio::time::sleep(QUIET).await;
            if before == (self.acknowledged.count(), self.committed.told()) {
                return;
            }
        }
    }

    #[track_caller]
    fn check_committed(&self) {
        let back = self.committed.gone_back(&self.place);
        assert_eq!(back, [], "offsets that were told to be committed went back");
    }

    /// Stops the load, kills the log once more, and compares what it then has with what it promised.
    async fn end(&mut self, producers: Producers, consumers: Consumers) -> Account {
        producers.finish();
        self.group_reads_all().await;
        consumers.finish();
        self.log.kill9();
        self.log.restart().await;
        self.check_committed();
        self.account()
    }

    fn account(&self) -> Account {
        assert_eq!(self.acknowledged.refused(), [""; 0], "records were refused");
        Account::of(&read_all(&self.place), &self.acknowledged)
    }

    #[expect(
        clippy::print_stderr,
        reason = "the figures are what a soak is run for"
    )]
    fn report(&self, what: &str, rounds: u64, account: &Account, bytes_cut: u64) {
        let seconds = self.began.elapsed().as_secs();
        eprintln!(
            "{what}\n\
             rounds  acknowledged  lost  doubled  out of order  bytes cut  seconds\n\
             {rounds:6}  {:12}  {:4}  {:7}  {:12}  {bytes_cut:9}  {seconds:7}",
            account.acknowledged, account.lost, account.doubled, account.disordered,
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a soak took is printed, and nothing depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

/// Connections to `port` of this machine whose ends have not been seen by who made them.
fn open_connections(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    const CLOSE_WAIT: &str = "08";
    let wanted = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let is_open = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[2].ends_with(&wanted) && [ESTABLISHED, CLOSE_WAIT].contains(&fields[3])
    };
    table.lines().skip(1).filter(is_open).count()
}

async fn kill_under_load(fsync: &'static str, kills: u64) {
    let mut trial = Trial::start(fsync).await;
    let (producers, consumers) = (trial.produce(), trial.consume());
    for round in 0..kills {
        trial.acknowledged.goes_on().await;
        // Another moment every round.
        tokio::time::sleep(Duration::from_millis(300 + round * 97 % 500)).await;
        trial.log.kill9();
        trial.log.restart().await;
        trial.check_committed();
    }
    trial.acknowledged.goes_on().await;
    let account = trial.end(producers, consumers).await;
    trial.report(&format!("kill -9, fsync {fsync}"), kills, &account, 0);
    account.expect_exact();
    assert!(account.acknowledged > 1000, "{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_log_killed_under_load() {
    kill_under_load(SYNC_EVERY, setting("LOG_KILLS", ROUNDS_DEFAULT)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_log_killed_under_load_syncing_always() {
    kill_under_load("always", setting("LOG_KILLS", ROUNDS_DEFAULT).min(3)).await;
}

/// The same cuts for the same seed, as far as the load is the same.
fn chance(what: &str) -> (StdRng, String) {
    let seed = setting("LOG_SEED", rand::random::<u64>());
    (
        StdRng::seed_from_u64(seed),
        format!("power cut, fsync {what}, LOG_SEED={seed}"),
    )
}

/// Where every write is synced before it is acknowledged, a power cut takes nothing that was. The same producers and
/// members go on through all of it.
#[tokio::test(flavor = "multi_thread")]
async fn crash_log_power_cut_syncing_always() {
    let cuts = setting("LOG_CUTS", ROUNDS_DEFAULT).div_ceil(2);
    let (mut chance, what) = chance("always");
    let mut trial = Trial::start("always").await;
    let (producers, consumers) = (trial.produce(), trial.consume());
    let mut bytes_cut = 0;
    for _ in 0..cuts {
        trial.acknowledged.goes_on().await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(200..700))).await;
        trial.log.kill9();
        trial.clients_have_heard().await;
        let highest = trial.acknowledged.highest(PARTITIONS);
        let told = trial.committed.told();
        let synced = Synced::acknowledged(&trial.data(), TOPIC, &highest, &told);
        bytes_cut += cut(&mut trial, &synced, &mut chance).await;
        trial.check_committed();
    }
    trial.acknowledged.goes_on().await;
    let account = trial.end(producers, consumers).await;
    trial.report(&what, cuts, &account, bytes_cut);
    account.expect_exact();
}

/// Where writes are synced within some time, a power cut takes what was acknowledged in that time, and only from the
/// end. A producer whose records are gone cannot go on, here as with Kafka: new ones come, and a new group.
#[tokio::test(flavor = "multi_thread")]
async fn crash_log_power_cut() {
    let cuts = setting("LOG_CUTS", ROUNDS_DEFAULT) / 2;
    let (mut chance, what) = chance(SYNC_EVERY);
    let mut trial = Trial::start(SYNC_EVERY).await;
    let (mut bytes_cut, mut taken) = (0, 0);
    for round in 0..cuts {
        trial.place.group = format!("crash-{round}");
        trial.committed = Committed::default();
        let (producers, consumers) = (trial.produce(), trial.consume());
        trial.acknowledged.goes_on().await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(200..700))).await;
        let committed = trial.place.committed();
        let synced = Synced::now(&trial.data(), TOPIC, PARTITIONS);
        tokio::time::sleep(Duration::from_millis(chance.random_range(5..45))).await;
        trial.log.kill9();
        trial.clients_have_heard().await;
        producers.abandon();
        consumers.stop();
        let kept = synced.offsets(PARTITIONS);
        bytes_cut += cut(&mut trial, &synced, &mut chance).await;
        let ends = trial.place.ends();
        for (end, kept) in ends.iter().zip(&kept) {
            assert!(
                end >= kept,
                "{what}: it ends at {ends:?}, {kept:?} was synced"
            );
        }
        taken += trial.acknowledged.forget_from(&ends);
        let after = trial.place.committed();
        for (partition, offset) in committed {
            let kept = after.get(&partition);
            assert!(
                kept.is_some_and(|kept| *kept >= offset),
                "{what}: {offset} became {kept:?}"
            );
        }
        consumers.finish();
        trial.account().expect_exact();
    }
    trial.place.group = "crash-end".to_owned();
    trial.committed = Committed::default();
    let (producers, consumers) = (trial.produce(), trial.consume());
    trial.acknowledged.goes_on().await;
    let account = trial.end(producers, consumers).await;
    let what = format!("{what}; {taken} records of the last {SYNC_EVERY} ms went with the power");
    trial.report(&what, cuts, &account, bytes_cut);
    account.expect_exact();
}

/// Cuts the power of a log that is dead and starts it again. Returns how many bytes it took.
async fn cut(trial: &mut Trial, synced: &Synced, chance: &mut StdRng) -> u64 {
    let taken = power::cut(&trial.data(), TOPIC, PARTITIONS, synced, chance);
    trial.log.restart().await;
    let output = trial.log.output();
    let told = output.matches("cut a torn end off").count() as u64;
    assert!(
        told >= taken.torn,
        "{} ends were torn:\n{output}",
        taken.torn
    );
    taken.bytes
}
