//! How much of each limit is used.

use schemas::orders::{Change, Numbers, Order, Paid};
use schemas::policy::{Meter, Window};

use super::*;

#[tokio::test]
async fn tells_what_is_used_of_each_limit() {
    let bench = Bench::new().await;
    bench
        .write(|rows| {
            // A second before the oldest slice of the window, and the oldest slice itself.
            rows.add_rollup(rollup(
                "a",
                "2026-11-21T11:59:00Z",
                &[(29, 1_000), (30, 60)],
                1,
            ));
            rows.add_rollup(rollup("a", MINUTE, &[(30, 45)], 2));
        })
        .await;
    let limits = "/v1/limits?subject=tenant/acme/user/a";
    bench.check(limits, "/0/name", json!("user")).await;
    bench.check(limits, "/0/used", json!(105)).await;
    bench
        .check(limits, "/0/reset_at", json!("2026-11-21T12:00:31Z"))
        .await;
    bench.check(limits, "/1/name", json!("tokens")).await;
    bench
        .check(limits, "/1/inherited_from/subject", json!("tenant/*"))
        .await;
    bench
        .check(limits, "/2/used_usd", json!("15000000.000000000003"))
        .await;
    bench
        .check(limits, "/2/reset_at", json!("2026-11-22T00:00:00Z"))
        .await;
    bench
        .check(
            "/v1/limits?subject=tenant/a/fingerprint/f",
            "/0/used",
            Value::Null,
        )
        .await;
    bench
        .check("/v1/limits?subject=platform", "", json!([]))
        .await;
}

#[tokio::test]
async fn a_wallet_has_a_balance() {
    let mut bench = Bench::new().await;
    let tenant = schemas::subject::Subject::tenant("acme");
    let entry = Order {
        command: "c1".to_owned(),
        seq: 1,
        subject: tenant,
        at: Timestamp::default(),
        until: None,
        change: Change::Numbers {
            limit: "wallet".to_owned(),
            numbers: Numbers {
                paid: Paid::default().with("c1", -150).unwrap(),
                ..Numbers::default()
            },
        },
    };
    let mut rules = Rules::of(policy());
    rules.policy.limits.truncate(1);
    rules.policy.limits[0].name = "wallet".to_owned();
    rules.policy.limits[0].window = "wallet".parse().unwrap();
    rules.policy.limits[0].keep = 20;
    bench.app.rules = Arc::new(RwLock::new(rules));
    bench
        .write(|rows| {
            rows.add_rollup(rollup("a", MINUTE, &[(0, 10)], 7));
            rows.add_rollup(rollup("a", "2020-01-01T00:00:00Z", &[(0, 25)], 8));
        })
        .await;
    let shown = [
        ("max", json!(100), json!(1)),
        ("keep", json!(20), json!(20)),
        ("used", json!(35), json!(35)),
        ("paid_in", json!(120), json!(-30)),
        ("balance", json!(85), json!(-65)),
        ("command", Value::Null, json!("c1")),
        (
            "forecast/reached_at",
            // 65 are left to spend, at 10 an hour.
            json!("2026-11-21T18:30:30Z"),
            Value::Null,
        ),
        ("reset_at", Value::Null, Value::Null),
    ];
    let path = "/v1/limits?subject=tenant/acme";
    for (field, before, _) in &shown {
        let pointer = format!("/0/{field}");
        bench.check(path, &pointer, before.clone()).await;
    }
    bench.app.rules.write().orders.put(entry);
    for (field, _, after) in &shown {
        let pointer = format!("/0/{field}");
        bench.check(path, &pointer, after.clone()).await;
    }
}

#[tokio::test]
async fn of_what_is_in_flight_nothing_is_known_here() {
    let bench = Bench::new().await;
    {
        let mut rules = bench.app.rules.write();
        rules.policy.limits.truncate(1);
        rules.policy.limits[0].meter = Meter::Requests;
        rules.policy.limits[0].window = Window::Concurrent;
        rules.policy.limits[0].mode = Mode::Strict;
    }
    bench
        .write(|rows| rows.add_rollup(rollup("a", MINUTE, &[(0, 10)], 7)))
        .await;
    for (field, expected) in [
        ("window", json!("concurrent")),
        ("mode", json!("strict")),
        ("max", json!(100)),
        ("used", Value::Null),
        ("reset_at", Value::Null),
        ("forecast", Value::Null),
    ] {
        let pointer = format!("/0/{field}");
        bench
            .check("/v1/limits?subject=tenant/acme", &pointer, expected)
            .await;
    }
}
