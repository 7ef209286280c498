//! The router on a real log: what is taken, what is refused, and that a refusal leaves nothing behind.

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

/// One request that is refused, and nothing of it in the log.
struct Refused {
    what: &'static str,
    request: Request<Body>,
    status: u16,
    /// A part of the problem's detail, and a pointer among its errors.
    detail: &'static str,
    pointer: Option<&'static str>,
}

fn refused(
    what: &'static str,
    request: Request<Body>,
    status: u16,
    detail: &'static str,
) -> Refused {
    Refused {
        what,
        request,
        status,
        detail,
        pointer: None,
    }
}

/// A batch of a good event and a bad one.
fn bad(what: &'static str, data: Value, pointer: &'static str) -> Refused {
    let batch = json!([event("1", "acme", json!({})), event("2", "acme", data)]).to_string();
    let pointer = Some(pointer);
    Refused {
        what,
        request: post("all", BATCH, batch),
        status: 422,
        detail: "",
        pointer,
    }
}

/// The second of two events has an attribute that is not as it should be.
fn bad_attribute(what: &'static str, name: &str, value: Value, pointer: &'static str) -> Refused {
    let mut second = event("2", "acme", json!({}));
    second[name] = value;
    let batch = json!([event("1", "acme", json!({})), second]).to_string();
    let pointer = Some(pointer);
    Refused {
        what,
        request: post("all", BATCH, batch),
        status: 422,
        detail: "",
        pointer,
    }
}

/// A body of `chunks` chunks of a megabyte, made as it is read.
fn endless(chunks: usize) -> Body {
    let chunk = Bytes::from(vec![b' '; 1 << 20]);
    let frames = (0..chunks).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    Body::from_stream(futures_util::stream::iter(frames))
}

fn good_batch() -> String {
    json!([event("1", "acme", json!({}))]).to_string()
}

fn bad_callers() -> Vec<Refused> {
    let good = good_batch();
    let other = json!([
        event("1", "acme", json!({})),
        event("2", "other", json!({}))
    ])
    .to_string();
    let no_key = Request::post("/v1/events").header("content-type", BATCH);
    let no_key = no_key.body(good.clone().into()).unwrap();
    let others = refused("another's", post("acme", BATCH, other), 403, "another's");
    vec![
        refused("no key", no_key, 401, "no key"),
        refused(
            "unknown key",
            post("nobody", BATCH, good.clone()),
            401,
            "unknown",
        ),
        refused(
            "an operator's token",
            post("operator", BATCH, good),
            403,
            "another role",
        ),
        Refused {
            pointer: Some("/1/subject"),
            ..others
        },
    ]
}

async fn bad_bodies() -> Vec<Refused> {
    let good = good_batch();
    let half = gzip(good.as_bytes()).await[..20].to_vec();
    let bomb = vec![b' '; 20_000_000];
    vec![
        refused(
            "text",
            post("all", "text/plain", good.clone()),
            415,
            "text/plain",
        ),
        refused(
            "no ce-",
            post("all", "application/json", good.clone()),
            415,
            "ce-",
        ),
        refused(
            "deflate",
            encoded("deflate", good.clone().into()),
            415,
            "deflate",
        ),
        refused(
            "twice encoded",
            encoded("gzip, zstd", good.clone().into()),
            415,
            "gzip, zstd",
        ),
        refused("no gzip", encoded("gzip", good.clone().into()), 400, "gzip"),
        refused("half a gzip", encoded("gzip", half), 400, "gzip"),
        refused("no zstd", encoded("zstd", good.into()), 400, "zstd"),
        refused(
            "broken JSON",
            post("all", BATCH, "[{\"id\": }]"),
            400,
            "line 1, column",
        ),
        refused("cut JSON", post("all", BATCH, "[{\"id\""), 400, "line 1"),
        refused("no batch", post("all", BATCH, "{}"), 422, "array"),
        refused(
            "100 MB",
            post("all", BATCH, endless(100)),
            413,
            "100000 bytes",
        ),
        refused(
            "gzip bomb",
            encoded("gzip", gzip(&bomb).await),
            413,
            "inflates",
        ),
        refused(
            "zstd bomb",
            encoded("zstd", zstd(&bomb).await),
            413,
            "inflates",
        ),
    ]
}

fn bad_events() -> Vec<Refused> {
    vec![
        bad(
            "a word as a number",
            json!({ "input_tokens": "7" }),
            "/1/data/input_tokens",
        ),
        bad(
            "a negative number",
            json!({ "input_tokens": -1 }),
            "/1/data/input_tokens",
        ),
        bad(
            "a huge number",
            json!({ "output_tokens": 1e300 }),
            "/1/data/output_tokens",
        ),
        bad("a fraction", json!({ "requests": 0.5 }), "/1/data/requests"),
        bad(
            "negative money",
            json!({ "cost_usd": "-1" }),
            "/1/data/cost_usd",
        ),
        bad(
            "no money",
            json!({ "cost_usd": "free" }),
            "/1/data/cost_usd",
        ),
        bad(
            "a misspelt field",
            json!({ "prompt_tokens": 7 }),
            "/1/data/prompt_tokens",
        ),
        bad_attribute("no tenant", "subject", Value::Null, "/1/subject"),
        bad_attribute("an unknown type", "type", json!("invoice"), "/1/type"),
        bad_attribute(
            "the year 9999",
            "time",
            json!("9999-01-01T00:00:00Z"),
            "/1/time",
        ),
        bad_attribute("1970", "time", json!("1970-01-01T00:00:00Z"), "/1/time"),
        bad_attribute("no time", "time", json!("yesterday"), "/1/time"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_what_is_bad_and_takes_nothing_of_it() {
    let bench = Bench::start().await;
    for case in bad_callers()
        .into_iter()
        .chain(bad_bodies().await)
        .chain(bad_events())
    {
        let (status, body, headers) = bench.send(case.request).await;
        let what = case.what;
        assert_eq!(status, case.status, "{what}: {body}");
        assert_eq!(
            headers["content-type"], "application/problem+json",
            "{what}"
        );
        let said = body["detail"].as_str().unwrap().to_owned() + &body["errors"].to_string();
        assert!(said.contains(case.detail), "{what}: {body}");
        let pointers: Vec<_> = body["errors"].as_array().into_iter().flatten().collect();
        let found = |pointer| pointers.iter().any(|error| error["pointer"] == pointer);
        assert!(case.pointer.is_none_or(found), "{what}: {body}");
    }
    assert_eq!(bench.logged().await, []);
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
