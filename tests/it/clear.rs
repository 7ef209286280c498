//! A limit that is cleared is counted anew for one subject: at every gateway and with those who count, once, with a trail,
//! and for nobody and nothing else.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Client, send};
use tests::events::{now, usage};
use tests::eventually;
use tests::redis::Redis;
use tests::weir::{Options, Weir, command};

/// Two limits of one meter, whose windows share slices.
const POLICY: &str = r#"
[[limit]]
name = "short"
subject = "tenant/*"
meter = "tokens"
window = "sliding 5m"
hard = 1000

[[limit]]
name = "long"
subject = "tenant/*"
meter = "tokens"
window = "sliding 10m"
hard = 2500

[[limit]]
name = "calls"
subject = "tenant/*"
meter = "requests"
window = "sliding 10m"
hard = 5

[[limit]]
name = "each"
subject = "tenant/*/user/*"
meter = "tokens"
window = "sliding 10m"
hard = 500

[[limit]]
name = "credit"
subject = "tenant/*"
meter = "cost"
window = "wallet"
hard = "10 USD"

[[tier.pro.limit]]
name = "bursts"
subject = "tenant/*"
meter = "requests"
window = "sliding 1s"
hard = 100
"#;
const SOON: Duration = Duration::from_secs(60);
/// So long before now that whole seconds lie between.
const AGO: Duration = Duration::from_secs(10);

/// Uses tokens, a while ago.
async fn used(client: &Client, tenant: &str, tokens: i64) {
    let event = usage(tenant, &json!({ "input_tokens": tokens, "requests": 0 }));
    let mut event: Value = serde_json::from_str(&event).expect("an event");
    event["time"] = now().minus(AGO).to_string().into();
    client.post(&[event.to_string()]).await;
}

async fn uses(client: &Client, tenant: &str, tokens: i64) {
    let data = json!({ "input_tokens": tokens, "requests": 0 });
    client.post(&[usage(tenant, &data)]).await;
}

async fn clear(client: &Client, subject: &str, limit: &str) -> String {
    let command =
        json!({ "kind": "clear", "subject": subject, "limit": limit, "reason": "false alarm" });
    client.ordered(&command).await
}

async fn refused_by(client: &Client, tenant: &str, limits: &[&str]) {
    refused_at(client, client, tenant, limits).await;
}

