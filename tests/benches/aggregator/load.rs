//! The events: made by a fixed seed, so that every run has the same.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use schemas::cloudevents::{Event, Rules, read_event};
use schemas::codec::Wire;
use schemas::partition::partition_of;
use schemas::record::Recorded;
use schemas::time::Timestamp;
use tests::traffic::send_when_room;

use crate::stand::{PARTITIONS, Stand, TOPIC};

/// Events of one second of event time.
const EVENTS_PER_SECOND: usize = 20_000;
const KEYS_OF_A_TENANT: usize = 100;
const FROM_SECONDS: i64 = 1_760_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

type Sender = ThreadedProducer<DefaultProducerContext>;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// Structured CloudEvents.
    Json,
    /// Records as `ingest` writes them.
    Avro,
}

/// How events fall on keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spread {
    Uniform,
    /// The k-th key has a share of events that is as 1/k.
    Zipf,
}

/// What is in the topic.
pub(crate) struct Load {
    pub(crate) form: Form,
    pub(crate) keys: usize,
    pub(crate) spread: Spread,
    pub(crate) events: usize,
}

/// Numbers of keys, from zero on.
enum Keys {
    Uniform(usize),
    Zipf(Zipf<f64>),
}

impl Keys {
    fn of(load: &Load) -> Self {
        match load.spread {
            Spread::Uniform => Self::Uniform(load.keys),
            Spread::Zipf => {
                let zipf = Zipf::new(load.keys as f64, 1.0);
                Self::Zipf(zipf.expect("there are keys"))
            }
        }
    }

    fn next(&self, random: &mut SmallRng) -> usize {
        match self {
            Self::Uniform(keys) => random.random_range(0..*keys),
            // It counts from one.
            Self::Zipf(zipf) => zipf.sample(random) as usize - 1,
        }
    }
}

impl Load {
    /// Writes all events, and gives the mean size of a value.
    pub(crate) fn fill(&self, stand: &Stand) -> usize {
        let producer = producer(stand);
        let mut random = SmallRng::seed_from_u64(7);
        let keys = Keys::of(self);
        let mut bytes = 0;
        for number in 0..self.events {
            let key = keys.next(&mut random);
            bytes += self.send(&producer, (number, key), &mut random);
        }
        producer.flush(10 * PATIENCE).expect("all is sent");
        bytes / self.events.max(1)
    }

    /// Writes one event after them.
    pub(crate) fn one_more(&self, stand: &Stand) {
        let producer = producer(stand);
        self.send(&producer, (self.events, 0), &mut SmallRng::seed_from_u64(8));
        producer.flush(PATIENCE).expect("it is sent");
    }

    /// Writes the event of this number, and gives the size of its value.
    fn send(
        &self,
        producer: &Sender,
        (number, key): (usize, usize),
        random: &mut impl Rng,
    ) -> usize {
        let tenant = format!("t{}", key / KEYS_OF_A_TENANT);
        let value = self.value(number, key, &tenant, random);
        let key = format!("k{key}");
        let record = BaseRecord::<[u8], [u8]>::to(TOPIC)
            .key(key.as_bytes())
            .payload(&value)
            .partition(partition_of(tenant.as_bytes(), PARTITIONS))
            .timestamp(time_of(number).as_micros() / 1_000);
        send_when_room(producer, record);
        value.len()
    }

    fn value(&self, number: usize, key: usize, tenant: &str, random: &mut impl Rng) -> Vec<u8> {
        let at = time_of(number);
        let tokens = random.random_range(1..=4_000);
        let user = random.random_range(0..1_000_000);
        let micro_usd = random.random_range(100..1_000);
        let json = format!(
            r#"{{"specversion":"1.0","id":"{number:x}","source":"gw","type":"usage","subject":"{tenant}","time":"{at}","data":{{"key":"k{key}","user":"u{user}","route":"POST /v1/chat/completions","status":200,"model":"gpt-4o","input_tokens":{tokens},"cost_usd":"0.000{micro_usd}","note":{{"tokens":{tokens}}}}}}}"#
        );
        match self.form {
            Form::Json => json.into_bytes(),
            Form::Avro => {
                let event = read_event(json.as_bytes(), &Rules::at(at)).expect("a good event");
                let Event::Usage(usage) = event else {
                    panic!("{json} is no usage")
                };
                let mut bytes = Vec::new();
                Recorded::Event(usage)
                    .encode(&mut bytes)
                    .expect("it fits its schema");
                bytes
            }
        }
    }
}

fn producer(stand: &Stand) -> Sender {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", stand.bootstrap())
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "20");
    config.create().expect("a producer")
}

fn time_of(number: usize) -> Timestamp {
    let micros = number * 1_000_000 / EVENTS_PER_SECOND;
    Timestamp::from_micros(FROM_SECONDS * 1_000_000 + micros as i64)
}
