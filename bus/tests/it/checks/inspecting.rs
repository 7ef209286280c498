//! The log as tools see it: copies that keep offsets, and fillers where the original has none.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

use std::collections::BTreeMap;

use bus::inspect::{Committed, Inspector, RawReader, Slice, Span, TopicState};
use bus::{BusError, FILLER, Followed, Partition, Position, RawRecord, Record, Start};
use bytes::Bytes;
use schemas::time::Timestamp;
use schemas::topic::{KEYS, REFUSALS};

use super::{Event, Fresh, next, refusals, soon, start_at, subscription, write};

async fn inspector(fresh: &Fresh) -> Inspector {
    Inspector::connect(fresh.config()).await.unwrap()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn record(offset: i64, value: Option<&'static str>) -> Record {
    Record {
        offset,
        appended_at: Timestamp::from_millis(1_000_000 + offset),
        key: (offset % 2 == 0).then(|| Bytes::from(format!("key {offset}"))),
        value: value.map(Bytes::from),
        headers: vec![
            ("name".to_owned(), Some(Bytes::from_static(b"value"))),
            ("name".to_owned(), None),
        ],
    }
}

async fn read(reader: &mut RawReader, topic: &str, slices: &[Slice]) -> Vec<Record> {
    reader.start(topic, slices).await.unwrap();
    let mut all = Vec::new();
    loop {
        let records = soon("a slice", reader.next()).await.unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records.into_iter().map(|(_, record)| record));
    }
}

async fn only(inspector: &Inspector, topic: &str) -> TopicState {
    let mut found = inspector.topics(&[topic]).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// Settings of a topic whose records have times of their own, and are not dropped for being as old as these say.
const OF_THE_PAST: [(&str, &str); 2] = [
    ("message.timestamp.type", "CreateTime"),
    ("retention.ms", "-1"),
];

pub(crate) async fn a_copy_keeps_offsets_and_times(fresh: &Fresh) {
    let log = inspector(fresh).await;
    let topic = fresh.name("copy");
    let own = texts(&OF_THE_PAST);
    log.create(&topic, 2, &own).await.unwrap();
    let copier = log.copier().unwrap();
    let original = [
        record(3, Some("three")),
        record(4, None),
        Record::filler(5, Timestamp::from_millis(7)),
        record(6, Some("")),
    ];
    let gap = (0..3).map(|offset| Record::filler(offset, Timestamp::from_millis(5)));
    for record in gap.chain(original.clone()) {
        copier.put(&topic, 0, &record).await.unwrap();
    }
    copier.flush().await.unwrap();
    log.delete_before(&topic, &[(0, 3)]).await.unwrap();

    let state = only(&log, &topic).await;
    let spans = [Span { start: 3, end: 7 }, Span { start: 0, end: 0 }];
    assert_eq!(state.spans, spans);
    assert_eq!(state.settings["retention.ms"].value, "-1");
    assert!(state.settings["retention.ms"].own);
    let mut reader = log.reader().unwrap();
    let slice = |from, to| Slice {
        partition: 0,
        from,
        to,
    };
    assert_eq!(read(&mut reader, &topic, &[slice(3, 7)]).await, original);
    assert_eq!(
        read(&mut reader, &topic, &[slice(4, 6)]).await,
        original[1..3]
    );
    assert_eq!(read(&mut reader, &topic, &[slice(7, 9)]).await, []);
    let at = Timestamp::from_millis(1_000_004);
    assert_eq!(log.offsets_at(&state, at).await.unwrap(), [4, 0]);

    reader.start(&topic, &[slice(1, 7)]).await.unwrap();
    let error = soon("an error", reader.next()).await.unwrap_err();
    assert!(
        error.to_string().contains("the log holds 3 to 7"),
        "{error}"
    );

    copier.put(&topic, 0, &record(9, None)).await.unwrap();
    let error = copier.flush().await.unwrap_err().to_string();
    assert!(
        error.contains("offset 9 cannot be copied: it came to lie at 7"),
        "{error}"
    );
}

pub(crate) async fn settings_and_commits_are_seen_and_set(fresh: &Fresh) {
    let log = inspector(fresh).await;
    let (topic, group) = (fresh.name("settings"), fresh.name("group"));
    log.create(&topic, 1, &texts(&[("retention.ms", "77")]))
        .await
        .unwrap();
    let wanted = texts(&[("cleanup.policy", "compact")]);
    log.set_settings(&topic, &wanted).await.unwrap();
    let own = async || {
        let settings = log.settings(&topic).await.unwrap().into_iter();
        let own = settings.filter(|(_, setting)| setting.own);
        own.map(|(name, setting)| (name, setting.value))
            .collect::<BTreeMap<_, _>>()
    };
    let shown = async {
        // Kafka acknowledges a change before it shows it.
        while own().await != wanted {
            tokio::task::yield_now().await;
        }
    };
    soon("the new settings", shown).await;

    let committed = [Committed {
        topic: topic.clone(),
        partition: 0,
        next: 12,
        metadata: "said beside it".to_owned(),
    }];
    log.commit(&group, &committed).await.unwrap();
    let topics = [only(&log, &topic).await];
    let groups = log.groups(&topics).await.unwrap();
    let ours = groups.iter().find(|found| found.name == group).unwrap();
    assert_eq!((ours.members, &ours.committed[..]), (0, &committed[..]));
}

pub(crate) async fn nobody_is_handed_a_filler(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let log = inspector(fresh).await;
    let appender = log.appender().unwrap();
    let fill = async |topic: &str, partition: i32| -> Position {
        let filler = Record::filler(0, Timestamp::default());
        let raw = RawRecord {
            topic,
            partition,
            key: filler.key.as_deref(),
            value: None,
            headers: &filler.headers,
        };
        appender.append(raw).unwrap().await.unwrap()
    };
    let at = refusals(2);
    let first = write(&bus, &REFUSALS, at.index, 0..1).await;
    for _ in 0..300 {
        fill(at.topic, at.index).await;
    }
    let last = write(&bus, &REFUSALS, at.index, 1..2).await;
    assert_eq!(last, first + 301);
    let group = fresh.name("fillers");
    let mut consumer = bus
        .consume(subscription(&group, REFUSALS.spec(), Start::Stored))
        .unwrap();
    start_at(&mut consumer, at, first).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Event::Records(batch) = next(&mut consumer).await
            && batch.partition == at
        {
            seen.extend(batch.records.iter().map(|record| record.offset));
        }
    }
    assert_eq!(seen, [first, last]);
    consumer.close().await;

    // At the very end of what is followed: it is caught up all the same.
    fill(KEYS.name(), 0).await;
    let mut follower = bus.follow(&KEYS).unwrap();
    loop {
        match soon("the end", follower.next()).await.unwrap() {
            Followed::CaughtUp => break,
            Followed::Lifted { key, .. } => assert_ne!(key, FILLER),
            _ => {}
        }
    }
}

