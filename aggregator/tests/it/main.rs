//! The service on a log of its own: what it counts, says and keeps, across crashes.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

mod home;

use bus::{RawRecord, Start, Subscription};
use schemas::codec::Wire;
use schemas::record::{Csp, Dead, Outcome, Recorded};
use schemas::topic;
use serde_json::{Value, json};

use home::{Home, auth, eventually, now, usage};

const MINUTELY: &str = "tokens tenant/* tokens 100 : sliding 60s";

#[tokio::test(flavor = "multi_thread")]
async fn counts_crosses_and_keeps_usage() {
    let home = Home::new(MINUTELY).await;
    let aggregator = home.start().await;
    for id in ["1", "2", "2", "3"] {
        home.send(&topic::USAGE, "acme", usage("acme", id, 40))
            .await;
    }
    home.send(&topic::USAGE, "other", usage("other", "1", 99))
        .await;
    aggregator.counted(4, 1).await;
    aggregator
        .shows(
            "/v1/usage?subject=tenant/acme&meter=tokens",
            "/series/0/total",
            json!(120),
        )
        .await;
    aggregator
        .shows("/v1/usage?meter=tokens", "/series/0/total", json!(219))
        .await;
    aggregator.shows("/v1/signals", "/0/sum", json!(120)).await;
    let signals = aggregator.ask("/v1/signals").await;
    assert_eq!(signals.as_array().unwrap().len(), 1, "{signals}");
    assert_eq!(signals[0]["subject"], "tenant/acme");
    assert_eq!(signals[0]["event"], json!({ "source": "app", "id": "3" }));
    let limits = "/v1/limits?subject=tenant/acme";
    aggregator.shows(limits, "/0/used", json!(120)).await;
    aggregator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_or_a_stop_changes_nothing() {
    let home = Home::new(MINUTELY).await;
    let total = "/v1/usage?subject=tenant/acme&meter=requests";
    for round in 0..6_u64 {
        let aggregator = home.start().await;
        for id in 0..20 {
            // Each round sends half of the round before once more.
            let id = (round * 10 + id).to_string();
            home.send(&topic::USAGE, "acme", usage("acme", &id, 1))
                .await;
        }
        if round % 2 == 0 {
            // At any point of all that follows from these.
            aggregator.crash().await;
        } else {
            aggregator.counted(20 + round * 10, round * 10).await;
            aggregator.stop().await;
        }
    }
    let aggregator = home.start().await;
    aggregator.counted(70, 50).await;
    aggregator.shows(total, "/series/0/total", json!(70)).await;
    let signals = aggregator.ask("/v1/signals").await;
    assert_eq!(signals, json!([]));
    home.send(&topic::USAGE, "acme", usage("acme", "last", 30))
        .await;
    aggregator.shows("/v1/signals", "/0/sum", json!(100)).await;
    aggregator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_falls_although_nothing_comes() {
    let home = Home::new("tokens tenant/* tokens 100 : sliding 1s").await;
    let aggregator = home.start().await;
    home.send(&topic::USAGE, "acme", usage("acme", "1", 100))
        .await;
    aggregator
        .shows("/v1/signals?direction=up", "/0/sum", json!(100))
        .await;
    aggregator
        .shows("/v1/signals?direction=down", "/0/sum", json!(0))
        .await;
    let signals = aggregator.ask("/v1/signals").await;
    assert_eq!(signals[0]["falls_at"], signals[1]["at"]);
    aggregator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_producers_records_are_read_moved_or_set_aside() {
    let home = Home::new(MINUTELY).await;
    let aggregator = home.start().await;
    let right = home.bus.partition_of(topic::USAGE.spec(), "acme");
    let json = |id: &str| {
        let at = now();
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"app","type":"usage","subject":"acme","time":"{at}",
                "data":{{"input_tokens":7}}}}"#
        )
    };
    for (partition, value) in [
        (right, json("1")),
        (1 - right, json("2")),
        (right, "{".to_owned()),
    ] {
        let raw = RawRecord {
            topic: topic::USAGE.name(),
            partition,
            key: Some(b"acme"),
            value: Some(value.as_bytes()),
            headers: &[],
        };
        home.bus.producer().enqueue_raw(raw).unwrap().await.unwrap();
    }
    aggregator
        .shows("/v1/usage?meter=tokens", "/series/0/total", json!(14))
        .await;
    eventually("all are accounted for", async || {
        let sum = |name: &str| aggregator.sum(&format!("weir_aggregator_events_{name}_total"));
        let sums = ["accepted", "counted", "moved", "dead"].map(sum);
        (sums == [3, 2, 1, 1]).then_some(())
    })
    .await;
    let dead = dead_record(&home).await;
    assert_eq!(
        (dead.origin.topic.as_str(), dead.origin.partition),
        (topic::USAGE.name(), right)
    );
    assert_eq!(dead.value.as_deref(), Some(b"{".as_slice()));
    assert!(dead.reason.contains("not JSON"), "{}", dead.reason);
    aggregator.stop().await;
}

