//! Requests that count as the weight of their route.

use schemas::policy::{Mode, Weight};

use super::*;

const BULK: &str = r#"{"tenant":"acme","route":"POST /v1/bulk/users"}"#;

fn policy(version: u64, bulk: u32, mode: Mode) -> Policy {
    let weight = |route, requests| Weight::new(route, requests).unwrap();
    Policy {
        version,
        limits: vec![Limit {
            mode,
            ..limit("rate tenant/* requests 60 sliding 60s")
        }],
        weights: vec![weight("GET /health", 0), weight("POST /v1/bulk/*", bulk)],
        ..Policy::default()
    }
}

impl Scene {
    /// As status, and what is left after it.
    async fn asks(&self, body: &str) -> (u64, Option<i64>) {
        let told = self.check("acme", body).await.body;
        (
            told["status"].as_u64().unwrap(),
            told["limits"][0]["remaining"].as_i64(),
        )
    }

    /// How many requests were told as usage, in order.
    fn told(&self) -> Vec<Option<u64>> {
        let reports = self.handle.shared().reports.take(100);
        let admitted = reports
            .iter()
            .filter(|report| !matches!(report.kind, Kind::Refused(_)));
        admitted.map(|report| report.ask.consume.requests).collect()
    }
}

async fn check_counts_weights(mode: Mode) {
    let scene = scene_of(policy(1, 20, mode));
    assert_eq!(scene.asks(BULK).await, (200, Some(40)));
    let spoken = r#"{"tenant":"acme","route":"POST /v1/bulk/users","consume":{"requests":1}}"#;
    assert_eq!(scene.asks(spoken).await, (200, Some(39)));
    assert_eq!(scene.asks(r#"{"tenant":"acme"}"#).await, (200, Some(38)));
    let free = r#"{"tenant":"acme","route":"GET /health"}"#;
    assert_eq!(scene.asks(free).await, (200, Some(38)));
    let headers = [
        ("x-weir-tenant", "acme"),
        ("x-weir-route", "POST /v1/bulk/keys"),
    ];
    let told = scene.forward("/v1/forward-auth", &headers).await;
    assert_eq!(told.header("ratelimit"), Some("\"rate\";r=18;t=61"));
    // What only looks counts nothing, and what is free is not told.
    let look = r#"{"tenant":"acme","route":"POST /v1/bulk/users","consume":{}}"#;
    assert_eq!(scene.asks(look).await, (200, Some(18)));
    assert_eq!(scene.told(), [Some(20), Some(1), Some(1), Some(20)]);
}

#[tokio::test]
async fn a_request_counts_as_its_weight_in_windows_and_in_usage() {
    check_counts_weights(Mode::Block).await;
}

#[tokio::test]
async fn a_request_counts_as_its_weight_in_the_ledger() {
    check_counts_weights(Mode::Strict).await;
    // What does not fit is not spent.
    let scene = scene_of(policy(1, 40, Mode::Strict));
    assert_eq!(scene.asks(BULK).await, (200, Some(20)));
    assert_eq!(scene.asks(BULK).await.0, 429);
    assert_eq!(scene.told(), [Some(40)]);
}

#[tokio::test]
async fn a_reservation_keeps_the_weight_that_it_was_made_with() {
    let scene = scene_of(policy(1, 20, Mode::Strict));
    let reserved = scene.reservations(Method::POST, "", BULK).await;
    assert_eq!(reserved.header("ratelimit"), Some("\"rate\";r=40"));
    scene
        .handle
        .shared()
        .gate
        .set_policy(policy(2, 50, Mode::Strict));
    let path = format!("/{}/commit", reserved.body["id"].as_str().unwrap());
    // Nobody has the log here, so nobody says that it has the event.
    scene.reservations(Method::POST, &path, "").await;
    assert_eq!(scene.told(), [Some(20)]);
    assert_eq!(scene.asks(BULK).await.0, 429);
}

#[tokio::test]
async fn weights_change_with_the_policy_and_from_the_next_request_on() {
    let scene = scene_of(policy(1, 20, Mode::Block));
    assert_eq!(scene.asks(BULK).await, (200, Some(40)));
    scene
        .handle
        .shared()
        .gate
        .set_policy(policy(2, 5, Mode::Block));
    assert_eq!(scene.asks(BULK).await, (200, Some(35)));
    assert_eq!(scene.told(), [Some(20), Some(5)]);
}
