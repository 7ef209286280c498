//! Limits in mode `strict`: what was committed is what is counted and nothing else stands, whoever is killed; and four
//! gateways together never admit more than the number.
//!
//! `STRICT_REQUESTS` sets how many reservations are made (600 unless it does), `STRICT_KILLS` how often Weir is killed
//! in between (2).

use std::time::Duration;

use axum::http::Method;
use bus::clock::Stopwatch;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tests::client::Client;
use tests::eventually;
use tests::figures::conserved;
use tests::kafka::Kafka;
use tests::redis::Redis;
use tests::scene::{Log, Scene, Store};
use tests::setting;
use tests::weir::{Options, Weir};

/// More than all requests together use, so that nothing is refused.
const HARD: i64 = 1_000_000_000;
const SOON: Duration = Duration::from_secs(60);
const CALLERS: usize = 16;
/// Of a reservation that nobody ends.
const TTL_SECONDS: u64 = 2;

fn policy(meter: &str, window: &str, hard: i64) -> String {
    format!(
        "[[limit]]\nname = \"{meter}\"\nsubject = \"tenant/*\"\nmeter = \"{meter}\"\nwindow = \"{window}\"\n\
         hard = {hard}\nmode = \"strict\"\n"
    )
}

/// What becomes of one reservation.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Committed,
    /// Reserved and committed twice, as after an answer that was lost.
    Retried,
    Released,
    Abandoned,
}

fn fate(n: usize) -> Fate {
    match n % 6 {
        0 => Fate::Retried,
        1 => Fate::Released,
        2 => Fate::Abandoned,
        _ => Fate::Committed,
    }
}

async fn reserve(client: &Client, n: usize) -> String {
    let estimate = json!({ "tokens": 100 + n % 50, "requests": 0 });
    let body = json!({
        "tenant": "acme", "estimate": estimate, "ttl_s": TTL_SECONDS, "request_id": format!("r-{n}"),
    });
    let answer = client.reservations(Method::POST, "", &body).await;
    answer.created()
}

