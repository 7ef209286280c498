//! Limits on sets: ids that are counted together are refused together, and no others; an edit of the ids takes effect
//! while Weir runs, and keeps what was counted. A reservation for one id holds room of all.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tests::client::{Answer, Client};
use tests::events::usage;
use tests::eventually;
use tests::redis::Redis;
use tests::scene::{Log, Scene, Store};
use tests::weir::{Options, Weir};

const SOON: Duration = Duration::from_secs(60);
const SET: &str = "model/{slow}";

fn policy(ids: &str, hard: i64) -> String {
    format!(
        "[set.slow]\ndimension = \"model\"\nids = {ids}\n\
         [[limit]]\nname = \"slow\"\nsubject = \"model/{{slow}}\"\nmeter = \"tokens\"\nwindow = \"sliding 10m\"\n\
         hard = {hard}\n\
         [[limit]]\nname = \"each\"\nsubject = \"tenant/*/user/*/model/{{slow}}\"\nmeter = \"requests\"\n\
         window = \"sliding 10m\"\nhard = 3\n"
    )
}

/// What only looks.
fn look(tenant: &str, model: &str) -> Value {
    json!({ "tenant": tenant, "model": model, "consume": {} })
}

async fn becomes(client: &Client, (tenant, model): (&str, &str), status: u64) {
    eventually(&format!("{tenant} {model}: {status}"), SOON, async || {
        let answer = client.check(&look(tenant, model)).await;
        match answer["status"] == status {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })
    .await;
}

/// As they are answered now.
#[track_caller]
fn are(client: &Client, asked: &[(&str, &str, u64)]) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        for (tenant, model, status) in asked {
            let answer = client.check(&look(tenant, model)).await;
            assert_eq!(answer["status"], *status, "{tenant} {model} at {place}");
        }
    }
}

async fn use_tokens(client: &Client, tenant: &str, model: &str, tokens: i64) {
    let data = json!({ "model": model, "input_tokens": tokens });
    client.post(&[usage(tenant, &data)]).await;
}

/// The gateway's own windows.
async fn one_window_for_all_ids(client: &Client) {
    let call = |user: &str, model: &str| json!({ "tenant": "own", "user": user, "model": model });
    let asked = [
        ("u", "opus", 200),
        ("u", "slow-1", 200),
        ("u", "slow-2", 200),
        ("u", "opus", 429),
        ("u", "slow-3", 429),
        ("u", "haiku", 200),
        ("v", "opus", 200),
    ];
    for (user, model, status) in asked {
        let answer = client.check(&call(user, model)).await;
        assert_eq!(answer["status"], status, "{user} {model}: {answer}");
    }
}

