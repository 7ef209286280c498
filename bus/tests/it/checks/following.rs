//! Following a compacted topic.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

use bus::{Followed, RawRecord};
use schemas::topic::KEYS;

use super::{Fresh, key, soon};

pub(crate) async fn follows_from_the_start_to_now_and_on(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let producer = bus.producer();
    let [stays, goes, odd, late] = ["stays", "goes", "odd", "late"].map(|name| fresh.name(name));
    let ours = [stays.clone(), goes.clone(), odd.clone(), late.clone()];
    for id in [&stays, &goes] {
        producer.send(&KEYS, id, &key(id)).await.unwrap();
    }
    producer.lift(&KEYS, &goes).await.unwrap();
    let raw = RawRecord {
        topic: KEYS.name(),
        partition: 0,
        key: Some(odd.as_bytes()),
        value: Some(b"not avro"),
        headers: &[],
    };
    producer.enqueue_raw(raw).unwrap().await.unwrap();
    let mut follower = bus.follow(&KEYS).unwrap();
    let mut next = async || loop {
        let followed = soon("something to follow", follower.next()).await.unwrap();
        let (what, key) = match followed {
            Followed::Put { key, value, .. } => {
                assert_eq!(value.id, key);
                ("put", key)
            }
            Followed::Lifted { key, .. } => ("lifted", key),
            Followed::Unreadable { key, reason, .. } => {
                assert!(reason.contains("Avro"), "{reason}");
                ("unreadable", key)
            }
            Followed::CaughtUp => return ("caught up", String::new()),
            Followed::Lost | Followed::Back => continue,
        };
        if ours.contains(&key) {
            return (what, key);
        }
    };
    // The log may have compacted what was overwritten already, but not what is newest.
    let mut seen = Vec::new();
    loop {
        match next().await {
            ("caught up", _) => break,
            step => seen.push(step),
        }
    }
    assert!(seen.contains(&("put", stays.clone())));
    assert!(seen.contains(&("unreadable", odd)));
    let of_goes = seen.iter().rfind(|(_, key)| *key == goes);
    assert!(of_goes.is_none_or(|(what, _)| *what == "lifted"));
    producer.send(&KEYS, &late, &key(&late)).await.unwrap();
    assert_eq!(next().await, ("put", late));
    producer.lift(&KEYS, &stays).await.unwrap();
    assert_eq!(next().await, ("lifted", stays));
}

pub(crate) async fn reads_all_that_stands(fresh: &Fresh) {
    let bus = fresh.bus().await;
    let producer = bus.producer();
    let [one, two, gone] = ["one", "two", "gone"].map(|name| fresh.name(name));
    for id in [&gone, &two, &one] {
        producer.send(&KEYS, id, &key(id)).await.unwrap();
    }
    let mut newer = key(&two);
    newer.note = "newer".to_owned();
    producer.send(&KEYS, &two, &newer).await.unwrap();
    producer.lift(&KEYS, &gone).await.unwrap();
    let all = bus.read_all(&KEYS).await.unwrap();
    let ours: Vec<_> = all
        .into_iter()
        .filter(|(id, _)| [&one, &two, &gone].contains(&id))
        .collect();
    assert_eq!(ours, [(one.clone(), key(&one)), (two, newer)]);
}
