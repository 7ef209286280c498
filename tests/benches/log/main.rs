//! The embedded log beside Apache Kafka: one machine, one run, one client library, each in a process of its own.
//!
//! Throughput and latency are the medians of rounds in which the two take turns. `STORED_GIB` (10) is what is stored
//! when memory and the time to open are measured; `ROUNDS` (3) how often the rest is.
//!
//! `cargo bench -p tests --bench log`. Prints a table; asserts only that every record arrives.

mod client;
mod home;

use std::time::Duration;

use client::Topic;
use home::Home;
use tests::setting;
use tests::waits::Waits;

/// Records of a throughput run, and the bytes of each: half of them random, as text in JSON is.
const RECORDS: usize = 1_000_000;
const RECORD_BYTES: usize = 200;
const THROUGHPUT_PARTITIONS: i32 = 4;
/// Single records of a latency run; the next is sent when the one before has arrived.
const SINGLES: usize = 3_000;
const IDLE_CONSUMERS: usize = 3;
const IDLE_TIME: Duration = Duration::from_secs(10);

/// One line of the table: a figure of each home in each round.
struct Row {
    name: String,
    unit: &'static str,
    digits: usize,
    figures: [Vec<f64>; 2],
}

/// The table as it grows.
#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn add(&mut self, of: usize, name: &str, unit: &'static str, figure: f64) {
        let at = self.0.iter().position(|row| row.name == name);
        let at = at.unwrap_or_else(|| {
            self.0.push(Row {
                name: name.to_owned(),
                unit,
                digits: if figure < 100.0 { 2 } else { 0 },
                figures: [vec![], vec![]],
            });
            self.0.len() - 1
        });
        self.0[at].figures[of].push(figure);
    }

    fn latency(&mut self, of: usize, name: &str, waits: Vec<Duration>) {
        let waits = Waits::new(waits);
        for percent in [50, 99] {
            let name = format!("{name}, p{percent}");
            let wait = waits.quantile(percent);
            self.add(of, &name, "ms", wait.as_secs_f64() * 1e3);
        }
    }

    fn print(&self) {
        say("| | unit | embedded log | Kafka | ratio |");
        say("| --- | --- | --- | --- | --- |");
        for row in &self.0 {
            let [own, kafka] = row.figures.each_ref().map(|figures| median(figures));
            say(&format!(
                "| {} | {} | {own:.digits$} | {kafka:.digits$} | {:.2} |",
                row.name,
                row.unit,
                own / kafka,
                digits = row.digits
            ));
        }
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let rounds = setting("ROUNDS", 3);
    let stored_gib = setting("STORED_GIB", 10);
    let mut table = Table::default();
    let mut homes = runtime.block_on(async { [Home::embedded().await, Home::kafka().await] });
    for round in 0..rounds {
        for (of, home) in homes.iter().enumerate() {
            say(&format!("round {}: {}", round + 1, home.name()));
            throughput(&mut table, of, home, round);
            latency(&mut table, of, home, round);
        }
    }
    for (of, home) in homes.iter_mut().enumerate() {
        idle(&mut table, of, home);
        runtime.block_on(stored(&mut table, of, home, stored_gib));
    }
    table.print();
}

/// Idempotent, acknowledged by the log, lz4 in batches of 5 ms; then read from the start by one reader.
fn throughput(table: &mut Table, of: usize, home: &Home, round: usize) {
    let topic = Topic::create(home, &format!("throughput-{round}"), THROUGHPUT_PARTITIONS);
    let took = topic.produce(RECORDS, RECORD_BYTES, "lz4");
    table.add(of, "produce, 200 B", "records/s", per_second(RECORDS, took));
    let took = topic.consume(RECORDS);
    table.add(of, "consume, 200 B", "records/s", per_second(RECORDS, took));
}

/// One record at a time: until it is acknowledged, and until a waiting reader has it.
fn latency(table: &mut Table, of: usize, home: &Home, round: usize) {
    let topic = Topic::create(home, &format!("acknowledged-{round}"), 1);
    table.latency(of, "acknowledgement", topic.acknowledged(SINGLES));
    for (partitions, name) in [
        (1, "end to end, 1 partition"),
        (12, "end to end, 12 partitions"),
    ] {
        let topic = Topic::create(
            home,
            &format!("end-to-end-{round}-{partitions}"),
            partitions,
        );
        table.latency(of, name, topic.end_to_end(SINGLES));
    }
}

/// What it takes while members of a group wait and nothing happens.
fn idle(table: &mut Table, of: usize, home: &Home) {
    let topic = Topic::create(home, "idle", 12);
    let share = topic.while_waiting(IDLE_CONSUMERS, || {
        let before = home.cpu_time();
        std::thread::sleep(IDLE_TIME);
        (home.cpu_time() - before).as_secs_f64() / IDLE_TIME.as_secs_f64()
    });
    table.add(of, "idle, 3 consumers", "% of a core", share * 100.0);
}

/// Memory and the time to open with much stored, after an orderly stop and after kill -9.
async fn stored(table: &mut Table, of: usize, home: &mut Home, gib: usize) {
    say(&format!("storing {gib} GiB: {}", home.name()));
    let topic = Topic::create(home, "stored", THROUGHPUT_PARTITIONS);
    let records = gib * (1 << 30) / client::LARGE_BYTES;
    let took = topic.produce(records, client::LARGE_BYTES, "none");
    let mib = records * client::LARGE_BYTES / (1 << 20);
    table.add(of, "produce, 8 KiB", "MiB/s", per_second(mib, took));
    let name = format!("resident after {gib} GiB");
    table.add(of, &name, "MiB", home.resident_mib());
    let took = home.reopen(false).await;
    let name = format!("open {gib} GiB after a stop");
    table.add(of, &name, "s", took.as_secs_f64());
    let name = format!("resident after opening {gib} GiB");
    table.add(of, &name, "MiB", home.resident_mib());
    let took = home.reopen(true).await;
    let name = format!("open {gib} GiB after kill -9");
    table.add(of, &name, "s", took.as_secs_f64());
}

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn say(line: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}
