//! How the log is reached and used, and the client library's settings made from that.

mod certificate;
mod client;
mod prepare;
mod secret;
mod security;
mod span;

use std::time::Duration;

use serde::Deserialize;

use crate::error::BusError;
use client::{bare_name, one_name};
use security::wrong;
use span::span;

pub(crate) use secret::show;
pub use secret::{Secret, Settings};
pub use security::{Mechanism, Sasl, Tls};

/// How Weir reaches its log and how it uses it. Spans are texts such as `10s`, `500ms`, `2m`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port` of one or more of the log's servers, separated by commas. Empty where the log is in this process.
    pub bootstrap: String,
    /// The name under which the log's own metrics show this process.
    pub client_id: String,
    /// Partitions of topics that are yet to be made; those that exist keep theirs.
    pub partitions: i32,
    /// Copies of topics that are yet to be made. With three or more, a record is acknowledged once two have it.
    pub replication: i32,
    /// Travel encrypted; absent: in plain text, unless `settings` says otherwise.
    pub tls: Option<Tls>,
    /// Sign in by name and password.
    pub sasl: Option<Sasl>,
    /// Any other setting of librdkafka, by its own name; `producer.` or `consumer.` before the name keeps it to one
    /// kind of client. Settings that exactness rests on are refused.
    pub settings: Settings,
    /// How long to wait at start until the log answers and every topic stands.
    #[serde(deserialize_with = "span")]
    pub ready_within: Duration,
    /// How long a record may wait for its acknowledgement.
    #[serde(deserialize_with = "span")]
    pub delivery_within: Duration,
    /// How long a record waits for others to travel with it.
    #[serde(deserialize_with = "span")]
    pub linger: Duration,
    pub compression: Compression,
    /// Records that may wait for the log; sending more is refused as full.
    pub queue_records_max: u32,
    /// KiB that may wait for the log; sending more is refused as full.
    pub queue_kib_max: u32,
    /// The largest record that is sent, key and value together.
    pub record_bytes_max: u32,
    /// A member of a group that is silent for so long has lost its partitions to the others.
    #[serde(deserialize_with = "span")]
    pub session_within: Duration,
    /// How long a partition's next owner waits for the work of the old one (`Revoked::done`).
    #[serde(deserialize_with = "span")]
    pub hand_over_within: Duration,
    /// Batches that a reader may be behind the network before reading pauses.
    pub batches_max: usize,
    /// After so long without a word from the log, followers are told that it is lost.
    #[serde(deserialize_with = "span")]
    pub lost_after: Duration,
}

/// How batches travel and are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bootstrap: String::new(),
            client_id: "weir".to_owned(),
            partitions: 12,
            replication: 1,
            tls: None,
            sasl: None,
            settings: Settings::default(),
            ready_within: Duration::from_secs(30),
            delivery_within: Duration::from_secs(10),
            linger: Duration::from_millis(1),
            compression: Compression::Lz4,
            queue_records_max: 200_000,
            queue_kib_max: 262_144,
            record_bytes_max: 1_000_000,
            session_within: Duration::from_secs(6),
            hand_over_within: Duration::from_secs(20),
            batches_max: 64,
            lost_after: Duration::from_secs(3),
        }
    }
}

/// What Weir's exactness rests on, or what has a field of its own in [`Config`].
const OURS: [&str; 15] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "client.id",
    "group.id",
    "group.protocol",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "partition.assignment.strategy",
    "isolation.level",
    "transactional.id",
];

impl Config {
    /// Tells settings that Weir cannot work with.
    pub(crate) fn check(&self) -> Result<(), BusError> {
        if self.bootstrap.trim().is_empty() {
            return Err(wrong("bootstrap", "is empty; give `host:port`"));
        }
        if self.partitions < 1 || self.replication < 1 {
            let name = if self.partitions < 1 {
                "partitions"
            } else {
                "replication"
            };
            return Err(wrong(name, "is below one"));
        }
        if self.batches_max < BATCHES_MIN {
            return Err(wrong("batches_max", &format!("is below {BATCHES_MIN}")));
        }
        if let Some(sasl) = &self.sasl {
            sasl.check()?;
        }
        let security = self.security();
        for name in self.settings.keys() {
            let bare = bare_name(name).1;
            if OURS.contains(&bare) {
                let reason = "is Weir's own to set; take it out of [kafka.settings]";
                return Err(wrong(name, reason));
            }
            if security.iter().any(|(ours, _)| *ours == one_name(bare)) {
                let reason = "is set by [kafka.tls] and [kafka.sasl] as well; keep one of them";
                return Err(wrong(name, reason));
            }
        }
        Ok(())
    }
}

/// A reader must be able to hold a batch, and the news that it is the last one, beside a change of ownership.
const BATCHES_MIN: usize = 4;

impl Compression {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Config {
        let settings = Settings::from([(name.to_owned(), value.to_owned())]);
        Config {
            settings,
            ..named()
        }
    }

    fn named() -> Config {
        Config {
            bootstrap: "127.0.0.1:9092".to_owned(),
            ..Config::default()
        }
    }

    #[track_caller]
    fn check(config: &Config, expected: Result<(), &str>) {
        let found = config.check().map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn refuses_what_would_break_exactness() {
        check(&named(), Ok(()));
        check(&Config::default(), Err("`bootstrap`"));
        check(&with("fetch.wait.max.ms", "100"), Ok(()));
        check(&with("security.protocol", "PLAINTEXT"), Ok(()));
        check(&with("security.protocol", "SSL"), Ok(()));
        check(&with("acks", "1"), Err("Weir's own"));
        check(&with("transactional.id", "weir"), Err("Weir's own"));
        check(
            &with("producer.enable.idempotence", "false"),
            Err("Weir's own"),
        );
        check(
            &with("consumer.auto.offset.reset", "latest"),
            Err("Weir's own"),
        );
        let bare = named;
        check(
            &Config {
                bootstrap: " ".to_owned(),
                ..bare()
            },
            Err("`bootstrap`"),
        );
        check(
            &Config {
                partitions: 0,
                ..bare()
            },
            Err("`partitions`"),
        );
        check(
            &Config {
                replication: 0,
                ..bare()
            },
            Err("`replication`"),
        );
        check(
            &Config {
                batches_max: 1,
                ..bare()
            },
            Err("`batches_max`"),
        );
    }

    #[test]
    fn settings_reach_the_client_they_name() {
        let config = with("consumer.fetch.wait.max.ms", "7");
        assert_eq!(config.consumer("g").get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.producer().get("fetch.wait.max.ms"), None);
        let config = with("linger.ms", "9");
        assert_eq!(config.producer().get("linger.ms"), Some("9"));
        assert_eq!(config.consumer("g").get("linger.ms"), Some("9"));
    }
}
