//! Reading as a group: where to begin, who reads what, and what stops it.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use bus::{
    Assigned, Bus, BusError, Config, Consumer, Event, Partition, Revoked, Start, Subscription,
};
use rdkafka::admin::{AdminClient, AdminOptions};
use schemas::topic::{ALERTS, REFUSALS, SIGNALS, TopicSpec};

use super::{Fresh, assigned, connect, next, read, refusals, soon, start_at, subscription, write};

async fn revoked(consumer: &mut Consumer) -> Revoked {
    loop {
        match next(consumer).await {
            Event::Revoked(revoked) => return revoked,
            Event::Records(_) => {}
            event => panic!("{event:?}, not revoked"),
        }
    }
}

pub(crate) async fn resumes_where_the_service_says(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = refusals(5);
    let first = write(&bus, &REFUSALS, at.index, 0..300).await;
    let group = fresh.name("stored");
    for (from, count) in [(0, 300), (120, 180), (299, 1), (120, 180)] {
        let mut consumer = bus
            .consume(subscription(&group, REFUSALS.spec(), Start::Stored))
            .unwrap();
        start_at(&mut consumer, at, first + from).await;
        let numbers = read(&mut consumer, at, count).await;
        assert!(numbers.into_iter().eq(from as u32..300));
        // What the group committed is for tools: it changes nothing.
        consumer.commit(at, first + 7);
        consumer.close().await;
    }
}

pub(crate) async fn resumes_where_the_group_committed(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = refusals(6);
    let first = write(&bus, &REFUSALS, at.index, 0..200).await;
    let group = fresh.name("committed");
    let subscribe = || subscription(&group, REFUSALS.spec(), Start::Committed);
    let mut consumer = bus.consume(subscribe()).unwrap();
    // Unanswered: from the earliest record that the log has.
    drop(assigned(&mut consumer).await);
    let mut seen = 0;
    while seen < 200 {
        if let Event::Records(batch) = next(&mut consumer).await
            && batch.partition == at
        {
            seen += batch.records.iter().filter(|r| first <= r.offset).count();
        }
    }
    consumer.commit(at, first + 50);
    consumer.commit(at, first + 150);
    consumer.close().await;
    let mut consumer = bus.consume(subscribe()).unwrap();
    drop(assigned(&mut consumer).await);
    let numbers = read(&mut consumer, at, 50).await;
    assert!(numbers.into_iter().eq(150..200));
}

fn all_of(parts: &[&Assigned]) -> BTreeSet<i32> {
    let all: Vec<_> = parts
        .iter()
        .flat_map(|assigned| assigned.partitions())
        .map(|partition| partition.index)
        .collect();
    let set: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(all.len(), set.len(), "a partition has two owners");
    set
}

pub(crate) async fn hands_partitions_over(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let group = fresh.name("hand-over");
    let subscribe = || subscription(&group, REFUSALS.spec(), Start::Stored);
    let every: BTreeSet<_> = (0..bus.partitions(REFUSALS.spec())).collect();
    let mut old = bus.consume(subscribe()).unwrap();
    let alone = assigned(&mut old).await;
    assert_eq!(all_of(&[&alone]), every);
    alone.start(&[]);
    let mut new = bus.consume(subscribe()).unwrap();
    let leaving = revoked(&mut old).await;
    assert!(!leaving.lost());
    assert_eq!(leaving.partitions().len(), every.len());
    let too_early = tokio::time::timeout(Duration::from_secs(2), new.next()).await;
    assert!(
        too_early.is_err(),
        "{too_early:?} before the old owner was done"
    );
    leaving.done();
    let (of_old, of_new) = (assigned(&mut old).await, assigned(&mut new).await);
    assert_eq!(all_of(&[&of_old, &of_new]), every);
    of_old.start(&[]);
    of_new.start(&[]);
    new.close().await;
    revoked(&mut old).await.done();
    assert_eq!(all_of(&[&assigned(&mut old).await]), every);
    old.close().await;
}

pub(crate) async fn does_not_wait_for_ever_for_a_hand_over(fresh: &Fresh) {
    let bus = connect(Config {
        hand_over_within: Duration::from_secs(1),
        ..fresh.config()
    })
    .await;
    let group = fresh.name("silent");
    let subscribe = || subscription(&group, REFUSALS.spec(), Start::Stored);
    let mut old = bus.consume(subscribe()).unwrap();
    assigned(&mut old).await.start(&[]);
    let mut new = bus.consume(subscribe()).unwrap();
    let unanswered = revoked(&mut old).await;
    let of_new = assigned(&mut new).await;
    assert!(!of_new.partitions().is_empty());
    // Too late to matter.
    unanswered.done();
    assert!(!assigned(&mut old).await.partitions().is_empty());
}

