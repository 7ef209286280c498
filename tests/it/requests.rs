//! Self-service: a tenant sees its own limits and when they are reached, asks for more, and is answered; operators are
//! told, answer once, and what they give ends by itself.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::receiver::{Receiver, eager_channel};
use tests::scene::{Log, Scene, Store};
use tests::weir::{Options, command};

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "calendar month"
hard = 1000

[[limit]]
name = "theirs"
subject = "tenant/other"
meter = "tokens"
window = "sliding 60s"
hard = 10
"#;
const SOON: Duration = Duration::from_secs(60);
/// How many requests of one tenant may wait.
const OPEN_MAX: i64 = 10;

fn wanted(hard: i64) -> Value {
    json!({ "subject": "tenant/acme", "limit": "tokens", "hard": hard, "for": "7d", "reason": "launch" })
}

async fn ask(client: &Client, hard: i64) -> String {
    let answer = client.submit("/v1/requests", &wanted(hard)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let request = answer.json();
    assert_eq!([&request["state"], &request["kind"]], ["open", "ask"]);
    request["id"].as_str().expect("an id").to_owned()
}

async fn answer(client: &Client, kind: &str, request: &str) -> u16 {
    let mut body = json!({ "kind": kind, "request": request, "reason": "as agreed" });
    if kind == "approve" {
        body["for"] = json!("1h");
    }
    client.order(&body).await.status
}

async fn becomes(client: &Client, verdict: &str) {
    let look = json!({ "tenant": "acme", "consume": {} });
    eventually(verdict, SOON, async || {
        let answer = client.check(&look).await;
        match answer["verdict"] == verdict {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })
    .await;
}

async fn told(receiver: &Receiver, kind: &str, title: &str) {
    eventually(&format!("an alert: {title}"), SOON, async || {
        let told = receiver.received().into_iter();
        let told: Vec<Value> = told.map(|webhook| webhook.json()["data"].clone()).collect();
        let found = told.iter().any(|alert| {
            let own = alert["title"].as_str().unwrap_or_default();
            alert["kind"] == kind && alert["tenant"] == "acme" && own.starts_with(title)
        });
        match found {
            true => Ok(()),
            false => Err(format!("{told:#?}")),
        }
    })
    .await;
}

/// Waits until the tenant's requests are in these states, newest first.
async fn listed(client: &Client, query: &[(&str, &str)], states: &[&str]) -> Vec<Value> {
    eventually(&format!("{states:?}"), SOON, async || {
        let requests = client.list("/v1/requests", query).await;
        let found: Vec<&Value> = requests.iter().map(|request| &request["state"]).collect();
        match found == states {
            true => Ok(requests),
            false => Err(format!("{requests:#?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_tenant_asks_for_more_and_is_answered() {
    is_answered(Log::Embedded, Store::Sqlite).await;
}

#[tokio::test]
async fn a_tenant_asks_for_more_on_kafka_and_postgres() {
    is_answered(Log::Kafka, Store::Postgres).await;
}

async fn is_answered(log: Log, store: Store) {
    let mut receiver = Receiver::down();
    receiver.start().await;
    let options = Options::up(POLICY).with_config(&eager_channel(&receiver.url()));
    let mut scene = Scene::start(log, store, options).await;
    let weir = &mut scene.weir;
    let operator = weir.client();
    let secret = weir.create_key("tenant", Some("acme")).await;
    let tenant = operator.with_secret(&secret);

    sees_when_it_is_too_much(&operator, &tenant).await;
    becomes(&operator, "block").await;

    // It asks, and asks again without an answer: that is one request.
    let first = ask(&tenant, 2000).await;
    assert_eq!(ask(&tenant, 2000).await, first);
    told(
        &receiver,
        "asked",
        "tenant/acme asks for 2,000 tokens of tokens",
    )
    .await;
    listed(&tenant, &[], &["open"]).await;
    asks_for_its_own_only(&tenant).await;
    assert_eq!(answer(&tenant, "approve", &first).await, 403);

    // It gets what it asked for, and there is no second answer, also after a crash.
    assert_eq!(answer(&operator, "approve", &first).await, 201);
    becomes(&operator, "allow").await;
    told(
        &receiver,
        "answered",
        "tenant/acme has 2,000 tokens of tokens until",
    )
    .await;
    assert_eq!(answer(&operator, "approve", &first).await, 201);
    assert_eq!(answer(&operator, "decline", &first).await, 409);
    assert_eq!(answer(&operator, "decline", "none").await, 422);
    weir.kill9();
    weir.start_again().await;
    let operator = weir.client();
    let tenant = operator.with_secret(&secret);
    becomes(&operator, "allow").await;
    assert_eq!(answer(&operator, "decline", &first).await, 409);
    let undo = json!({ "kind": "undo", "command": format!("answer-{first}"), "reason": "test" });
    operator.ordered(&undo).await;
    becomes(&operator, "block").await;

    // Another is declined, with a word.
    let second = ask(&tenant, 3000).await;
    let mut command = command("command");
    command.args(["decline", &second, "--reason", "not before May", "--data"]);
    let done = command.arg(weir.data_folder()).output();
    assert!(done.expect("weir runs").status.success());
    told(
        &receiver,
        "answered",
        "tenant/acme does not get more of tokens",
    )
    .await;
    let requests = listed(&tenant, &[], &["declined", "approved"]).await;
    assert_eq!(requests[0]["answer"]["reason"], "not before May");
    assert_eq!(requests[1]["hard"], 2000);
    listed(&tenant, &[("state", "declined")], &["declined"]).await;
    listed(&tenant, &[("state", "open")], &[]).await;
    becomes(&operator, "block").await;
    only_so_many_wait(&operator, &tenant).await;
}

async fn sees_when_it_is_too_much(operator: &Client, tenant: &Client) {
    let event = usage("acme", &json!({ "input_tokens": 900 }));
    operator.post(&[event]).await;
    eventually("a forecast", SOON, async || {
        let limits = tenant
            .get("/v1/limits", &[("subject", "tenant/acme")])
            .await;
        let is_told = limits[0]["used"] == 900 && limits[0]["forecast"]["rate_of_s"] == 3600;
        is_told.then_some(()).ok_or_else(|| limits.to_string())
    })
    .await;
    let event = usage("acme", &json!({ "input_tokens": 300 }));
    operator.post(&[event]).await;
}

/// Others it has none.
async fn asks_for_its_own_only(tenant: &Client) {
    for (subject, limit) in [
        ("tenant/other", "tokens"),
        ("tenant/other", "theirs"),
        ("tenant/acme", "theirs"),
        ("tenant/nobody", "nothing"),
    ] {
        let body = json!({ "subject": subject, "limit": limit, "hard": 5, "reason": "test" });
        let refused = tenant.submit("/v1/requests", &body).await;
        let told = format!("`{limit}` is no limit of `{subject}`");
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert_eq!(refused.json()["errors"][0]["detail"], told);
    }
}

/// As many as may, and no more until one is answered.
async fn only_so_many_wait(operator: &Client, tenant: &Client) {
    let mut open = Vec::new();
    for more in 0..OPEN_MAX {
        open.push(ask(tenant, 5000 + more).await);
    }
    let one_more = tenant.submit("/v1/requests", &wanted(9000)).await;
    assert_eq!(one_more.status, 429, "{}", one_more.text());
    assert_eq!(ask(tenant, 5000).await, open[0]);
    assert_eq!(answer(operator, "decline", &open[0]).await, 201);
    ask(tenant, 9000).await;
}
