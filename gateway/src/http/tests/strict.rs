//! Reservations over HTTP, on a ledger in the process.

use schemas::policy::{Limit, Mode};

use super::*;
use crate::reports::Report;

fn strict() -> Vec<Limit> {
    let strict = |text| Limit {
        mode: Mode::Strict,
        ..limit(text)
    };
    vec![
        strict("tokens tenant/* tokens 1000 sliding 60s"),
        limit("rate tenant/* requests 5 sliding 60s"),
    ]
}

impl Scene {
    pub(super) async fn reservations(&self, method: Method, path: &str, body: &str) -> Told {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/reservations{path}"))
            .header(AUTHORIZATION, "Bearer acme")
            .body(Body::from(body.to_owned()));
        self.call(request.unwrap()).await
    }

    async fn reserve(&self, tokens: u64, request_id: Option<&str>) -> Told {
        let body = json!({
            "tenant": "acme", "estimate": {"tokens": tokens}, "ttl_s": 30, "request_id": request_id,
        });
        self.reservations(Method::POST, "", &body.to_string()).await
    }

    /// Commits as though the log had it at once.
    pub(super) async fn commit(&self, id: &str, body: &str) -> Told {
        let path = format!("/{id}/commit");
        let (told, ()) = tokio::join!(self.reservations(Method::POST, &path, body), async {
            for report in self.reports() {
                if let Kind::Spent { receipt, .. } = report.kind {
                    receipt.give();
                }
            }
        });
        told
    }

    fn reports(&self) -> Vec<Report> {
        self.handle.shared().reports.take(100)
    }

    /// What a check would leave of the tokens.
    async fn left(&self) -> i64 {
        let body = r#"{"tenant":"acme","consume":{}}"#;
        let told = self.check("acme", body).await;
        let limits = told.body["limits"].as_array().unwrap().clone();
        let tokens = limits.iter().find(|limit| limit["name"] == "tokens");
        tokens.map_or(1000, |limit| limit["remaining"].as_i64().unwrap())
    }
}

