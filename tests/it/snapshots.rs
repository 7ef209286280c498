//! Snapshots of a real process, in a folder and in a bucket: damaged ones are passed over, and a restart goes on from
//! them at once. `RESTART_KEYS` sets how many keys are counted before the restart is timed (2,000 unless it does).

mod bucket;
mod gone;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::clock::Stopwatch;
use serde_json::json;
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::figures::{Figures, conserved, events};
use tests::process::{Process, Signal};
use tests::s3::S3;
use tests::setting;
use tests::trace;
use tests::weir::{Options, Weir, command};

const USAGE: &str = "weir.usage.v1";
const CONFIG: &str = "[aggregator]\nsnapshot_interval_s = 1\n";
/// Before the names of all snapshots in the bucket.
const PREFIX: &str = "counters/of one";
const BATCH: usize = 500;
const KEYS: usize = 2_000;
const STOP_WITHIN: Duration = Duration::from_secs(30);
const WITHIN: Duration = Duration::from_secs(120);

async fn post(client: &Client, events: &[String]) {
    for batch in events.chunks(BATCH) {
        client.post(batch).await;
    }
}

/// Where a test's snapshots are kept.
enum Home {
    /// In the data folder, as they are without a word about it.
    Folder,
    Bucket(S3),
}

impl Home {
    async fn bucket() -> Self {
        Self::Bucket(S3::start().await)
    }

    /// `config`, which ends in its section `[aggregator]`, with this home.
    fn config(&self, config: &str) -> String {
        match self {
            Self::Folder => config.to_owned(),
            Self::Bucket(s3) => {
                let (bucket, section) = (S3::BUCKET, s3.section());
                format!("{config}snapshots = \"s3://{bucket}/{PREFIX}\"\n{section}")
            }
        }
    }

    /// The folder of all snapshots of a weir: a bucket's objects are files too.
    fn root(&self, weir: &Weir) -> PathBuf {
        match self {
            Self::Folder => weir.data_folder().join("snapshots"),
            Self::Bucket(s3) => s3.objects().join(PREFIX),
        }
    }

    /// How the program names what lies at `path`.
    fn shown(&self, path: &Path) -> String {
        match self {
            Self::Folder => path.display().to_string(),
            Self::Bucket(s3) => {
                let path = path.strip_prefix(s3.objects()).expect("in the bucket");
                format!("s3://{}/{}", S3::BUCKET, path.display())
            }
        }
    }
}

/// The snapshots of each partition of usage, oldest first.
fn snapshots(root: &Path) -> Vec<Vec<PathBuf>> {
    let partitions = (0..12).map(|index: i32| {
        let folder = root.join(USAGE).join(index.to_string());
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "snapshot"));
        files.sort();
        files
    });
    partitions.collect()
}

/// From where the newest of a partition's snapshots goes on, as its name says.
fn next_offset(files: &[PathBuf]) -> usize {
    let name = files.last().and_then(|path| path.file_stem()?.to_str());
    name.map_or(0, |name| name.parse().expect("an offset"))
}

/// How many records are in the newest of each partition.
fn records(snapshots: &[Vec<PathBuf>]) -> usize {
    snapshots.iter().map(|files| next_offset(files)).sum()
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("a snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a snapshot");
}

#[tokio::test]
async fn a_damaged_file_is_named_and_the_one_before_it_used() {
    the_one_before_is_used(Home::Folder).await;
}

#[tokio::test]
async fn a_damaged_object_is_named_and_the_one_before_it_used() {
    the_one_before_is_used(Home::bucket().await).await;
}

