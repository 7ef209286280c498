//! The bundled trace through everything: its totals, peaks and crossings are those of a recount that shares no code
//! with Weir, on both logs and both stores.

use std::time::Duration;

use tests::client::Client;
use tests::eventually;
use tests::figures::{Figures, conserved, events};
use tests::scene::{Log, Scene, Store};
use tests::trace;
use tests::weir::Options;

const BATCH: usize = 500;
const COUNTED_WITHIN: Duration = Duration::from_secs(90);
const USAGE: &str = "weir.usage.v1";

async fn check(log: Log, store: Store) {
    let scene = Scene::start(log, store, Options::up(trace::LIMIT)).await;
    let client = scene.weir.client();
    let expected = trace::expected();

    post_all(&client).await;
    figures_become_right(&client).await;
    ends_in_outcomes(&client, expected.events, 0).await;

    post_all(&client).await;
    ends_in_outcomes(&client, expected.events, expected.events).await;
    let again = Figures::read(&client, &expected).await;
    assert_eq!(again.differences(&expected), [""; 0], "sent twice");
}

async fn post_all(client: &Client) {
    for batch in trace::events().chunks(BATCH) {
        client.post(batch).await;
    }
}

async fn figures_become_right(client: &Client) {
    let expected = trace::expected();
    eventually("the recount's figures", COUNTED_WITHIN, async || {
        let query = [
            ("subject", "platform"),
            ("meter", "requests"),
            trace::FROM,
            trace::TO,
        ];
        let usage = client.get("/v1/usage", &query).await;
        let total = &usage["series"][0]["total"];
        if *total != expected.events {
            return Err(format!("{total} requests"));
        }
        match Figures::read(client, &expected)
            .await
            .differences(&expected)
        {
            none if none.is_empty() => Ok(()),
            found => Err(format!(
                "{} differences: {:#?}",
                found.len(),
                &found[..found.len().min(5)]
            )),
        }
    })
    .await;
}

/// So many counted, so many known already, none late or dead; and each partition adds up.
async fn ends_in_outcomes(client: &Client, counted: usize, duplicates: usize) {
    eventually("every event's outcome", COUNTED_WITHIN, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, USAGE)?;
        let seen = ["counted", "duplicate", "late", "dead"]
            .map(|outcome| events(&metrics, USAGE, outcome));
        let wanted = [counted as f64, duplicates as f64, 0.0, 0.0];
        (seen == wanted)
            .then_some(())
            .ok_or_else(|| format!("{seen:?}, not {wanted:?}"))
    })
    .await;
}

#[tokio::test]
async fn embedded_log_and_sqlite() {
    check(Log::Embedded, Store::Sqlite).await;
}

#[tokio::test]
async fn embedded_log_and_postgres() {
    check(Log::Embedded, Store::Postgres).await;
}

#[tokio::test]
async fn kafka_and_postgres() {
    check(Log::Kafka, Store::Postgres).await;
}
