//! `weir log` on a running Weir, on its folder afterwards, and what it does to dead records.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use schemas::partition::partition_of;
use serde_json::{Value, json};
use tests::client::Client;
use tests::events::{now, usage};
use tests::eventually;
use tests::figures::{conserved, events};
use tests::process::{Process, Signal};
use tests::weir::{Options, Weir, command};

use crate::transfer::copies::{SLOWLY, client, read, spans};

const USAGE: &str = "weir.usage.v1";
const DEAD: &str = "weir.dead.v1";
const TENANT: &str = "acme";
const POLICY: &str = r#"
[[limit]]
name = "requests"
subject = "tenant/*"
meter = "requests"
window = "sliding 1h"
hard = 1000000
mode = "block"
"#;
const PATIENCE: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
const GOOD: usize = 20;
/// Events that are too far ahead for the first configuration, and not for the second.
const EARLY: usize = 1_500;
const AHEAD: Duration = Duration::from_secs(1_800);
const PATIENT: &str = "[aggregator]\nahead_max_s = 7200\nsnapshot_interval_s = 1\n";
/// On a record that was put back: the dead record that it was.
const REPLAYED_FROM: &str = "weir-replayed-from";

/// `weir log` with these arguments.
pub(crate) fn log(arguments: &[&str]) -> Command {
    let mut command = command("log");
    command.args(arguments);
    command
}

#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("weir runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// It ends with an error that says `part`.
#[track_caller]
pub(crate) fn fails(command: &mut Command, part: &str) {
    let Output { status, stderr, .. } = command.output().expect("weir runs");
    let errors = String::from_utf8_lossy(&stderr);
    assert!(!status.success() && errors.contains(part), "{errors}");
}

/// One JSON object a line.
#[track_caller]
pub(crate) fn lines(command: &mut Command) -> Vec<Value> {
    let text = succeeds(command);
    let line = |line: &str| serde_json::from_str(line).expect("a line of JSON");
    text.lines().map(line).collect()
}

fn partition() -> i32 {
    partition_of(TENANT.as_bytes(), 12)
}

/// Writes to the tenant's partition as a foreign producer would: garbage, and events from a clock that is ahead.
fn write_foreign(bootstrap: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .expect("a producer");
    let send = |value: &[u8]| {
        let record = BaseRecord::<str, [u8]>::to(USAGE).partition(partition());
        let sent = producer.send(record.key(TENANT).payload(value));
        sent.map_err(|(error, _)| error).expect("room");
    };
    send(&[0xff, 0x00]);
    for _ in 0..EARLY {
        let event = usage(TENANT, &json!({}));
        let mut event: Value = serde_json::from_str(&event).expect("an event");
        event["time"] = now().plus(AHEAD).to_string().into();
        send(event.to_string().as_bytes());
    }
    producer.flush(PATIENCE).expect("all is sent");
}

async fn outcomes_are(client: &Client, counted: usize, dead: usize) {
    eventually("every event's outcome", PATIENCE, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, USAGE)?;
        let seen = ["counted", "dead"].map(|outcome| events(&metrics, USAGE, outcome));
        (seen == [counted as f64, dead as f64])
            .then_some(())
            .ok_or_else(|| format!("{seen:?}, not {counted} and {dead}"))
    })
    .await;
}

async fn start() -> Weir {
    let weir = Weir::start(Options::up(POLICY).with_config("")).await;
    let client = weir.client();
    let good: Vec<String> = (0..GOOD).map(|_| usage(TENANT, &json!({}))).collect();
    client.post(&good).await;
    write_foreign(&weir.bootstrap());
    outcomes_are(&client, GOOD, EARLY + 1).await;
    weir
}

/// `weir log NAME` on the data folder.
fn on(data: &Path, arguments: &[&str]) -> Command {
    let mut command = log(arguments);
    command.arg("--data").arg(data);
    command
}

