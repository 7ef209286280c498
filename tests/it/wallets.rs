//! Wallets: what is paid in can be spent and no more, a top-up admits again by itself, every entry counts once, and all
//! of it outlasts a crash.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Answer, Client, send};
use tests::events::{now, usage};
use tests::eventually;
use tests::receiver::{Receiver, eager_channel};
use tests::scene::{Log, Scene, Store};
use tests::waits::Waits;
use tests::weir::{Options, Weir, command};

const POLICY: &str = r#"
[[limit]]
name = "wallet"
subject = "tenant/*/user/*"
meter = "cost"
window = "wallet"
soft = ["0.20 USD"]
hard = "1 USD"
keep = "0.10 USD"

[[limit]]
name = "credit"
subject = "tenant/*"
meter = "tokens"
window = "wallet"
hard = 1000
"#;
const USER: &str = "tenant/acme/user/ann";
const SOON: Duration = Duration::from_secs(60);
/// Top-ups whose way to the gateway is measured.
const TOP_UPS: usize = 20;

async fn spend(client: &Client, user: &str, usd: &str) {
    let data = json!({ "user": user, "cost_usd": usd, "requests": 0 });
    client.post(&[usage("acme", &data)]).await;
}

async fn top_up(client: &Client, subject: &str, (id, amount): (&str, Value)) {
    let command = json!({ "kind": "top_up", "subject": subject, "amount": amount, "id": id, "reason": "test" });
    assert_eq!(client.ordered(&command).await, id);
}

/// What a proxy is told of a request of this user.
async fn ask(client: &Client, user: &str) -> Answer {
    let request = client
        .data(Method::GET, "/v1/forward-auth")
        .header("x-weir-tenant", "acme")
        .header("x-weir-user", user);
    send(request).await.expect("an answer")
}

/// Waits until requests of this user are answered so.
async fn becomes(client: &Client, user: &str, status: u16) -> Answer {
    eventually(&format!("{user}: {status}"), SOON, async || {
        let answer = ask(client, user).await;
        match answer.status == status {
            true => Ok(answer),
            false => Err(format!("{} {}", answer.status, answer.text())),
        }
    })
    .await
}

/// Null until the policy is known, which takes a moment after a start.
async fn wallet(client: &Client, subject: &str, name: &str) -> Value {
    let limits = client.get("/v1/limits", &[("subject", subject)]).await;
    let limits = limits.as_array().expect("a list");
    let found = limits.iter().find(|limit| limit["name"] == name);
    found.cloned().unwrap_or_default()
}

/// Waits until the user's wallet is told to have had so much paid in, and to hold so much.
async fn holds(client: &Client, paid_in: &str, balance: &str) {
    eventually(&format!("a balance of {balance}"), SOON, async || {
        let wallet = wallet(client, USER, "wallet").await;
        match wallet["paid_in_usd"] == paid_in && wallet["balance_usd"] == balance {
            true => Ok(()),
            false => Err(wallet.to_string()),
        }
    })
    .await;
}

/// Waits until the receiver was told of the user's wallet, in these words.
async fn told(receiver: &Receiver, kind: &str, words: &str) {
    eventually(&format!("an alert: {words}"), SOON, async || {
        let told: Vec<Value> = receiver
            .received()
            .iter()
            .map(|w| w.json()["data"].clone())
            .collect();
        let found = told.iter().any(|alert| {
            let title = alert["title"].as_str().unwrap_or_default();
            alert["kind"] == kind && alert["limit"] == "wallet" && title.contains(words)
        });
        match found {
            true => Ok(()),
            false => Err(format!("{told:#?}")),
        }
    })
    .await;
}

fn on_the_command_line(weir: &Weir, arguments: &[&str]) -> String {
    let mut command = command("command");
    command
        .args(arguments)
        .arg("--data")
        .arg(weir.data_folder());
    let done = command.output().expect("weir runs");
    let told = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{told}");
    told
}

