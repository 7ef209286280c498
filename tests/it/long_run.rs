//! Hours of events in minutes, with keys that come and go: nothing differs in the end, memory stays what it was after
//! the beginning, and snapshots stay as quick.
//!
//! `LONG_SECONDS` (360 unless it does) sets the length in event time, `LONG_RATE` (1,000) the events in each of its seconds.

use std::time::Duration;

use bus::clock::Stopwatch;
use schemas::time::Timestamp;
use schemas::topic::USAGE;
use tests::churn::{Churn, FROM_SECONDS, KEY_SECONDS, TENANTS};
use tests::client::Client;
use tests::eventually;
use tests::figures::{conserved, events};
use tests::process::resident_mib;
use tests::setting;
use tests::weir::{Options, Weir};

const SECONDS: usize = 360;
const RATE: usize = 1_000;
/// Events that may wait to be counted, in seconds of event time: what is looked at on the way is no older.
const AHEAD_SECONDS: usize = 10;
/// Who writes rows of what was counted, and who tells of it: they share the machine with counting, which could take all
/// of it.
const FOLLOWERS: [&str; 3] = ["weir-recorder", "weir-enforcer", "weir-notifier"];
/// Records that each of them may be behind.
const BEHIND_MAX: f64 = 50_000.0;
const COUNTED_WITHIN: Duration = Duration::from_secs(300);
/// All totals, of which each query reads so many seconds.
const TOLD_WITHIN: Duration = Duration::from_secs(1_800);
const PART_SECONDS: usize = 600;
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

async fn counted(client: &Client) -> usize {
    events(&client.metrics().await, USAGE.name(), "counted") as usize
}

/// Waits until so many events are counted, and what follows of them is not far behind.
async fn wait_until_counted(client: &Client, least: usize) {
    eventually("events are counted", COUNTED_WITHIN, async || {
        let metrics = client.metrics().await;
        let counted = events(&metrics, USAGE.name(), "counted") as usize;
        let behind = |group| metrics.sum("weir_bus_consumer_lag_records", &[("group", group)]);
        let behind = FOLLOWERS.map(behind);
        match least <= counted && behind.iter().all(|records| *records < BEHIND_MAX) {
            true => Ok(()),
            false => Err(format!(
                "{counted} of {least}; {FOLLOWERS:?}: {behind:?} records behind"
            )),
        }
    })
    .await;
}

/// The tenants' tokens as queries tell them, part by part: hours of rows are gigabytes, which may come from a cold disk.
async fn told(client: &Client, seconds: usize) -> [i64; TENANTS] {
    let time = |second: i64| Timestamp::from_seconds(second).to_string();
    // In whole minutes.
    let minute = |second: i64| second.div_euclid(60) * 60;
    let from = minute(FROM_SECONDS);
    let to = minute(FROM_SECONDS + seconds as i64) + 60;
    let mut told = [0; TENANTS];
    for (tenant, told) in told.iter_mut().enumerate() {
        let subject = format!("tenant/t{tenant}");
        for part in (from..to).step_by(PART_SECONDS) {
            let end = to.min(part + PART_SECONDS as i64);
            let query = [
                ("subject", subject.as_str()),
                ("meter", "tokens"),
                ("from", &time(part)),
                ("to", &time(end)),
            ];
            let usage = client.get("/v1/usage", &query).await;
            *told += usage["series"][0]["total"].as_i64().unwrap_or_default();
        }
    }
    told
}

#[expect(clippy::print_stderr, reason = "a soak is run for these figures")]
#[tokio::test(flavor = "multi_thread")]
async fn hours_of_events_leave_memory_as_it_was() {
    let (seconds, rate) = (setting("LONG_SECONDS", SECONDS), setting("LONG_RATE", RATE));
    let weir = Weir::start(Options::up(POLICY).with_config(CONFIG)).await;
    let client = weir.client();
    let mut load = Churn::new(&weir.bootstrap(), rate);
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
    load.flush();
    wait_until_counted(&client, load.sent).await;
    eventually("the tenants' totals", TOLD_WITHIN, async || {
        match told(&client, seconds).await {
            told if told == load.tokens => Ok(()),
            told => Err(format!("{told:?}, not {:?}", load.tokens)),
        }
    })
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