pub(crate) async fn a_full_channel_loses_nothing(fresh: &Fresh) {
    let mut config = fresh.config();
    config.batches_max = 4;
    // The shortest that there is: a member that did not poll would be thrown out while this check sleeps.
    let interval = "consumer.max.poll.interval.ms".to_owned();
    config.settings.insert(interval, "6000".to_owned());
    let bus = connect(config).await;
    let at = refusals(7);
    let first = write(&bus, &REFUSALS, at.index, 0..5_000).await;
    let group = fresh.name("full");
    let mut consumer = bus
        .consume(subscription(&group, REFUSALS.spec(), Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, first).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let numbers = read(&mut consumer, at, 5_000).await;
    assert!(numbers.into_iter().eq(0..5_000));
}

pub(crate) async fn tells_which_partition_is_caught_up(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let group = fresh.name("ends");
    let mut consumer = bus
        .consume(Subscription {
            topics: vec![REFUSALS.spec(), SIGNALS.spec()],
            ..subscription(&group, REFUSALS.spec(), Start::Stored)
        })
        .unwrap();
    let assigned = assigned(&mut consumer).await;
    let mut ahead: BTreeSet<_> = assigned.partitions().iter().copied().collect();
    assert_eq!(
        ahead.len() as i32,
        bus.partitions(REFUSALS.spec()) + bus.partitions(SIGNALS.spec())
    );
    assigned.start(&[]);
    while !ahead.is_empty() {
        if let Event::CaughtUp(partition) = soon("an end", consumer.next()).await {
            assert!(
                ahead.remove(&partition),
                "{partition} twice without a record"
            );
        }
    }
    let at = Partition {
        topic: SIGNALS.name(),
        index: 2,
    };
    for round in 0..3 {
        write(&bus, &SIGNALS, at.index, round..round + 1).await;
        assert_eq!(read(&mut consumer, at, 1).await, [round]);
        match soon("an end", consumer.next()).await {
            Event::CaughtUp(partition) => assert_eq!(partition, at),
            event => panic!("{event:?}, not caught up"),
        }
    }
}

/// Reads until the reader stops, from `offset` in `at`.
async fn stopped(bus: &Bus, group: &str, at: Partition, offset: i64) -> BusError {
    stopped_on(bus, REFUSALS.spec(), group, (at, offset)).await
}

async fn stopped_on(
    bus: &Bus,
    topic: TopicSpec,
    group: &str,
    (at, offset): (Partition, i64),
) -> BusError {
    let mut consumer = bus
        .consume(subscription(group, topic, Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, offset).await;
    let error = loop {
        match next(&mut consumer).await {
            Event::Failed(error) => break error,
            Event::Records(batch) => assert_ne!(batch.partition, at, "read all the same"),
            event => panic!("{event:?}"),
        }
    };
    let after = next(&mut consumer).await;
    assert!(
        matches!(after, Event::Failed(BusError::Closed)),
        "{after:?}"
    );
    error
}

#[track_caller]
fn check_bounds(error: &BusError, at: Partition, expected: (i64, i64, i64)) {
    match error {
        BusError::Offset {
            topic,
            partition,
            offset,
            low,
            high,
        } => {
            assert_eq!((topic.as_str(), *partition), (at.topic, at.index));
            assert_eq!((*offset, *low, *high), expected);
        }
        error => panic!("{error}"),
    }
}

pub(crate) async fn an_offset_beyond_the_end_stops_the_reader(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = refusals(8);
    let first = write(&bus, &REFUSALS, at.index, 0..10).await;
    let error = stopped(&bus, &fresh.name("beyond"), at, first + 1_000).await;
    check_bounds(&error, at, (first + 1_000, 0, first + 10));
}

pub(crate) async fn a_negative_offset_stops_the_reader(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let at = refusals(9);
    let first = write(&bus, &REFUSALS, at.index, 0..10).await;
    let error = stopped(&bus, &fresh.name("negative"), at, -1).await;
    check_bounds(&error, at, (-1, 0, first + 10));
}

pub(crate) async fn records_deleted_unread_stop_the_reader(fresh: &Fresh) {
    let bus = fresh.bus().await;
    // Whoever reads the topic that other checks use would be stopped as well.
    let at = Partition {
        topic: ALERTS.name(),
        index: 0,
    };
    let first = write(&bus, &ALERTS, at.index, 0..10).await;
    let mut admin = rdkafka::ClientConfig::new();
    let admin: AdminClient<_> = admin
        .set("bootstrap.servers", fresh.config().bootstrap)
        .create()
        .unwrap();
    let mut upto = rdkafka::TopicPartitionList::new();
    upto.add_partition_offset(at.topic, at.index, rdkafka::Offset::Offset(first + 4))
        .unwrap();
    admin
        .delete_records(&upto, &AdminOptions::new())
        .await
        .unwrap();
    let error = stopped_on(&bus, ALERTS.spec(), &fresh.name("deleted"), (at, first + 3)).await;
    check_bounds(&error, at, (first + 3, first + 4, first + 10));
    let mut consumer = bus
        .consume(subscription(
            &fresh.name("kept"),
            ALERTS.spec(),
            Start::Stored,
        ))
        .unwrap();
    start_at(&mut consumer, at, first + 4).await;
    assert!(read(&mut consumer, at, 6).await.into_iter().eq(4..10));
}
