//! Queries on rows that a recorder wrote, through the router, on SQLite.

mod cleared;
mod limits;
mod sets;
mod sketches;

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::{Body, to_bytes};
use bus::clock::ManualClock;
use http::{Request, StatusCode};
use schemas::policy::{HARD, Level, Mode, Stale};
use schemas::record::{
    Amount, Crossing, CspGroup, Direction, Origin, Role, Rollup, SecondSums, Verdict,
};
use schemas::subject::Pattern;
use schemas::time::Timestamp;
use serde_json::{Value, json};
use sqlx::any::AnyPoolOptions;
use tower::ServiceExt;

use super::*;
use crate::store::Rows;
use schemas::access::Caller;
use schemas::policy::{Limit, Policy};

/// A minute, and a moment in it.
const MINUTE: &str = "2026-11-21T12:00:00Z";
const NOW: &str = "2026-11-21T12:00:30Z";

struct Bench {
    app: App,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let url = format!(
            "sqlite://{}?mode=rwc",
            folder.path().join("rows.db").display()
        );
        let pool = AnyPoolOptions::new().connect(&url).await.unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::parse(NOW).unwrap()));
        let store = Store::open(pool).await.unwrap();
        let rules = Rules::of(policy());
        Self {
            app: App {
                store,
                clock,
                rules: Arc::new(RwLock::new(rules)),
            },
            _folder: folder,
        }
    }

    async fn write(&self, fill: impl FnOnce(&mut Rows)) {
        let mut rows = Rows::default();
        fill(&mut rows);
        self.app.store.write(&rows).await.unwrap();
    }

    async fn ask(&self, path: &str, tenant: Option<&str>) -> (StatusCode, Value, Option<String>) {
        let caller = Caller {
            key_id: "k".into(),
            role: Role::Operator,
            tenant: tenant.map(str::to_owned),
        };
        let router = router(self.app.clone()).layer(Extension(caller));
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (head, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let link = head
            .headers
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        (head.status, serde_json::from_slice(&body).unwrap(), link)
    }

    /// What a platform-wide caller is answered.
    #[track_caller]
    fn check(&self, path: &str, pointer: &str, expected: Value) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let (status, body, _) = self.ask(path, None).await;
            let found = body.pointer(pointer).cloned().unwrap_or(Value::Null);
            assert_eq!(found, expected, "{status} {path} {body} at {place}");
        }
    }
}

fn policy() -> Policy {
    let limit = |name: &str, subject: &str, window: &str, meter: &str| Limit {
        name: name.to_owned(),
        pattern: Pattern::parse(subject).unwrap(),
        meter: meter.parse().unwrap(),
        window: window.parse().unwrap(),
        levels: vec![Level {
            name: HARD.to_owned(),
            threshold: 100,
        }],
        keep: 0,
        mode: Mode::Block,
        stale: Stale::LastKnown,
        tier: None,
        replaced_in: Vec::new(),
        status: None,
        headers: true,
    };
    let limits = vec![
        limit("tokens", "tenant/*", "sliding 60s", "tokens"),
        limit("a-day", "tenant/*", "calendar day", "cost"),
        limit("user", "tenant/*/user/*", "sliding 60s", "tokens"),
        limit(
            "prints",
            "tenant/*/fingerprint/*",
            "sliding 60s",
            "requests",
        ),
    ];
    Policy {
        version: 3,
        limits,
        ..Policy::default()
    }
}

/// A minute of one user; `seconds`: `second:tokens`, each costing a pico-dollar and 5 million dollars.
fn rollup(user: &str, minute: &str, seconds: &[(i32, i64)], offset: i64) -> Rollup {
    let second = |(second, tokens): &(i32, i64)| SecondSums {
        second: *second,
        events: 1,
        requests: 1,
        input_tokens: tokens - 1,
        output_tokens: 1,
        cost: Amount(5_000_000 * 1_000_000_000_000 + 1),
        units: BTreeMap::from([("images".to_owned(), 2)]),
        ..SecondSums::default()
    };
    Rollup {
        tenant: "acme".into(),
        user: Some(user.to_owned()),
        minute: Timestamp::parse(minute).unwrap(),
        seconds: seconds.iter().map(second).collect(),
        origin: Origin {
            topic: "weir.usage.v1".into(),
            partition: 0,
            offset,
        },
        ..Rollup::default()
    }
}

