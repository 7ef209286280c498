//! An installation moves from the embedded log to Kafka and back: offsets, decisions and figures stay, and nobody is
//! told anything twice.

pub(crate) mod copies;
mod gaps;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::figures::{Figures, conserved, events};
use tests::kafka::Kafka;
use tests::process::{Process, Signal};
use tests::receiver::{Receiver, channel};
use tests::trace;
use tests::weir::{Options, Weir, command};

use crate::log_tools::{fails, lines, log, succeeds};
use copies::{SLOWLY, records_in};

const USAGE: &str = "weir.usage.v1";
const BATCH: usize = 500;
const PATIENCE: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(20);
const LIVE_LIMIT: &str = r#"
[[limit]]
name = "probes"
subject = "tenant/live-*"
meter = "probes"
window = "sliding 1h"
hard = 3
mode = "block"
"#;

fn config(webhook: &str) -> String {
    let hook = channel(webhook);
    format!(
        r#"
[aggregator]
snapshot_interval_s = 1

# The trace is years old.
[notifier]
alert_age_max_s = 3000000000
poll_interval_ms = 50
{hook}messages_max = 1000
"#
    )
}

async fn post(client: &Client, events: &[String]) {
    for batch in events.chunks(BATCH) {
        client.post(batch).await;
    }
}

/// Crosses the limit of a tenant that nobody has heard of, and waits until it is refused. Gives how many events that
/// were: each question that is still answered with yes is one as well.
async fn block(client: &Client, tenant: &str) -> usize {
    let probe = || usage(tenant, &json!({ "units": { "probes": 1 } }));
    let probes = [probe(), probe(), probe()];
    post(client, &probes).await;
    let mut admitted = 0;
    eventually("the refusal", PATIENCE, async || {
        match client.forward_auth(tenant).await.status {
            429 => Ok(()),
            status => {
                admitted += 1;
                Err(format!("{tenant}: {status}"))
            }
        }
    })
    .await;
    probes.len() + admitted
}

async fn is_refused(client: &Client, tenant: &str) {
    assert_eq!(client.forward_auth(tenant).await.status, 429, "{tenant}");
}

async fn decisions(client: &Client) -> BTreeSet<String> {
    let all = client.list("/v1/decisions", &[]).await;
    let live = all.iter().filter(|d| {
        d["subject"]
            .as_str()
            .is_some_and(|s| s.starts_with("tenant/live-"))
    });
    live.map(|d| d["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// Listed from rows, which come a moment after the log's record of a decision.
async fn all_decisions(client: &Client, count: usize) -> BTreeSet<String> {
    eventually("the decisions", PATIENCE, async || {
        match decisions(client).await.len() {
            found if found == count => Ok(()),
            found => Err(format!("{found} of {count}")),
        }
    })
    .await;
    decisions(client).await
}

/// The figures are those of the recount; so many events were counted, and so many known already.
async fn all_is_counted(client: &Client, counted: usize, duplicates: usize) {
    let expected = trace::expected();
    eventually("every event's outcome", PATIENCE, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, USAGE)?;
        let seen = ["counted", "duplicate", "late", "dead"]
            .map(|outcome| events(&metrics, USAGE, outcome));
        if seen != [counted as f64, duplicates as f64, 0.0, 0.0] {
            return Err(format!("{seen:?}, not {counted} and {duplicates}"));
        }
        match Figures::read(client, &expected)
            .await
            .differences(&expected)
        {
            none if none.is_empty() => Ok(()),
            found => Err(format!("{} differences: {found:#?}", found.len())),
        }
    })
    .await;
}

/// Each crossing is told once, over all the homes together.
async fn everybody_is_told_once(client: &Client, receiver: &Receiver, live: usize) {
    let windows = trace::expected().windows;
    let crossed: usize = windows.values().map(|w| w.upward_crossings).sum();
    eventually("all is told", PATIENCE, async || {
        match receiver.received().len() {
            told if crossed + live <= told => Ok(()),
            told => Err(format!("{told} of {}", crossed + live)),
        }
    })
    .await;
    let ids: Vec<String> = receiver.received().into_iter().map(|w| w.id).collect();
    let different: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "told twice");
    assert_eq!(ids.len(), crossed + live);
    assert_eq!(client.list("/v1/alerts", &[]).await.len(), crossed + live);
}

