//! How many partitions each topic was made with: placement goes by these for ever.

use std::collections::BTreeMap;

use schemas::partition;
use schemas::record::Layout;
use schemas::topic::{Spread, TopicSpec};

use crate::error::BusError;

/// The partitions of every topic of Weir's, as made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Partitions(BTreeMap<String, i32>);

impl Partitions {
    /// # Panics
    /// When `topic` is not one of [`schemas::topic::ALL`]: `connect` saw each of those.
    pub(crate) fn of(&self, topic: &str) -> i32 {
        match self.0.get(topic) {
            Some(count) => *count,
            None => panic!("{topic} is not in schemas::topic::ALL"),
        }
    }

    /// Nothing for a tool that did not ask.
    pub(crate) fn known(&self, topic: &str) -> Option<i32> {
        self.0.get(topic).copied()
    }

    pub(crate) fn place(&self, topic: &str, key: &[u8]) -> i32 {
        partition::partition_of(key, self.of(topic))
    }

    /// As it is recorded in the log.
    pub(crate) fn record(&self) -> Layout {
        Layout {
            partitions: self.0.clone(),
        }
    }
}

/// How many partitions a topic that is yet to be made gets.
pub(crate) const fn wanted(spec: &TopicSpec, partitions: i32) -> i32 {
    match spec.spread {
        Spread::Many => partitions,
        Spread::One => 1,
    }
}

/// What the record and the log say together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) partitions: Partitions,
    /// The record lacks a topic, or there is none yet.
    pub(crate) write: bool,
    /// Topics with more partitions than they were made with: name, made with, found.
    pub(crate) grown: Vec<(&'static str, i32, i32)>,
}

/// Compares the `found` partitions of `specs` with the record.
///
/// # Errors
/// When a topic has fewer partitions than it was made with, or several although the order across keys matters.
pub(crate) fn settle(
    specs: &[TopicSpec],
    recorded: Option<Layout>,
    found: &BTreeMap<String, i32>,
) -> Result<Settled, BusError> {
    let mut partitions = recorded.unwrap_or_default().partitions;
    let mut write = false;
    let mut grown = Vec::new();
    for spec in specs {
        let found = found.get(spec.name).copied().unwrap_or(0);
        let made = *partitions.entry(spec.name.to_owned()).or_insert_with(|| {
            write = true;
            found
        });
        let misfit = |reason: String| BusError::Topic {
            topic: spec.name.to_owned(),
            reason,
            remedy: "restore it from a backup, or delete it and start again without its records"
                .to_owned(),
        };
        if found < made || made < 1 {
            return Err(misfit(format!(
                "it was made with {made} partitions and has {found} now, so keys would be sought in the wrong ones"
            )));
        }
        if spec.spread == Spread::One && 1 < made {
            return Err(misfit(format!(
                "it must have 1 partition, because the order across keys matters, and has {made}"
            )));
        }
        if made < found {
            grown.push((spec.name, made, found));
        }
    }
    Ok(Settled {
        partitions: Partitions(partitions),
        write,
        grown,
    })
}

#[cfg(test)]
mod tests {
    use schemas::topic::{KEYS, USAGE};

    use super::*;

    fn counts(text: &str) -> BTreeMap<String, i32> {
        let pair = |word: &str| {
            let (name, count) = word.split_once('=').unwrap();
            (format!("weir.{name}.v1"), count.parse().unwrap())
        };
        text.split_whitespace().map(pair).collect()
    }

    #[track_caller]
    fn check(recorded: Option<&str>, found: &str, expected: Result<(&str, bool, usize), &str>) {
        let specs = [USAGE.spec(), KEYS.spec()];
        let recorded = recorded.map(|text| Layout {
            partitions: counts(text),
        });
        match (settle(&specs, recorded, &counts(found)), expected) {
            (Ok(settled), Ok((partitions, write, grown))) => {
                assert_eq!(settled.partitions.0, counts(partitions));
                assert_eq!((settled.write, settled.grown.len()), (write, grown));
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn the_record_outweighs_what_is_found() {
        check(None, "usage=12 keys=1", Ok(("usage=12 keys=1", true, 0)));
        check(
            Some("usage=12 keys=1"),
            "usage=12 keys=1",
            Ok(("usage=12 keys=1", false, 0)),
        );
        check(
            Some("usage=12 keys=1"),
            "usage=16 keys=1",
            Ok(("usage=12 keys=1", false, 1)),
        );
        check(
            Some("usage=12"),
            "usage=12 keys=1",
            Ok(("usage=12 keys=1", true, 0)),
        );
        check(
            Some("old=3 usage=1 keys=1"),
            "usage=1 keys=1",
            Ok(("old=3 usage=1 keys=1", false, 0)),
        );
    }

    #[test]
    fn refuses_what_would_misplace_keys() {
        check(
            Some("usage=12 keys=1"),
            "usage=6 keys=1",
            Err("12 partitions and has 6"),
        );
        check(
            Some("usage=12 keys=1"),
            "keys=1",
            Err("12 partitions and has 0"),
        );
        check(None, "keys=1", Err("has 0 now"));
        check(None, "usage=12 keys=2", Err("must have 1 partition"));
        check(
            Some("usage=12 keys=1"),
            "usage=12 keys=2",
            Ok(("usage=12 keys=1", false, 1)),
        );
    }

    #[test]
    fn places_by_the_number_made() {
        let partitions = Partitions(counts("usage=12 keys=1"));
        assert_eq!(partitions.of("weir.usage.v1"), 12);
        let place = partitions.place("weir.usage.v1", b"acme");
        assert_eq!(place, partition::partition_of(b"acme", 12));
        assert_eq!(partitions.place("weir.keys.v1", b"anything"), 0);
    }
}
