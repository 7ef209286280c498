//! The trace out of order and with duplicates ([`tests::disorder`]), while aggregators come, go and are killed: no
//! figure differs from the recount's. On Kafka 1 to 4 processes share 12 partitions and one folder of snapshots; on the
//! embedded log the one process is killed.
//!
//! `REBALANCE_ROUNDS` (6 unless it does) sets how often their number changes, `DISORDER_KILLS` (5) how often the one
//! process is killed, and `DISORDER_SEED` the order of events.

use std::time::Duration;

use tempfile::TempDir;
use tests::client::Client;
use tests::disorder;
use tests::eventually;
use tests::figures::Figures;
use tests::kafka::Kafka;
use tests::postgres::Postgres;
use tests::setting;
use tests::trace::{self, Expected};
use tests::weir::{Options, Weir};

const ROUNDS: usize = 6;
const KILLS: usize = 5;
const PROCESSES_MAX: usize = 4;
const BATCH: usize = 200;
const POSTED_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const COUNTED_WITHIN: Duration = Duration::from_secs(180);

/// The events in some order, and what is right then. The order is shown when the test fails.
#[expect(
    clippy::print_stderr,
    reason = "whoever looks into a failure needs the same order"
)]
fn load() -> (Vec<String>, Expected) {
    let seed = setting("DISORDER_SEED", rand::random());
    eprintln!("DISORDER_SEED={seed}");
    let events = disorder::events(seed);
    let expected = disorder::expected(&events);
    (events, expected)
}

/// Posts as an honest client does: again and again, until it is told that all is taken.
async fn post(client: &Client, events: &[String]) {
    for batch in events.chunks(BATCH) {
        eventually("a batch is taken", POSTED_WITHIN, async || {
            let answer = client.try_post(batch.join("\n")).await?;
            (answer.status == 202)
                .then_some(())
                .ok_or_else(|| answer.text())
        })
        .await;
    }
}

async fn nothing_differs(client: &Client, expected: &Expected) {
    eventually("the recount's figures", COUNTED_WITHIN, async || {
        let differences = Figures::read(client, expected).await.differences(expected);
        match differences.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} differences, {first}", differences.len())),
        }
    })
    .await;
}

/// An installation whose aggregators come and go.
struct Place {
    aggregators: Vec<Weir>,
    config: String,
    kafka: Kafka,
    _postgres: Postgres,
    _snapshots: TempDir,
}

impl Place {
    async fn start() -> Self {
        let (kafka, postgres) = tokio::join!(Kafka::start(), Postgres::start());
        let snapshots = tempfile::tempdir().expect("a folder");
        let url = postgres.fresh_database().await;
        let folder = snapshots.path().display();
        let config = format!(
            "[store]\nurl = \"{url}\"\n\
             [aggregator]\nsnapshot_interval_s = 1\nsnapshots = \"{folder}\"\n"
        );
        Self {
            aggregators: Vec::new(),
            config,
            kafka,
            _postgres: postgres,
            _snapshots: snapshots,
        }
    }

    async fn run(&self, service: &'static str) -> Weir {
        let options = Options {
            command: service,
            ..Options::up(trace::LIMIT)
        };
        let options = options.with_config(&self.config);
        Weir::start(options.on(Some(self.kafka.bootstrap()))).await
    }

    /// One comes, or one goes: in order, or killed.
    async fn change(&mut self) {
        let count = self.aggregators.len();
        let comes = count <= 1 || (count < PROCESSES_MAX && rand::random());
        if comes {
            let aggregator = self.run("aggregator").await;
            self.aggregators.push(aggregator);
            return;
        }
        let mut goes = self.aggregators.swap_remove(rand::random_range(0..count));
        if rand::random() {
            goes.kill9();
        } else {
            assert!(goes.terminate(STOP_WITHIN).is_some_and(|s| s.success()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_differs_while_partitions_change_hands_on_kafka() {
    let mut place = Place::start().await;
    let enforcer = place.run("enforcer").await;
    let ingest = place.run("ingest").await;
    place.change().await;
    let (events, expected) = load();
    let client = enforcer.client_at(&ingest);
    let rounds = setting("REBALANCE_ROUNDS", ROUNDS);
    let part = events.len().div_ceil(rounds + 1);
    for (round, events) in events.chunks(part).enumerate() {
        if round == 0 {
            post(&client, events).await;
        } else {
            tokio::join!(post(&client, events), place.change());
        }
    }
    let last = place.aggregators.last().expect("one runs always");
    nothing_differs(&enforcer.client_at(last), &expected).await;
}

#[tokio::test]
async fn nothing_differs_through_kills_on_the_embedded_log() {
    let options = Options::up(trace::LIMIT);
    let mut weir =
        Weir::start(options.with_config("[aggregator]\nsnapshot_interval_s = 1\n")).await;
    let (events, expected) = load();
    let part = events.len().div_ceil(setting("DISORDER_KILLS", KILLS) + 1);
    for (round, events) in events.chunks(part).enumerate() {
        if round != 0 {
            let after = Duration::from_millis(rand::random_range(0..100));
            let client = weir.client();
            tokio::select! {
                () = post(&client, events) => {}
                () = tokio::time::sleep(after) => {}
            }
            weir.kill9();
            weir.start_again().await;
        }
        post(&weir.client(), events).await;
    }
    nothing_differs(&weir.client(), &expected).await;
}
