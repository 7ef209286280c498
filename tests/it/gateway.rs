//! What others see of Weir on the log alone: a gateway in another process, kcat, and a Kafka client and Avro library
//! of another language.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::figures::{conserved, events};
use tests::installed::{PYTHON, program, project};
use tests::redis::Redis;
use tests::scene::{Log, Scene, Store};
use tests::weir::{Options, Weir};

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 10m"
hard = 1000
mode = "block"
"#;
const SOON: Duration = Duration::from_secs(60);
const USAGE: &str = "weir.usage.v1";

async fn becomes(client: &Client, tenant: &str, status: u16) {
    eventually("the gateway's answer", SOON, async || {
        match client.forward_auth(tenant).await {
            answer if answer.status == status => Ok(()),
            answer => Err(format!("{}, not {status}", answer.status)),
        }
    })
    .await;
}

/// The keys of a topic's records and the lengths of their values, as kcat sees them.
fn kcat(bootstrap: &str, topic: &str) -> Vec<(String, String)> {
    let mut kcat = Command::new(program("kcat", &[]));
    kcat.args([
        "-C",
        "-q",
        "-e",
        "-o",
        "beginning",
        "-b",
        bootstrap,
        "-t",
        topic,
    ]);
    let output = kcat.args(["-f", "%k %S\n"]).output().expect("kcat runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("keys are text");
    let pairs = text.lines().filter_map(|line| line.rsplit_once(' '));
    pairs
        .map(|(key, length)| (key.to_owned(), length.to_owned()))
        .collect()
}

/// The records of `weir.decisions.v1` as a Python program reads them.
fn decisions(bootstrap: &str) -> Vec<Value> {
    let mut python = Command::new(PYTHON);
    python.arg(project().join("tests/clients/read_avro.py"));
    python.args([bootstrap, "weir.decisions.v1"]);
    let output = python
        .arg(project().join("schemas/avro/decision.avsc"))
        .output();
    let output = output.expect("python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

async fn check_seen_from_outside(log: Log) {
    let scene = Scene::start(log, Store::Sqlite, Options::up(POLICY)).await;
    let bootstrap = scene.weir.bootstrap();
    let options = Options {
        command: "gateway",
        ..Options::up("")
    }
    .on(Some(bootstrap.clone()));
    let gateway = Weir::start(options).await;
    let client = scene.weir.client();
    let beside = scene.weir.client_at(&gateway);
    assert_eq!(beside.forward_auth("acme").await.status, 200);

    client
        .post(&[usage(
            "acme",
            &json!({ "input_tokens": 1000, "requests": 0 }),
        )])
        .await;
    becomes(&beside, "acme", 429).await;
    assert_eq!(beside.forward_auth("other").await.status, 200);

    let reported = kcat(&bootstrap, USAGE);
    assert!(
        reported.iter().any(|(key, _)| key == "acme"),
        "{reported:?}"
    );
    let keys: BTreeSet<String> = kcat(&bootstrap, "weir.decisions.v1")
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, BTreeSet::from(["tenant/acme".to_owned()]));
    let decisions = decisions(&bootstrap);
    let decision = &decisions.last().expect("a decision")["value"];
    assert_eq!(decision["subject"], "tenant/acme");
    assert_eq!(decision["verdict"], "block");
    assert_eq!(decision["status"], 429);
    assert_eq!(decision["causes"][0]["limit"], "tokens");
    // What the other gateway refused is known here.
    eventually("the refusal is listed", SOON, async || {
        match client
            .list("/v1/refusals", &[("subject", "tenant/acme")])
            .await
        {
            none if none.is_empty() => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn seen_from_outside_on_kafka() {
    check_seen_from_outside(Log::Kafka).await;
}

#[tokio::test]
async fn seen_from_outside_on_the_embedded_log() {
    check_seen_from_outside(Log::Embedded).await;
}

#[tokio::test]
async fn mirrored_to_redis() {
    let server = Redis::start().await;
    let config = format!("[gateway]\nredis_url = \"{}\"\n", server.url());
    let weir = Weir::start(Options::up(POLICY).with_config(&config)).await;
    let event = usage("acme", &json!({ "input_tokens": 1000, "requests": 0 }));
    weir.client().post(&[event]).await;
    let redis = redis::Client::open(server.url()).expect("an address");
    let mut redis = redis
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let mirrored = eventually("the mirror", SOON, async || {
        let mut get = redis::cmd("GET");
        get.arg("weir:decision:tenant/acme");
        let found: Option<String> = get
            .query_async(&mut redis)
            .await
            .map_err(|e| e.to_string())?;
        found.ok_or_else(|| "nothing".to_owned())
    })
    .await;
    let mirrored: Value = serde_json::from_str(&mirrored).expect("JSON");
    assert_eq!(mirrored["verdict"], "block");
    // It goes by itself when the decision does.
    let mut ttl = redis::cmd("TTL");
    let seconds: i64 = ttl
        .arg("weir:decision:tenant/acme")
        .query_async(&mut redis)
        .await
        .expect("a time");
    assert!((1..=601).contains(&seconds), "{seconds}");
}

/// Apps may write to the topics themselves, as JSON; into a wrong partition, too, and nonsense.
#[tokio::test]
async fn foreign_records_are_counted_moved_or_set_aside() {
    let scene = Scene::start(Log::Embedded, Store::Sqlite, Options::up(POLICY)).await;
    let client = scene.weir.client();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", scene.weir.bootstrap())
        .create()
        .expect("a producer");
    // One of these partitions is the tenant's; a record in any other has to be moved there.
    for partition in 0..12 {
        let event = usage("foreign", &json!({ "input_tokens": 10 }));
        produce(&producer, partition, &event);
    }
    produce(&producer, 0, "this is no event");
    producer.flush(SOON).expect("all is written");
    eventually("every record's end", SOON, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, USAGE)?;
        let ends = ["counted", "dead"].map(|outcome| events(&metrics, USAGE, outcome));
        if ends == [12.0, 1.0] {
            Ok(())
        } else {
            Err(format!("{ends:?}"))
        }
    })
    .await;
    eventually("the tenant's tokens", SOON, async || {
        let query = [("subject", "tenant/foreign"), ("meter", "tokens")];
        let usage = client.get("/v1/usage", &query).await;
        let tokens = &usage["series"][0]["total"];
        if *tokens == 120 {
            Ok(())
        } else {
            Err(tokens.to_string())
        }
    })
    .await;
    let dead = kcat(&scene.weir.bootstrap(), "weir.dead.v1");
    assert_eq!(
        dead.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        [USAGE]
    );
}

fn produce(producer: &BaseProducer, partition: i32, value: &str) {
    let record = BaseRecord::to(USAGE)
        .key("foreign")
        .payload(value)
        .partition(partition);
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .expect("room in the producer's queue");
}