/// Makes one reservation and ends it as it is to be; says what was spent.
async fn one(client: &Client, n: usize) -> i64 {
    let spent = (n % 200) as i64;
    let fate = fate(n);
    let id = reserve(client, n).await;
    let times = match fate {
        Fate::Abandoned => return 0,
        Fate::Released => {
            // A restart has forgotten it, and what it held.
            let path = format!("/{id}");
            let answer = client
                .reservations(Method::DELETE, &path, &Value::Null)
                .await;
            assert!([200, 404].contains(&answer.status), "{}", answer.text());
            return 0;
        }
        Fate::Retried => 2,
        Fate::Committed => 1,
    };
    for _ in 0..times {
        let body = json!({ "actual": { "tokens": spent } });
        let answer = client
            .reservations(Method::POST, &format!("/{id}/commit"), &body)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    spent
}

async fn check_committed_is_counted(config: &str) {
    let policy = policy("tokens", "sliding 1h", HARD);
    let options = Options::up(&policy).with_config(config);
    let mut scene = Scene::start(Log::Embedded, Store::Sqlite, options).await;
    let (requests, kills) = (
        setting("STRICT_REQUESTS", 600_usize),
        setting("STRICT_KILLS", 2_usize),
    );
    let mut spent = 0;
    for round in 0..=kills {
        let client = scene.weir.client();
        let of_round = (0..requests).filter(|n| n % (kills + 1) == round);
        let calls = stream::iter(of_round).map(|n| {
            let client = &client;
            async move { one(client, n).await }
        });
        let sums: Vec<i64> = calls.buffer_unordered(CALLERS).collect().await;
        spent += sums.iter().sum::<i64>();
        if round < kills {
            // Some are held at that moment, and their callers' answers lost.
            let held = reserve(&client, requests + round).await;
            scene.weir.kill9();
            scene.weir.start_again().await;
            let client = scene.weir.client();
            let body = json!({ "actual": { "tokens": 7 } });
            let answer = client
                .reservations(Method::POST, &format!("/{held}/commit"), &body)
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            spent += 7;
        }
    }
    let client = scene.weir.client();
    eventually("all that was committed is counted", SOON, async || {
        conserved(&client.metrics().await, "weir.usage.v1")?;
        let query = [("subject", "tenant/acme"), ("meter", "tokens")];
        let usage = client.get("/v1/usage", &query).await;
        match &usage["series"][0]["total"] {
            total if *total == spent => Ok(()),
            total => Err(format!("{total} of {spent}")),
        }
    })
    .await;
    eventually("nothing else stands", SOON, async || {
        let looked = client
            .check(&json!({ "tenant": "acme", "consume": {} }))
            .await;
        match &looked["limits"][0]["remaining"] {
            remaining if *remaining == HARD - spent => Ok(()),
            remaining => Err(format!(
                "{remaining} left of {HARD}, with {spent} spent: {looked}"
            )),
        }
    })
    .await;
    eprintln_figures(requests, kills, spent);
}

#[expect(clippy::print_stderr, reason = "a test's figures")]
fn eprintln_figures(requests: usize, kills: usize, spent: i64) {
    eprintln!(
        "{requests} reservations, {kills} kills: {spent} tokens committed and counted, phantom 0"
    );
}

#[tokio::test]
async fn what_is_committed_is_counted_with_the_ledger_in_the_process() {
    check_committed_is_counted("").await;
}

#[tokio::test]
async fn what_is_committed_is_counted_with_the_ledger_in_redis() {
    let redis = Redis::start_installed().await;
    check_committed_is_counted(&redis.ledger()).await;
}

/// Ten times a limit of 100 a minute.
const BURST: usize = 1_000;
const LIMIT: usize = 100;

/// Asks `BURST` times, and says how often it was admitted.
async fn burst(clients: &[Client], tenant: &str) -> usize {
    let asked = stream::iter(0..BURST).map(|n| async move {
        let client = &clients[n % clients.len()];
        client.check(&json!({ "tenant": tenant })).await["verdict"] == "allow"
    });
    let verdicts: Vec<bool> = asked.buffer_unordered(CALLERS).collect().await;
    verdicts.into_iter().filter(|admitted| *admitted).count()
}

/// Waits until the ledger answers again, without using anything up.
async fn answers(client: &Client, tenant: &str) {
    eventually("the ledger", SOON, async || {
        let looked = client
            .check(&json!({ "tenant": tenant, "consume": {} }))
            .await;
        match &looked["status"] {
            status if *status == 503 => Err(looked.to_string()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test's figures")]
async fn four_gateways_admit_no_more_than_the_limit() {
    let kafka = Kafka::start().await;
    let mut redis = Redis::start_installed().await;
    let config = redis.ledger();
    let options = Options::up(&policy("requests", "sliding 60s", LIMIT as i64))
        .with_config(&config)
        .on(Some(kafka.bootstrap()));
    let weir = Weir::start(options.clone()).await;
    let mut gateways = Vec::new();
    for _ in 0..3 {
        let command = "gateway";
        gateways.push(
            Weir::start(Options {
                command,
                ..options.clone()
            })
            .await,
        );
    }
    let mut clients = vec![weir.client()];
    clients.extend(gateways.iter().map(|gateway| weir.client_at(gateway)));
    for client in &clients {
        answers(client, "anybody").await;
    }
    let evenly = burst(&clients, "evenly").await;
    let on_one = burst(&clients[2..3], "on-one").await;

    let since = Stopwatch::start();
    let before = burst(&clients, "over-redis").await;
    redis.kill9();
    let without = burst(&clients, "over-redis").await;
    redis.start_again().await;
    for client in &clients {
        answers(client, "over-redis").await;
    }
    let after = burst(&clients, "over-redis").await;
    let span = since.elapsed();
    eprintln!(
        "admitted of {LIMIT} a minute, four gateways, ten times as many requests: {evenly} evenly, {on_one} all on one; \
         redis killed: {before} before, {without} without, {after} after, in {span:?}"
    );
    assert_eq!((evenly, on_one), (LIMIT, LIMIT));
    assert_eq!((before, without), (LIMIT, 0));
    // On a machine so slow that the minute is over, the window has moved on.
    assert!(after == 0 || Duration::from_secs(60) < span, "{after} more");
    drop(gateways);
}