/// Begins an export that is slow, kills it when some of it is there, and looks that a half copy is nothing to run on.
async fn killed_in_the_middle(weir: &Weir, kafka: &Kafka, folder: &Path) {
    let slowly = folder.join("slowly.toml");
    std::fs::write(&slowly, SLOWLY).expect("a configuration");
    let mut export = log(&["export", "--to", &kafka.bootstrap(), "--data"]);
    export.arg(weir.data_folder()).arg("--config").arg(&slowly);
    let output = folder.join("export.log");
    let mut export = Process::start("the export", &mut export, &output, Signal::TERM);
    eventually("a part is copied", PATIENCE, async || {
        assert!(export.ended().is_none(), "{}", export.output());
        match records_in(&kafka.bootstrap()) {
            some if 500 <= some => Ok(()),
            few => Err(format!("{few} records")),
        }
    })
    .await;
    export.kill9();

    let mut up = command("up");
    up.args(["--kafka", &kafka.bootstrap(), "--data"])
        .arg(folder.join("none"));
    up.args(["--port-data", "0", "--port-management", "0", "--policy"]);
    up.arg(weir.data_folder().join("../policy.toml"));
    fails(&mut up, "cleanup.policy is `delete`, not `compact`");
}

// Several threads: webhooks are taken while a command runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_kafka_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut receiver = Receiver::down();
    receiver.start().await;
    let policy = format!("{}{LIVE_LIMIT}", trace::LIMIT);
    let options = Options::up(&policy).with_config(&config(&receiver.url()));
    let (mut weir, kafka) = tokio::join!(Weir::start(options), Kafka::start());
    let trace = trace::events();
    let (first, second) = trace.split_at(trace.len() / 2);

    let client = weir.client();
    post(&client, first).await;
    let mut live = block(&client, "live-1").await;
    let before = all_decisions(&client, 1).await;
    assert!(
        weir.terminate(STOP_WITHIN)
            .is_some_and(|status| status.success())
    );

    killed_in_the_middle(&weir, &kafka, folder.path()).await;
    let interrupted = records_in(&kafka.bootstrap());
    let mut export = log(&["export", "--to", &kafka.bootstrap(), "--data"]);
    let told = succeeds(export.arg(weir.data_folder()));
    assert!(told.contains("are equal on both sides"), "{told}");
    assert!(
        interrupted < records_in(&kafka.bootstrap()),
        "it was complete before"
    );

    shows_kafka(&kafka);

    weir.start_again_on(Some(kafka.bootstrap())).await;
    let client = weir.client();
    is_refused(&client, "live-1").await;
    assert_eq!(decisions(&client).await, before);
    post(&client, second).await;
    live += block(&client, "live-2").await;
    all_is_counted(&client, trace.len() + live, 0).await;
    everybody_is_told_once(&client, &receiver, 2).await;
    let before = all_decisions(&client, 2).await;
    assert!(
        weir.terminate(STOP_WITHIN)
            .is_some_and(|status| status.success())
    );

    back_to_a_new_folder(&weir, &kafka, folder.path());
    weir.start_again_on(None).await;
    let client = weir.client();
    is_refused(&client, "live-1").await;
    is_refused(&client, "live-2").await;
    assert_eq!(decisions(&client).await, before);
    post(&client, &trace).await;
    live += block(&client, "live-3").await;
    all_is_counted(&client, trace.len() + live, trace.len()).await;
    everybody_is_told_once(&client, &receiver, 3).await;
}

/// The tools see on Kafka what they see in a folder.
fn shows_kafka(kafka: &Kafka) {
    let bootstrap = kafka.bootstrap();
    let on = |arguments: &[&str]| {
        let mut command = log(arguments);
        command.args(["--kafka", &bootstrap]);
        lines(&mut command)
    };
    let topics = on(&["ls", "--json"]);
    let records = topics.iter().map(|topic| topic["records_max"].as_i64());
    assert_eq!(records.sum::<Option<i64>>(), Some(records_in(&bootstrap)));
    let newest = on(&["tail", "weir.decisions.v1", "-n", "1"]);
    assert_eq!(newest[0]["record"], "decision");
    assert_eq!(newest[0]["key"], "tenant/live-1");
    let offsets = on(&["offsets", "--json"]);
    assert!(
        offsets
            .iter()
            .any(|line| line["group"] == "weir-aggregator")
    );
}

/// Imports into a folder that has nothing of the log, and what else the installation has.
fn back_to_a_new_folder(weir: &Weir, kafka: &Kafka, folder: &Path) {
    let (data, old) = (weir.data_folder(), folder.join("old"));
    std::fs::rename(&data, &old).expect("the data folder's other name");
    let mut import = log(&["import", "--from", &kafka.bootstrap(), "--json", "--data"]);
    let told = lines(import.arg(&data));
    let held = told
        .iter()
        .flat_map(|line| [&line["records"], &line["fillers"]]);
    let held: Option<i64> = held.map(serde_json::Value::as_i64).sum();
    assert_eq!(held, Some(records_in(&kafka.bootstrap())));
    for kept in ["snapshots", "weir.db", "credentials.json"] {
        std::fs::rename(old.join(kept), data.join(kept)).expect("it moves");
    }
}