#[tokio::test]
async fn sums_usage_by_any_step_and_group() {
    let bench = Bench::new().await;
    bench
        .write(|rows| {
            rows.add_rollup(rollup("a", MINUTE, &[(0, 10), (59, 20)], 7));
            rows.add_rollup(rollup("b", MINUTE, &[(0, 5)], 8));
            rows.add_rollup(rollup("a", "2026-11-21T12:01:00Z", &[(1, 100)], 9));
        })
        .await;
    let acme = "/v1/usage?subject=tenant/acme&meter=tokens";
    let by_minute = json!([["2026-11-21T12:00:00Z", 35], ["2026-11-21T12:01:00Z", 100]]);
    let by_second = json!([["2026-11-21T12:00:59Z", 20], ["2026-11-21T12:01:01Z", 100]]);
    let by_half = json!([["2026-11-21T12:00:00Z", 15], ["2026-11-21T12:00:30Z", 20]]);
    let one_half = format!("{acme}&step=30s&from={MINUTE}&to=2026-11-21T12:01:00Z");
    for (query, points) in [
        (acme, by_minute),
        (
            &format!("{acme}&step=1s&from=2026-11-21T12:00:59Z"),
            by_second,
        ),
        (&one_half, by_half),
    ] {
        bench.check(query, "/series/0/points", points).await;
    }
    let by_user = "/v1/usage?meter=requests&group_by=user&step=1d";
    let of_a = json!({
        "group": { "user": "a" }, "total": 3, "points": [["2026-11-21T00:00:00Z", 3]],
    });
    bench.check(by_user, "/series/0", of_a).await;
    bench.check(by_user, "/series/1/total", json!(1)).await;
    for (query, total) in [
        ("subject=tenant/acme&meter=tokens", json!(135)),
        ("subject=tenant/acme/user/b&meter=tokens", json!(5)),
        ("subject=tenant/other&meter=tokens", json!(0)),
        ("meter=images", json!(8)),
        ("meter=failures", json!(0)),
        ("meter=cost", json!("20000000000000000004")),
    ] {
        let query = format!("/v1/usage?{query}");
        bench.check(&query, "/series/0/total", total).await;
    }
    let usd = json!("20000000.000000000004");
    bench
        .check("/v1/usage?meter=cost", "/series/0/cost_usd", usd)
        .await;
}

#[tokio::test]
async fn the_newest_origin_wins_and_a_repeat_changes_nothing() {
    let bench = Bench::new().await;
    let total = "/v1/usage?meter=tokens";
    for (tokens, offset, shown) in [(10, 7, 10), (10, 7, 10), (30, 9, 30), (20, 8, 30)] {
        bench
            .write(|rows| rows.add_rollup(rollup("a", MINUTE, &[(0, tokens)], offset)))
            .await;
        bench.check(total, "/series/0/total", json!(shown)).await;
    }
    bench
        .write(|rows| {
            rows.add_rollup(rollup("a", MINUTE, &[(0, 50)], 11));
            rows.add_rollup(rollup("a", MINUTE, &[(0, 40)], 10));
        })
        .await;
    bench.check(total, "/series/0/total", json!(50)).await;
}

#[tokio::test]
async fn says_what_is_wrong_with_a_query() {
    let bench = Bench::new().await;
    for (path, parameter) in [
        ("/v1/usage?meter=Tokens", "meter"),
        ("/v1/usage?meter=tokens&subject=acme", "subject"),
        (
            "/v1/usage?meter=tokens&subject=tenant/a/action/b",
            "subject",
        ),
        ("/v1/usage?meter=tokens&step=0s", "step"),
        ("/v1/usage?meter=tokens&group_by=colour", "group_by"),
        ("/v1/usage?meter=tokens&from=yesterday", "from"),
        (
            "/v1/usage?meter=tokens&from=2026-11-21T00:00:00Z&to=2026-11-20T00:00:00Z",
            "to",
        ),
        ("/v1/signals?page_size=0", "page_size"),
        ("/v1/refusals?after=?", "after"),
    ] {
        bench
            .check(path, "/errors/0/pointer", json!(parameter))
            .await;
    }
    bench
        .check("/v1/usage?meter=tokens&colour=red", "/status", json!(400))
        .await;
    bench.check("/v1/usage", "/status", json!(400)).await;
}

fn crossing(id: &str, second: i64, level: &str, direction: Direction) -> Crossing {
    Crossing {
        id: id.to_owned(),
        subject: schemas::subject::Subject::tenant("acme"),
        limit: "tokens".into(),
        policy_version: 1,
        meter: schemas::policy::Meter::Tokens,
        window: "sliding 60s".parse().unwrap(),
        mode: Mode::Block,
        level: level.to_owned(),
        threshold: Amount(80),
        direction,
        at: Timestamp::from_seconds(second),
        sum: Amount(81),
        max: Amount(100),
        falls_at: None,
        event_source: Some("s".into()),
        event_id: Some("e".into()),
        origin: Origin::default(),
    }
}