async fn is_spent_and_topped_up(log: Log, store: Store) {
    let mut receiver = Receiver::down();
    receiver.start().await;
    let options = Options::up(POLICY).with_config(&eager_channel(&receiver.url()));
    let mut scene = Scene::start(log, store, options).await;
    let weir = &mut scene.weir;
    let client = weir.client();

    // Told when little is left to spend, refused when no more than is to be kept.
    becomes(&client, "ann", 200).await;
    spend(&client, "ann", "0.85").await;
    told(&receiver, "soft", "has 0.05 USD left in wallet").await;
    becomes(&client, "ann", 200).await;
    spend(&client, "ann", "0.050000000001").await;
    let refused = becomes(&client, "ann", 402).await;
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.header("retry-after"), None);
    told(&receiver, "hard", "has nothing left in wallet").await;
    becomes(&client, "bob", 200).await;
    holds(&client, "1", "0.099999999999").await;

    // A top-up admits again by itself, and is one entry however often it is sent.
    let arguments = ["top-up", USER, "--amount", "5 USD", "--reason", "invoice 7"];
    let said = on_the_command_line(weir, &arguments);
    assert!(said.contains("\"amount\":\"5000000000000\""), "{said}");
    becomes(&client, "ann", 200).await;
    for _ in 0..2 {
        top_up(&client, USER, ("invoice-8", json!("2.50 USD"))).await;
    }
    holds(&client, "8.5", "7.599999999999").await;

    // A refund and a correction are entries, and a correction can be undone, once.
    top_up(&client, USER, ("refund-1", json!("0.000000000001 USD"))).await;
    holds(&client, "8.500000000001", "7.6").await;
    top_up(&client, USER, ("correction-1", json!("-7.50 USD"))).await;
    becomes(&client, "ann", 402).await;
    holds(&client, "1.000000000001", "0.1").await;
    for _ in 0..2 {
        let undo = json!({ "kind": "undo", "command": "correction-1", "reason": "test" });
        client.ordered(&undo).await;
    }
    becomes(&client, "ann", 200).await;
    holds(&client, "8.500000000001", "7.6").await;
    for wrong in [
        json!(5),
        json!(5.5),
        json!("5.0000000000001 USD"),
        json!("5 EUR"),
        json!("0 USD"),
    ] {
        let command =
            json!({ "kind": "top_up", "subject": USER, "amount": wrong, "reason": "test" });
        assert_eq!(client.order(&command).await.status, 422, "{wrong}");
    }

    // All of it outlasts a crash, to the last digit; and what was sent before it is known after it.
    weir.kill9();
    weir.start_again().await;
    let client = weir.client();
    becomes(&client, "ann", 200).await;
    top_up(&client, USER, ("invoice-8", json!("2.50 USD"))).await;
    holds(&client, "8.500000000001", "7.6").await;
    spend(&client, "ann", "7.499999999999").await;
    // What comes later and has arrived shows that this refuses nobody.
    top_up(&client, USER, ("marker", json!("0.000000000001 USD"))).await;
    holds(&client, "8.500000000002", "0.100000000002").await;
    assert_eq!(ask(&client, "ann").await.status, 200);
    spend(&client, "ann", "0.000000000002").await;
    becomes(&client, "ann", 402).await;

    let trail = client.list("/v1/commands", &[("subject", USER)]).await;
    let kinds: Vec<&Value> = trail.iter().map(|command| &command["kind"]).collect();
    let expected = ["top_up", "undo", "top_up", "top_up", "top_up", "top_up"];
    assert_eq!(kinds, expected, "{trail:#?}");
}

#[tokio::test]
async fn a_wallet_is_spent_topped_up_and_outlasts_a_crash() {
    is_spent_and_topped_up(Log::Embedded, Store::Sqlite).await;
}

#[tokio::test]
async fn a_wallet_is_the_same_on_kafka_and_postgres() {
    is_spent_and_topped_up(Log::Kafka, Store::Postgres).await;
}

