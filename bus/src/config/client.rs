//! The client library's settings.

use rdkafka::ClientConfig;

use super::Config;

/// A kind of client, as the prefix of its settings names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Producer,
    Consumer,
    /// Has no prefix: it takes what is meant for all.
    Admin,
}

impl Config {
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
            // A request that is lost is sent again while its records may still wait.
            .set(
                "request.timeout.ms",
                (self.delivery_within.as_millis() / 2).max(1).to_string(),
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
    /// time that the prefetch queue is full. A queue a quarter as long as the library's own default, in bytes, costs no
    /// time; a shorter one does, since more is fetched in smaller pieces.
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
            .set("queued.min.messages", "100000")
            .set("queued.max.messages.kbytes", "16384")
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
            // By default a connection whose other side is gone without a word is noticed after a minute.
            .set("socket.timeout.ms", "10000")
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false")
            .set("enable.metrics.push", "false");
        for (name, value) in self.security() {
            client.set(name, value);
        }
        client
    }

    fn add_settings(&self, client: &mut ClientConfig, kind: Kind) {
        for (name, value) in self.settings.iter() {
            let (only, bare) = bare_name(name);
            if only.is_none_or(|only| only == kind) {
                client.set(bare, value);
            }
        }
    }
}

/// One of a setting's two names, where it has two.
pub(super) fn one_name(name: &str) -> &str {
    match name {
        "sasl.mechanisms" => "sasl.mechanism",
        name => name,
    }
}

pub(super) fn bare_name(name: &str) -> (Option<Kind>, &str) {
    if let Some(bare) = name.strip_prefix("producer.") {
        (Some(Kind::Producer), bare)
    } else if let Some(bare) = name.strip_prefix("consumer.") {
        (Some(Kind::Consumer), bare)
    } else {
        (None, name)
    }
}