async fn the_one_before_is_used(home: Home) {
    let options = Options::up(trace::LIMIT).with_config(&home.config(CONFIG));
    let mut weir = Weir::start(options).await;
    let (expected, all) = (trace::expected(), trace::events());
    let (first, rest) = all.split_at(all.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    post(&weir.client(), first).await;
    let root = home.root(&weir);
    eventually("snapshots", WITHIN, async || {
        let all = snapshots(&root);
        let told = format!("{all:?}");
        all.iter()
            .all(|files| !files.is_empty())
            .then_some(())
            .ok_or(told)
    })
    .await;
    post(&weir.client(), second).await;
    assert!(weir.terminate(STOP_WITHIN).is_some_and(|s| s.success()));

    let two = snapshots(&root)
        .into_iter()
        .filter(|files| files.len() == 2);
    let damaged: Vec<PathBuf> = two.map(|files| files[1].clone()).collect();
    assert!(!damaged.is_empty(), "events came after the first snapshots");
    damaged.iter().for_each(|path| flip_a_byte(path));
    weir.start_again().await;
    eventually("the damage is told", WITHIN, async || {
        let output = weir.output();
        let named = |path: &PathBuf| {
            let path = home.shown(path);
            let mut lines = output.lines().filter(|line| line.contains(&path));
            lines.any(|line| line.contains("its checksum does not fit"))
        };
        damaged.iter().all(named).then_some(()).ok_or(output)
    })
    .await;
    post(&weir.client(), third).await;
    let client = weir.client();
    eventually("the recount's figures", WITHIN, async || {
        let differences = Figures::read(&client, &expected)
            .await
            .differences(&expected);
        if differences.is_empty() {
            Ok(())
        } else {
            Err(differences.join("\n"))
        }
    })
    .await;
    let metrics = client.metrics().await;
    conserved(&metrics, USAGE).expect("every event has an outcome");
    assert_eq!(events(&metrics, USAGE, "counted"), all.len() as f64);
    assert_eq!(events(&metrics, USAGE, "duplicate"), 0.0);
    stops_when_all_are_damaged(weir, &home).await;
}

/// To count on from nothing would be to count wrongly, so it is left to a person.
async fn stops_when_all_are_damaged(mut weir: Weir, home: &Home) {
    assert!(weir.terminate(STOP_WITHIN).is_some_and(|s| s.success()));
    let mut partitions = snapshots(&home.root(&weir));
    partitions.retain(|files| !files.is_empty());
    for path in &partitions[0] {
        fs::write(path, "WEIR").expect("a snapshot");
    }
    let mut process = start_beside(&weir);
    let ended = process.wait(WITHIN).expect("it does not go on");
    let folder = partitions[0][0].parent().expect("a folder");
    let (folder, output) = (home.shown(folder), process.output());
    let told = format!("no snapshot in {folder} can be read");
    assert!(!ended.success() && output.contains(&told), "{output}");
}

/// Starts a weir on the folder of one that ended, without waiting until it is ready.
fn start_beside(weir: &Weir) -> Process {
    let data = weir.data_folder();
    let mut up = command("up");
    up.arg("--data").arg(&data);
    up.arg("--config").arg(data.with_file_name("weir.toml"));
    up.arg("--policy").arg(data.with_file_name("policy.toml"));
    for port in ["--port-data", "--port-management", "--port-log"] {
        up.args([port, "0"]);
    }
    let log = data.with_file_name("beside.log");
    Process::start("weir", &mut up, &log, Signal::TERM)
}

/// Lets each user of each tenant call twice a minute.
const TWICE: &str = r#"
[[limit]]
name = "calls"
subject = "tenant/*/user/*"
meter = "requests"
window = "sliding 60m"
hard = 2
"#;

#[tokio::test]
async fn a_restart_goes_on_at_once() {
    goes_on_at_once(Home::Folder).await;
}

#[tokio::test]
async fn a_restart_goes_on_at_once_from_a_bucket() {
    goes_on_at_once(Home::bucket().await).await;
}

#[tokio::test]
async fn a_restart_goes_on_at_once_from_a_bucket_behind_tls() {
    goes_on_at_once(Home::Bucket(S3::start_secure().await)).await;
}

async fn goes_on_at_once(home: Home) {
    let keys = setting("RESTART_KEYS", KEYS);
    let mut weir =
        Weir::start(Options::up(TWICE).with_config(&home.config("[aggregator]\n"))).await;
    let call = |key: usize| {
        usage(
            &format!("t{}", key % 100),
            &json!({ "user": format!("u{key}") }),
        )
    };
    let all: Vec<usize> = (0..keys).collect();
    for batch in all.chunks(10 * BATCH) {
        let calls: Vec<String> = batch.iter().map(|key| call(*key)).collect();
        weir.client().post(&calls).await;
    }
    let client = weir.client();
    eventually("all is counted", 5 * WITHIN, async || {
        let counted = events(&client.metrics().await, USAGE, "counted");
        (counted == keys as f64)
            .then_some(())
            .ok_or_else(|| counted.to_string())
    })
    .await;
    // A stop with all that is new: what it leaves is all there is.
    let since = Stopwatch::start();
    assert!(weir.terminate(STOP_WITHIN).is_some_and(|s| s.success()));
    let stop = since.elapsed();
    let newest = snapshots(&home.root(&weir));
    let held = records(&newest);
    // The policy's markers are among the records, one in each partition. What a busy machine does not write in time
    // is counted again.
    assert!(held <= keys + 12, "{held} records are in snapshots");
    let size = |path: &PathBuf| fs::metadata(path).expect("a snapshot").len();
    let bytes: u64 = newest
        .iter()
        .filter_map(|files| files.last())
        .map(size)
        .sum();

    let since = Stopwatch::start();
    weir.start_again().await;
    let ready = since.elapsed();
    let client = weir.client();
    client.post(&[call(0)]).await;
    eventually("the crossing is told", WITHIN, async || {
        let metrics = client.metrics().await;
        match metrics.sum("weir_aggregator_outputs_total", &[("kind", "signal")]) {
            0.0 => Err("it is not".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let told = since.elapsed();
    let subject = [("subject", "tenant/t0/user/u0")];
    eventually(
        "what was counted before counts",
        WITHIN,
        async || match client.list("/v1/signals", &subject).await.len() {
            1 => Ok(()),
            signals => Err(format!("{signals} crossings")),
        },
    )
    .await;
    show((keys, held, bytes), stop, [ready, told, since.elapsed()]);
}

#[expect(
    clippy::print_stderr,
    reason = "the figures are what the larger run is for"
)]
fn show(
    (keys, held, bytes): (usize, usize, u64),
    stop: Duration,
    [ready, told, row]: [Duration; 3],
) {
    eprintln!(
        "{keys} keys, {held} records in {bytes} bytes of snapshots: stopped in {stop:.2?}, ready after {ready:.2?}, \
         first crossing told after {told:.2?}, its row there after {row:.2?}"
    );
}
