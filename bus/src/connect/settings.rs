//! The settings that a topic of Weir's should have, and what it means when one that exists has others.

use schemas::topic::{Cleanup, TopicSpec};

/// Copies from which on one may be away without a pause.
const SAFE_REPLICATION: i32 = 3;

/// What a batch adds to its largest record, at the most.
const BATCH_OVERHEAD: u64 = 4_096;

/// The settings of a new topic. Records carry the time at which the log took them: retention goes by it, and with an
/// event's own time there a late or replayed event would be deleted at once.
pub(super) fn settings(spec: &TopicSpec, replication: i32) -> Vec<(&'static str, String)> {
    let mut settings = vec![("message.timestamp.type", "LogAppendTime".to_owned())];
    match spec.cleanup {
        Cleanup::Delete { retention } => settings.extend([
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", retention.as_millis().to_string()),
        ]),
        Cleanup::Keep => settings.extend([
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", "-1".to_owned()),
        ]),
        // Small segments that close within the hour: only closed ones are compacted, and a follower reads the rest.
        Cleanup::Compact => settings.extend([
            ("cleanup.policy", "compact".to_owned()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
            ("segment.bytes", (64 << 20).to_string()),
            ("segment.ms", "3600000".to_owned()),
        ]),
    }
    if SAFE_REPLICATION <= replication {
        settings.push(("min.insync.replicas", "2".to_owned()));
    }
    settings
}

/// What Weir asks of a topic that exists: the settings of a new one, and what a cluster's own defaults may spoil.
pub(super) fn wanted(
    spec: &TopicSpec,
    replication: i32,
    record_bytes_max: u32,
) -> Vec<(&'static str, String)> {
    let mut wanted = settings(spec, replication);
    let bytes = u64::from(record_bytes_max) + BATCH_OVERHEAD;
    wanted.push(("max.message.bytes", bytes.to_string()));
    wanted.push(("compression.type", "producer".to_owned()));
    wanted
}

/// What it means that a topic's setting has another value than Weir asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The operator's choice.
    None,
    /// Weir works, but not as it promises: why.
    Told(&'static str),
    /// Records would be deleted that Weir needs.
    Refused,
}

/// Judges `found` where `wanted` was asked for.
pub(super) fn difference(setting: &str, found: &str, wanted: &str) -> Difference {
    if found == wanted {
        return Difference::None;
    }
    match setting {
        "cleanup.policy" => Difference::Refused,
        "message.timestamp.type" => {
            Difference::Told("a sender's clock decides when records are deleted")
        }
        "retention.ms" if is_less(found, wanted) => {
            Difference::Told("records are deleted sooner than Weir promises")
        }
        "max.message.bytes" if is_less(found, wanted) => {
            Difference::Told("records that `record_bytes_max` allows are refused")
        }
        "min.insync.replicas" if is_less(found, wanted) => {
            Difference::Told("a record counts as acknowledged that one server alone has")
        }
        "compression.type" => Difference::Told("the servers compress every batch again"),
        _ => Difference::None,
    }
}

/// Of two numbers, of which a negative one has no bound.
fn is_less(found: &str, wanted: &str) -> bool {
    let number = |text: &str| {
        let number = text.parse::<i64>().ok()?;
        Some(if number < 0 { i64::MAX } else { number })
    };
    match (number(found), number(wanted)) {
        (Some(found), Some(wanted)) => found < wanted,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use schemas::topic::{COMMANDS, DECISIONS, USAGE};

    use super::*;

    #[track_caller]
    fn check(spec: TopicSpec, replication: i32, setting: &str, expected: Option<&str>) {
        let settings = settings(&spec, replication);
        let found = settings.iter().find(|(name, _)| *name == setting);
        assert_eq!(found.map(|(_, value)| value.as_str()), expected);
    }

    #[test]
    fn a_topic_is_kept_as_it_says() {
        for spec in [USAGE.spec(), DECISIONS.spec(), COMMANDS.spec()] {
            check(spec, 1, "message.timestamp.type", Some("LogAppendTime"));
        }
        check(USAGE.spec(), 1, "cleanup.policy", Some("delete"));
        check(USAGE.spec(), 1, "retention.ms", Some("604800000"));
        check(DECISIONS.spec(), 1, "cleanup.policy", Some("compact"));
        check(DECISIONS.spec(), 1, "retention.ms", None);
        check(COMMANDS.spec(), 1, "retention.ms", Some("-1"));
        check(COMMANDS.spec(), 1, "min.insync.replicas", None);
        check(COMMANDS.spec(), 3, "min.insync.replicas", Some("2"));
    }

    #[track_caller]
    fn check_difference(setting: &str, found: &str, wanted: &str, expected: &str) {
        let difference = match difference(setting, found, wanted) {
            Difference::None => "none",
            Difference::Told(_) => "told",
            Difference::Refused => "refused",
        };
        assert_eq!(difference, expected, "{setting} {found} {wanted}");
    }

    #[test]
    fn only_what_weakens_a_promise_is_told() {
        check_difference("cleanup.policy", "compact", "compact", "none");
        check_difference("cleanup.policy", "delete", "compact", "refused");
        check_difference("cleanup.policy", "compact,delete", "compact", "refused");
        check_difference("retention.ms", "1000", "604800000", "told");
        check_difference("retention.ms", "1000", "-1", "told");
        check_difference("retention.ms", "-1", "604800000", "none");
        check_difference("retention.ms", "9999999999", "604800000", "none");
        check_difference("max.message.bytes", "1048588", "1004096", "none");
        check_difference("max.message.bytes", "1000", "1004096", "told");
        check_difference("min.insync.replicas", "1", "2", "told");
        check_difference("min.insync.replicas", "3", "2", "none");
        check_difference("compression.type", "gzip", "producer", "told");
        check_difference(
            "message.timestamp.type",
            "CreateTime",
            "LogAppendTime",
            "told",
        );
        check_difference("segment.bytes", "1073741824", "67108864", "none");
    }
}
