//! A limit refuses exactly what it says, for exactly as long, and says so in the words of HTTP.

use std::time::Duration;

use chrono::{Datelike, Months, NaiveDate};
use schemas::time::Timestamp;
use serde_json::{Value, json};
use tests::client::{Answer, Client};
use tests::events::{now, usage};
use tests::eventually;
use tests::weir::{Options, Weir};

const POLICY: &str = r#"
[[limit]]
name = "requests"
subject = "tenant/*"
meter = "requests"
window = "sliding 60s"
hard = 100
mode = "block"

[[limit]]
name = "quick"
subject = "tenant/quick-*"
meter = "requests"
window = "sliding 3s"
hard = 10
mode = "block"

[[limit]]
name = "money"
subject = "tenant/*"
meter = "cost"
window = "calendar month"
hard = "20 USD"
mode = "block"

[[limit]]
name = "sign-ins"
subject = "tenant/*/account/*"
meter = "failures"
window = "sliding 5m"
hard = 20
mode = "block"

[[limit]]
name = "only-told"
subject = "tenant/open-*"
meter = "tokens"
window = "sliding 60s"
hard = 10
mode = "open"
"#;
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const SOON: Duration = Duration::from_secs(30);

async fn start() -> (Weir, Client) {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    (weir, client)
}

/// Both ways to ask, as status and the seconds after which to ask again.
#[derive(Clone, Copy, Debug)]
enum Way {
    ForwardAuth,
    Check,
}

impl Way {
    async fn ask(self, client: &Client, tenant: &str) -> (u64, Option<u64>) {
        match self {
            Way::ForwardAuth => {
                let answer = client.forward_auth(tenant).await;
                (answer.status.into(), retry_after(&answer))
            }
            Way::Check => {
                let answer = client.check(&json!({ "tenant": tenant })).await;
                (
                    answer["status"].as_u64().expect("a status"),
                    answer["retry_after_s"].as_u64(),
                )
            }
        }
    }
}

fn retry_after(answer: &Answer) -> Option<u64> {
    answer
        .header("retry-after")
        .map(|text| text.parse().expect("whole seconds"))
}

/// The answers at `before` and `after` the refusal bound its `Retry-After`: the slice of the first request, one
/// second wide, leaves a window of `seconds` one second after that window's length.
#[track_caller]
fn check_retry_after(told: u64, seconds: i64, first: [Timestamp; 2], refused: [Timestamp; 2]) {
    let frees_at = |first: Timestamp| Timestamp::from_seconds(first.second() + seconds + 1);
    let wait = |from: Timestamp, to: Timestamp| to.since(from).as_micros().div_ceil(1_000_000);
    let least = wait(refused[1], frees_at(first[0]));
    let most = wait(refused[0], frees_at(first[1]));
    let told = u128::from(told);
    assert!(
        least <= told && told <= most,
        "{told} is not within {least} and {most}"
    );
}

async fn check_admits_exactly(
    client: &Client,
    way: Way,
    tenant: &str,
    (hard, seconds): (u64, i64),
) {
    let mut first = [now(); 2];
    for n in 0..hard {
        let (status, _) = way.ask(client, tenant).await;
        assert_eq!(status, 200, "{way:?}: request {n} of {hard}");
        if n == 0 {
            first[1] = now();
        }
    }
    let before = now();
    let (status, retry_after) = way.ask(client, tenant).await;
    assert_eq!(status, 429, "{way:?}: one more than {hard}");
    let told = retry_after.expect("when to ask again");
    check_retry_after(told, seconds, first, [before, now()]);
}

#[tokio::test]
async fn a_hundred_and_not_one_more() {
    let (_weir, client) = start().await;
    check_admits_exactly(&client, Way::ForwardAuth, "asks-the-proxy", (100, 60)).await;
    check_admits_exactly(&client, Way::Check, "asks-itself", (100, 60)).await;
    // One tenant's limit is no other's.
    assert_eq!(Way::Check.ask(&client, "a-third").await, (200, None));
}

#[tokio::test]
async fn admitted_again_with_no_other_event() {
    let (_weir, client) = start().await;
    for (way, tenant) in [
        (Way::ForwardAuth, "quick-proxy"),
        (Way::Check, "quick-self"),
    ] {
        check_admits_exactly(&client, way, tenant, (10, 3)).await;
        let (status, retry_after) = way.ask(&client, tenant).await;
        assert_eq!(status, 429);
        tokio::time::sleep(Duration::from_secs(retry_after.expect("when to ask again"))).await;
        let (status, _) = way.ask(&client, tenant).await;
        assert_eq!(status, 200, "{way:?}: after the time that it was told");
    }
}

