//! What is to be done with one topic, and the settings that it has while that happens and afterwards.

use std::collections::BTreeMap;

use anyhow::bail;
use bus::inspect::{COPY_BYTES_MAX, Span, TopicState};

/// Settings that mean the same on both homes. Others are the cluster's own business.
const CARRIED: [&str; 11] = [
    "cleanup.policy",
    "delete.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
];

pub(super) type Settings = BTreeMap<String, String>;

/// One topic's way to the target.
pub(super) struct Plan {
    pub(super) original: TopicState,
    /// The copy's offsets, by partition.
    pub(super) copied: Vec<Span>,
    /// What the copy's settings are to be in the end.
    pub(super) lasting: Settings,
    /// The copy has them already: it was finished once, and may have deleted and compacted since.
    pub(super) is_lasting: bool,
}

impl Plan {
    /// # Errors
    /// When `copy` cannot be or become a copy of `original`.
    pub(super) fn new(original: TopicState, copy: &TopicState) -> anyhow::Result<Self> {
        let name = &original.name;
        let (here, there) = (original.spans.len(), copy.spans.len());
        if here != there {
            bail!(
                "{name} has {there} partitions at the target, and {here} where it comes from: delete it there"
            );
        }
        let spans = (0..).zip(original.spans.iter().zip(&copy.spans));
        for (partition, (original, copy)) in spans {
            let partition: i32 = partition;
            if original.end < copy.end {
                bail!(
                    "{name} partition {partition} ends at {} at the target, and at {} where it comes from: the target is \
                     no copy of this log; delete the topic there, or copy to another place",
                    copy.end,
                    original.end
                );
            }
        }
        let own = copy.settings.iter().filter(|(_, setting)| setting.own);
        let own: Settings = own
            .map(|(name, setting)| (name.clone(), setting.value.clone()))
            .collect();
        let mut lasting = own.clone();
        lasting.retain(|name, _| !CARRIED.contains(&name.as_str()));
        lasting.extend(carried(&original));
        Ok(Self {
            is_lasting: own == lasting,
            copied: copy.spans.clone(),
            lasting,
            original,
        })
    }

    pub(super) fn topic(&self) -> &str {
        &self.original.name
    }

    /// The originals and what is there of them, by partition.
    pub(super) fn spans(&self) -> impl Iterator<Item = (i32, Span, Span)> {
        let both = self.original.spans.iter().zip(&self.copied);
        (0..)
            .zip(both)
            .map(|(partition, (original, copy))| (partition, *original, *copy))
    }

    /// Nothing is left to be copied.
    pub(super) fn is_complete(&self) -> bool {
        self.spans()
            .all(|(_, original, copy)| original.end == copy.end)
    }

    /// Something is there and something is missing.
    pub(super) fn is_interrupted(&self) -> bool {
        !self.is_complete() && self.copied.iter().any(|copy| copy.end != 0)
    }

    /// The original may lack records that are newer than its first one.
    pub(super) fn is_compacted(&self) -> bool {
        let policy = self.lasting.get("cleanup.policy");
        policy.is_some_and(|policy| policy.contains("compact"))
    }
}

/// The settings that a copy takes over.
pub(super) fn carried(original: &TopicState) -> Settings {
    let settings = original.settings.iter();
    settings
        .filter(|(name, _)| CARRIED.contains(&name.as_str()))
        .map(|(name, setting)| (name.clone(), setting.value.clone()))
        .collect()
}

/// What a topic has in their place until everything is there and compared: it keeps all it is given, as it is given.
/// Deleting what lies before an offset, which no compacted topic allows, is possible meanwhile.
pub(super) fn while_copying(lasting: &Settings) -> Settings {
    let mut settings = lasting.clone();
    for (name, value) in [
        ("cleanup.policy", "delete"),
        ("message.timestamp.type", "CreateTime"),
        ("retention.bytes", "-1"),
        ("retention.ms", "-1"),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    // What was compressed well may come to be compressed less well.
    let bytes_max = COPY_BYTES_MAX.to_string();
    settings.insert("max.message.bytes".to_owned(), bytes_max);
    settings
}

#[cfg(test)]
mod tests {
    use bus::inspect::Setting;

    use super::*;

    fn topic(spans: &[(i64, i64)], settings: &[(&str, &str, bool)]) -> TopicState {
        let span = |&(start, end): &(i64, i64)| Span { start, end };
        let setting = |&(name, value, own): &(&str, &str, bool)| {
            let value = value.to_owned();
            (name.to_owned(), Setting { value, own })
        };
        TopicState {
            name: "t".to_owned(),
            spans: spans.iter().map(span).collect(),
            settings: settings.iter().map(setting).collect(),
        }
    }

    fn plan(original: &[(i64, i64)], copy: &[(i64, i64)]) -> anyhow::Result<Plan> {
        Plan::new(topic(original, &[]), &topic(copy, &[]))
    }

    #[track_caller]
    fn refused(original: &[(i64, i64)], copy: &[(i64, i64)], part: &str) {
        let error = plan(original, copy).err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|e| e.contains(part)),
            "{error:?}"
        );
    }

    #[test]
    fn knows_how_far_a_copy_is() {
        let progress = |copy: &[(i64, i64)]| {
            let plan = plan(&[(2, 9), (0, 0)], copy).unwrap();
            (plan.is_complete(), plan.is_interrupted())
        };
        assert_eq!(progress(&[(0, 0), (0, 0)]), (false, false));
        assert_eq!(progress(&[(0, 4), (0, 0)]), (false, true));
        assert_eq!(progress(&[(2, 9), (0, 0)]), (true, false));
        refused(&[(0, 5)], &[(0, 6)], "partition 0 ends at 6 at the target");
        refused(&[(0, 5)], &[(0, 0), (0, 0)], "2 partitions at the target");
    }

    #[test]
    fn the_original_s_settings_last() {
        let original = topic(
            &[(0, 1)],
            &[
                ("cleanup.policy", "compact", true),
                ("segment.ms", "5", false),
                ("min.insync.replicas", "1", true),
            ],
        );
        let pairs = |pairs: &[(&str, &str)]| -> Settings {
            let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
            pairs.iter().map(pair).collect()
        };
        let lasting = pairs(&[
            ("cleanup.policy", "compact"),
            ("min.insync.replicas", "2"),
            ("segment.ms", "5"),
        ]);
        let copying = while_copying(&lasting);
        assert_eq!(copying["cleanup.policy"], "delete");
        assert_eq!(copying["min.insync.replicas"], "2");
        for (settings, is_lasting) in [(&copying, false), (&lasting, true)] {
            let settings: Vec<_> = settings.iter().map(|(n, v)| (&**n, &**v, true)).collect();
            let plan = Plan::new(original.clone(), &topic(&[(0, 1)], &settings)).unwrap();
            assert_eq!(plan.lasting, lasting);
            assert_eq!(plan.is_lasting, is_lasting);
            assert!(plan.is_compacted());
        }
    }
}
