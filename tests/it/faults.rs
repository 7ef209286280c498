//! A network that delays, loses, cuts and forgets, between clients and the log, and between Weir and its log: nothing
//! that was acknowledged is lost, nothing is doubled, order holds, every figure is that of the recount.
//!
//! `FAULT_ROUNDS` repeats the faults (once unless it does).
#![cfg(test)]

use std::time::Duration;

use tests::client::Client;
use tests::embedded::Embedded;
use tests::eventually;
use tests::figures::{Figures, conserved};
use tests::kafka::Kafka;
use tests::proxy::{Fault, Proxy, Way};
use tests::setting;
use tests::trace;
use tests::traffic::{
    Account, Acknowledged, Committed, Consumers, PATIENCE, Place, Producers, read_all,
};
use tests::weir::{Options, Weir};

/// Each in turn, and a network without fault after each.
const FAULTS: [Fault; 7] = [
    Fault::Delay(Duration::from_millis(80)),
    Fault::Slow(20_000),
    Fault::LoseReplies(4),
    Fault::Cut(3_000),
    Fault::Swallow(Way::Replies),
    Fault::Swallow(Way::Requests),
    Fault::HalfOpen,
];
const LASTS: Duration = Duration::from_millis(1_500);
const PRODUCERS: u64 = 4;
const CONSUMERS: usize = 2;

/// A log that runs, and where it is.
enum Log {
    Embedded(Embedded),
    Kafka(Kafka),
}

impl Log {
    fn embedded() -> Self {
        Self::Embedded(Embedded::start())
    }

    async fn kafka() -> Self {
        Self::Kafka(Kafka::start().await)
    }

    fn bootstrap(&self) -> String {
        match self {
            Self::Embedded(log) => log.bootstrap(),
            Self::Kafka(log) => log.bootstrap(),
        }
    }
}

/// Producers and a group behind a network that has every fault in turn.
async fn traffic(log: &Log) {
    let proxy = Proxy::start(&log.bootstrap()).expect("a proxy");
    let place = Place {
        bootstrap: proxy.address().to_owned(),
        topic: "faults".to_owned(),
        partitions: 3,
        group: "faults".to_owned(),
        records_per_breath: 10,
        breath: Duration::from_millis(10),
    };
    place.create_topic(&[]).await;
    let (acknowledged, committed) = (Acknowledged::default(), Committed::default());
    let producers = Producers::start(&place, 0..PRODUCERS, &acknowledged);
    let consumers = Consumers::start(&place, CONSUMERS, &committed);
    for fault in FAULTS.repeat(setting("FAULT_ROUNDS", 1)) {
        let before = proxy.faults();
        proxy.set(fault);
        tokio::time::sleep(LASTS).await;
        proxy.set(Fault::None);
        assert!(before < proxy.faults(), "{fault:?} met nobody");
        let before = acknowledged.count();
        eventually("writes go on", PATIENCE, async || {
            match acknowledged.count() {
                now if before < now => Ok(()),
                now => Err(format!("{now} acknowledged, after {fault:?}")),
            }
        })
        .await;
    }
    producers.finish();
    let direct = Place {
        bootstrap: log.bootstrap(),
        ..place
    };
    let end: i64 = direct.ends().iter().sum();
    eventually("the group has read all", PATIENCE, async || match committed
        .told()
        .values()
        .sum::<i64>()
    {
        told if told == end => Ok(()),
        told => Err(format!("{told} of {end}")),
    })
    .await;
    consumers.finish();
    assert_eq!(committed.gone_back(&direct), [], "committed offsets");
    assert_eq!(acknowledged.refused(), [""; 0]);
    let account = Account::of(&read_all(&direct), &acknowledged);
    account.expect_exact();
    assert!(1_000 < account.acknowledged, "{account}");
}

/// Weir's own clients give up sooner than in production, so that a fault is over sooner.
const IMPATIENT: &str = "\
[kafka.settings]
\"socket.timeout.ms\" = \"3000\"
\"producer.request.timeout.ms\" = \"2000\"
";
const BATCH: usize = 60;
const COUNTED_WITHIN: Duration = Duration::from_secs(120);

/// The whole of Weir behind such a network, and a client that sends again what was not taken.
async fn pipeline(log: &Log) {
    let proxy = Proxy::start(&log.bootstrap()).expect("a proxy");
    let options = Options::up(trace::LIMIT)
        .on(Some(proxy.address().to_owned()))
        .with_config(IMPATIENT);
    let weir = Weir::start(options).await;
    let client = weir.client();
    let events = trace::events();
    let faults = async {
        for fault in FAULTS.repeat(setting("FAULT_ROUNDS", 1)) {
            proxy.set(fault);
            tokio::time::sleep(LASTS).await;
            proxy.set(Fault::None);
            tokio::time::sleep(LASTS / 3).await;
        }
    };
    let load = async {
        for batch in events.chunks(BATCH) {
            post(&client, batch).await;
            // The load lasts as long as the faults do.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(faults, load);
    assert!(0 < proxy.faults(), "the faults met nobody");
    let expected = trace::expected();
    eventually("the recount's figures", COUNTED_WITHIN, async || {
        let found = Figures::read(&client, &expected).await;
        let found = found.differences(&expected);
        if found.is_empty() {
            return Ok(());
        }
        let shown = &found[..found.len().min(5)];
        Err(format!("{} differences: {shown:#?}", found.len()))
    })
    .await;
    conserved(&client.metrics().await, "weir.usage.v1").expect("every event has an outcome");
}

/// Posts as an honest client does: again and again, until it is told that all is taken.
async fn post(client: &Client, batch: &[String]) {
    eventually("a batch is taken", PATIENCE, async || {
        let answer = client.try_post(batch.join("\n")).await?;
        (answer.status == 202)
            .then_some(())
            .ok_or_else(|| answer.text())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_between_clients_and_the_embedded_log() {
    traffic(&Log::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_between_clients_and_kafka() {
    traffic(&Log::kafka().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_between_weir_and_the_embedded_log() {
    pipeline(&Log::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_between_weir_and_kafka() {
    pipeline(&Log::kafka().await).await;
}