#[tokio::test]
async fn a_refusal_speaks_http() {
    let (_weir, client) = start().await;
    let admitted = client.forward_auth("acme").await;
    assert_eq!(
        admitted.header("ratelimit-policy"),
        Some(r#""requests";q=100;w=60"#)
    );
    assert!(
        admitted
            .header("ratelimit")
            .expect("a header")
            .starts_with(r#""requests";r=99;t="#)
    );
    for _ in 1..100 {
        assert_eq!(client.forward_auth("acme").await.status, 200);
    }
    let refused = client.forward_auth("acme").await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    let retry_after = retry_after(&refused).expect("when to ask again");
    let left = format!(r#""requests";r=0;t={retry_after}"#);
    assert_eq!(refused.header("ratelimit"), Some(left.as_str()));
    let problem = refused.json();
    assert_eq!(problem["type"], QUOTA_EXCEEDED);
    assert_eq!(problem["status"], 429);
    assert!(
        problem["title"].is_string() && problem["detail"].is_string(),
        "{problem}"
    );

    let looked = client
        .check(&json!({ "tenant": "acme", "consume": {} }))
        .await;
    assert_eq!(looked["verdict"], "block");
    let cause = &looked["causes"][0];
    let told = [
        &cause["limit"],
        &cause["subject"],
        &cause["window"],
        &cause["mode"],
    ];
    assert_eq!(
        told.map(Value::as_str),
        ["requests", "tenant/acme", "sliding 60s", "block"].map(Some)
    );
    assert_eq!(
        [&cause["used"], &cause["max"]].map(Value::as_u64),
        [Some(100); 2]
    );
}

/// Looks until a decision speaks of `identity`: what was counted elsewhere comes by the log.
async fn decided(client: &Client, identity: &Value) -> Value {
    let mut look = identity.clone();
    look["consume"] = json!({});
    eventually("a decision", SOON, async || {
        let answer = client.check(&look).await;
        match answer["causes"].get(0) {
            Some(_) => Ok(answer),
            None => Err("no cause yet".to_owned()),
        }
    })
    .await
}

#[tokio::test]
async fn a_spent_budget_lasts_until_the_month_ends() {
    let (_weir, client) = start().await;
    client
        .post(&[usage(
            "rich",
            &json!({ "cost_usd": "19.999999999999", "requests": 0 }),
        )])
        .await;
    client
        .post(&[usage(
            "spent",
            &json!({ "cost_usd": "20.000000000000", "requests": 0 }),
        )])
        .await;
    decided(&client, &json!({ "tenant": "spent" })).await;
    let before = now();
    let answer = client.forward_auth("spent").await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.json()["type"], QUOTA_EXCEEDED);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(answer.header("x-weir-decision").is_some());
    let reset = end_of_month(before);
    let told = retry_after(&answer).expect("when the budget is new");
    let [most, least] = [before, now()].map(|at| reset.since(at).as_micros().div_ceil(1_000_000));
    assert!(
        (least..=most).contains(&told.into()),
        "{told} is not within {least} and {most}"
    );
    // Less by a millionth of a millionth of a dollar.
    assert_eq!(client.forward_auth("rich").await.status, 200);
}

fn end_of_month(at: Timestamp) -> Timestamp {
    let today = at.to_utc().expect("a time of this age").date_naive();
    let first = NaiveDate::from_ymd_opt(today.year(), today.month(), 1).expect("a first day");
    let next = first + Months::new(1);
    Timestamp::from_seconds(next.and_time(chrono::NaiveTime::MIN).and_utc().timestamp())
}

#[tokio::test]
async fn an_attacked_account_is_refused_and_its_neighbours_are_not() {
    let (_weir, client) = start().await;
    let attack: Vec<String> = (0..20)
        .map(|_| tests::events::failed_sign_in("acme", "alice", "198.51.100.7"))
        .collect();
    client.post(&attack).await;
    let attacked = json!({ "tenant": "acme", "account": "alice", "action": "sign-in" });
    assert_eq!(decided(&client, &attacked).await["verdict"], "block");
    let neighbour = json!({ "tenant": "acme", "account": "bob", "action": "sign-in" });
    assert_eq!(client.check(&neighbour).await["verdict"], "allow");
}

#[tokio::test]
async fn an_open_limit_tells_and_refuses_nothing() {
    let (_weir, client) = start().await;
    client
        .post(&[usage(
            "open-acme",
            &json!({ "input_tokens": 11, "requests": 0 }),
        )])
        .await;
    let told = decided(&client, &json!({ "tenant": "open-acme" })).await;
    assert_eq!(told["verdict"], "allow");
    assert_eq!(told["causes"][0]["limit"], "only-told");
    assert_eq!(client.forward_auth("open-acme").await.status, 200);
}
