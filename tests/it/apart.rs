//! Each service in a process of its own, on Kafka and PostgreSQL, as the compose file runs them: the figures are the
//! same, also when an aggregator dies half-way and another takes its partitions.

use std::time::Duration;

use serde_json::json;
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::figures::Figures;
use tests::kafka::Kafka;
use tests::postgres::Postgres;
use tests::trace;
use tests::weir::{Options, Weir};

const BATCH: usize = 500;
const COUNTED_WITHIN: Duration = Duration::from_secs(120);

struct Place {
    kafka: Kafka,
    store: String,
    _postgres: Postgres,
}

impl Place {
    async fn start() -> Self {
        let (kafka, postgres) = tokio::join!(Kafka::start(), Postgres::start());
        let store = format!("[store]\nurl = \"{}\"\n", postgres.fresh_database().await);
        Self {
            kafka,
            store,
            _postgres: postgres,
        }
    }

    async fn run(&self, service: &'static str) -> Weir {
        let options = Options {
            command: service,
            ..Options::up(trace::LIMIT)
        };
        let options = options
            .with_config(&self.store)
            .on(Some(self.kafka.bootstrap()));
        Weir::start(options).await
    }
}

async fn post(client: &Client, batches: &[String]) {
    for batch in batches.chunks(BATCH) {
        client.post(batch).await;
    }
}

#[tokio::test]
async fn every_service_alone() {
    let place = Place::start().await;
    // The enforcer makes the first keys; the others know them by the log.
    let enforcer = place.run("enforcer").await;
    let mut first = place.run("aggregator").await;
    let notifier = place.run("notifier").await;
    let ingest = place.run("ingest").await;
    let gateway = place.run("gateway").await;

    let events = trace::events();
    let (before, after) = events.split_at(events.len() / 2);
    post(&enforcer.client_at(&ingest), before).await;
    first.kill9();
    let second = place.run("aggregator").await;
    post(&enforcer.client_at(&ingest), after).await;

    let expected = trace::expected();
    let queries = enforcer.client_at(&second);
    eventually(
        "the recount's figures",
        COUNTED_WITHIN,
        async || match Figures::read(&queries, &expected)
            .await
            .differences(&expected)
        {
            none if none.is_empty() => Ok(()),
            found => Err(format!("{} differences, {}", found.len(), found[0])),
        },
    )
    .await;
    // What was crossed in 2023 refuses nobody today; this does.
    let spent = usage("today", &json!({ "input_tokens": 60_000, "requests": 0 }));
    post(&enforcer.client_at(&ingest), &[spent]).await;
    let asking = enforcer.client_at(&gateway);
    eventually("the refusal", COUNTED_WITHIN, async || {
        match asking.forward_auth("today").await.status {
            429 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    assert_eq!(asking.forward_auth("tenant-00").await.status, 200);
    let today = [("subject", "tenant/today")];
    // Listed from rows, which come a moment after the log's record of it.
    eventually("the decision", COUNTED_WITHIN, async || {
        match enforcer.client().list("/v1/decisions", &today).await.len() {
            1 => Ok(()),
            decisions => Err(format!("{decisions} decisions")),
        }
    })
    .await;
    let told = enforcer.client_at(&notifier);
    eventually("the alert", COUNTED_WITHIN, async || {
        match told.list("/v1/alerts", &today).await.len() {
            1 => Ok(()),
            alerts => Err(format!("{alerts} alerts")),
        }
    })
    .await;
}
