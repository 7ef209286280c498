//! Limits on what is in flight, over HTTP.

use schemas::orders::{Change, Numbers, Order};
use schemas::policy::{Mode, Weight};
use schemas::subject::Subject;

use super::strict::id;
use super::*;

const BULK: &str = "POST /v1/bulk/users";

/// Two for each user.
pub(super) fn places() -> Limit {
    Limit {
        mode: Mode::Strict,
        ..limit("places tenant/*/user/* requests 2 concurrent")
    }
}

/// A bulk request takes both places.
fn scene() -> Scene {
    scene_of(Policy {
        version: 1,
        limits: vec![places()],
        weights: vec![Weight::new("POST /v1/bulk/*", 2).unwrap()],
        ..Policy::default()
    })
}

impl Scene {
    /// Reserves for a user, on a route.
    async fn enter(&self, user: &str, route: &str) -> Told {
        let body = json!({"tenant": "acme", "user": user, "route": route, "ttl_s": 30});
        self.reservations(Method::POST, "", &body.to_string()).await
    }

    /// How many more ann may have in flight, as one after the other is let in.
    async fn places(&self) -> usize {
        let mut places = 0;
        while self.enter("ann", "GET /").await.status == 201 {
            places += 1;
        }
        places
    }

    async fn checks(&self, user: &str) -> Value {
        let body = json!({"tenant": "acme", "user": user});
        self.check("acme", &body.to_string()).await.body
    }

    /// Gives ann another number of places.
    fn raise(&self, hard: i128, seq: i64) {
        self.handle.shared().gate.put_order(Order {
            command: "c1".to_owned(),
            seq,
            subject: Subject::parse("tenant/acme/user/ann").unwrap(),
            at: START,
            until: None,
            change: Change::Numbers {
                limit: "places".to_owned(),
                numbers: Numbers {
                    hard: Some(hard),
                    ..Numbers::default()
                },
            },
        });
    }
}

#[track_caller]
fn check_refused(told: &Told) {
    let retry = told.header("retry-after");
    assert_eq!((told.status, retry), (429, Some("1")), "{}", told.body);
    assert_eq!(told.body["violated-policies"], json!(["places"]));
    let detail =
        "limit `places` on tenant/acme/user/ann: 2 of 2 requests in flight; try again in 1 seconds";
    assert_eq!(told.body["detail"], detail);
}

#[tokio::test]
async fn a_place_is_taken_until_its_reservation_ends() {
    let scene = scene();
    let first = scene.enter("ann", "GET /").await;
    assert_eq!(first.header("ratelimit"), Some("\"places\";r=1"));
    let policy = "\"places\";q=2;qu=\"concurrent-requests\"";
    assert_eq!(first.header("ratelimit-policy"), Some(policy));
    let second = scene.enter("ann", "GET /").await;
    let refused = scene.enter("ann", "GET /").await;
    check_refused(&refused);
    assert_eq!(refused.header("ratelimit"), Some("\"places\";r=0;t=1"));
    assert_eq!(scene.enter("bob", "GET /").await.status, 201);
    // Committed.
    let committed = scene.commit(&id(&first), "").await;
    assert_eq!(committed.status, 200, "{}", committed.body);
    assert_eq!(scene.places().await, 1);
    // Released.
    let path = format!("/{}", id(&second));
    scene.reservations(Method::DELETE, &path, "").await;
    let last = scene.enter("ann", "GET /").await;
    assert_eq!(scene.places().await, 0);
    // At the end of its time, by itself.
    scene.clock.advance(Duration::from_secs(30));
    assert_eq!(scene.places().await, 2);
    // A commit that comes late changes nothing here.
    let late = scene.commit(&id(&last), "").await;
    assert_eq!(late.body["late"], "expired", "{}", late.body);
    assert_eq!(scene.places().await, 0);
    check_refused(&scene.enter("ann", "GET /").await);
}

#[tokio::test]
async fn a_check_takes_no_place_and_is_refused_where_there_is_none() {
    let scene = scene();
    for _ in 0..5 {
        assert_eq!(scene.checks("ann").await["status"], 200);
    }
    assert_eq!(scene.places().await, 2);
    let refused = scene.checks("ann").await;
    assert_eq!(
        (&refused["status"], &refused["retry_after_s"]),
        (&json!(429), &json!(1)),
        "{refused}"
    );
    assert_eq!(scene.checks("bob").await["status"], 200);
}

#[tokio::test]
async fn a_request_takes_as_many_places_as_its_route_weighs() {
    let scene = scene();
    let bulk = scene.enter("ann", BULK).await;
    check_refused(&scene.enter("ann", "GET /").await);
    scene.commit(&id(&bulk), "").await;
    assert_eq!(scene.enter("ann", "GET /").await.status, 201);
    assert_eq!(scene.enter("ann", BULK).await.status, 429);
    assert_eq!(scene.places().await, 1);
}

#[tokio::test]
async fn another_number_holds_at_once() {
    let scene = scene();
    assert_eq!(scene.places().await, 2);
    scene.raise(5, 1);
    assert_eq!(scene.places().await, 3);
    // Who is in stays in, and nobody else comes before there is room.
    scene.raise(1, 2);
    assert_eq!(scene.places().await, 0);
    scene.clock.advance(Duration::from_secs(30));
    assert_eq!(scene.places().await, 1);
}

#[tokio::test]
async fn other_limits_count_a_check_as_ever() {
    let scene = scene_under(vec![
        places(),
        limit("rate tenant/* requests 3 sliding 60s"),
    ]);
    let check = async |request_id: &str| {
        let body = json!({"tenant": "acme", "user": "ann", "request_id": request_id});
        scene.check("acme", &body.to_string()).await.body
    };
    // One request is counted once.
    for request_id in ["a", "a", "b"] {
        assert_eq!(check(request_id).await["status"], 200);
    }
    let kinds = scene.handle.shared().reports.take(100);
    let kinds: Vec<&Kind> = kinds.iter().map(|report| &report.kind).collect();
    assert_eq!(kinds, [&Kind::Admitted, &Kind::Admitted]);
    assert_eq!(scene.places().await, 2);
    // What finds no place is counted nowhere; what was admitted has been.
    let refused = check("c").await;
    assert_eq!(refused["causes"][0]["limit"], "places", "{refused}");
    assert_eq!(check("a").await["status"], 200);
    scene.clock.advance(Duration::from_secs(30));
    assert_eq!(check("d").await["status"], 200);
    let refused = check("e").await;
    assert_eq!(refused["causes"][0]["limit"], "rate", "{refused}");
    assert_eq!(scene.places().await, 0);
}

#[tokio::test]
async fn nothing_is_let_in_before_the_ledger_can_be_relied_on() {
    let scene = scene();
    know_the_past(&scene.handle, false);
    assert_eq!(scene.checks("ann").await["status"], 503);
    assert_eq!(scene.enter("ann", "GET /").await.status, 503);
}
