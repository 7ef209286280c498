//! What is told of a limit that was cleared.

use schemas::orders::{Change, Order};
use schemas::subject::Subject;

use super::*;

#[tokio::test]
async fn what_was_cleared_counts_no_more() {
    let bench = Bench::new().await;
    bench
        .write(|rows| {
            rows.add_rollup(rollup("a", "2026-11-21T11:59:00Z", &[(30, 60)], 1));
            rows.add_rollup(rollup("a", MINUTE, &[(29, 7), (30, 45)], 2));
        })
        .await;
    let clear = |seq: i64, limit: &str, until: &str| Order {
        command: format!("c{seq}"),
        seq,
        subject: Subject::parse("tenant/acme/user/a").unwrap(),
        at: Timestamp::parse("2026-11-21T12:00:30.2Z").unwrap(),
        until: Timestamp::parse(until),
        change: Change::Cleared {
            limit: limit.to_owned(),
            reason: "test".to_owned(),
        },
    };
    let limits = "/v1/limits?subject=tenant/acme/user/a";
    let check = async |used: i64, by: Value| {
        bench.check(limits, "/0/used", json!(used)).await;
        bench.check(limits, "/0/cleared/command", by).await;
        // The tenant's own limit is another one.
        bench.check(limits, "/1/used", json!(112)).await;
        bench.check(limits, "/1/cleared", Value::Null).await;
    };
    check(112, Value::Null).await;
    for (order, used, by) in [
        (clear(1, "tokens", "2026-11-22T00:00:00Z"), 112, Value::Null),
        (clear(2, "user", "2026-11-21T12:00:30Z"), 112, Value::Null),
        // All of its own second is counted.
        (clear(3, "user", "2026-11-22T00:00:00Z"), 45, json!("c3")),
    ] {
        bench.app.rules.write().orders.put(order);
        check(used, by).await;
    }
}
