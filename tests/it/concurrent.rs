//! Limits on what is in flight: a reservation takes a place, and every end of it gives the place back, on one gateway
//! and on two that share a ledger.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tests::client::{Answer, Client};
use tests::eventually;
use tests::kafka::Kafka;
use tests::redis::Redis;
use tests::weir::{Options, Weir};

const POLICY: &str = r#"
[[limit]]
name = "places"
subject = "tenant/*/user/*"
meter = "requests"
window = "concurrent"
hard = 3
"#;
const SOON: Duration = Duration::from_secs(60);
/// Longer than the test takes.
const LONG_SECONDS: u64 = 3_600;

async fn enter(client: &Client, user: &str, ttl_s: u64) -> Answer {
    let body = json!({ "tenant": "acme", "user": user, "ttl_s": ttl_s });
    client.reservations(Method::POST, "", &body).await
}

/// The id of the reservation that lets one in.
async fn entered(client: &Client, user: &str, ttl_s: u64) -> String {
    enter(client, user, ttl_s).await.created()
}

async fn refused(client: &Client, user: &str) {
    let answer = enter(client, user, LONG_SECONDS).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    let policy = "\"places\";q=3;qu=\"concurrent-requests\"";
    assert_eq!(answer.header("ratelimit-policy"), Some(policy));
    assert_eq!(answer.json()["violated-policies"], json!(["places"]));
}

async fn end(client: &Client, method: Method, path: &str) {
    let answer = client.reservations(method, path, &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What comes to one gateway and what ends at another are of one number.
async fn check_places(one: &Client, other: &Client) {
    let first = entered(one, "ann", LONG_SECONDS).await;
    let second = entered(other, "ann", LONG_SECONDS).await;
    entered(one, "ann", LONG_SECONDS).await;
    refused(one, "ann").await;
    refused(other, "ann").await;
    // What is only checked takes no place, and is refused as well.
    let check = |user: &str| json!({ "tenant": "acme", "user": user });
    assert_eq!(other.check(&check("ann")).await["status"], 429);
    for _ in 0..5 {
        assert_eq!(other.check(&check("bob")).await["status"], 200);
    }
    entered(other, "bob", LONG_SECONDS).await;

    end(other, Method::DELETE, &format!("/{first}")).await;
    entered(one, "ann", LONG_SECONDS).await;
    refused(other, "ann").await;

    end(one, Method::POST, &format!("/{second}/commit")).await;
    // Ends by itself: the two others last.
    entered(other, "ann", 1).await;
    eventually("its place", SOON, async || {
        let answer = enter(one, "ann", LONG_SECONDS).await;
        match answer.status {
            201 => Ok(()),
            _ => Err(answer.text()),
        }
    })
    .await;
    refused(one, "ann").await;
    refused(other, "ann").await;
}

#[tokio::test]
async fn a_place_in_flight_comes_back_with_every_end() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    check_places(&client, &client).await;
    // The log does not tell what is in flight.
    let query = [("subject", "tenant/acme/user/ann")];
    let limits = client.get("/v1/limits", &query).await;
    let shown = &limits[0];
    assert_eq!(
        (&shown["window"], &shown["mode"], &shown["max"]),
        (&json!("concurrent"), &json!("strict"), &json!(3)),
        "{limits}"
    );
    assert_eq!(
        (&shown["used"], &shown["forecast"]),
        (&Value::Null, &Value::Null)
    );
    // Another number holds at once, for one user.
    let raise = json!({ "kind": "raise", "subject": "tenant/acme/user/ann", "limit": "places", "hard": 4, "reason": "test" });
    client.ordered(&raise).await;
    eventually("the fourth place", SOON, async || {
        let answer = enter(&client, "ann", LONG_SECONDS).await;
        match answer.status {
            201 => Ok(()),
            _ => Err(answer.text()),
        }
    })
    .await;
    let fifth = enter(&client, "ann", LONG_SECONDS).await;
    assert_eq!(fifth.status, 429, "{}", fifth.text());
}

#[tokio::test]
async fn two_gateways_take_places_from_one_number() {
    let kafka = Kafka::start().await;
    let redis = Redis::start_installed().await;
    let config = redis.ledger();
    let options = Options::up(POLICY)
        .with_config(&config)
        .on(Some(kafka.bootstrap()));
    let weir = Weir::start(options.clone()).await;
    let command = "gateway";
    let gateway = Weir::start(Options { command, ..options }).await;
    check_places(&weir.client(), &weir.client_at(&gateway)).await;
}