pub(super) fn id(told: &Told) -> String {
    assert_eq!(told.status, 201, "{}", told.body);
    told.body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_reserved_is_held_and_what_was_spent_counts() {
    let scene = scene_under(strict());
    let first = scene.reserve(600, None).await;
    assert_eq!(first.body["expires_at"], "2023-11-14T22:13:50Z");
    assert_eq!(
        first
            .header("location")
            .map(|at| at.starts_with("/v1/reservations/")),
        Some(true)
    );
    assert_eq!(scene.left().await, 400);
    let refused = scene.reserve(401, None).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(refused.body["violated-policies"], json!(["tokens"]));
    scene.reports();

    let id = id(&first);
    let committed = scene
        .commit(&id, r#"{"actual":{"input_tokens":100,"output_tokens":50}}"#)
        .await;
    let expected = json!({"id": id, "state": "committed", "late": null, "over": false});
    assert_eq!((committed.status, committed.body), (200, expected.clone()));
    assert_eq!(scene.left().await, 850);
    // Once, whatever comes after.
    let again = scene.commit(&id, r#"{"actual":{"tokens":900}}"#).await;
    assert_eq!(again.body, expected);
    let released = scene
        .reservations(Method::DELETE, &format!("/{id}"), "")
        .await;
    assert_eq!((released.status, released.body), (200, expected));
    assert_eq!(scene.left().await, 850);
}

#[tokio::test]
async fn a_request_reserves_once() {
    let scene = scene_under(strict());
    let first = id(&scene.reserve(600, Some("r")).await);
    assert_eq!(id(&scene.reserve(600, Some("r")).await), first);
    assert_eq!(scene.left().await, 400);
    let released = scene
        .reservations(Method::DELETE, &format!("/{first}"), "")
        .await;
    assert_eq!(released.body["state"], "released");
    assert_eq!(scene.left().await, 1000);
    let ended = scene.reserve(600, Some("r")).await;
    assert_eq!(ended.status, 409, "{}", ended.body);
}

#[tokio::test]
async fn a_late_commit_counts_and_says_so() {
    let scene = scene_under(strict());
    let id = id(&scene.reserve(600, None).await);
    scene.clock.advance(Duration::from_secs(30));
    assert_eq!(scene.left().await, 1000);
    let committed = scene.commit(&id, r#"{"actual":{"tokens":700}}"#).await;
    assert_eq!(committed.body["late"], "expired");
    assert_eq!(scene.left().await, 300);
    // Also where nobody has heard of it.
    let elsewhere = scene_under(strict());
    let committed = elsewhere.commit(&id, "").await;
    assert_eq!(
        (committed.status, &committed.body["late"]),
        (200, &json!("unknown"))
    );
    assert_eq!(elsewhere.left().await, 400);
    let unknown = scene_under(strict());
    let released = unknown
        .reservations(Method::DELETE, &format!("/{id}"), "")
        .await;
    assert_eq!(released.status, 404);
}

#[tokio::test]
async fn a_check_reserves_and_commits_in_one() {
    let scene = scene_under(strict());
    let body =
        |tokens| format!(r#"{{"tenant":"acme","consume":{{"requests":1,"tokens":{tokens}}}}}"#);
    assert_eq!(
        scene.check("acme", &body(999)).await.body["verdict"],
        "allow"
    );
    let refused = scene.check("acme", &body(2)).await;
    assert_eq!(
        (&refused.body["verdict"], &refused.body["status"]),
        (&json!("block"), &json!(429))
    );
    assert_eq!(scene.check("acme", &body(1)).await.body["verdict"], "allow");
    // What was refused is counted nowhere: two requests of five.
    let looked = scene
        .check("acme", r#"{"tenant":"acme","consume":{"requests":1}}"#)
        .await;
    assert_eq!(looked.body["limits"][0]["remaining"], 2, "{}", looked.body);
    let kinds: Vec<bool> = scene
        .reports()
        .iter()
        .map(|report| matches!(report.kind, Kind::Spent { .. }))
        .collect();
    assert_eq!(kinds, [true, false, true, false]);
}

#[tokio::test]
async fn other_limits_refuse_a_reservation_as_well() {
    let scene = scene_under(strict());
    for _ in 0..5 {
        scene.check("acme", r#"{"tenant":"acme"}"#).await;
    }
    let refused = scene.reserve(1, None).await;
    assert_eq!(refused.body["violated-policies"], json!(["rate"]));
    assert_eq!(scene.left().await, 1000);
}

#[tokio::test]
async fn nothing_is_admitted_before_the_past_is_known() {
    let mut open = strict();
    let scene = scene_under(open.clone());
    know_the_past(&scene.handle, false);
    let refused = scene.reserve(1, None).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("5"))
    );
    open[0].stale = schemas::policy::Stale::Open;
    let scene = scene_under(open);
    know_the_past(&scene.handle, false);
    assert_eq!(scene.reserve(1, None).await.status, 201);
}

#[tokio::test]
async fn a_commit_waits_for_the_log() {
    let scene = scene_under(strict());
    let id = id(&scene.reserve(600, None).await);
    let path = format!("/{id}/commit");
    let told = scene.reservations(Method::POST, &path, "").await;
    assert_eq!((told.status, told.header("retry-after")), (503, Some("1")));
    assert_eq!(scene.left().await, 400);
    assert_eq!(scene.commit(&id, "").await.status, 200);
    assert_eq!(scene.left().await, 400);
}

#[track_caller]
fn check_bad(told: &Told, status: u16, pointer: Option<&str>) {
    assert_eq!(told.status, status, "{}", told.body);
    let pointer = pointer.map_or(Value::Null, |pointer| json!(pointer));
    assert_eq!(told.body["errors"][0]["pointer"], pointer, "{}", told.body);
}

#[tokio::test]
async fn bad_calls_are_told() {
    let scene = scene_under(strict());
    let post = async |path: &str, body: &str| scene.reservations(Method::POST, path, body).await;
    check_bad(&post("", "{").await, 400, None);
    check_bad(&post("", r#"{"user":"u"}"#).await, 422, Some("/tenant"));
    check_bad(&post("", r#"{"tenant":"other"}"#).await, 403, None);
    check_bad(
        &post("", r#"{"tenant":"acme","consume":{}}"#).await,
        422,
        Some("/consume"),
    );
    check_bad(
        &post("", r#"{"tenant":"acme","ttl_s":0}"#).await,
        422,
        Some("/ttl_s"),
    );
    check_bad(
        &post("", r#"{"tenant":"acme","ttl_s":3601}"#).await,
        422,
        Some("/ttl_s"),
    );
    check_bad(
        &post("", r#"{"tenant":"acme","estimate":{"tokens":-1}}"#).await,
        422,
        Some("/estimate/tokens"),
    );
    check_bad(&post("/nonsense/commit", "").await, 422, None);
    let id = id(&scene.reserve(1, None).await);
    let path = format!("/{id}/commit");
    check_bad(&post(&path, r#"{"tokens":1}"#).await, 422, Some("/tokens"));
    let other = crate::reservation::Reservation::parse(&id).unwrap();
    let other = crate::reservation::Reservation {
        ask: other.ask.with(schemas::subject::Dimension::Tenant, "other"),
        ..other
    };
    check_bad(
        &post(&format!("/{}/commit", other.token()), "").await,
        403,
        None,
    );
}
