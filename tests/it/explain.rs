//! What was decided is told from the log alone: by which number, on which events, and who touched it since; also when it
//! has ended, and in words that say so where the log does not know.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Client, send};
use tests::events::usage;
use tests::eventually;
use tests::postgres::Postgres;
use tests::scene::{Log, Scene, Store};
use tests::weir::{Options, Weir, command};

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 10m"
hard = 1000
"#;
const SOON: Duration = Duration::from_secs(60);

async fn decision_on(client: &Client, subject: &str) -> String {
    let query = [("subject", subject), ("standing", "true")];
    eventually("a decision", SOON, async || {
        let listed = client.list("/v1/decisions", &query).await;
        let id = listed.first().and_then(|decision| decision["id"].as_str());
        id.map(str::to_owned).ok_or_else(|| "none yet".to_owned())
    })
    .await
}

async fn explanation(client: &Client, id: &str) -> Value {
    let path = format!("/v1/decisions/{id}/explanation");
    client.get(&path, &[("events", "2")]).await
}

async fn check(log: Log) -> (Scene, String) {
    let scene = Scene::start(log, Store::Sqlite, Options::up(POLICY)).await;
    let weir = &scene.weir;
    let client = weir.client();
    for (tenant, tokens) in [
        ("acme", 300),
        ("other", 400),
        ("acme", 300),
        ("acme", 200),
        ("acme", 250),
    ] {
        let data = json!({ "user": "u", "input_tokens": tokens, "requests": 0 });
        client.post(&[usage(tenant, &data)]).await;
    }
    let id = decision_on(&client, "tenant/acme").await;
    let told = explanation(&client, &id).await;
    assert_eq!(told["decision"]["standing"], true, "{told:#}");
    let cause = &told["causes"][0];
    assert_eq!(cause["policy"]["version"], 1, "{told:#}");
    assert_eq!(
        [&cause["then"]["hard"], &cause["now"]["hard"]],
        [1000, 1000]
    );
    let evidence = &cause["evidence"];
    let sums = [&evidence["sum"], &evidence["total"], &evidence["more"]];
    assert_eq!(sums, [1050, 4, 2], "{told:#}");
    let shown = evidence["events"].as_array().expect("events");
    let amounts: Vec<&Value> = shown.iter().map(|event| &event["amount"]).collect();
    assert_eq!(amounts, [250, 200], "{told:#}");
    assert_eq!(
        (&evidence["missing"], &shown[0]["by"]["user"]),
        (&Value::Null, &json!("u"))
    );
    assert_eq!(told["since"], json!({ "commands": [], "versions": [] }));

    // Two touch it, which lifts it; one touches somebody else.
    weir.edit_policy(&POLICY.replace("1000", "1040"));
    for (tenant, hard) in [("acme", 5000), ("other", 6000)] {
        let raise = json!({ "kind": "raise", "subject": format!("tenant/{tenant}"), "limit": "tokens", "hard": hard,
                            "reason": "launch day" });
        client.ordered(&raise).await;
    }
    let told = eventually("what touched it is told", SOON, async || {
        let told = explanation(&client, &id).await;
        let since = &told["since"];
        let is_all = since["versions"][0]["version"] == 2 && since["commands"][0]["hard"] == 5000;
        let is_over = told["decision"]["standing"] == false;
        (is_all && is_over)
            .then_some(told.clone())
            .ok_or_else(|| told.to_string())
    })
    .await;
    let cause = &told["causes"][0];
    assert_eq!(
        [&cause["then"]["hard"], &cause["now"]["hard"]],
        [1000, 5000]
    );
    assert_eq!(told["since"]["commands"].as_array().map(Vec::len), Some(1));
    assert_eq!(cause["evidence"]["sum"], 1050);

    // For people.
    let mut explain = command("explain");
    explain.args([&id, "--data"]).arg(weir.data_folder());
    let done = explain.output().expect("weir runs");
    let lines = String::from_utf8_lossy(&done.stdout);
    assert!(
        lines.contains("limit tokens: 1050 of 1000 tokens"),
        "{lines}"
    );
    assert!(lines.contains("launch day"), "{lines}");
    (scene, id)
}

/// Who may see the explanation of a decision on acme, and what those see who may.
async fn check_who_sees(weir: &Weir, id: &str) {
    let client = weir.client();
    // Nobody else sees it, and what does not exist is said not to.
    let other = client.with_secret(&weir.create_key("tenant", Some("other")).await);
    for (client, id) in [(&other, id), (&client, "none")] {
        let path = format!("/v1/decisions/{id}/explanation");
        let answer = send(client.management(Method::GET, &path))
            .await
            .expect("an answer");
        let told = (answer.status, answer.json()["detail"].clone());
        assert_eq!(told, (404, json!("there is no decision of this id")));
    }
    // A tenant is told of its own, but not in whose words the policy changed.
    let acme = client.with_secret(&weir.create_key("tenant", Some("acme")).await);
    let told = explanation(&acme, id).await;
    assert_eq!(
        told["since"]["versions"][0]["author"],
        Value::Null,
        "{told:#}"
    );
}

#[tokio::test]
async fn a_decision_is_explained_from_the_embedded_log() {
    let (scene, id) = check(Log::Embedded).await;
    check_who_sees(&scene.weir, &id).await;
}

#[tokio::test]
async fn a_decision_is_explained_from_kafka() {
    check(Log::Kafka).await;
}

/// Rows that outlast their log: what is no more in it is not made up from them.
#[tokio::test]
async fn what_only_rows_remember_is_said_to_be_gone() {
    let postgres = Postgres::start().await;
    let store = format!("[store]\nurl = \"{}\"\n", postgres.fresh_database().await);
    let before = Weir::start(Options::up(POLICY).with_config(&store)).await;
    let client = before.client();
    let block = json!({ "kind": "block", "subject": "tenant/acme", "reason": "abuse" });
    client.ordered(&block).await;
    let id = decision_on(&client, "tenant/acme").await;
    drop(before);

    let weir = Weir::start(Options::up(POLICY).with_config(&store)).await;
    let client = weir.client();
    let other = client.with_secret(&weir.create_key("tenant", Some("other")).await);
    let gone = format!("only the row that GET /v1/decisions/{id} shows");
    for (client, status, detail) in [
        (&client, 410, gone.as_str()),
        (&other, 404, "there is no decision of this id"),
    ] {
        let path = format!("/v1/decisions/{id}/explanation");
        let answer = send(client.management(Method::GET, &path)).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(detail), "{}", answer.text());
    }
    let row = client.get(&format!("/v1/decisions/{id}"), &[]).await;
    assert_eq!(row["subject"], "tenant/acme");
}

#[tokio::test]
async fn a_block_is_explained_by_its_command() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let block = json!({ "kind": "block", "subject": "tenant/acme", "reason": "abuse" });
    let ordered = client.ordered(&block).await;
    let id = decision_on(&client, "tenant/acme").await;
    let told = explanation(&client, &id).await;
    let given = &told["causes"][0]["command"];
    assert_eq!(
        (&given["id"], &given["reason"]),
        (&json!(ordered), &json!("abuse"))
    );
}
