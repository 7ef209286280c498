//! What operators and tenants can ask: the same story from every side, and nobody else's.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Client, send};
use tests::events::{failed_sign_in, usage};
use tests::eventually;
use tests::weir::{Options, Weir};

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 10m"
soft = ["80%"]
hard = 1000
mode = "block"
"#;
const SOON: Duration = Duration::from_secs(30);

/// A Weir in which `acme` has spent its tokens and been refused once.
async fn start() -> (Weir, Client) {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let event = json!({ "model": "gpt-4", "key": "k_1", "input_tokens": 1000, "cost_usd": "0.10", "requests": 0 });
    client
        .post(&[
            usage("acme", &event),
            usage("other", &json!({ "input_tokens": 1 })),
        ])
        .await;
    eventually("the refusal", SOON, async || {
        match client.forward_auth("acme").await.status {
            429 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    (weir, client)
}

/// The list at `path` about acme, once there is something in it.
async fn listed(client: &Client, path: &str) -> Vec<Value> {
    eventually(path, SOON, async || {
        match client.list(path, &[("subject", "tenant/acme")]).await {
            none if none.is_empty() => Err("an empty list".to_owned()),
            some => Ok(some),
        }
    })
    .await
}

#[tokio::test]
async fn every_side_tells_the_same_story() {
    let (_weir, client) = start().await;
    let signals = listed(&client, "/v1/signals").await;
    let mut levels: Vec<&str> = signals
        .iter()
        .filter_map(|signal| signal["level"].as_str())
        .collect();
    levels.sort_unstable();
    assert_eq!(levels, ["80%", "hard"]);
    let decisions = listed(&client, "/v1/decisions").await;
    assert_eq!(decisions[0]["verdict"], "block");
    let id = decisions[0]["id"].as_str().expect("an id");
    let one = client.get(&format!("/v1/decisions/{id}"), &[]).await;
    assert!(one.to_string().contains(id), "{one}");
    let refusals = listed(&client, "/v1/refusals").await;
    assert_eq!(refusals[0]["decision"], id);
    let alerts = listed(&client, "/v1/alerts").await;
    assert!(
        alerts.iter().any(|alert| alert["decision"] == id),
        "{alerts:?}"
    );
    let limits = client
        .get("/v1/limits", &[("subject", "tenant/acme")])
        .await;
    assert_eq!([&limits[0]["used"], &limits[0]["max"]], [1000, 1000]);
}

#[tokio::test]
async fn usage_is_grouped_and_told_as_csv() {
    let (_weir, client) = start().await;
    let query = "/v1/usage?subject=tenant/acme&meter=cost&group_by=model,key";
    let told = eventually("the row", SOON, async || {
        let answer = send(client.management(Method::GET, query)).await?.json();
        if answer["series"][0]["total"] == "100000000000" {
            Ok(answer)
        } else {
            Err(answer.to_string())
        }
    })
    .await;
    let series = &told["series"][0];
    assert_eq!(series["group"], json!({ "model": "gpt-4", "key": "k_1" }));
    assert_eq!(series["cost_usd"], "0.1");
    let request = client
        .management(Method::GET, query)
        .header("accept", "text/csv");
    let csv = send(request).await.expect("an answer");
    assert!(
        csv.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/csv"))
    );
    assert!(csv.text().contains("gpt-4"), "{}", csv.text());
}

#[tokio::test]
async fn a_tenant_sees_its_own_and_nothing_else() {
    let (weir, client) = start().await;
    let other = client.with_secret(&weir.create_key("tenant", Some("other")).await);
    let query = [("subject", "tenant/other"), ("meter", "tokens")];
    // The two tenants lie in partitions that are counted apart: that acme is refused says nothing of this one.
    eventually("its own usage", SOON, async || {
        let own = other.get("/v1/usage", &query).await;
        if own["series"][0]["total"] == 1 {
            Ok(())
        } else {
            Err(own.to_string())
        }
    })
    .await;
    // What it may not see is as if it were not there.
    let acme = ("subject", "tenant/acme");
    for path in ["/v1/signals", "/v1/decisions", "/v1/refusals", "/v1/alerts"] {
        // It is there.
        listed(&client, path).await;
        for query in [&[][..], &[acme]] {
            let seen = other.list(path, query).await;
            assert_eq!(seen, [Value::Null; 0], "{path} {query:?}");
        }
    }
    for subject in ["tenant/acme", "platform"] {
        let query = [("subject", subject), ("meter", "tokens")];
        let hidden = other.get("/v1/usage", &query).await;
        assert_eq!(hidden["series"][0]["total"], 0, "{subject}");
    }
}

#[tokio::test]
async fn spreads_and_those_who_use_most_are_told_with_their_error() {
    let config =
        "[aggregator]\nsketches = [\"auth\", \"usage\"]\nranking_interval_s = 1\n".to_owned();
    let options = Options::up(POLICY);
    let weir = Weir::start(Options { config, ..options }).await;
    let client = weir.client();
    let mut events: Vec<String> = (1..=20)
        .map(|n| failed_sign_in("acme", "bob", &format!("203.0.113.{n}")))
        .collect();
    for (user, cost) in [("u_1", "0.10"), ("u_9", "0.25"), ("u_9", "0.25")] {
        events.push(usage("acme", &json!({ "user": user, "cost_usd": cost })));
    }
    client.post(&events).await;
    let spread = ("/v1/spread", [("of", "source"), ("per", "account")]);
    let top = ("/v1/top", [("by", "user"), ("meter", "cost")]);
    let bob = json!({ "tenant": "acme", "id": "bob", "count": 20, "error": 0, "missed_max": 0 });
    let user = |id: &str, pico: &str, usd: &str| json!({ "tenant": "acme", "id": id, "amount": pico, "error": "0", "cost_usd": usd });
    let users = [
        user("u_9", "500000000000", "0.5"),
        user("u_1", "100000000000", "0.1"),
    ];
    for ((path, query), expected) in [(&spread, json!([bob])), (&top, json!(users))] {
        eventually(path, SOON, async || {
            let told = client.get(path, query).await;
            match told["entries"] == expected {
                true => Ok(()),
                false => Err(told.to_string()),
            }
        })
        .await;
        // Nobody else's.
        let other = client.with_secret(&weir.create_key("tenant", Some("other")).await);
        assert_eq!(other.get(path, query).await["entries"], json!([]), "{path}");
    }
    let told = client.get(spread.0, &spread.1).await;
    assert_eq!(
        told["error"],
        json!({ "relative": 0.0325, "exact_up_to": 96 })
    );
}

#[tokio::test]
async fn browsers_reports_are_grouped_and_told_once() {
    let (_weir, client) = start().await;
    let report = |blocked: &str| {
        json!({ "csp-report": {
            "document-uri": "https://shop.example/cart", "blocked-uri": blocked,
            "effective-directive": "script-src-elem", "violated-directive": "script-src-elem",
        } })
    };
    for blocked in [
        "https://evil.example/a.js",
        "https://evil.example/b.js",
        "inline",
    ] {
        let request = client.data(Method::POST, "/v1/csp/acme");
        let request = request.header("content-type", "application/csp-report");
        let answer = send(request.body(report(blocked).to_string()))
            .await
            .expect("an answer");
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    eventually("two groups", SOON, async || {
        let groups = client
            .list("/v1/csp/groups", &[("subject", "tenant/acme")])
            .await;
        let mut counts: Vec<u64> = groups
            .iter()
            .filter_map(|group| group["count"].as_u64())
            .collect();
        counts.sort_unstable();
        if counts == [1, 2] {
            Ok(())
        } else {
            Err(format!("{groups:?}"))
        }
    })
    .await;
    eventually("an alert for each", SOON, async || {
        let query = [("subject", "tenant/acme"), ("kind", "csp_group")];
        match client.list("/v1/alerts", &query).await.len() {
            2 => Ok(()),
            alerts => Err(format!("{alerts} alerts")),
        }
    })
    .await;
}
