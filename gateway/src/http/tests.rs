mod concurrent;
mod layer;
mod strict;
mod weights;

use std::time::Duration;

use axum::http::{Method, Request};
use bus::clock::{ManualClock, SharedClock};
use http_body_util::BodyExt;
use prometheus_client::registry::Registry;
use schemas::access::hash_secret;
use schemas::policy::{Limit, Policy};
use schemas::record::Key;
use schemas::time::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::check::{Feed, Freshness, Gate};
use crate::handle::Shared;
use crate::ledger::Bounds;
use crate::metrics::Metrics;
use crate::place::Place;
use crate::plan::tests::limit;
use crate::recent::Recent;
use crate::reports::{Kind, Reports};

const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

struct Scene {
    router: Router,
    handle: Handle,
    clock: Arc<ManualClock>,
}

const BOUNDS: Bounds = Bounds {
    accounts_max: 1_000,
    reservations_max: 1_000,
    remembered: Duration::from_secs(300),
};

fn scene() -> Scene {
    scene_under(vec![limit("rate tenant/* requests 2 sliding 60s")])
}

fn scene_under(limits: Vec<Limit>) -> Scene {
    scene_of(Policy {
        version: 1,
        limits,
        ..Policy::default()
    })
}

fn scene_of(policy: Policy) -> Scene {
    let scene = scene_with(policy, Place::in_process(BOUNDS));
    know_the_past(&scene.handle, true);
    scene
}

fn scene_with(policy: Policy, ledger: Place) -> Scene {
    let clock = Arc::new(ManualClock::new(START));
    let freshness = Freshness::new(START, Duration::from_secs(30));
    freshness.caught_up(Feed::Decisions);
    freshness.caught_up(Feed::Policies);
    let gate = Gate::new([1, 2], 2 << 20, freshness);
    gate.set_policy(policy);
    let handle = Handle::new(Shared {
        gate,
        clock: Arc::clone(&clock) as SharedClock,
        recent: Recent::new(100, Duration::from_secs(300)),
        reports: Reports::new(100),
        metrics: Metrics::register(&mut Registry::default()),
        ledger,
        has_share: true.into(),
    });
    let mut keys = KeyRing::default();
    for (id, role, tenant) in [
        ("ingest", Role::Ingest, None),
        ("gateway", Role::Gateway, None),
        ("acme", Role::Gateway, Some("acme")),
        ("operator", Role::Operator, None),
    ] {
        let key = Key {
            id: id.to_owned(),
            sha256: hash_secret(id),
            role,
            tenant: tenant.map(str::to_owned),
            created_at: START,
            expires_at: None,
            revoked: false,
            note: "a note".to_owned(),
        };
        keys.apply(id, Some(key));
    }
    let app = App {
        handle: handle.clone(),
        keys: Arc::new(RwLock::new(keys)),
        logged_within: Duration::from_millis(50),
    };
    Scene {
        router: router(app, 1_000),
        handle,
        clock,
    }
}

fn know_the_past(handle: &Handle, known: bool) {
    match &handle.shared().ledger {
        Place::Process(ledger) => ledger.set_complete(known),
        Place::Redis(_) => panic!("this one lives in the process"),
    }
}

