//! Retention and compaction.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;
use rdkafka::producer::{BaseRecord, Producer};

use super::lab::{Lab, Read, SOON, until_within};

pub(super) fn retention(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "2000"), ("segment.ms", "1000")])?;
    lab.send(&topic, 1, 1000, &[("batch.num.messages", "50")])?;
    sleep(Duration::from_millis(2500));
    lab.send(&topic, 1, 5, &[])?;
    until_within(lab.upkeep, "old records are gone", || {
        Ok(lab.watermarks(&topic, 0)?.0 >= 1000)
    })?;
    let (_, high) = lab.watermarks(&topic, 0)?;
    ensure!(high == 1005, "the end moved to {high}");
    lab.send(&topic, 1, 3, &[])?;
    let last = lab.read_all(&topic, 1)?.last().map(|r| r.offset);
    ensure!(last == Some(1007), "the last record has offset {last:?}");
    Ok(())
}

pub(super) fn compaction(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(
        1,
        &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "1000"),
            ("segment.bytes", "1048576"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("max.compaction.lag.ms", "1000"),
            ("delete.retention.ms", "60000"),
        ],
    )?;
    let settings = [("batch.num.messages", "25"), ("compression.type", "lz4")];
    lab.send(&topic, 1, 1000, &settings)?;
    let (producer, deliveries) = lab.producer(&settings);
    for key in ["k3", "k7"] {
        let tombstone = BaseRecord::<str, str>::to(&topic).key(key);
        producer.send(tombstone).map_err(|(e, _)| e)?;
    }
    producer.flush(SOON)?;
    sleep(Duration::from_millis(1500));
    let last = BaseRecord::to(&topic).key("k0").payload("last");
    producer.send(last).map_err(|(e, _)| e)?;
    producer.flush(SOON)?;
    deliveries.expect(3)?;
    let mut read = vec![];
    until_within(lab.upkeep, "superseded records are gone", || {
        read = lab.read_all(&topic, 1)?;
        Ok(read.len() < 100)
    })?;
    ensure!(
        read.windows(2).all(|pair| pair[0].offset < pair[1].offset),
        "out of order"
    );
    ensure!(
        lab.watermarks(&topic, 0)? == (0, 1003),
        "{:?}",
        lab.watermarks(&topic, 0)?
    );
    let tombstones = read.iter().filter(|r| r.value.is_none()).count();
    ensure!(
        tombstones == 2,
        "{tombstones} tombstones, within delete.retention.ms"
    );
    let expected = (0..10).filter(|k| ![3, 7].contains(k)).map(|k| match k {
        0 => ("k0".to_owned(), "last".to_owned()),
        k => (format!("k{k}"), format!("v{}", 990 + k)),
    });
    let standing = fold(&read);
    ensure!(
        standing == expected.collect(),
        "what stands is {standing:?}"
    );
    Ok(())
}

/// The last value of each key, without those that were deleted.
fn fold(read: &[Read]) -> BTreeMap<String, String> {
    let mut standing = BTreeMap::new();
    for record in read {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        match record.value {
            Some(_) => standing.insert(key, record.text()),
            None => standing.remove(&key),
        };
    }
    standing
}
