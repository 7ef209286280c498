//! The configuration of a topic: which names exist, which values they take, what they mean.
//!
//! All topic settings of Kafka 4.1 are known by name. Those that would promise something this log
//! does not do (recompression, say) accept their neutral value only; an unknown name or a value
//! out of range is refused as Kafka does.

use std::collections::BTreeMap;

use crate::config::Fsync;
use crate::log::LogSettings;

/// What a topic was configured with, by name; what is not in it has its default.
pub(crate) type Overrides = BTreeMap<String, String>;

/// A name or a value that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingError {
    #[error("unknown topic config name: {0}")]
    Unknown(String),
    #[error("invalid value {value:?} for {name}: {expected}")]
    Value {
        name: String,
        value: String,
        expected: String,
    },
}

enum Kind {
    /// A whole number from the first to the second.
    Number(i64, i64),
    /// A number from 0 to 1.
    Ratio,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A comma-separated choice of these words.
    Words(&'static [&'static str]),
}

/// One setting that every topic has.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    kind: Kind,
}

const fn number(name: &'static str, default: &'static str, min: i64, max: i64) -> Setting {
    Setting {
        name,
        default,
        kind: Kind::Number(min, max),
    }
}

const fn word(name: &'static str, words: &'static [&'static str]) -> Setting {
    Setting {
        name,
        default: words[0],
        kind: Kind::Word(words),
    }
}

const I32: i64 = i32::MAX as i64;
const NEVER: &str = "9223372036854775807";

/// Kafka's topic settings, by name.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        default: "delete",
        kind: Kind::Words(&["delete", "compact"]),
    },
    word("compression.type", &["producer"]),
    number("delete.retention.ms", "86400000", 0, i64::MAX),
    number("file.delete.delay.ms", "60000", 0, i64::MAX),
    number("flush.messages", NEVER, 1, i64::MAX),
    number("flush.ms", NEVER, 0, i64::MAX),
    number("index.interval.bytes", "4096", 0, I32),
    number("max.compaction.lag.ms", NEVER, 1, i64::MAX),
    number("max.message.bytes", "1048588", 0, I32),
    number("message.timestamp.after.max.ms", "3600000", 0, i64::MAX),
    number("message.timestamp.before.max.ms", NEVER, 0, i64::MAX),
    word("message.timestamp.type", &["CreateTime", "LogAppendTime"]),
    Setting {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        kind: Kind::Ratio,
    },
    number("min.compaction.lag.ms", "0", 0, i64::MAX),
    number("min.insync.replicas", "1", 1, 1),
    word("preallocate", &["false"]),
    word("remote.storage.enable", &["false"]),
    number("retention.bytes", "-1", -1, i64::MAX),
    number("retention.ms", "604800000", -1, i64::MAX),
    number("segment.bytes", "67108864", 1 << 20, I32),
    number("segment.index.bytes", "10485760", 4, I32),
    number("segment.jitter.ms", "0", 0, i64::MAX),
    number("segment.ms", "604800000", 1, i64::MAX),
    word("unclean.leader.election.enable", &["false", "true"]),
];

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name)
}

/// Refuses the first override that is not a known name with a sensible value.
pub(crate) fn check(overrides: &Overrides) -> Result<(), SettingError> {
    for (name, value) in overrides {
        let setting = find(name).ok_or_else(|| SettingError::Unknown(name.clone()))?;
        let expected = match &setting.kind {
            Kind::Number(min, max) => {
                let fits = value
                    .parse::<i64>()
                    .is_ok_and(|n| (*min..=*max).contains(&n));
                (!fits).then(|| format!("a whole number from {min} to {max}"))
            }
            Kind::Ratio => {
                let fits = value.parse::<f64>().is_ok_and(|n| (0.0..=1.0).contains(&n));
                (!fits).then(|| "a number from 0 to 1".to_owned())
            }
            Kind::Word(words) => {
                (!words.contains(&value.as_str())).then(|| format!("one of {}", words.join(", ")))
            }
            Kind::Words(words) => {
                let known = |w: &str| words.contains(&w.trim());
                (!value.split(',').all(known)).then(|| format!("some of {}", words.join(",")))
            }
        };
        if let Some(expected) = expected {
            return Err(SettingError::Value {
                name: name.clone(),
                value: value.clone(),
                expected,
            });
        }
    }
    Ok(())
}

/// What a log does under overrides that [`check`] has passed.
pub(crate) fn log_settings(overrides: &Overrides, fsync: Fsync) -> LogSettings {
    let text = |name: &str| {
        let default = find(name).map_or("", |s| s.default);
        overrides.get(name).map_or(default, String::as_str)
    };
    let number = |name: &str| text(name).parse::<i64>().unwrap_or(-1);
    let policy: Vec<&str> = text("cleanup.policy").split(',').map(str::trim).collect();
    LogSettings {
        segment_bytes: number("segment.bytes") as u64,
        segment_ms: number("segment.ms"),
        retention_ms: number("retention.ms"),
        retention_bytes: number("retention.bytes"),
        batch_bytes_max: number("max.message.bytes") as usize,
        compact: policy.contains(&"compact"),
        delete: policy.contains(&"delete"),
        delete_retention_ms: number("delete.retention.ms"),
        dirty_ratio_min: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
        compaction_lag_min_ms: number("min.compaction.lag.ms"),
        compaction_lag_max_ms: number("max.compaction.lag.ms"),
        stamp_on_append: text("message.timestamp.type") == "LogAppendTime",
        timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
        timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
        show_synced_only: fsync == Fsync::Always,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(name: &str, value: &str, why: &str) {
        let overrides = Overrides::from([(name.to_owned(), value.to_owned())]);
        let text = check(&overrides).expect_err(name).to_string();
        assert!(text.contains(why), "{text}");
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        refused(
            "retention.msec",
            "1",
            "unknown topic config name: retention.msec",
        );
        refused("retention.ms", "-2", "from -1");
        refused("retention.ms", "soon", "whole number");
        refused("segment.bytes", "1048575", "from 1048576");
        refused("min.cleanable.dirty.ratio", "1.1", "0 to 1");
        refused("cleanup.policy", "compact,shrink", "some of delete,compact");
        refused("compression.type", "zstd", "one of producer");
        refused("min.insync.replicas", "2", "from 1 to 1");
    }

    #[test]
    fn defaults_pass_their_own_check_and_mean_what_they_say() {
        let all = SETTINGS
            .iter()
            .map(|s| (s.name.to_owned(), s.default.to_owned()))
            .collect();
        check(&all).unwrap();
        let defaults = log_settings(&Overrides::new(), Fsync::Never);
        assert_eq!(log_settings(&all, Fsync::Never), defaults);
        assert!(defaults.delete && !defaults.compact && !defaults.show_synced_only);
        assert_eq!(defaults.batch_bytes_max, 1_048_588);
    }

    #[test]
    fn both_policies_can_hold_together() {
        let overrides = Overrides::from([("cleanup.policy".into(), "compact,delete".into())]);
        check(&overrides).unwrap();
        let settings = log_settings(&overrides, Fsync::Always);
        assert!(settings.compact && settings.delete && settings.show_synced_only);
    }
}