struct Told {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Told {
    #[track_caller]
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Scene {
    async fn call(&self, request: Request<Body>) -> Told {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Told {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }

    async fn check(&self, key: &str, body: &str) -> Told {
        let request = Request::post("/v1/check")
            .header(AUTHORIZATION, format!("Bearer {key}"))
            .body(Body::from(body.to_owned()));
        self.call(request.unwrap()).await
    }

    async fn forward(&self, path: &str, headers: &[(&str, &str)]) -> Told {
        let mut request = Request::builder()
            .method(Method::PATCH)
            .uri(path)
            .header(AUTHORIZATION, "Bearer gateway");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.call(request.body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn a_check_tells_what_is_left_and_until_when() {
    let scene = scene();
    let first = scene.check("ingest", r#"{"tenant":"acme"}"#).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.body["verdict"], "allow");
    let limits = json!([{
        "name": "rate", "subject": "tenant/acme", "meter": "requests", "max": 2, "remaining": 1, "reset_s": 61,
    }]);
    assert_eq!(first.body["limits"], limits);
    scene.check("gateway", r#"{"tenant":"acme"}"#).await;
    scene.clock.advance(Duration::from_secs(10));
    let third = scene.check("acme", r#"{"tenant":"acme"}"#).await;
    assert_eq!(third.status, 200);
    assert_eq!(third.body["verdict"], "block");
    assert_eq!(third.body["status"], 429);
    assert_eq!(third.body["retry_after_s"], 51);
    assert_eq!(third.body["causes"][0]["reset_at"], "2023-11-14T22:14:21Z");
    scene.clock.advance(Duration::from_secs(51));
    let later = scene.check("acme", r#"{"tenant":"acme"}"#).await;
    assert_eq!(later.body["verdict"], "allow");
}

#[tokio::test]
async fn one_request_id_is_counted_once() {
    let scene = scene();
    let body = r#"{"tenant":"acme","request_id":"r1"}"#;
    let first = scene.check("ingest", body).await;
    let again = scene.check("ingest", body).await;
    assert_eq!(first.body, again.body);
    assert_eq!(first.body["request_id"], "r1");
    let other = scene
        .check("ingest", r#"{"tenant":"b","request_id":"r1"}"#)
        .await;
    assert_eq!(other.body["limits"][0]["remaining"], 1);
    let made = scene.check("ingest", r#"{"tenant":"acme"}"#).await;
    assert_eq!(made.body["limits"][0]["remaining"], 0);
    assert_eq!(made.body["request_id"].as_str().unwrap().len(), 36);
    // A refusal is judged anew.
    let body = r#"{"tenant":"acme","request_id":"r2"}"#;
    assert_eq!(scene.check("ingest", body).await.body["verdict"], "block");
    scene.clock.advance(Duration::from_secs(61));
    assert_eq!(scene.check("ingest", body).await.body["verdict"], "allow");
}

#[tokio::test]
async fn what_is_judged_is_reported() {
    let scene = scene();
    scene
        .check("ingest", r#"{"tenant":"acme","consume":{}}"#)
        .await;
    scene
        .check("ingest", r#"{"tenant":"acme","consume":{"requests":0}}"#)
        .await;
    assert!(scene.handle.shared().reports.is_empty());
    for _ in 0..3 {
        scene
            .check("ingest", r#"{"tenant":"acme","user":"u"}"#)
            .await;
    }
    let reports = scene.handle.shared().reports.take(9);
    let kinds: Vec<&Kind> = reports.iter().map(|report| &report.kind).collect();
    let [Kind::Admitted, Kind::Admitted, Kind::Refused(refused)] = kinds.as_slice() else {
        panic!("{kinds:?}")
    };
    assert_eq!(refused.subject.as_str(), "tenant/acme");
    assert_eq!(refused.limits, ["rate"]);
    assert_eq!((refused.status, refused.retry_after_s), (429, Some(61)));
    assert_eq!(reports[2].ask.id(Dimension::User), Some("u"));
}

#[tokio::test]
async fn forward_auth_answers_as_the_request_is_to_be_answered() {
    let scene = scene();
    let acme = [("x-weir-tenant", "acme"), ("x-weir-route", "GET /")];
    let first = scene.forward("/v1/forward-auth", &acme).await;
    assert_eq!((first.status, &first.body), (200, &Value::Null));
    assert_eq!(first.header("ratelimit"), Some("\"rate\";r=1;t=61"));
    assert_eq!(first.header("ratelimit-policy"), Some("\"rate\";q=2;w=60"));
    assert_eq!(first.header("x-weir-request-id").unwrap().len(), 36);
    assert_eq!(first.header("retry-after"), None);
    scene.forward("/v1/forward-auth", &acme).await;
    let refused = scene.forward("/v1/forward-auth", &acme).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("61"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.header("ratelimit"), Some("\"rate\";r=0;t=61"));
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(refused.body["violated-policies"], json!(["rate"]));
    assert_eq!(refused.body["status"], 429);
}

#[tokio::test]
async fn a_proxy_that_knows_few_statuses_gets_the_one_it_asks_for() {
    let scene = scene();
    let acme = ("x-weir-tenant", "acme");
    for _ in 0..2 {
        let admitted = scene
            .forward("/v1/forward-auth?deny_status=403", &[acme])
            .await;
        assert_eq!(
            (admitted.status, admitted.header("x-weir-status")),
            (200, None)
        );
    }
    let by_query = scene
        .forward("/v1/forward-auth?deny_status=403", &[acme])
        .await;
    let asked = [acme, ("x-weir-deny-status", "401")];
    let by_header = scene.forward("/v1/forward-auth", &asked).await;
    assert_eq!((by_query.status, by_header.status), (403, 401));
    for told in [by_query, by_header] {
        assert_eq!(told.header("x-weir-status"), Some("429"));
        assert_eq!(told.header("retry-after"), Some("61"));
        assert_eq!(told.body["status"], 429);
    }
    for wrong in ["200", "600", "x", ""] {
        let path = format!("/v1/forward-auth?deny_status={wrong}");
        assert_eq!(scene.forward(&path, &[acme]).await.status, 422, "{wrong}");
    }
}

#[tokio::test]
async fn a_key_in_a_header_of_its_own_leaves_the_clients_alone() {
    let scene = scene();
    let request = Request::get("/v1/forward-auth")
        .header(AUTHORIZATION, "Bearer a-client's-token")
        .header("x-weir-authorization", "Bearer gateway")
        .header("x-weir-tenant", "acme");
    let told = scene.call(request.body(Body::empty()).unwrap()).await;
    assert_eq!(told.status, 200);
}

#[tokio::test]
async fn only_keys_that_may_ask_are_answered() {
    let scene = scene();
    let body = r#"{"tenant":"acme"}"#;
    for (key, status) in [("nobody", 401), ("operator", 403), ("acme", 200)] {
        assert_eq!(scene.check(key, body).await.status, status, "{key}");
    }
    let request = Request::post("/v1/check").body(Body::from(body)).unwrap();
    let missing = scene.call(request).await;
    assert_eq!(
        (missing.status, missing.header("www-authenticate")),
        (401, Some("Bearer"))
    );
    for other in [r#"{"tenant":"b"}"#, r#"{"source":"192.0.2.1"}"#] {
        let told = scene.check("acme", other).await;
        assert_eq!(told.status, 403, "{other}");
        assert!(told.body["detail"].as_str().unwrap().contains("`acme`"));
    }
}

#[tokio::test]
async fn bad_input_is_told_and_counts_nothing() {
    let scene = scene();
    let long = format!(r#"{{"tenant":"{}"}}"#, "x".repeat(1_000));
    for (body, status) in [
        ("", 400),
        ("[]", 400),
        ("{\"tenant\":", 400),
        ("{}", 422),
        (r#"{"tenant":"acme","tenent":"b"}"#, 422),
        (r#"{"tenant":"acme","consume":{"requests":-1}}"#, 422),
        (long.as_str(), 413),
    ] {
        let told = scene.check("ingest", body).await;
        assert_eq!(told.status, status, "{body}");
        assert_eq!(
            told.header("content-type"),
            Some("application/problem+json")
        );
    }
    let told = scene.check("ingest", r#"{"tenant":"acme","x":"y"}"#).await;
    assert_eq!(told.body["errors"][0]["pointer"], "/x");
    let request = Request::post("/v1/check")
        .header(AUTHORIZATION, "Bearer ingest")
        .header(CONTENT_TYPE, "text/plain")
        .body(Body::from(r#"{"tenant":"acme"}"#));
    assert_eq!(scene.call(request.unwrap()).await.status, 415);
    let nobody = scene.forward("/v1/forward-auth", &[]).await;
    assert_eq!(nobody.status, 422);
    assert!(scene.handle.shared().reports.is_empty());
    let left = scene.check("ingest", r#"{"tenant":"acme"}"#).await;
    assert_eq!(left.body["limits"][0]["remaining"], 1);
}

#[tokio::test]
async fn a_stale_view_says_so() {
    let scene = scene();
    scene
        .handle
        .shared()
        .gate
        .freshness
        .lost(Feed::Decisions, START);
    scene.clock.advance(Duration::from_secs(45));
    let told = scene.check("ingest", r#"{"tenant":"acme"}"#).await;
    assert_eq!(told.body["stale"], true);
    assert_eq!(told.header("x-weir-stale"), Some("45"));
    let told = scene
        .forward("/v1/forward-auth", &[("x-weir-tenant", "acme")])
        .await;
    assert_eq!(told.header("x-weir-stale"), Some("45"));
}

#[tokio::test]
async fn a_key_can_ask_what_it_is() {
    let scene = scene();
    let about = async |key: &str| {
        let request = Request::get("/v1/key").header(AUTHORIZATION, format!("Bearer {key}"));
        scene.call(request.body(Body::empty()).unwrap()).await
    };
    let acme = about("acme").await;
    assert_eq!(acme.status, 200);
    let expected = json!({
        "id": "acme", "role": "gateway", "tenant": "acme", "may": ["ask for checks"],
        "created_at": "2023-11-14T22:13:20Z", "expires_at": null, "note": "a note",
    });
    assert_eq!(acme.body, expected);
    assert_eq!(about("operator").await.body["role"], "operator");
    assert_eq!(about("nobody").await.status, 401);
}