#[tokio::test]
async fn lists_crossings_page_by_page() {
    let bench = Bench::new().await;
    bench
        .write(|rows| {
            for (at, id) in ["c", "a", "b"].into_iter().enumerate() {
                rows.add_crossing(crossing(id, at as i64, "hard", Direction::Up));
                rows.add_crossing(crossing(id, at as i64, "hard", Direction::Up));
            }
            rows.add_crossing(crossing("d", 9, "80%", Direction::Down));
        })
        .await;
    let ids = |body: &Value| -> Vec<String> {
        body.as_array()
            .unwrap()
            .iter()
            .map(|c| c["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (_, all, link) = bench
        .ask("/v1/signals?subject=tenant/acme&limit=tokens", None)
        .await;
    assert_eq!(
        (ids(&all), link),
        (["c", "a", "b", "d"].map(str::to_owned).to_vec(), None)
    );
    assert_eq!(all[3]["direction"], "down");
    assert_eq!(
        (&all[0]["at"], &all[0]["sum"]),
        (&json!("1970-01-01T00:00:00Z"), &json!(81))
    );
    let (_, first, link) = bench
        .ask("/v1/signals?direction=up&page_size=2", None)
        .await;
    let link = link.unwrap();
    let next = link.split(['<', '>']).nth(1).unwrap();
    let (_, second, link) = bench.ask(next, None).await;
    assert_eq!([ids(&first), ids(&second)], [vec!["c", "a"], vec!["b"]]);
    assert_eq!(link, None);
}

fn refusal(tenant: &str) -> schemas::record::Refusal {
    schemas::record::Refusal {
        request_id: tenant.to_owned(),
        at: Timestamp::from_seconds(1),
        gateway: "g".into(),
        tenant: Some(tenant.to_owned()),
        key: None,
        user: None,
        route: None,
        account: None,
        source: None,
        subject: schemas::subject::Subject::tenant(tenant),
        limits: vec!["tokens".into()],
        verdict: Verdict::Block,
        status: 429,
        retry_after_seconds: Some(7),
        decision: None,
    }
}

fn group(tenant: &str, count: i64) -> CspGroup {
    CspGroup {
        id: "g".into(),
        tenant: tenant.to_owned(),
        directive: "img-src".into(),
        blocked_host: "evil.example".into(),
        document_uri: "https://shop.example/".into(),
        at: Timestamp::from_seconds(1),
        count,
        new: false,
        origin: Origin {
            offset: count,
            ..Origin::default()
        },
    }
}

#[tokio::test]
async fn a_tenant_finds_only_its_own() {
    let bench = Bench::new().await;
    bench
        .write(|rows| {
            rows.add_rollup(rollup("a", MINUTE, &[(0, 10)], 1));
            rows.add_crossing(crossing("c", 1, "hard", Direction::Up));
            for tenant in ["acme", "other"] {
                rows.add_refusal(refusal(tenant));
                rows.add_group(group(tenant, 2));
                rows.add_group(group(tenant, 1));
            }
        })
        .await;
    for (path, acme, other) in [
        ("/v1/signals", 1, 0),
        ("/v1/signals?subject=tenant/acme", 1, 0),
        ("/v1/refusals", 1, 1),
        ("/v1/refusals?subject=tenant/acme", 1, 0),
        ("/v1/csp/groups", 1, 1),
        ("/v1/csp/groups?subject=tenant/acme", 1, 0),
        ("/v1/limits?subject=tenant/acme", 2, 0),
    ] {
        for (tenant, entries) in [("acme", acme), ("other", other)] {
            let (status, body, _) = bench.ask(path, Some(tenant)).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(
                body.as_array().unwrap().len(),
                entries,
                "{path} as {tenant}: {body}"
            );
        }
    }
    let usage = "/v1/usage?meter=tokens&subject=";
    for (tenant, subject, total) in [
        ("acme", "tenant/acme", 10),
        ("other", "tenant/acme", 0),
        ("acme", "platform", 0),
    ] {
        let (_, body, _) = bench.ask(&format!("{usage}{subject}"), Some(tenant)).await;
        assert_eq!(body["series"][0]["total"], total, "{subject} as {tenant}");
    }
    bench.check("/v1/csp/groups", "/0/count", json!(2)).await;
}