#[tokio::test]
async fn a_tenants_wallet_is_its_own() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    client
        .post(&[usage("acme", &json!({ "input_tokens": 1000 }))])
        .await;
    becomes(&client, "ann", 402).await;
    assert_eq!(client.forward_auth("other").await.status, 200);
    // What is paid into another's wallet, or into one of the tenant's users', is not the tenant's.
    top_up(&client, "tenant/other", ("other", json!(500))).await;
    top_up(&client, USER, ("user", json!("1 USD"))).await;
    holds(&client, "2", "2").await;
    assert_eq!(ask(&client, "ann").await.status, 402);
    top_up(&client, "tenant/acme", ("own", json!(1))).await;
    becomes(&client, "ann", 200).await;
    eventually("a balance of 1", SOON, async || {
        let credit = wallet(&client, "tenant/acme", "credit").await;
        let shown = [&credit["paid_in"], &credit["used"], &credit["balance"]];
        match shown == [1001, 1000, 1] {
            true => Ok(()),
            false => Err(credit.to_string()),
        }
    })
    .await;
    let command =
        json!({ "kind": "top_up", "subject": "tenant/acme", "amount": 1.5, "reason": "test" });
    assert_eq!(client.order(&command).await.status, 422);
}

/// Writes every record of the trail once more, as one who had no answer from a process that died might have a single one.
fn repeat_the_trail(bootstrap: &str) -> usize {
    const COMMANDS: &str = "weir.commands.v1";
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.set("group.id", "tests");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let producer: BaseProducer = config.create().expect("a producer");
    let metadata = consumer.fetch_metadata(Some(COMMANDS), SOON);
    let partitions = metadata.expect("metadata").topics()[0].partitions().len();
    let mut all = TopicPartitionList::new();
    let mut expected = 0;
    for partition in 0..i32::try_from(partitions).expect("few partitions") {
        let ends = consumer.fetch_watermarks(COMMANDS, partition, SOON);
        expected += ends.expect("an end").1;
        all.add_partition_offset(COMMANDS, partition, Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&all).expect("partitions to read");
    let mut repeated = 0;
    while i64::try_from(repeated).expect("few records") < expected {
        let record = consumer
            .poll(SOON)
            .expect("a record in time")
            .expect("a record");
        let again = BaseRecord::to(COMMANDS)
            .partition(record.partition())
            .key(record.key().expect("a key"))
            .payload(record.payload().expect("a value"));
        let sent = producer.send(again).map_err(|(error, _)| error);
        sent.expect("room in the producer's queue");
        repeated += 1;
    }
    producer.flush(SOON).expect("the log has them");
    repeated
}

async fn counts_once(log: Log, store: Store) {
    let scene = Scene::start(log, store, Options::up(POLICY)).await;
    let client = scene.weir.client();
    // More than an order knows by their ids.
    const ENTRIES: usize = 40;
    for n in 0..ENTRIES {
        let id = format!("e{n}");
        top_up(&client, USER, (&id, json!("0.01 USD"))).await;
    }
    let undo = json!({ "kind": "undo", "command": "e0", "reason": "test" });
    client.ordered(&undo).await;
    holds(&client, "1.39", "1.39").await;
    assert_eq!(repeat_the_trail(&scene.weir.bootstrap()), ENTRIES + 1);
    // What comes later and has arrived shows that nothing else of what came before is under way.
    top_up(&client, USER, ("marker", json!("5 USD"))).await;
    holds(&client, "6.39", "6.39").await;
}

#[tokio::test]
async fn an_entry_that_the_log_has_twice_counts_once() {
    counts_once(Log::Embedded, Store::Sqlite).await;
}

#[tokio::test]
async fn an_entry_that_kafka_has_twice_counts_once() {
    counts_once(Log::Kafka, Store::Postgres).await;
}

#[expect(clippy::print_stderr, reason = "the figure is what it is run for")]
#[tokio::test]
async fn the_way_from_a_top_up_to_the_gateway_is_short() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let look = json!({ "tenant": "acme", "user": "ann", "consume": {} });
    let mut took = Vec::new();
    spend(&client, "ann", "1").await;
    for n in 0..TOP_UPS {
        becomes(&client, "ann", 402).await;
        let since = now();
        top_up(&client, USER, (&format!("t{n}"), json!("1 USD"))).await;
        while client.check(&look).await["verdict"] != "allow" {
            assert!(now().since(since) < SOON, "top-up {n} never admitted");
        }
        took.push(now().since(since));
        spend(&client, "ann", "1").await;
    }
    let took = Waits::new(took);
    eprintln!(
        "from POST /v1/commands to admitted again, {TOP_UPS} top-ups: p50 {:?}, p99 {:?} (goal: 1 s)",
        took.quantile(50),
        took.quantile(99)
    );
}
