//! The tower layer before a service.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use http_body::{Frame, SizeHint};
use schemas::policy::{Mode, Stale};
use tower::{Layer, Service, service_fn};

use super::concurrent::places;
use super::*;
use crate::layer::{CallBody, RequestId, WeirLayer};
use crate::place::redis::tests::{relied_on, start};

const RATE: &str = "rate tenant/* requests 3 sliding 60s";
/// A server on the same machine that other tests share.
const REDIS_WITHIN: Duration = Duration::from_secs(30);

type Called = Response<CallBody<Body>>;

fn extractor(request: &Request<Body>) -> Option<Ask> {
    let id = |name| request.headers().get(name)?.to_str().ok();
    let mut ask = Ask::default().with(Dimension::Tenant, id("tenant")?);
    if let Some(user) = id("user") {
        ask = ask.with(Dimension::User, user);
    }
    ask.request_id = id("request-id").map(str::to_owned);
    Some(ask)
}

/// Answers with the id under which a request was counted.
async fn answer(request: Request<Body>) -> Result<Response, Infallible> {
    let id = request.extensions().get::<RequestId>();
    let seen = id.map_or("none".to_owned(), |id| id.0.to_string());
    Ok(Response::new(Body::from(seen)))
}

fn request(headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn whole(called: Called) -> String {
    let body = called.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

impl Scene {
    async fn through(&self, headers: &[(&str, &str)]) -> Called {
        let layer = WeirLayer::new(self.handle.clone(), extractor);
        let service = layer.layer(service_fn(answer));
        service.oneshot(request(headers)).await.unwrap()
    }

    async fn ann(&self) -> Called {
        self.through(&[("tenant", "acme"), ("user", "ann")]).await
    }

    fn reported(&self) -> usize {
        self.handle.shared().reports.take(100).len()
    }
}

#[track_caller]
fn check_refused(called: &Called, left: &str) {
    assert_eq!(called.status(), 429);
    assert_eq!(called.headers()["retry-after"], left);
}

#[tokio::test]
async fn a_service_sees_what_is_admitted_and_nothing_else() {
    let scene = scene();
    for left in ["1", "0"] {
        let called = scene.through(&[("tenant", "acme")]).await;
        assert_eq!(called.status(), 200);
        let id = called.headers()["x-weir-request-id"].clone();
        let told = format!("\"rate\";r={left};t=61");
        assert_eq!(called.headers()["ratelimit"], told.as_str());
        assert_eq!(whole(called).await, id.to_str().unwrap());
    }
    let called = scene.through(&[("tenant", "acme")]).await;
    check_refused(&called, "61");
    let problem = whole(called).await;
    assert!(problem.contains("quota-exceeded"), "{problem}");
    // What the extractor has nothing to say of passes.
    let called = scene.through(&[]).await;
    assert_eq!(called.status(), 200);
    assert!(!called.headers().contains_key("ratelimit"));
    assert_eq!(whole(called).await, "none");
}

#[tokio::test]
async fn a_call_is_in_flight_until_its_body_has_ended_or_is_dropped() {
    let scene = scene_under(vec![places()]);
    let first = scene.ann().await;
    assert_eq!(first.headers()["ratelimit"], "\"places\";r=1");
    let second = scene.ann().await;
    check_refused(&scene.ann().await, "1");
    // Others have places of their own, and a refusal holds none.
    let bob = scene.through(&[("tenant", "acme"), ("user", "bob")]).await;
    assert_eq!(bob.status(), 200);
    whole(first).await;
    let third = scene.ann().await;
    assert_eq!(third.status(), 200);
    drop(second);
    assert_eq!(scene.ann().await.status(), 200);
    // In the end nobody holds any.
    drop((third, bob));
    assert_eq!(scene.handle.shared().ledger.sweep(START).outstanding, 0);
    let held = [scene.ann().await, scene.ann().await];
    assert!(held.iter().all(|called| called.status() == 200));
}

#[tokio::test]
async fn an_end_that_is_never_seen_comes_by_itself() {
    let scene = scene_under(vec![places()]);
    let layer = WeirLayer::new(scene.handle.clone(), extractor);
    let layer = layer.lasting_at_most(Duration::from_secs(5));
    let call = async || {
        let service = layer.layer(service_fn(answer));
        let ann = request(&[("tenant", "acme"), ("user", "ann")]);
        service.oneshot(ann).await.unwrap()
    };
    let held = [call().await, call().await];
    check_refused(&call().await, "1");
    scene.clock.advance(Duration::from_secs(5));
    let later = [call().await, call().await];
    // What ended by itself gives nothing back a second time.
    drop(held);
    check_refused(&call().await, "1");
    drop(later);
    assert_eq!(call().await.status(), 200);
}

/// Room is looked for under all limits, and a call that has no place is counted under none.
#[tokio::test]
async fn a_call_takes_its_places_and_is_counted_or_neither() {
    let strict = |text: &str| Limit {
        mode: Mode::Strict,
        ..limit(text)
    };
    for limits in [
        vec![places(), limit(RATE)],
        vec![strict(RATE), places()],
        vec![places(), strict(RATE)],
    ] {
        let scene = scene_under(limits);
        let held = [scene.ann().await, scene.ann().await];
        for _ in 0..3 {
            let refused = scene.ann().await;
            check_refused(&refused, "1");
            assert!(whole(refused).await.contains("[\"places\"]"));
        }
        drop(held);
        let third = scene.ann().await;
        assert_eq!(third.status(), 200);
        // The rate is used up. What it refuses leaves its place.
        for _ in 0..3 {
            let refused = scene.ann().await;
            assert!(whole(refused).await.contains("[\"rate\"]"));
        }
        assert_eq!(scene.handle.shared().ledger.sweep(START).outstanding, 1);
        // Each call is told of once.
        assert_eq!(scene.reported(), 3 + 6);
    }
}

/// The second is one call more, though no other request.
#[tokio::test]
async fn a_request_that_comes_again_takes_a_place_of_its_own() {
    let strict = Limit {
        mode: Mode::Strict,
        ..limit(RATE)
    };
    for rate in [limit(RATE), strict] {
        let scene = scene_under(vec![places(), rate]);
        let again = [("tenant", "acme"), ("user", "ann"), ("request-id", "a")];
        let held = [scene.through(&again).await, scene.through(&again).await];
        assert!(held.iter().all(|called| called.status() == 200));
        assert_eq!(scene.reported(), 1);
        check_refused(&scene.through(&again).await, "1");
        drop(held);
        assert_eq!(scene.through(&again).await.status(), 200);
    }
}

#[tokio::test]
async fn nothing_is_let_through_before_the_ledger_can_be_relied_on() {
    let open = Limit {
        stale: Stale::Open,
        ..places()
    };
    for (limit, status) in [(places(), 503), (open, 200)] {
        let scene = scene_under(vec![limit]);
        know_the_past(&scene.handle, false);
        assert_eq!(scene.ann().await.status(), status);
    }
}

#[tokio::test]
async fn a_ledger_in_redis_is_waited_for() {
    let server = start();
    let redis = relied_on(&server).await;
    let strict = Limit {
        mode: Mode::Strict,
        ..limit(RATE)
    };
    let policy = Policy {
        version: 1,
        limits: vec![places(), strict],
        ..Policy::default()
    };
    let scene = scene_with(policy, Place::Redis(Box::new(redis)));
    let held = [scene.ann().await, scene.ann().await];
    assert!(held.iter().all(|called| called.status() == 200));
    check_refused(&scene.ann().await, "1");
    drop(held);
    // It is told of their ends beside the calls, and has no place until it was.
    let rate_is_used_up = async {
        while !whole(scene.ann().await).await.contains("[\"rate\"]") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(REDIS_WITHIN, rate_is_used_up);
    in_time.await.unwrap();
}

/// A body of which the layer changes nothing.
struct Said;

impl HttpBody for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(7)
    }
}

impl From<Vec<u8>> for Said {
    fn from(_: Vec<u8>) -> Self {
        Self
    }
}

#[tokio::test]
async fn a_body_says_the_same_of_itself() {
    let scene = scene();
    let layer = WeirLayer::new(scene.handle.clone(), extractor);
    let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Said)));
    let mut service = layer.layer(inner);
    let body = service.call(request(&[])).await.unwrap().into_body();
    assert_eq!(
        (body.is_end_stream(), body.size_hint().exact()),
        (true, Some(7))
    );
}
