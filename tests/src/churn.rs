//! Usage events with keys that come and go, as many in a second as one asks for, straight to the log.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use schemas::codec::Wire;
use schemas::partition::partition_of;
use schemas::record::{Recorded, Usage};
use schemas::time::Timestamp;
use schemas::topic::USAGE;

use crate::traffic::send_when_room;

pub const TENANTS: usize = 8;
pub const PARTITIONS: i32 = 4;
/// A key is used for so long, and then no more.
pub const KEY_SECONDS: usize = 100;
/// When they begin: 2025-10-09T08:53:20Z.
pub const FROM_SECONDS: i64 = 1_760_000_000;
const DELIVERED_WITHIN: Duration = Duration::from_secs(300);

/// The events, second by second, and what they add up to.
pub struct Churn {
    producer: ThreadedProducer<DefaultProducerContext>,
    random: SmallRng,
    rate: usize,
    pub sent: usize,
    /// By tenant.
    pub tokens: [i64; TENANTS],
    bytes: Vec<u8>,
}

impl Churn {
    /// At the log at `bootstrap`, whose topics have [`PARTITIONS`].
    ///
    /// # Panics
    /// When there is no producer to be had.
    #[must_use]
    pub fn new(bootstrap: &str, rate: usize) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "20")
            .create();
        Self {
            producer: producer.expect("a producer"),
            random: SmallRng::seed_from_u64(5),
            rate,
            sent: 0,
            tokens: [0; TENANTS],
            bytes: Vec::new(),
        }
    }

    /// All events of one second, sent.
    pub fn second(&mut self, second: usize) {
        for nth in 0..self.rate {
            let micros = second * 1_000_000 + nth * 1_000_000 / self.rate;
            let at = Timestamp::from_micros(FROM_SECONDS * 1_000_000 + micros as i64);
            self.event(second, at);
        }
    }

    fn event(&mut self, second: usize, at: Timestamp) {
        // As many keys are in use as events come in a second, and each second some go and as many come.
        let oldest = second * self.rate / KEY_SECONDS;
        let key = oldest + self.random.random_range(0..self.rate);
        let tenant = key % TENANTS;
        let tokens = self.random.random_range(1..=4_000);
        self.tokens[tenant] += tokens;
        let name = format!("t{tenant}");
        let usage = Usage {
            event_source: "gw".to_owned(),
            event_id: format!("{:x}", self.sent),
            tenant: name.clone(),
            at,
            received_at: at,
            key: Some(format!("k{key}")),
            model: Some("m".to_owned()),
            requests: 1,
            input_tokens: tokens,
            ..Usage::default()
        };
        self.bytes.clear();
        let encoded = Recorded::Event(usage).encode(&mut self.bytes);
        encoded.expect("it fits its schema");
        self.send(&name);
        self.sent += 1;
    }

    /// Waits until all of them are in the log.
    ///
    /// # Panics
    /// When the log does not take them.
    pub fn flush(&self) {
        self.producer
            .flush(DELIVERED_WITHIN)
            .expect("all is in the log");
    }

    fn send(&self, tenant: &str) {
        let record = BaseRecord::<[u8], [u8]>::to(USAGE.name())
            .key(tenant.as_bytes())
            .payload(&self.bytes)
            .partition(partition_of(tenant.as_bytes(), PARTITIONS));
        send_when_room(&self.producer, record);
    }
}
