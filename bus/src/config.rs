//! How the log is reached and used, and the client library's settings made from that.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use serde::{Deserialize, Deserializer, de};

use crate::error::BusError;

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
    /// Any other setting of librdkafka, by its own name; `producer.` or `consumer.` before the name keeps it to one
    /// kind of client. Settings that exactness rests on are refused.
    pub settings: BTreeMap<String, String>,
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
            settings: BTreeMap::new(),
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
const OURS: [&str; 14] = [
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
];

/// A kind of client, as the prefix of its settings names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Producer,
    Consumer,
    /// Has no prefix: it takes what is meant for all.
    Admin,
}

impl Config {
    /// Tells settings that Weir cannot work with, before anything is connected.
    pub(crate) fn check(&self) -> Result<(), BusError> {
        let wrong = |name: &str, reason: String| BusError::Setting {
            name: name.to_owned(),
            reason,
        };
        if self.bootstrap.trim().is_empty() {
            return Err(wrong("bootstrap", "is empty; give `host:port`".to_owned()));
        }
        if self.partitions < 1 || self.replication < 1 {
            let name = if self.partitions < 1 {
                "partitions"
            } else {
                "replication"
            };
            return Err(wrong(name, "is below one".to_owned()));
        }
        if self.batches_max < BATCHES_MIN {
            return Err(wrong("batches_max", format!("is below {BATCHES_MIN}")));
        }
        for (name, value) in &self.settings {
            let bare = bare_name(name).1;
            if OURS.contains(&bare) {
                let reason = "is Weir's own to set; take it out of [kafka.settings]".to_owned();
                return Err(wrong(name, reason));
            }
            if bare == "security.protocol" && value.to_ascii_lowercase().ends_with("ssl") {
                let reason = format!("`{value}` needs OpenSSL, which is not part of this build");
                return Err(wrong(name, reason));
            }
        }
        Ok(())
    }

    /// Settings of the one producer: idempotent, acknowledged by all copies, order kept through retries.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("compression.type", self.compression.name())
            .set(
                "message.timeout.ms",
                self.delivery_within.as_millis().to_string(),
            )
            .set(
                "queue.buffering.max.messages",
                self.queue_records_max.to_string(),
            )
            .set("queue.buffering.max.kbytes", self.queue_kib_max.to_string())
            .set("message.max.bytes", self.record_bytes_max.to_string());
        self.add_settings(&mut client, Kind::Producer);
        client
    }

    /// Settings of a reader in `group`. `fetch.queue.backoff.ms` would by default stop reading for a second each
    /// time that the prefetch queue is full.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("partition.assignment.strategy", "range")
            .set(
                "session.timeout.ms",
                self.session_within.as_millis().to_string(),
            )
            .set(
                "heartbeat.interval.ms",
                (self.session_within.as_millis() / 4).max(1).to_string(),
            )
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "8192")
            .set("statistics.interval.ms", "1000");
        self.add_settings(&mut client, Kind::Consumer);
        client
    }

    /// Settings for making and describing topics.
    pub(crate) fn admin(&self) -> ClientConfig {
        let mut client = self.client();
        self.add_settings(&mut client, Kind::Admin);
        client
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log.connection.close", "false")
            .set("enable.metrics.push", "false");
        client
    }

    fn add_settings(&self, client: &mut ClientConfig, kind: Kind) {
        for (name, value) in &self.settings {
            let (only, bare) = bare_name(name);
            if only.is_none_or(|only| only == kind) {
                client.set(bare, value);
            }
        }
    }
}

/// A reader must be able to hold a batch, and the news that it is the last one, beside a change of ownership.
const BATCHES_MIN: usize = 4;

fn bare_name(name: &str) -> (Option<Kind>, &str) {
    if let Some(bare) = name.strip_prefix("producer.") {
        (Some(Kind::Producer), bare)
    } else if let Some(bare) = name.strip_prefix("consumer.") {
        (Some(Kind::Consumer), bare)
    } else {
        (None, name)
    }
}

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

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_span(&text).ok_or_else(|| {
        de::Error::custom(format!(
            "`{text}` is no span; write it like `10s`, `500ms` or `2m`"
        ))
    })
}

/// A whole number and one of `ms`, `s`, `m`, `h`.
fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Config {
        let settings = BTreeMap::from([(name.to_owned(), value.to_owned())]);
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
        check(&with("security.protocol", "SSL"), Err("OpenSSL"));
        check(&with("acks", "1"), Err("Weir's own"));
        check(
            &with("producer.enable.idempotence", "false"),
            Err("Weir's own"),
        );
        check(
            &with("consumer.auto.offset.reset", "latest"),
            Err("Weir's own"),
        );
        check(&with("security.protocol", "sasl_ssl"), Err("OpenSSL"));
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

    #[test]
    fn reads_spans() {
        for (text, expected) in [
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("0s", Some(0)),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(
                parse_span(text),
                expected.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
