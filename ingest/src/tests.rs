//! The router on a real log: what is taken, what is refused, and that a refusal leaves nothing behind.

mod refusals;

use std::sync::Arc;
use std::time::Duration;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use broker::Broker;
use bus::clock::ManualClock;
use bus::{Bus, Followed};
use bytes::Bytes;
use http_body_util::BodyExt;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use schemas::access::{KeyRing, hash_secret};
use schemas::record::{Key, Recorded, Role};
use schemas::time::Timestamp;
use schemas::topic::USAGE;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{Config, Deps, Service};

const NOW: &str = "2026-11-21T12:00:00Z";
const BATCH: &str = "application/cloudevents-batch+json";

/// Ingest on an embedded log of its own.
struct Bench {
    router: Router,
    bus: Bus,
    stop: CancellationToken,
    log: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = broker::Config::new(folder.path().to_owned());
        config.listen = "127.0.0.1:0".parse().unwrap();
        let broker = Broker::open(config).await.unwrap();
        let bootstrap = broker.address().to_string();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let log = tokio::task::spawn_blocking(move || {
            let run = async { broker.run(stopped).await.unwrap() };
            tokio::runtime::Handle::current().block_on(run);
        });
        let config = bus::Config {
            bootstrap,
            partitions: 3,
            ..bus::Config::default()
        };
        let clock = Arc::new(ManualClock::new(Timestamp::parse(NOW).unwrap()));
        let bus = Bus::connect(config, clock.clone()).await.unwrap();
        let deps = Deps {
            bus: bus.clone(),
            clock,
            keys: Arc::new(RwLock::new(keys())),
        };
        let config = Config {
            body_bytes_max: 100_000,
            inflated_bytes_max: 1_000_000,
            ..Config::default()
        };
        let service = Service::build(config, deps, &mut Registry::default())
            .await
            .unwrap();
        Self {
            router: service.router(),
            bus,
            stop,
            log,
            _folder: folder,
        }
    }

    async fn stop(self) {
        drop(self.bus);
        self.stop.cancel();
        self.log.await.unwrap();
    }

    async fn send(&self, request: Request<Body>) -> (u16, Value, axum::http::HeaderMap) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        (head.status.as_u16(), body, head.headers)
    }

    /// Usage events in the log, of all partitions.
    async fn logged(&self) -> Vec<schemas::record::Usage> {
        let mut follower = self.bus.follow(&USAGE).unwrap();
        let mut events = Vec::new();
        loop {
            match follower.next().await.unwrap() {
                Followed::Put {
                    value: Recorded::Event(usage),
                    ..
                } => events.push(usage),
                Followed::CaughtUp => return events,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn keys() -> KeyRing {
    let mut ring = KeyRing::default();
    let keys = [
        ("all", Role::Ingest, None),
        ("acme", Role::Ingest, Some("acme")),
        ("operator", Role::Operator, None),
    ];
    for (id, role, tenant) in keys {
        let key = Key {
            id: id.to_owned(),
            sha256: hash_secret(id),
            role,
            tenant: tenant.map(str::to_owned),
            created_at: Timestamp::default(),
            expires_at: None,
            revoked: false,
            note: String::new(),
        };
        ring.apply(id, Some(key));
    }
    ring
}

fn event(id: &str, tenant: &str, data: Value) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "test", "type": "usage", "subject": tenant, "data": data })
}

fn post(key: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/events")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", content_type)
        .body(body.into())
        .unwrap()
}

fn encoded(encoding: &str, body: Vec<u8>) -> Request<Body> {
    let mut request = post("all", BATCH, body);
    request
        .headers_mut()
        .insert("content-encoding", encoding.parse().unwrap());
    request
}

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(bytes).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

async fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZstdEncoder::new(Vec::new());
    encoder.write_all(bytes).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_every_form_once_the_log_has_it() {
    let bench = Bench::start().await;
    let one = |id: &str| {
        event(
            id,
            "acme",
            json!({ "input_tokens": 7, "cost_usd": "0.000001" }),
        )
    };
    let batch = json!([one("b1"), one("b2")]).to_string();
    let lines = format!("{}\n\n{}\n", one("l1"), one("l2"));
    let binary = Request::post("/v1/events")
        .header("authorization", "Bearer acme")
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-id", "h%31")
        .header("ce-source", "test")
        .header("ce-type", "usage")
        .header("ce-subject", "acme")
        .body(Body::from(r#"{"input_tokens":7,"cost_usd":0.000001}"#))
        .unwrap();
    let requests = [
        (
            post("acme", "application/cloudevents+json", one("s").to_string()),
            1,
        ),
        (post("acme", BATCH, batch.clone()), 2),
        (post("all", "application/x-ndjson", lines), 2),
        (binary, 1),
        (
            encoded(
                "gzip",
                gzip(batch.replace("b1", "g1").replace("b2", "g2").as_bytes()).await,
            ),
            2,
        ),
        (
            encoded(
                "zstd",
                zstd(batch.replace("b1", "z1").replace("b2", "z2").as_bytes()).await,
            ),
            2,
        ),
        (post("acme", BATCH, "[]"), 0),
    ];
    for (request, accepted) in requests {
        let (status, body, _) = bench.send(request).await;
        assert_eq!((status, body), (202, json!({ "accepted": accepted })));
    }
    let logged = bench.logged().await;
    let mut ids: Vec<_> = logged.iter().map(|usage| usage.event_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        ["b1", "b2", "g1", "g2", "h1", "l1", "l2", "s", "z1", "z2"]
    );
    assert!(
        logged
            .iter()
            .all(|u| (u.input_tokens, u.cost, u.requests) == (7, 1_000_000, 1))
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_reports_of_browsers() {
    let bench = Bench::start().await;
    let report = json!({ "csp-report": {
        "document-uri": "https://shop.example/?q=1", "effective-directive": "img-src",
        "blocked-uri": "https://evil.example/x.png",
    } });
    let send = |token: &str, content_type: &str, body: String| {
        let request =
            Request::post(format!("/v1/csp/{token}")).header("content-type", content_type);
        bench.send(request.body(Body::from(body)).unwrap())
    };
    let classic = "application/csp-report";
    let (status, _, headers) = send("acme", classic, report.to_string()).await;
    assert_eq!(
        (status, &headers["access-control-allow-origin"]),
        (204, &"*".parse().unwrap())
    );
    assert_eq!(send("acme", "text/plain", report.to_string()).await.0, 415);
    assert_eq!(send("acme", classic, "{".to_owned()).await.0, 400);
    assert_eq!(send("acme", classic, " ".repeat(70_000)).await.0, 413);
    assert_eq!(send("a%00b", classic, report.to_string()).await.0, 404);
    let storm = json!(
        (0..900)
            .map(|_| json!({ "type": "csp-violation", "body": report["csp-report"] }))
            .collect::<Vec<_>>()
    );
    let storm = storm.to_string();
    let (first, second) = (
        send("storm", "application/reports+json", storm[..1].to_owned())
            .await
            .0,
        send("storm", "application/reports+json", storm.clone())
            .await
            .0,
    );
    assert_eq!(
        (first, second),
        (400, 413),
        "a storm in one body is larger than a body may be"
    );
    let preflight = Request::options("/v1/csp/acme")
        .body(Body::empty())
        .unwrap();
    let (status, _, headers) = bench.send(preflight).await;
    assert_eq!(
        (status, &headers["access-control-allow-headers"]),
        (204, &"content-type".parse().unwrap())
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_when_the_log_is_away() {
    let bench = Bench::start().await;
    bench.stop.cancel();
    let batch = json!([event("1", "acme", json!({}))]).to_string();
    let mut answers = Vec::new();
    for _ in 0..100 {
        let (status, body, headers) = bench.send(post("all", BATCH, batch.clone())).await;
        answers.push((status, headers.get("retry-after").cloned(), body));
        if answers.last().is_some_and(|(status, ..)| *status == 503) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, retry_after, body) = answers.pop().unwrap();
    assert_eq!((status, retry_after.is_some()), (503, true), "{body}");
    assert!(
        body["type"]
            .as_str()
            .unwrap()
            .ends_with("temporary-reduced-capacity"),
        "{body}"
    );
    drop(bench.router);
    drop(bench.bus);
    bench.log.await.unwrap();
}