/// The sum at which the limit with this number was reached.
async fn crossed_at(client: &Client, hard: i64) -> Value {
    eventually(&format!("the crossing of {hard}"), SOON, async || {
        let query = [("subject", SET), ("limit", "slow")];
        let crossings = client.list("/v1/signals", &query).await;
        let mut reached = crossings.iter().filter(|c| c["direction"] == "up");
        let found = reached.find(|crossing| crossing["max"] == hard);
        match found {
            Some(crossing) => Ok(crossing["sum"].clone()),
            None => Err(format!("{crossings:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn ids_of_a_set_are_one_subject() {
    check_one_subject(Log::Embedded, Store::Sqlite).await;
}

#[tokio::test]
async fn ids_of_a_set_are_one_subject_on_kafka_and_postgres() {
    check_one_subject(Log::Kafka, Store::Postgres).await;
}

async fn check_one_subject(log: Log, store: Store) {
    let options = Options::up(&policy("[\"slow-*\", \"opus\"]", 1_000));
    let scene = Scene::start(log, store, options).await;
    let weir = &scene.weir;
    let client = weir.client();
    one_window_for_all_ids(&client).await;

    use_tokens(&client, "acme", "slow-1", 600).await;
    use_tokens(&client, "acme", "haiku", 5_000).await;
    use_tokens(&client, "beta", "opus", 400).await;
    becomes(&client, ("gamma", "opus"), 429).await;
    let others = [
        ("gamma", "slow-1", 429),
        // Nobody has used it.
        ("gamma", "slow-9", 429),
        ("gamma", "haiku", 200),
        ("gamma", "{slow}", 200),
    ];
    are(&client, &others).await;
    assert_eq!(crossed_at(&client, 1_000).await, 1_000);
    eventually("what is used of the set", SOON, async || {
        let limits = client.get("/v1/limits", &[("subject", SET)]).await;
        match limits[0]["used"] == 1_000 && limits[0]["name"] == "slow" {
            true => Ok(()),
            false => Err(limits.to_string()),
        }
    })
    .await;

    // One more id, and then another number: what was counted is still there.
    weir.edit_policy(&policy("[\"slow-*\", \"opus\", \"haiku\"]", 1_000));
    becomes(&client, ("gamma", "haiku"), 429).await;
    weir.edit_policy(&policy("[\"slow-*\", \"opus\", \"haiku\"]", 1_500));
    becomes(&client, ("gamma", "opus"), 200).await;
    becomes(&client, ("gamma", "haiku"), 200).await;
    let block = json!({ "kind": "block", "subject": "tenant/beta/model/{slow}", "reason": "test" });
    client.ordered(&block).await;
    becomes(&client, ("beta", "slow-1"), 403).await;
    let others = [
        ("beta", "haiku", 403),
        ("beta", "sonnet", 200),
        ("gamma", "slow-1", 200),
    ];
    are(&client, &others).await;
    use_tokens(&client, "acme", "haiku", 500).await;
    becomes(&client, ("gamma", "slow-1"), 429).await;
    are(
        &client,
        &[("gamma", "haiku", 429), ("gamma", "sonnet", 200)],
    )
    .await;
    assert_eq!(crossed_at(&client, 1_500).await, 1_500);
}

const STRICT: &str = r#"
[set.slow]
dimension = "model"
ids = ["slow-*", "opus"]

[[limit]]
name = "budget"
subject = "tenant/*/model/{slow}"
meter = "tokens"
window = "sliding 10m"
hard = 100
mode = "strict"
"#;

/// Asks for room for so many tokens.
async fn reserve(client: &Client, (tenant, model): (&str, &str), tokens: i64) -> Answer {
    let body = json!({ "tenant": tenant, "model": model, "estimate": { "tokens": tokens, "requests": 0 } });
    client.reservations(Method::POST, "", &body).await
}

async fn check_reserved(config: &str) {
    let weir = Weir::start(Options::up(STRICT).with_config(config)).await;
    let client = weir.client();
    let first = reserve(&client, ("acme", "slow-1"), 60).await.created();
    let steps = [
        ("acme", "opus", 41, 429),
        ("acme", "opus", 40, 201),
        ("acme", "slow-2", 1, 429),
        // Neither of another model, nor of another tenant.
        ("acme", "haiku", 500, 201),
        ("acme", "{slow}", 500, 201),
        ("beta", "slow-1", 100, 201),
        ("beta", "opus", 1, 429),
    ];
    for (tenant, model, tokens, status) in steps {
        let answer = reserve(&client, (tenant, model), tokens).await;
        assert_eq!(answer.status, status, "{tenant} {model}: {}", answer.text());
    }
    // What one id has not used is there for all.
    let path = format!("/{first}/commit");
    let actual = json!({ "actual": { "tokens": 10 } });
    let committed = client.reservations(Method::POST, &path, &actual).await;
    assert_eq!(committed.status, 200, "{}", committed.text());
    for (model, tokens, status) in [("slow-9", 51, 429), ("slow-9", 50, 201), ("opus", 1, 429)] {
        let answer = reserve(&client, ("acme", model), tokens).await;
        assert_eq!(answer.status, status, "{model}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_reservation_for_one_id_holds_room_of_all() {
    check_reserved("").await;
}

#[tokio::test]
async fn a_reservation_for_one_id_holds_room_of_all_in_redis() {
    let redis = Redis::start_installed().await;
    check_reserved(&redis.ledger()).await;
}
