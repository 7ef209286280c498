//! The log goes away and comes back.

use std::time::Duration;

use bus::{Bus, BusError, Config, Event, Followed, Partition, SendError, Start};
use schemas::topic::{KEYS, REFUSALS};

use crate::checks::{self, Fresh, read, soon, start_at, subscription};
use crate::embedded::Log;

fn impatient(log: &Log) -> Config {
    Config {
        delivery_within: Duration::from_secs(2),
        lost_after: Duration::from_secs(1),
        ..Fresh::new(log.bootstrap()).config()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_to_do_when_nothing_answers() {
    let config = Config {
        bootstrap: "127.0.0.1:1".to_owned(),
        ready_within: Duration::from_secs(1),
        ..Config::default()
    };
    let clock = std::sync::Arc::new(bus::clock::SystemClock);
    let error = Bus::connect(config, clock).await.err().unwrap();
    assert!(matches!(error, BusError::Unreachable { .. }));
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1:1") && text.contains("[kafka]"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_when_the_log_is_back() {
    let mut log = Log::start().await;
    let bus = checks::connect(impatient(&log)).await;
    let at = Partition {
        topic: REFUSALS.name(),
        index: 1,
    };
    let first = checks::write(&bus, &REFUSALS, at.index, 0..10).await;
    let mut consumer = bus
        .consume(subscription("outage", REFUSALS.spec(), Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, first).await;
    assert!(read(&mut consumer, at, 10).await.into_iter().eq(0..10));
    let mut follower = bus.follow(&KEYS).unwrap();
    let caught_up = soon("the first read", follower.next()).await.unwrap();
    assert!(matches!(caught_up, Followed::CaughtUp));

    log.pause().await;
    let refused = soon("an answer", bus.producer().lift(&KEYS, "k"))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SendError::Unavailable { .. }),
        "{refused}"
    );
    assert!(refused.is_retriable());
    soon("unavailable", async {
        while bus.available() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let lost = soon("the loss", follower.next()).await.unwrap();
    assert!(matches!(lost, Followed::Lost), "{lost:?}");

    log.resume().await;
    soon("available", async {
        while !bus.available() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let back = soon("the return", follower.next()).await.unwrap();
    assert!(matches!(back, Followed::Back), "{back:?}");
    let next = checks::write(&bus, &REFUSALS, at.index, 10..20).await;
    assert_eq!(next, first + 10);
    let mut numbers = Vec::new();
    while numbers.len() < 10 {
        match soon("what came after", consumer.next()).await {
            // The log forgot its members: this one joins again and says where it was.
            Event::Assigned(assigned) => assigned.start(&[(at, Some(next + numbers.len() as i64))]),
            Event::Records(batch) => numbers.extend(batch.records.iter().map(checks::number)),
            Event::Revoked(revoked) => revoked.done(),
            Event::CaughtUp(_) => {}
            Event::Failed(error) => panic!("{error}"),
        }
    }
    assert!(numbers.into_iter().eq(10..20));
    consumer.close().await;
    log.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_a_log_that_is_away() {
    let mut log = Log::start().await;
    let bus = checks::connect(impatient(&log)).await;
    let mut consumer = bus
        .consume(subscription("away", REFUSALS.spec(), Start::Stored))
        .unwrap();
    checks::assigned(&mut consumer).await.start(&[]);
    let follower = bus.follow(&KEYS).unwrap();
    log.pause().await;
    soon("the end of the reader", consumer.close()).await;
    drop(follower);
    drop(bus);
}
