//! Whatever is sent, the answer says what is wrong, nothing of it is counted, and what was good stays counted.

use std::time::Duration;

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Answer, Client, send};
use tests::events::{now, usage};
use tests::eventually;
use tests::figures::{conserved, events};
use tests::weir::{Options, Weir};
use tokio::io::AsyncWriteExt;

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 60s"
hard = 1000000
mode = "block"
"#;
const LINES: &str = "application/x-ndjson";
const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const SOON: Duration = Duration::from_secs(30);

/// A good event with one attribute or one field of its data set to something else.
fn event(change: &[(&str, Value)]) -> String {
    let mut event: Value = serde_json::from_str(&usage("acme", &json!({}))).expect("an event");
    for (pointer, value) in change {
        match pointer.strip_prefix("data/") {
            Some(field) => event["data"][field] = value.clone(),
            None if value.is_null() => {
                event.as_object_mut().expect("an object").remove(*pointer);
            }
            None => event[*pointer] = value.clone(),
        }
    }
    event.to_string()
}

async fn post(client: &Client, kind: &str, encoding: &str, body: Vec<u8>) -> Answer {
    let mut request = client
        .data(Method::POST, "/v1/events")
        .header("content-type", kind)
        .body(body);
    if !encoding.is_empty() {
        request = request.header("content-encoding", encoding);
    }
    send(request).await.expect("an answer")
}

/// `body` is refused with `status`, and the problem says each of `words`.
async fn check(client: &Client, kind: &str, body: impl Into<String>, status: u16, words: &[&str]) {
    let body = body.into();
    let shown: String = body.chars().take(200).collect();
    check_answer(
        &post(client, kind, "", body.into_bytes()).await,
        &shown,
        status,
        words,
    );
}