/// Waits until the limits for which a tenant is refused are these, and a gateway obeys that.
async fn refused_at(gateway: &Client, client: &Client, tenant: &str, limits: &[&str]) {
    eventually(
        &format!("{tenant}: refused by {limits:?}"),
        SOON,
        async || {
            let looked = gateway
                .check(&json!({ "tenant": tenant, "consume": {} }))
                .await;
            let subject = format!("tenant/{tenant}");
            let query = [("subject", subject.as_str()), ("standing", "true")];
            let standing = client.list("/v1/decisions", &query).await;
            let causes = standing
                .iter()
                .flat_map(|d| d["causes"].as_array().into_iter().flatten());
            let mut names: Vec<String> = causes.map(|cause| word(&cause["limit"])).collect();
            names.sort();
            let verdict = if limits.is_empty() { "allow" } else { "block" };
            match names == limits && looked["verdict"] == verdict {
                true => Ok(()),
                false => Err(format!("{names:?} {looked}")),
            }
        },
    )
    .await;
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Waits until `/v1/limits` tells that so much is used of each of these, and when the first was cleared.
async fn told_of_limits(client: &Client, subject: &str, expected: &[(&str, i64)], by: &str) {
    eventually(&format!("{expected:?} used"), SOON, async || {
        let limits = client.get("/v1/limits", &[("subject", subject)]).await;
        let of = |name: &str| {
            let mut limits = limits.as_array().into_iter().flatten();
            limits
                .find(|limit| limit["name"] == name)
                .cloned()
                .unwrap_or_default()
        };
        let is_so = expected
            .iter()
            .all(|(name, used)| of(name)["used"] == *used);
        match is_so && of(expected[0].0)["cleared"]["command"] == by {
            true => Ok(()),
            false => Err(limits.to_string()),
        }
    })
    .await;
}

/// Waits for the alerts of what was cleared, the newest first: what was counted before each.
async fn told_of_clearing(client: &Client, subject: &str, before: &[i64]) -> Vec<Value> {
    let query = [("subject", subject), ("kind", "cleared")];
    eventually(&format!("{before:?} told"), SOON, async || {
        let alerts = client.list("/v1/alerts", &query).await;
        let told: Vec<&Value> = alerts.iter().map(|alert| &alert["used"]).collect();
        match told == before {
            true => Ok(alerts),
            false => Err(format!("{alerts:#?}")),
        }
    })
    .await
}

/// As [`clear`], on the command line.
fn clear_by_command_line(weir: &Weir, subject: &str, limit: &str) -> String {
    let mut given = command("command");
    given.args([
        "clear",
        subject,
        "--limit",
        limit,
        "--reason",
        "false alarm",
    ]);
    let done = given.arg("--data").arg(weir.data_folder()).output();
    let done = done.expect("weir runs");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let told: Value = serde_json::from_slice(&done.stdout).expect("a command");
    word(&told["id"])
}

/// Whether all these crossings upward are told: limit and sum.
async fn told_of_crossings(client: &Client, subject: &str, expected: &[(&str, i64)]) {
    let crossed = client.list("/v1/signals", &[("subject", subject)]).await;
    for (limit, sum) in expected {
        let found = crossed.iter().any(|crossing| {
            crossing["direction"] == "up" && crossing["limit"] == *limit && crossing["sum"] == *sum
        });
        assert!(found, "{limit} {sum}: {crossed:#?}");
    }
}

/// What the standing decision on a subject rests on: the sum of its events, how many, and what cleared those before.
async fn evidence(client: &Client, subject: &str) -> (Value, Value, Value) {
    let query = [("subject", subject), ("standing", "true")];
    let standing = client.list("/v1/decisions", &query).await;
    let path = format!("/v1/decisions/{}/explanation", word(&standing[0]["id"]));
    let told = client.get(&path, &[]).await;
    let evidence = &told["causes"][0]["evidence"];
    let [sum, total] = ["sum", "total"].map(|name| evidence[name].clone());
    (sum, total, evidence["cleared"]["command"].clone())
}

#[tokio::test]
async fn what_is_cleared_is_counted_anew_and_nothing_else_is() {
    let mut weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    for tenant in ["acme", "other"] {
        used(&client, tenant, 1200).await;
        refused_by(&client, tenant, &["short"]).await;
    }

    let first = clear_by_command_line(&weir, "tenant/acme", "short");
    refused_by(&client, "acme", &[]).await;
    refused_by(&client, "other", &["short"]).await;

    // The trail and the alert: who, why, and what was counted before.
    let alerts = told_of_clearing(&client, "tenant/acme", &[1200]).await;
    let body = word(&alerts[0]["body"]);
    assert!(
        body.contains("Reason: false alarm") && body.contains(&first),
        "{body}"
    );
    assert!(
        body.contains("1,200 of 1,000 tokens in sliding 5m before, 0 tokens now"),
        "{body}"
    );
    eventually("the trail", SOON, async || {
        let trail = client
            .list("/v1/commands", &[("subject", "tenant/acme")])
            .await;
        let is_it = trail.len() == 1 && trail[0]["kind"] == "clear" && trail[0]["limit"] == "short";
        is_it.then_some(()).ok_or_else(|| format!("{trail:#?}"))
    })
    .await;
    let subject = "tenant/acme";
    told_of_limits(&client, subject, &[("short", 0), ("long", 1200)], &first).await;

    // What comes since counts, and the other limit of the meter has kept its sum.
    uses(&client, "acme", 900).await;
    told_of_limits(&client, subject, &[("short", 900), ("long", 2100)], &first).await;
    refused_by(&client, "acme", &[]).await;
    uses(&client, "acme", 500).await;
    refused_by(&client, "acme", &["long", "short"]).await;
    let expected = [("short", 1200), ("short", 1400), ("long", 2600)];
    told_of_crossings(&client, subject, &expected).await;
    let second = clear(&client, subject, "short").await;
    refused_by(&client, "acme", &["long"]).await;
    told_of_clearing(&client, subject, &[1400, 1200]).await;

    // A crash brings nothing back.
    weir.kill9();
    weir.start_again().await;
    let client = weir.client();
    refused_by(&client, "acme", &["long"]).await;
    clear(&client, subject, "long").await;
    refused_by(&client, "acme", &[]).await;
    told_of_clearing(&client, subject, &[2600, 1400, 1200]).await;
    refused_by(&client, "other", &["short"]).await;
    uses(&client, "acme", 999).await;
    refused_by(&client, "acme", &[]).await;
    uses(&client, "acme", 1).await;
    refused_by(&client, "acme", &["short"]).await;

    // Of what was cleared nothing is evidence any more.
    let rests = (json!(1000), json!(2), json!(second));
    assert_eq!(evidence(&client, subject).await, rests);
}

#[tokio::test]
async fn gateways_count_anew_what_they_admitted_themselves() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let options = Options {
        command: "gateway",
        ..Options::up("")
    };
    let gateway = Weir::start(options.on(Some(weir.bootstrap()))).await;
    let (client, beside) = (weir.client(), weir.client_at(&gateway));
    let call = async |at: &Client, tenant: &str| {
        at.check(&json!({ "tenant": tenant })).await["verdict"].clone()
    };
    for tenant in ["acme", "other"] {
        for at in [&client, &client, &client, &beside, &beside] {
            assert_eq!(call(at, tenant).await, "allow");
        }
        for at in [&client, &beside] {
            refused_at(at, &client, tenant, &["calls"]).await;
        }
    }
    clear(&client, "tenant/acme", "calls").await;
    for at in [&client, &beside] {
        refused_at(at, &client, "acme", &[]).await;
    }
    // As many again, wherever.
    for at in [&client, &client, &client, &client] {
        assert_eq!(call(at, "acme").await, "allow");
    }
    assert_eq!(call(&beside, "acme").await, "allow");
    for at in [&client, &beside] {
        refused_at(at, &client, "acme", &["calls"]).await;
        refused_at(at, &client, "other", &["calls"]).await;
    }
    told_of_clearing(&client, "tenant/acme", &[5]).await;
}

