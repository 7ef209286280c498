//! A request counts as the weight of its route: at the gateway, in the usage that it reports, and in what is decided of
//! that.

use std::time::Duration;

use serde_json::json;
use tests::client::Client;
use tests::eventually;
use tests::weir::{Options, Weir};

const POLICY: &str = r#"
[[weight]]
route = "POST /v1/bulk/*"
requests = 20

[[limit]]
name = "rpm"
subject = "tenant/*"
meter = "requests"
window = "sliding 60s"
hard = 60
"#;
const SOON: Duration = Duration::from_secs(30);

async fn status(client: &Client, tenant: &str, route: &str) -> u64 {
    let answer = client
        .check(&json!({ "tenant": tenant, "route": route }))
        .await;
    answer["status"].as_u64().expect("a status")
}

/// Waits until so many requests are counted for a tenant.
async fn counted(client: &Client, tenant: &str, expected: u64) {
    let subject = format!("tenant/{tenant}");
    eventually("the tenant's usage", SOON, async || {
        let query = [("subject", subject.as_str()), ("meter", "requests")];
        let usage = client.get("/v1/usage", &query).await;
        match usage["series"][0]["total"].as_u64() {
            Some(total) if total == expected => Ok(()),
            total => Err(format!("{total:?} requests, not {expected}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_bulk_call_counts_as_twenty() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    for n in 0..3 {
        let status = status(&client, "bulky", "POST /v1/bulk/users").await;
        assert_eq!(status, 200, "call {n}");
    }
    assert_eq!(status(&client, "bulky", "POST /v1/bulk/keys").await, 429);
    assert_eq!(status(&client, "bulky", "GET /v1/users").await, 429);
    for n in 0..3 {
        let status = status(&client, "plain", "GET /v1/users").await;
        assert_eq!(status, 200, "call {n}");
    }
    counted(&client, "bulky", 60).await;
    counted(&client, "plain", 3).await;
    // The aggregator has counted the same: the limit is reached there, too.
    let crossed = eventually("the crossing", SOON, async || {
        let signals = client
            .list("/v1/signals", &[("subject", "tenant/bulky")])
            .await;
        signals.first().cloned().ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!(crossed["limit"], "rpm", "{crossed}");
    assert_eq!(crossed["sum"], 60, "{crossed}");
}
