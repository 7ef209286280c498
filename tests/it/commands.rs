//! Commands: what an operator orders is in effect at every gateway and with those who count, outlasts a crash, ends on
//! time, and is nobody else's.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::scene::{Log, Scene, Store};
use tests::weir::{Options, Weir, command};

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 10m"
hard = 1000

[[limit]]
name = "each"
subject = "tenant/*/user/*"
meter = "tokens"
window = "sliding 10m"
hard = 500

[[tier.pro.limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 10m"
hard = 5000
"#;
const SOON: Duration = Duration::from_secs(60);

async fn raise(client: &Client, tenant: &str, hard: i64) -> String {
    let subject = format!("tenant/{tenant}");
    let command = json!({ "kind": "raise", "subject": subject, "limit": "tokens", "hard": hard, "reason": "test" });
    client.ordered(&command).await
}

async fn undo(client: &Client, id: &str) {
    let command = json!({ "kind": "undo", "command": id, "reason": "test" });
    client.ordered(&command).await;
}

async fn use_tokens(client: &Client, tenant: &str, data: Value) {
    client.post(&[usage(tenant, &data)]).await;
}

/// Waits until every gateway answers so for a request of this identity.
async fn become_at(gateways: &[Client], identity: &Value, verdict: &str) {
    for gateway in gateways {
        eventually(&format!("{identity}: {verdict}"), SOON, async || {
            let answer = gateway.check(identity).await;
            match answer["verdict"] == verdict {
                true => Ok(()),
                false => Err(answer.to_string()),
            }
        })
        .await;
    }
}

/// Waits until `/v1/limits` says that the number of `tokens` comes of these words: `from max`, from wide to narrow.
async fn chain_becomes(client: &Client, tenant: &str, expected: &[&str]) {
    let subject = format!("tenant/{tenant}");
    eventually(&format!("{tenant}: {expected:?}"), SOON, async || {
        let limits = client.get("/v1/limits", &[("subject", &subject)]).await;
        let mut limits = limits.as_array().into_iter().flatten();
        let limit = limits.find(|limit| limit["name"] == "tokens");
        let words = limit.and_then(|limit| limit["chain"].as_array());
        let said =
            |word: &Value| format!("{} {}", word["from"].as_str().unwrap_or("?"), word["max"]);
        let words: Vec<String> = words.into_iter().flatten().map(said).collect();
        (words == expected)
            .then_some(())
            .ok_or_else(|| format!("{words:?}"))
    })
    .await;
}

async fn becomes(gateways: &[Client], tenant: &str, verdict: &str) {
    become_at(
        gateways,
        &json!({ "tenant": tenant, "consume": {} }),
        verdict,
    )
    .await;
}

/// A second gateway, in a process of its own.
async fn beside(weir: &Weir) -> Weir {
    let options = Options {
        command: "gateway",
        ..Options::up("")
    };
    Weir::start(options.on(Some(weir.bootstrap()))).await
}

async fn check(log: Log) {
    let mut scene = Scene::start(log, Store::Sqlite, Options::up(POLICY)).await;
    let gateway = beside(&scene.weir).await;
    let client = scene.weir.client();
    let both = [client.clone(), scene.weir.client_at(&gateway)];
    for tenant in ["acme", "other", "tiered", "short"] {
        use_tokens(&client, tenant, json!({ "input_tokens": 1200 })).await;
        becomes(&both, tenant, "block").await;
    }

    // A raise admits again, and those who count know of it: the new number is crossed where it is.
    let first = raise(&client, "acme", 2000).await;
    becomes(&both, "acme", "allow").await;
    use_tokens(&client, "acme", json!({ "input_tokens": 900 })).await;
    becomes(&both, "acme", "block").await;
    let query = [("subject", "tenant/acme"), ("limit", "tokens")];
    let crossed = client.list("/v1/signals", &query).await;
    assert!(
        crossed.iter().any(|c| c["max"] == 2000 && c["sum"] == 2100),
        "{crossed:#?}"
    );

    // One user's is no other's.
    let user = |user: &str| json!({ "tenant": "users", "user": user, "consume": {} });
    for id in ["u1", "u2"] {
        let data = json!({ "user": id, "input_tokens": 490 });
        use_tokens(&client, "users", data).await;
    }
    let cut = json!({ "kind": "raise", "subject": "tenant/users/user/u1", "limit": "each", "hard": 400, "reason": "test" });
    client.ordered(&cut).await;
    become_at(&both, &user("u1"), "block").await;
    become_at(&both, &user("u2"), "allow").await;

    // A tier, and one that ends by itself.
    let tier =
        json!({ "kind": "set_tier", "subject": "tenant/tiered", "tier": "pro", "reason": "test" });
    client.ordered(&tier).await;
    becomes(&both, "tiered", "allow").await;
    chain_becomes(&client, "tiered", &["policy 1000", "tier 5000"]).await;
    chain_becomes(&client, "other", &["policy 1000"]).await;
    let short = json!({ "kind": "raise", "subject": "tenant/short", "limit": "tokens", "hard": 9000, "for": "3s",
                        "reason": "test" });
    client.ordered(&short).await;
    becomes(&both, "short", "allow").await;
    becomes(&both, "short", "block").await;
    becomes(&both, "other", "block").await;

    // After a crash all is as it was.
    drop(gateway);
    scene.weir.kill9();
    scene.weir.start_again().await;
    let client = scene.weir.client();
    let both = [client.clone()];
    becomes(&both, "acme", "block").await;
    becomes(&both, "tiered", "allow").await;
    become_at(&both, &user("u1"), "block").await;
    undo(&client, &first).await;
    let second = raise(&client, "acme", 3000).await;
    becomes(&both, "acme", "allow").await;
    undo(&client, &second).await;
    becomes(&both, "acme", "block").await;
    becomes(&both, "other", "block").await;

    eventually("the trail has all of it", SOON, async || {
        let query = [("subject", "tenant/acme")];
        let trail = client.list("/v1/commands", &query).await;
        let kinds: Vec<&Value> = trail.iter().map(|command| &command["kind"]).collect();
        let is_all = kinds == ["undo", "raise", "undo", "raise"];
        is_all.then_some(()).ok_or_else(|| format!("{kinds:?}"))
    })
    .await;
}

#[tokio::test]
async fn an_override_holds_but_for_an_order_on_the_same_subject() {
    let own = "[[override]]\nsubject = \"tenant/acme\"\nlimit = \"tokens\"\nhard = 2000\nreason = \"contract\"\n";
    let weir = Weir::start(Options::up(&format!("{POLICY}{own}"))).await;
    let gateway = beside(&weir).await;
    let client = weir.client();
    let both = [client.clone(), weir.client_at(&gateway)];
    for tenant in ["acme", "other"] {
        use_tokens(&client, tenant, json!({ "input_tokens": 1200 })).await;
    }
    becomes(&both, "other", "block").await;
    becomes(&both, "acme", "allow").await;
    use_tokens(&client, "acme", json!({ "input_tokens": 900 })).await;
    becomes(&both, "acme", "block").await;
    let query = [("subject", "tenant/acme"), ("limit", "tokens")];
    let crossed = client.list("/v1/signals", &query).await;
    assert!(crossed.iter().all(|c| c["max"] == 2000), "{crossed:?}");

    let more = raise(&client, "acme", 3000).await;
    becomes(&both, "acme", "allow").await;
    let words = ["policy 1000", "override 2000", "command 3000"];
    chain_becomes(&client, "acme", &words).await;
    undo(&client, &more).await;
    becomes(&both, "acme", "block").await;

    // Without it the limit's own number holds, and with a larger one that.
    weir.edit_policy(&format!("{POLICY}{}", own.replace("2000", "4000")));
    becomes(&both, "acme", "allow").await;
    becomes(&both, "other", "block").await;
    weir.edit_policy(POLICY);
    becomes(&both, "acme", "block").await;
}

#[tokio::test]
async fn orders_are_obeyed_everywhere_on_the_embedded_log() {
    check(Log::Embedded).await;
}

#[tokio::test]
async fn orders_are_obeyed_everywhere_on_kafka() {
    check(Log::Kafka).await;
}

#[tokio::test]
async fn a_block_refuses_until_it_is_lifted() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let gateways = [client.clone()];
    becomes(&gateways, "acme", "allow").await;
    let block = json!({ "kind": "block", "subject": "tenant/acme", "reason": "abuse" });
    client.ordered(&block).await;
    becomes(&gateways, "acme", "block").await;
    let refused = client.forward_auth("acme").await;
    assert_eq!((refused.status, refused.header("retry-after")), (403, None));
    becomes(&gateways, "acm", "allow").await;
    let unblock = json!({ "kind": "unblock", "subject": "tenant/acme", "reason": "a mistake" });
    client.ordered(&unblock).await;
    becomes(&gateways, "acme", "allow").await;
}

#[tokio::test]
async fn the_command_line_orders_and_lists() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let run = |arguments: &[&str]| {
        let mut command = command("command");
        command
            .args(arguments)
            .arg("--data")
            .arg(weir.data_folder());
        let done = command.output();
        let done = done.expect("weir runs");
        let told = [done.stdout, done.stderr].concat();
        (
            done.status.success(),
            String::from_utf8_lossy(&told).into_owned(),
        )
    };
    let launch = [
        "--limit",
        "tokens",
        "--hard",
        "9000",
        "--for",
        "2h",
        "--reason",
        "launch day",
    ];
    let (good, told) = run(&[&["raise", "tenant/acme"][..], &launch].concat());
    assert!(good && told.contains("\"hard\":9000"), "{told}");
    let (good, told) = run(&["set-tier", "tenant/acme", "prro", "--reason", "r"]);
    assert!(!good && told.contains("did you mean `pro`?"), "{told}");
    eventually("the trail", SOON, async || {
        let (_, told) = run(&["list", "--subject", "tenant/acme"]);
        match told.contains("launch day") {
            true => Ok(()),
            false => Err(told),
        }
    })
    .await;
}