/// Keeps a reservation of 300 while 600 are spent and cleared, and says what is left then and after a crash.
async fn check_strict(config: &str) {
    let policy = "[[limit]]\nname = \"tokens\"\nsubject = \"tenant/*\"\nmeter = \"tokens\"\nwindow = \"sliding 1h\"\n\
                  hard = 1000\nmode = \"strict\"\n";
    let mut weir = Weir::start(Options::up(policy).with_config(config)).await;
    let client = weir.client();
    for tenant in ["acme", "other"] {
        left(&client, tenant, 1000).await;
        let id = reserve(&client, tenant, 600).await;
        commit(&client, &id, 600).await;
    }
    let held = reserve(&client, "acme", 300).await;
    left(&client, "acme", 100).await;
    clear(&client, "tenant/acme", "tokens").await;
    left(&client, "acme", 700).await;
    left(&client, "other", 400).await;
    commit(&client, &held, 250).await;
    left(&client, "acme", 750).await;
    told_of_clearing(&client, "tenant/acme", &[600]).await;

    // What is read back begins where it was cleared; an order that stands clears nothing twice.
    weir.kill9();
    weir.start_again().await;
    let client = weir.client();
    left(&client, "acme", 750).await;
    left(&client, "other", 400).await;
    let id = reserve(&client, "acme", 750).await;
    commit(&client, &id, 750).await;
    left(&client, "acme", 0).await;
    clear(&client, "tenant/acme", "tokens").await;
    left(&client, "acme", 1000).await;
    left(&client, "other", 400).await;
}

async fn reserve(client: &Client, tenant: &str, tokens: i64) -> String {
    let estimate = json!({ "tokens": tokens, "requests": 0 });
    let body = json!({ "tenant": tenant, "estimate": estimate, "ttl_s": 600 });
    let request = client.data(Method::POST, "/v1/reservations").json(&body);
    send(request).await.expect("an answer").created()
}

async fn commit(client: &Client, id: &str, tokens: i64) {
    let path = format!("/v1/reservations/{id}/commit");
    let body = json!({ "actual": { "tokens": tokens } });
    let answer = send(client.data(Method::POST, &path).json(&body)).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Waits until so much is left of the strict limit.
async fn left(client: &Client, tenant: &str, tokens: i64) {
    eventually(&format!("{tenant}: {tokens} left"), SOON, async || {
        let looked = client
            .check(&json!({ "tenant": tenant, "consume": {} }))
            .await;
        // A limit of which nothing is used is not told of.
        let remaining = looked["limits"][0]["remaining"].as_i64().unwrap_or(1000);
        match remaining == tokens && looked["status"] != 503 {
            true => Ok(()),
            false => Err(looked.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_ledger_in_the_process_keeps_what_is_outstanding() {
    check_strict("").await;
}

#[tokio::test]
async fn a_ledger_in_redis_keeps_what_is_outstanding() {
    let redis = Redis::start_installed().await;
    check_strict(&redis.ledger()).await;
}

#[tokio::test]
async fn what_cannot_be_cleared_is_refused_with_what_to_do() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let order = |subject: &str, limit: &str| json!({ "kind": "clear", "subject": subject, "limit": limit, "reason": "test" });
    let acme = "tenant/acme";
    for (wrong, pointer, words) in [
        (order(acme, "shrot"), "/limit", "did you mean `short`?"),
        (order(acme, "credit"), "/limit", "order `top_up`"),
        (order(acme, "each"), "/subject", "each `tenant/*/user/*`"),
        (
            order("platform", "short"),
            "/subject",
            "wider than a tenant",
        ),
        (
            order(acme, "bursts"),
            "/limit",
            "is in no tier, where `bursts` is not counted: name one of `calls`",
        ),
    ] {
        let answer = client.order(&wrong).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        let error = &answer.json()["errors"][0];
        assert_eq!(error["pointer"], pointer, "{error}");
        assert!(word(&error["detail"]).contains(words), "{error}");
    }
    // Whom a command has put into the tier it is counted for.
    let tier = json!({ "kind": "set_tier", "subject": acme, "tier": "pro", "reason": "test" });
    client.ordered(&tier).await;
    let id = eventually("the tier", SOON, async || {
        let answer = client.order(&order(acme, "bursts")).await;
        match answer.status {
            201 => Ok(word(&answer.json()["id"])),
            _ => Err(answer.text()),
        }
    })
    .await;
    let undo = json!({ "kind": "undo", "command": id, "reason": "test" });
    let answer = client.order(&undo).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(
        answer.text().contains("what was counted before is gone"),
        "{}",
        answer.text()
    );
    // Nothing was counted yet, and that is told.
    told_of_clearing(&client, acme, &[0]).await;
}
