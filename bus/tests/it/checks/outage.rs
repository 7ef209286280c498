//! The log goes away and comes back.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

use std::time::Duration;

use bus::{Bus, Config, Consumer, Event, Followed, Follower, Partition, SendError, Start};
use schemas::record::Key;
use schemas::topic::{KEYS, REFUSALS};

use super::{Fresh, connect, number, read, refusals, soon, start_at, subscription, write};

/// A log of the check's own, which it may switch off.
pub(crate) trait Switch {
    fn bootstrap(&self) -> String;
    async fn off(&mut self);
    /// With the same records at the same address.
    async fn on(&mut self);
}

fn impatient(log: &impl Switch) -> Config {
    Config {
        delivery_within: Duration::from_secs(2),
        lost_after: Duration::from_secs(1),
        ..Fresh::new(log.bootstrap()).config()
    }
}

async fn until_available(bus: &Bus, wanted: bool) {
    soon("the change of the log's state", async {
        while bus.available() != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn until_followed(follower: &mut Follower<Key>, wanted: &Followed<Key>) {
    soon("news of the log's state", async {
        while follower.next().await.unwrap() != *wanted {}
    })
    .await;
}

/// The log may have forgotten its members: then this one joins again and says where it was.
async fn read_on(consumer: &mut Consumer, at: Partition, first: i64, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match soon("what came after", consumer.next()).await {
            Event::Assigned(assigned) => {
                let next = first + numbers.len() as i64;
                assigned.start(&[(at, Some(next))]);
            }
            Event::Records(batch) if batch.partition == at => {
                numbers.extend(batch.records.iter().map(number));
            }
            Event::Revoked(revoked) => revoked.done(),
            Event::Records(_) | Event::CaughtUp(_) => {}
            Event::Failed(error) => panic!("{error}"),
        }
    }
    numbers
}

pub(crate) async fn everything_goes_on_when_the_log_is_back(log: &mut impl Switch) {
    let bus = connect(impatient(log)).await;
    let at = refusals(1);
    let first = write(&bus, &REFUSALS, at.index, 0..10).await;
    let mut consumer = bus
        .consume(subscription("outage", REFUSALS.spec(), Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, first).await;
    assert!(read(&mut consumer, at, 10).await.into_iter().eq(0..10));
    let mut follower = bus.follow(&KEYS).unwrap();
    until_followed(&mut follower, &Followed::CaughtUp).await;

    log.off().await;
    let refused = soon("an answer", bus.producer().lift(&KEYS, "k")).await;
    match refused.unwrap_err() {
        error @ SendError::Unavailable { .. } => assert!(error.is_retriable()),
        error => panic!("{error}"),
    }
    until_available(&bus, false).await;
    until_followed(&mut follower, &Followed::Lost).await;

    log.on().await;
    until_available(&bus, true).await;
    until_followed(&mut follower, &Followed::Back).await;
    let next = write(&bus, &REFUSALS, at.index, 10..20).await;
    assert_eq!(next, first + 10);
    let numbers = read_on(&mut consumer, at, next, 10).await;
    assert!(numbers.into_iter().eq(10..20));
    consumer.close().await;
}

pub(crate) async fn closing_does_not_wait_for_a_log_that_is_away(log: &mut impl Switch) {
    let bus = connect(impatient(log)).await;
    let mut consumer = bus
        .consume(subscription("away", REFUSALS.spec(), Start::Stored))
        .unwrap();
    super::assigned(&mut consumer).await.start(&[]);
    let follower = bus.follow(&KEYS).unwrap();
    log.off().await;
    soon("the end of the reader", consumer.close()).await;
    drop(follower);
    drop(bus);
}
