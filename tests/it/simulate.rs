//! A draft is tried out on the events of a data folder: it says who would have been refused and when, exactly, in memory
//! that does not grow with the events.
//!
//! `SIMULATE_EVENTS` (20,000 unless it does) sets how many.

use std::time::Duration;
use std::{fs, thread};

use bus::clock::Stopwatch;
use schemas::time::Timestamp;
use schemas::topic::USAGE;
use serde_json::Value;
use tests::churn::{Churn, FROM_SECONDS, TENANTS};
use tests::figures::events;
use tests::process::{Process, Signal, resident_mib_unless_ended};
use tests::weir::{Options, Weir, command};
use tests::{eventually, setting};

const EVENTS: usize = 20_000;
const SECONDS: usize = 1_000;
/// For all of them, in the debug build on a busy machine.
const WITHIN: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(100);
/// What the last quarter may hold more than what came before: by then the memory of duplicates is as large as it gets.
const GROWTH_MAX_MIB: f64 = 64.0;

/// Since when each tenant has used half of all that it will use, in a limit of a month.
fn halves(tokens: &[i64; TENANTS], by_second: &[[i64; TENANTS]]) -> [i64; TENANTS] {
    std::array::from_fn(|tenant| {
        let since = by_second
            .iter()
            .position(|sums| tokens[tenant] / 2 <= sums[tenant]);
        FROM_SECONDS + since.expect("there is a half") as i64
    })
}

fn draft(tokens: &[i64; TENANTS]) -> String {
    let limit = |tenant: usize| {
        format!(
            "[[limit]]\nname = \"l{tenant}\"\nsubject = \"tenant/t{tenant}\"\nmeter = \"tokens\"\n\
             window = \"calendar month\"\nhard = {}\n",
            tokens[tenant] / 2
        )
    };
    (0..TENANTS).map(limit).collect()
}

/// Runs to its end; what it printed, how long it took, and what it held after three quarters of that and at the most.
fn watched(mut process: Process) -> (String, Duration, f64, f64) {
    let since = Stopwatch::start();
    let mut memory = Vec::new();
    let status = loop {
        if let Some(status) = process.ended() {
            break status;
        }
        assert!(since.elapsed() < WITHIN, "it does not end");
        memory.extend(resident_mib_unless_ended(process.id()));
        thread::sleep(LOOK);
    };
    let took = since.elapsed();
    assert!(status.success(), "{status}: {}", process.output());
    let late = memory[memory.len() * 3 / 4];
    let most = memory.iter().copied().fold(0.0, f64::max);
    (process.output(), took, late, most)
}

#[expect(clippy::print_stderr, reason = "a large one is run for these figures")]
#[tokio::test(flavor = "multi_thread")]
async fn past_events_by_the_million_are_tried_in_little_memory() {
    let rate = setting("SIMULATE_EVENTS", EVENTS) / SECONDS;
    let config = "[kafka]\npartitions = 4\n[aggregator]\nrollup_by = []\n";
    let mut weir = Weir::start(Options::up("zone = \"UTC\"\n").with_config(config)).await;
    let client = weir.client();
    let mut load = Churn::new(&weir.bootstrap(), rate);
    let mut by_second = Vec::new();
    for second in 0..SECONDS {
        load.second(second);
        by_second.push(load.tokens);
    }
    load.flush();
    eventually("all is counted", WITHIN, async || {
        let counted = events(&client.metrics().await, USAGE.name(), "counted") as usize;
        (counted == load.sent)
            .then_some(())
            .ok_or_else(|| format!("{counted} of {}", load.sent))
    })
    .await;
    assert!(weir.terminate(WITHIN).is_some(), "it stops in order");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("draft.toml");
    fs::write(&file, draft(&load.tokens)).expect("the draft");
    let mut simulate = command("policy");
    simulate.arg("simulate").arg(&file).arg("--json");
    simulate.arg("--from").arg(weir.data_folder());
    let log = folder.path().join("told");
    let process = Process::start("simulate", &mut simulate, &log, Signal::TERM);
    let (told, took, late, most) = watched(process);

    let lines = told
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let lines: Vec<Value> = lines.collect();
    for (tenant, since) in halves(&load.tokens, &by_second).into_iter().enumerate() {
        let subject = format!("tenant/t{tenant}");
        let found = lines
            .iter()
            .find(|line| line["subject"] == subject.as_str());
        let found = found.unwrap_or_else(|| panic!("nothing of {subject} in {told}"));
        let first = found["first"].as_str().and_then(Timestamp::parse);
        assert_eq!(first.map(Timestamp::second), Some(since), "{found}");
        assert_eq!(found["times"], 1, "{found}");
    }
    let ledger = lines.last().expect("a last line");
    assert_eq!(ledger["counted"], load.sent, "{ledger}");
    eprintln!(
        "{} events tried in {took:.1?}; resident {late:.0} MiB after three quarters of the time, {most:.0} MiB at the most",
        load.sent
    );
    assert!(most <= late + GROWTH_MAX_MIB, "{late} MiB became {most}");
}
