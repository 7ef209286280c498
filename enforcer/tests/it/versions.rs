//! Versions of the policy over HTTP: applied, compared, taken back, and never undone by a restart.

use axum::body::Body;
use http::Request;
use schemas::record::Role;
use serde_json::json;

use crate::home::{Answer, Enforcer, Home, POLICY, caller, eventually};

fn with_hard(hard: u32) -> String {
    POLICY.replace("hard = 100", &format!("hard = {hard}"))
}

/// A `PUT` of a TOML text, and of what version it is a change (none: of whichever holds).
fn put(text: &str, of: Option<&str>) -> Request<Body> {
    let request = Request::put("/v1/policy?reason=more%20for%20all");
    let request = request.header("content-type", "application/toml");
    let request = match of {
        Some(version) => request.header("if-match", version),
        None => request,
    };
    request.body(Body::from(text.to_owned())).unwrap()
}

fn roll_back(version: u64, reason: &str) -> Request<Body> {
    let body = json!({ "version": version, "reason": reason }).to_string();
    Request::post("/v1/policy/rollback")
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

async fn send(enforcer: &Enforcer, request: Request<Body>) -> Answer {
    enforcer.send(request, caller(Role::Operator, None)).await
}

/// The version in force and its number's limit.
async fn holds(enforcer: &Enforcer) -> (u64, u64) {
    let shown = enforcer.get("/v1/policy").await;
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    (
        number(&shown["version"]),
        number(&shown["limits"][0]["hard"]),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_holds_when_it_is_answered() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    let read = send(
        &enforcer,
        Request::get("/v1/policy").body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(read.header("etag"), "\"1\"");

    let applied = send(&enforcer, put(&with_hard(200), Some("\"1\""))).await;
    assert_eq!(
        (applied.status, applied.header("etag")),
        (200, "\"2\""),
        "{}",
        applied.body
    );
    let shown = applied.json();
    assert_eq!(
        (&shown["author"], &shown["reason"]),
        (&"operator-1".into(), &"more for all".into())
    );
    assert_eq!(holds(&enforcer).await, (2, 200));

    // Sent again, the same is there already; another one that was made from the old version is not taken.
    let again = send(&enforcer, put(&with_hard(200), Some("\"1\""))).await;
    assert_eq!((again.status, again.header("etag")), (200, "\"2\""));
    let late = send(&enforcer, put(&with_hard(300), Some("\"1\""))).await;
    assert_eq!(late.status, 412);
    assert!(
        late.body.contains("version 2 holds by now"),
        "{}",
        late.body
    );
    assert_eq!(holds(&enforcer).await, (2, 200));
    let star = send(&enforcer, put(&with_hard(300), Some("*"))).await;
    assert_eq!(star.header("etag"), "\"3\"");
    let one_of = send(&enforcer, put(&with_hard(400), Some("\"2\", \"3\""))).await;
    assert_eq!(one_of.header("etag"), "\"4\"");
    let free = send(&enforcer, put(&with_hard(500), None)).await;
    assert_eq!(free.header("etag"), "\"5\"");

    let toml = Request::get("/v1/policy").header("accept", "text/html;q=0.1, application/toml");
    let toml = send(&enforcer, toml.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (toml.header("content-type"), toml.body.as_str()),
        ("application/toml", &*with_hard(500))
    );
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_and_changes_nothing() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    let check = async |request: Request<Body>, status: u16, told: &str| {
        let answer = send(&enforcer, request).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(
            answer.body.contains(told),
            "{told} is not in {}",
            answer.body
        );
    };
    let of_kind = |kind: &str, body: String| {
        let request = Request::put("/v1/policy?reason=r").header("content-type", kind);
        request.body(Body::from(body)).unwrap()
    };
    let broken = of_kind("application/toml", POLICY.replace("soft", "sfot"));
    let answer = send(&enforcer, broken).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json()["errors"],
        json!([{
            "pointer": "/limit/0/sfot",
            "detail": "6:1: unknown field `sfot` of a limit; did you mean `soft`?",
        }])
    );
    let json = json!({ "limit": [], "zone": "Mars" }).to_string();
    check(
        of_kind("application/json; charset=utf-8", json),
        422,
        "\"/zone\"",
    )
    .await;
    check(of_kind("application/json", "{".to_owned()), 422, "not JSON").await;
    check(
        of_kind("application/yaml", POLICY.to_owned()),
        415,
        "application/toml",
    )
    .await;
    check(
        of_kind("application/toml", "#".repeat(300_000)),
        422,
        "262144 are taken",
    )
    .await;
    check(of_kind("application/toml", "#".repeat(2_000_000)), 413, "").await;
    check(put(POLICY, Some("7")), 400, "in quotes").await;
    let without = Request::put("/v1/policy").header("content-type", "application/toml");
    check(
        without.body(Body::from(POLICY)).unwrap(),
        400,
        "say in a few words why",
    )
    .await;
    check(roll_back(1, ""), 400, "say in a few words why").await;
    check(roll_back(7, "back"), 400, "no such version").await;
    assert_eq!(holds(&enforcer).await, (1, 100));
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_tells_every_version_and_leads_back() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    send(&enforcer, put(&with_hard(200), None)).await;
    let json = json!({"limit": [{"name": "rpm", "subject": "tenant/*", "meter": "requests", "window": "sliding 60s",
                                 "hard": 300}]});
    let request =
        Request::put("/v1/policy?reason=as%20JSON").header("content-type", "application/json");
    let applied = send(
        &enforcer,
        request.body(Body::from(json.to_string())).unwrap(),
    )
    .await;
    assert_eq!(applied.json()["version"], 3, "{}", applied.body);
    let back = send(&enforcer, roll_back(2, "300 was too much")).await;
    assert_eq!((back.status, back.header("etag")), (200, "\"4\""));
    assert_eq!(holds(&enforcer).await, (4, 200));

    let newest = Request::get("/v1/policy/versions?limit=3")
        .body(Body::empty())
        .unwrap();
    let page = send(&enforcer, newest).await;
    let told: Vec<_> = page
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["reason"].clone())
        .collect();
    assert_eq!(told, ["300 was too much", "as JSON", "more for all"]);
    assert_eq!(
        page.header("link"),
        "</v1/policy/versions?after=2&limit=3>; rel=\"next\""
    );
    let last = enforcer.get("/v1/policy/versions?after=2&limit=3").await;
    assert_eq!(
        (&last[0]["version"], &last[0]["author"]),
        (&1.into(), &"policy file".into())
    );
    assert!(last[1].is_null());

    let third = enforcer.get("/v1/policy/versions/3").await;
    assert_eq!(
        (&third["limits"][0]["hard"], &third["reason"]),
        (&300.into(), &"as JSON".into())
    );
    let diff = enforcer.get("/v1/policy/diff?from=1&to=3").await;
    assert_eq!(
        diff["limits"],
        json!([{"change": "changed", "name": "rpm", "tier": null, "fields": [
            {"field": "hard", "from": "100", "to": "300"}, {"field": "soft", "from": "80%", "to": null},
        ]}])
    );
    let newest = enforcer.get("/v1/policy/diff").await;
    assert_eq!((&newest["from"], &newest["to"]), (&3.into(), &4.into()));
    let (status, _) = enforcer.get_as("/v1/policy/diff?from=9", None).await;
    assert_eq!(status, 400);
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_undo_what_was_applied() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    send(&enforcer, put(&with_hard(200), None)).await;
    enforcer.stop().await;
    // Nobody touched the file.
    let enforcer = home.start().await;
    assert_eq!(holds(&enforcer).await, (2, 200));
    let versions = enforcer.get("/v1/policy/versions").await;
    assert_eq!(versions.as_array().unwrap().len(), 2);

    // An edit wins while it runs, and what is applied after it wins over it.
    home.write(&with_hard(300));
    eventually("the edit holds", async || {
        (holds(&enforcer).await == (3, 300)).then_some(())
    })
    .await;
    send(&enforcer, put(&with_hard(400), None)).await;
    // The file says what holds already: the trail tells that the file is behind it now.
    home.write(&with_hard(400));
    eventually("the file is obeyed", async || {
        (holds(&enforcer).await == (5, 400)).then_some(())
    })
    .await;
    send(&enforcer, put(&with_hard(500), None)).await;
    enforcer.stop().await;
    let enforcer = home.start().await;
    assert_eq!(holds(&enforcer).await, (6, 500));
    enforcer.stop().await;

    // Edited while it was stopped.
    home.write(&with_hard(600));
    let enforcer = home.start().await;
    assert_eq!(holds(&enforcer).await, (7, 600));
    enforcer.stop().await;
}
