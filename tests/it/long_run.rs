//! Hours of events in minutes, with keys that come and go: nothing differs in the end, memory stays what it was after
//! the beginning, and snapshots stay as quick.
//!
//! `LONG_SECONDS` (360 unless it does) sets the length in event time, `LONG_RATE` (1,000) the events in each of its seconds.

use std::time::Duration;

use bus::clock::Stopwatch;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use schemas::codec::Wire;
use schemas::partition::partition_of;
use schemas::record::{Recorded, Usage};
use schemas::time::Timestamp;
use schemas::topic::USAGE;
use tests::client::Client;
use tests::eventually;
use tests::figures::{conserved, events};
use tests::process::resident_mib;
use tests::setting;
use tests::traffic::send_when_room;
use tests::weir::{Options, Weir};

const SECONDS: usize = 360;
const RATE: usize = 1_000;
const TENANTS: usize = 8;
const PARTITIONS: i32 = 4;
/// A key is used for so long, and then no more.
const KEY_SECONDS: usize = 100;
/// 2025-10-09T08:53:20Z.
const FROM_SECONDS: i64 = 1_760_000_000;
/// Events that may wait to be counted, in seconds of event time: what is looked at on the way is no older.
const AHEAD_SECONDS: usize = 10;
const COUNTED_WITHIN: Duration = Duration::from_secs(300);
/// How often the memory is looked at, in parts of the whole.
const LOOKS: usize = 24;
/// What the first half leaves in memory may be exceeded by this part of it.
const GROWTH_MAX: f64 = 0.5;
/// And by this: what is read ahead on the way between services has bounds of its own, which short runs do not reach.
const SLACK_MIB: f64 = 100.0;

const POLICY: &str = "\
[[limit]]
name = \"tokens\"
subject = \"tenant/*/key/*\"
meter = \"tokens\"
window = \"sliding 60s\"
hard = 60000
mode = \"block\"
";
/// Everything that is kept for a while has been kept for as long after half of the time.
const CONFIG: &str = "\
[kafka]
partitions = 4
[aggregator]
lateness_s = 30
snapshot_interval_s = 1
duplicates_max = 10000
";

/// The events, second by second, and what they add up to.
struct Load {
    producer: ThreadedProducer<DefaultProducerContext>,
    random: SmallRng,
    rate: usize,
    sent: usize,
    /// By tenant.
    tokens: [i64; TENANTS],
    bytes: Vec<u8>,
}

impl Load {
    fn new(bootstrap: &str, rate: usize) -> Self {
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

    /// All events of one second.
    fn second(&mut self, second: usize) {
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

    fn send(&self, tenant: &str) {
        let record = BaseRecord::<[u8], [u8]>::to(USAGE.name())
            .key(tenant.as_bytes())
            .payload(&self.bytes)
            .partition(partition_of(tenant.as_bytes(), PARTITIONS));
        send_when_room(&self.producer, record);
    }
}

async fn counted(client: &Client) -> usize {
    events(&client.metrics().await, USAGE.name(), "counted") as usize
}

async fn wait_until_counted(client: &Client, least: usize) {
    eventually(
        "events are counted",
        COUNTED_WITHIN,
        async || match counted(client).await {
            few if few < least => Err(format!("{few} of {least}")),
            _ => Ok(()),
        },
    )
    .await;
}

/// The tenants' tokens as queries tell them.
async fn told(client: &Client, seconds: usize) -> [i64; TENANTS] {
    let time = |second: i64| Timestamp::from_seconds(second).to_string();
    // In whole minutes.
    let minute = |second: i64| second.div_euclid(60) * 60;
    let from = time(minute(FROM_SECONDS));
    let to = time(minute(FROM_SECONDS + seconds as i64) + 60);
    let mut told = [0; TENANTS];
    for (tenant, told) in told.iter_mut().enumerate() {
        let subject = format!("tenant/t{tenant}");
        let query = [
            ("subject", subject.as_str()),
            ("meter", "tokens"),
            ("from", &from),
            ("to", &to),
        ];
        let usage = client.get("/v1/usage", &query).await;
        *told = usage["series"][0]["total"].as_i64().unwrap_or_default();
    }
    told
}

#[expect(clippy::print_stderr, reason = "a soak is run for these figures")]
#[tokio::test(flavor = "multi_thread")]
async fn hours_of_events_leave_memory_as_it_was() {
    let (seconds, rate) = (setting("LONG_SECONDS", SECONDS), setting("LONG_RATE", RATE));
    let weir = Weir::start(Options::up(POLICY).with_config(CONFIG)).await;
    let client = weir.client();
    let mut load = Load::new(&weir.bootstrap(), rate);
    let since = Stopwatch::start();
    let mut memory = Vec::new();
    let ahead_max = AHEAD_SECONDS * rate;
    let mut slowest = 0.0_f64;
    for second in 0..seconds {
        load.second(second);
        if second % (seconds / LOOKS).max(1) == 0 {
            wait_until_counted(&client, load.sent.saturating_sub(ahead_max)).await;
            let (sum, count) = snapshots(&client).await;
            slowest = slowest.max(sum / count.max(1.0));
            memory.push(resident_mib(weir.id()));
            eprintln!("{second} s: {:.0} MiB", memory[memory.len() - 1]);
        } else if second % AHEAD_SECONDS == 0 {
            wait_until_counted(&client, load.sent.saturating_sub(ahead_max)).await;
        }
    }
    load.producer
        .flush(COUNTED_WITHIN)
        .expect("all is in the log");
    wait_until_counted(&client, load.sent).await;
    eventually(
        "the tenants' totals",
        COUNTED_WITHIN,
        async || match told(&client, seconds).await {
            told if told == load.tokens => Ok(()),
            told => Err(format!("{told:?}, not {:?}", load.tokens)),
        },
    )
    .await;
    let metrics = client.metrics().await;
    conserved(&metrics, USAGE.name()).unwrap();
    assert_eq!(counted(&client).await, load.sent, "none is counted twice");
    let took = since.elapsed();
    let warm = memory[memory.len() / 2];
    let most = memory.iter().copied().fold(0.0, f64::max);
    eprintln!(
        "{} events in {took:.0?}, {} keys; resident {warm:.0} MiB after half, {most:.0} MiB at the most; a snapshot took \
         {slowest:.3} s on average at the worst; difference 0",
        load.sent,
        seconds * rate / KEY_SECONDS + rate,
    );
    assert!(
        most <= warm * (1.0 + GROWTH_MAX) + SLACK_MIB,
        "memory grew from {warm} to {most} MiB: {memory:?}"
    );
}

/// Seconds that all snapshots took so far, and how many there were.
async fn snapshots(client: &Client) -> (f64, f64) {
    let metrics = client.metrics().await;
    let sum = |part: &str| metrics.sum(&format!("weir_aggregator_snapshot_seconds_{part}"), &[]);
    (sum("sum"), sum("count"))
}