fn find<'a>(lines: &'a [Value], name: &str, value: &str) -> &'a Value {
    let found = lines.iter().find(|line| line[name] == value);
    found.unwrap_or_else(|| panic!("no line with {name} {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_what_is_there() {
    let mut weir = start().await;
    let data = weir.data_folder();
    looks(&data);
    fails(&mut on(&data, &["verify"]), "is held by process");
    fails(
        &mut on(&data, &["tail", "nothing"]),
        "there is no topic nothing",
    );
    follows(&weir, &data).await;
    let before = spans(&weir.bootstrap());
    assert!(weir.terminate(STOP_WITHIN).is_some_and(|s| s.success()));

    // The same without a Weir, but for the events that came meanwhile.
    let ls = lines(&mut on(&data, &["ls", "--json"]));
    for ((topic, partition), (_, next)) in before {
        let partitions = &find(&ls, "topic", &topic)["partitions"];
        let index = usize::try_from(partition).expect("an index");
        let found = partitions[index]["next"].as_i64().expect("an offset");
        assert!(next <= found, "{topic}/{partition}: {found}, not {next}");
    }
    let offsets = lines(&mut on(&data, &["offsets", "--json"]));
    let snapshots: Vec<_> = offsets
        .iter()
        .filter(|line| line["group"] == "(snapshots)" && line["topic"] == USAGE)
        .collect();
    assert_eq!(snapshots.len(), 12);
    assert!(
        snapshots.iter().all(|line| line["lag"] == 0),
        "{snapshots:?}"
    );
    fails(
        &mut on(&data, &["tail", USAGE, "--follow"]),
        "nothing will come",
    );
    fails(
        &mut on(Path::new("nowhere"), &["ls"]),
        "holds no embedded log",
    );
    finds_damage(&data);
}

fn looks(data: &Path) {
    let ls = lines(&mut on(data, &["ls", "--json"]));
    let usage = find(&ls, "topic", USAGE);
    // 12 markers of the policy are among them.
    assert_eq!(usage["records_max"], GOOD + EARLY + 1 + 12);
    assert_eq!(usage["cleanup"], "delete after 7 d");
    assert!(usage["bytes"].as_u64().is_some_and(|bytes| 0 < bytes));
    assert_eq!(
        find(&ls, "topic", "weir.decisions.v1")["cleanup"],
        "compact"
    );
    let table = succeeds(&mut on(data, &["ls"]));
    assert!(
        table.starts_with("TOPIC ") && table.contains("weir.keys.v1"),
        "{table}"
    );

    let all = lines(&mut on(
        data,
        &["tail", USAGE, "--key", TENANT, "-n", "5000"],
    ));
    assert_eq!(all.len(), GOOD + EARLY + 1);
    assert!(all.iter().all(|line| line["partition"] == partition()));
    assert_eq!(all[0]["record"], "usage");
    assert_eq!(all[0]["value"]["tenant"], TENANT);
    assert_eq!(all[GOOD]["value"], json!({ "base64": "/wA=" }));
    assert!(all[GOOD]["undecoded"].is_string());
    assert_eq!(all[GOOD + 1]["record"], "cloudevent");
    let newest = lines(&mut on(data, &["tail", USAGE, "-n", "1"]));
    assert_eq!(newest.last(), all.last());
    let from = all[GOOD]["offset"].to_string();
    let index = partition().to_string();
    let one = [
        "tail",
        USAGE,
        "--partition",
        &index,
        "--from",
        &from,
        "-n",
        "1",
    ];
    assert_eq!(lines(&mut on(data, &one)), all[GOOD..=GOOD]);
    let none = ["tail", USAGE, "--from", "2100-01-01T00:00:00Z"];
    assert_eq!(succeeds(&mut on(data, &none)), "");

    let dead = lines(&mut on(data, &["dead", "--json"]));
    assert_eq!(dead.len(), EARLY + 1);
    assert_eq!(dead[0]["from"]["offset"], all[GOOD]["offset"]);
    assert!(dead.iter().all(|line| line["state"] == "waiting"));
    let ahead = ["dead", "--json", "--reason", "ahead", "--topic", USAGE];
    assert_eq!(lines(&mut on(data, &ahead)).len(), EARLY);
    let offsets = lines(&mut on(data, &["offsets", "--json"]));
    assert_eq!(find(&offsets, "group", "weir-recorder")["lag"], 0);
}

/// What comes is shown as it comes.
async fn follows(weir: &Weir, data: &Path) {
    let mut follow = on(
        data,
        &["tail", USAGE, "-n", "1", "--key", "late", "--follow"],
    );
    let output = data.with_extension("follow");
    let follow = Process::start("weir log tail", &mut follow, &output, Signal::TERM);
    eventually("it is shown", PATIENCE, async || {
        weir.client().post(&[usage("late", &json!({}))]).await;
        let shown = follow.output();
        shown.contains("\"late\"").then_some(()).ok_or(shown)
    })
    .await;
}

/// One byte in the middle of a file is noticed.
fn finds_damage(data: &Path) {
    let told = succeeds(&mut on(data, &["verify"]));
    assert!(told.contains(USAGE) && !told.contains("WRONG"), "{told}");
    let folder = data
        .join("log/topics")
        .join(USAGE)
        .join(partition().to_string());
    let mut files = fs::read_dir(folder).expect("the partition").flatten();
    let segment = files.find(|file| file.path().extension().is_some_and(|e| e == "log"));
    let segment = segment.expect("a segment").path();
    let mut bytes = fs::read(&segment).expect("the segment");
    bytes[100] ^= 1;
    fs::write(&segment, bytes).expect("the segment");
    fails(&mut on(data, &["verify"]), "that opening does not mend");
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_dead_records_back_once() {
    let mut weir = start().await;
    let data = weir.data_folder();
    let dry = succeeds(&mut on(
        &data,
        &["replay", "--reason", "ahead", "--dry-run"],
    ));
    assert_eq!(
        dry,
        format!("{EARLY} would be put back, 0 were before, 0 cannot be\n")
    );

    // The cause is mended: events may be further ahead.
    assert!(weir.terminate(STOP_WITHIN).is_some_and(|s| s.success()));
    fs::write(data.join("../weir.toml"), PATIENT).expect("the configuration");
    weir.start_again().await;
    killed_in_the_middle(&weir, &data).await;
    let told = succeeds(&mut on(&data, &["replay", "--reason", "ahead", "--json"]));
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let (now, before) = (&told["put_back"], &told["put_back_before"]);
    let sum = now.as_u64().zip(before.as_u64()).map(|(a, b)| a + b);
    assert_eq!(sum, Some(EARLY as u64), "{told}");
    assert!(before.as_u64().is_some_and(|before| 0 < before), "{told}");
    let again = succeeds(&mut on(&data, &["replay", "--reason", "ahead"]));
    assert_eq!(
        again,
        format!("0 put back, {EARLY} were before, 0 cannot be\n")
    );

    outcomes_are(&weir.client(), GOOD + EARLY, EARLY + 1).await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for record in read(&weir.bootstrap(), USAGE, partition()) {
        if let Some(from) = record.header(REPLAYED_FROM) {
            *times.entry(from).or_default() += 1;
        }
    }
    assert_eq!(times.len(), EARLY);
    assert!(times.values().all(|times| *times == 1), "{times:?}");

    let dead = lines(&mut on(&data, &["dead", "--json"]));
    assert_eq!(dead.len(), 1, "{dead:?}");
    let all = lines(&mut on(
        &data,
        &["dead", "--json", "--all", "--reason", "ahead"],
    ));
    assert_eq!(all.len(), EARLY);
    assert!(all.iter().all(|line| line["state"] == "put back"));
}

/// Kills a replay once while it notes what it is about to do, and once while it puts records back.
async fn killed_in_the_middle(weir: &Weir, data: &Path) {
    let slowly = data.with_extension("slowly.toml");
    fs::write(&slowly, SLOWLY).expect("a configuration");
    let client = client(&weir.bootstrap(), "look");
    let end = |topic: &str, partition: i32| {
        let bounds = client.fetch_watermarks(topic, partition, PATIENCE);
        bounds.expect("offsets").1
    };
    for (topic, partition) in [(DEAD, 0), (USAGE, partition())] {
        let enough = end(topic, partition) + 20;
        let mut replay = log(&["replay", "--reason", "ahead", "--kafka", &weir.bootstrap()]);
        replay.arg("--config").arg(&slowly);
        let output = data.with_extension("replay");
        let mut replay = Process::start("weir log replay", &mut replay, &output, Signal::TERM);
        eventually("it has begun", PATIENCE, async || {
            assert!(replay.ended().is_none(), "{}", replay.output());
            match end(topic, partition) {
                far if enough <= far => Ok(()),
                near => Err(format!("{near}, not {enough}")),
            }
        })
        .await;
        replay.kill9();
    }
}