pub(crate) async fn many_partitions_are_read_as_one(fresh: &Fresh) {
    let log = inspector(fresh).await;
    let topics = ["merge-a", "merge-b"].map(|name| &*fresh.name(name).leak());
    let own = texts(&OF_THE_PAST);
    let copier = log.copier().unwrap();
    // When the records of each partition were appended; the last of them has none.
    let times = [
        (topics[0], 0, vec![10, 30, 30, 50]),
        (topics[0], 1, vec![20, 30, 60]),
        (topics[1], 0, (0..5_000).map(|at| 25 + at / 100).collect()),
        (topics[1], 1, vec![]),
    ];
    for topic in topics {
        log.create(topic, 2, &own).await.unwrap();
    }
    for (topic, index, times) in &times {
        for (offset, at) in (0..).zip(times) {
            let record = Record {
                appended_at: Timestamp::from_millis(*at),
                ..record(offset, Some("x"))
            };
            copier.put(topic, *index, &record).await.unwrap();
        }
    }
    copier.flush().await.unwrap();

    // All but the first record of each partition, as one sorts them who has them all in memory.
    let mut expected: Vec<_> = times
        .iter()
        .flat_map(|(topic, index, times)| {
            let records = (0..).zip(times).skip(1);
            records.map(|(offset, at)| (*at, *topic, *index, offset))
        })
        .collect();
    expected.sort_unstable();
    let stretches = times.map(|(topic, index, times)| {
        let end = i64::try_from(times.len()).unwrap();
        (Partition { topic, index }, 1.min(end)..end)
    });
    let mut reader = log.merged(&stretches).unwrap();
    let mut read = Vec::new();
    loop {
        let records = soon("records in order", reader.next()).await.unwrap();
        if records.is_empty() {
            break;
        }
        read.extend(
            records
                .into_iter()
                .map(|(Partition { topic, index }, record)| {
                    (record.appended_at.as_millis(), topic, index, record.offset)
                }),
        );
    }
    assert_eq!(read.len(), expected.len());
    assert_eq!(read, expected);

    let beyond = (
        Partition {
            topic: topics[0],
            index: 0,
        },
        9..10,
    );
    let mut reader = log.merged(&[beyond]).unwrap();
    let error = soon("an error", reader.next()).await.unwrap_err();
    let (offset, high) = match error {
        BusError::Offset { offset, high, .. } => (offset, high),
        error => panic!("{error}"),
    };
    assert_eq!((offset, high), (9, 4));
}