fn check_answer(answer: &Answer, about: &str, status: u16, words: &[&str]) {
    let said = answer.text();
    assert_eq!(answer.status, status, "{about}: {said}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{about}"
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{about}: {said}");
    assert!(
        problem["type"].is_string() && problem["title"].is_string(),
        "{about}: {said}"
    );
    for word in words {
        assert!(
            said.contains(word),
            "{about}: `{said}` does not say `{word}`"
        );
    }
}

async fn check_unreadable(client: &Client) {
    check(client, ONE, "{\"specversion\":", 400, &["JSON", "line 1"]).await;
    check(client, BATCH, "[{}", 400, &["JSON"]).await;
    check(
        client,
        LINES,
        format!("{}\n{{\n", event(&[])),
        400,
        &["line 2"],
    )
    .await;
    check(
        client,
        "text/plain",
        event(&[]),
        415,
        &["text/plain", "application/x-ndjson"],
    )
    .await;
    check(client, "", event(&[]), 415, &["content type"]).await;
    let answer = post(client, ONE, "br", event(&[]).into_bytes()).await;
    check_answer(&answer, "brotli", 415, &["br", "gzip", "zstd"]);
    let answer = post(client, ONE, "gzip", b"not gzip at all".to_vec()).await;
    check_answer(&answer, "no gzip", 400, &["gzip"]);
}

async fn check_wrong_values(client: &Client) {
    let wrong = [
        ("data/input_tokens", json!("many"), "input_tokens"),
        ("data/input_tokens", json!(-1), "input_tokens"),
        ("data/input_tokens", json!(1.5), "input_tokens"),
        (
            "data/output_tokens",
            json!(1_000_000_000_000_000_000_u64),
            "output_tokens",
        ),
        ("data/cost_usd", json!("-0.01"), "cost_usd"),
        ("data/cost_usd", json!("1e300"), "cost_usd"),
        ("data/cost_usd", json!("a dollar"), "cost_usd"),
        ("data/key", json!(7), "key"),
        ("data/units", json!({ "images": "two" }), "images"),
        ("data", json!([1]), "data"),
        ("subject", Value::Null, "subject"),
        ("subject", json!(""), "subject"),
        ("id", Value::Null, "id"),
        ("source", Value::Null, "source"),
        ("specversion", json!("0.3"), "specversion"),
        ("type", json!("nothing-we-know"), "type"),
        ("time", json!("9999-12-31T23:59:59Z"), "time"),
        ("time", json!("1970-01-01T00:00:00Z"), "time"),
        ("time", json!("yesterday"), "time"),
    ];
    for (field, value, word) in wrong {
        let bad = event(&[(field, value)]);
        check(client, ONE, bad.as_str(), 422, &[word]).await;
        // A batch is refused whole, and the bad one named by its place.
        let good = event(&[]);
        check(
            client,
            BATCH,
            format!("[{good},{bad},{good}]"),
            422,
            &["/1/", word],
        )
        .await;
        check(
            client,
            LINES,
            format!("{good}\n{good}\n{bad}\n"),
            422,
            &["/2/", word],
        )
        .await;
    }
}

/// 256 MB of spaces, through `encoder`.
macro_rules! bomb {
    ($encoder:ident) => {{
        let mut encoder = $encoder::new(Vec::new());
        for _ in 0..256 {
            encoder.write_all(&[b' '; 1 << 20]).await.expect("memory");
        }
        encoder.shutdown().await.expect("memory");
        encoder.into_inner()
    }};
}

async fn check_too_large(client: &Client) {
    let hundred_megabytes = vec![b' '; 100 << 20];
    let request = client
        .data(Method::POST, "/v1/events")
        .header("content-type", LINES);
    // The server may answer and hang up before all is sent, as HTTP allows.
    let request = request.header("connection", "close");
    if let Ok(answer) = send(request.body(hundred_megabytes)).await {
        check_answer(&answer, "100 MB", 413, &["larger than"]);
    }
    for (encoding, bomb) in [("zstd", bomb!(ZstdEncoder)), ("gzip", bomb!(GzipEncoder))] {
        assert!(bomb.len() < 4 << 20, "a bomb is small: {}", bomb.len());
        let answer = post(client, LINES, encoding, bomb).await;
        check_answer(&answer, encoding, 413, &["inflates"]);
    }
    let many = event(&[]) + "\n";
    check(client, LINES, many.repeat(10_001), 413, &["10000 events"]).await;
}

async fn check_callers(weir: &Weir) {
    let client = weir.client();
    check(
        &client.with_secret("weir_ingest_guessed"),
        ONE,
        event(&[]),
        401,
        &["unknown"],
    )
    .await;
    let acme = client.with_secret(&weir.create_key("ingest", Some("acme")).await);
    let other = event(&[("subject", json!("other"))]);
    check(&acme, BATCH, format!("[{other}]"), 403, &["another", "/0"]).await;
    // An ingest key reads nothing, and an operator's token is not for events.
    let reading = send(acme.management(Method::GET, "/v1/usage?subject=platform&meter=tokens"));
    check_answer(
        &reading.await.expect("an answer"),
        "an ingest key",
        403,
        &["role"],
    );
}

#[tokio::test]
async fn is_refused_with_the_reason_and_loses_nothing() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let good: Vec<String> = (0..10)
        .map(|_| usage("acme", &json!({ "input_tokens": 1 })))
        .collect();
    client.post(&good).await;
    check_unreadable(&client).await;
    check_wrong_values(&client).await;
    check_too_large(&client).await;
    check_callers(&weir).await;
    client
        .post(&[usage("acme", &json!({ "input_tokens": 1 }))])
        .await;

    eventually("only the good ones are counted", SOON, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, "weir.usage.v1")?;
        let seen =
            ["accepted", "counted"].map(|outcome| events(&metrics, "weir.usage.v1", outcome));
        if seen == [11.0; 2] {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
    eventually("their tokens", SOON, async || {
        let query = [("subject", "tenant/acme"), ("meter", "tokens")];
        let usage = client.get("/v1/usage", &query).await;
        let tokens = &usage["series"][0]["total"];
        if *tokens == 11 {
            Ok(())
        } else {
            Err(tokens.to_string())
        }
    })
    .await;
}

/// Times that are taken: a little ahead, and long ago.
#[tokio::test]
async fn old_and_early_events_are_no_errors() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let at = |seconds: i64| schemas::time::Timestamp::from_seconds(now().second() + seconds);
    for seconds in [-86_400 * 365, -60, 60] {
        let event = event(&[("time", json!(at(seconds).to_string()))]);
        client.post(&[event]).await;
    }
    eventually("all have an outcome", SOON, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, "weir.usage.v1")?;
        let accepted = events(&metrics, "weir.usage.v1", "accepted");
        if accepted == 3.0 {
            Ok(())
        } else {
            Err(format!("{accepted}"))
        }
    })
    .await;
}