async fn dead_record(home: &Home) -> Dead {
    let mut consumer = home
        .bus
        .consume(Subscription {
            group: "test".to_owned(),
            topics: vec![topic::DEAD.spec()],
            start: Start::Committed,
            batch_records_max: 10,
        })
        .unwrap();
    loop {
        if let bus::Event::Records(batch) = consumer.next().await {
            let dead = Dead::decode(batch.records[0].value.as_deref().unwrap()).unwrap();
            consumer.close().await;
            return dead;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_all_three_streams_and_scopes_wider_than_a_tenant() {
    let home = Home::new(
        "guesses tenant/*/account/* failures 3 : sliding 10m
         sprayed source/* failures 4 : sliding 10m
         everything platform requests 2 : calendar month",
    )
    .await;
    let aggregator = home.start().await;
    for id in 0..4 {
        let (tenant, account) = if id < 3 {
            ("acme", "alice")
        } else {
            ("other", "bob")
        };
        let failed = auth(tenant, account, &id.to_string(), Outcome::Failure);
        home.send(&topic::AUTH, tenant, failed).await;
    }
    for tenant in ["acme", "other"] {
        home.send(&topic::USAGE, tenant, usage(tenant, "1", 1))
            .await;
    }
    for id in ["1", "2"] {
        let report = Csp {
            event_source: "browser".to_owned(),
            event_id: id.to_owned(),
            tenant: "acme".to_owned(),
            at: now(),
            received_at: now(),
            document_uri: "https://shop.example/".to_owned(),
            directive: "script-src".to_owned(),
            blocked_host: "evil.example".to_owned(),
            ..Csp::default()
        };
        home.send(&topic::CSP, "acme", Recorded::Event(report))
            .await;
    }
    let account = "/v1/signals?subject=tenant/acme/account/alice";
    aggregator.shows(account, "/0/sum", json!(3)).await;
    aggregator
        .shows("/v1/signals?subject=source/192.0.2.1", "/0/sum", json!(4))
        .await;
    aggregator
        .shows(
            "/v1/signals?subject=platform",
            "/0/limit",
            json!("everything"),
        )
        .await;
    aggregator
        .shows("/v1/csp/groups", "/0/count", json!(2))
        .await;
    let failures = "/v1/usage?meter=failures&group_by=account";
    let by_account = |answer: &Value| {
        let series = answer["series"].as_array().cloned().unwrap_or_default();
        let total = |s: &Value| (s["group"]["account"].clone(), s["total"].clone());
        series.iter().map(total).collect::<Vec<_>>()
    };
    eventually("failures are recorded", async || {
        let totals = by_account(&aggregator.ask(failures).await);
        (totals == [(json!("alice"), json!(3)), (json!("bob"), json!(1))]).then_some(())
    })
    .await;
    aggregator.stop().await;
}
