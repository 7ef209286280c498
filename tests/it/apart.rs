//! Each service in a process of its own, on Kafka and PostgreSQL, as the compose file runs them: the figures are the
//! same, also when an aggregator dies half-way and another takes its partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::figures::Figures;
use tests::kafka::Kafka;
use tests::postgres::Postgres;
use tests::trace::{self, Expected, FROM, TO};
use tests::weir::{Options, Weir};

const BATCH: usize = 500;
const COUNTED_WITHIN: Duration = Duration::from_secs(120);

struct Place {
    kafka: Kafka,
    config: String,
    _postgres: Postgres,
}

impl Place {
    async fn start() -> Self {
        let (kafka, postgres) = tokio::join!(Kafka::start(), Postgres::start());
        let url = postgres.fresh_database().await;
        let config =
            format!("[store]\nurl = \"{url}\"\n[aggregator]\nsketches = [\"auth\", \"usage\"]\n");
        Self {
            kafka,
            config,
            _postgres: postgres,
        }
    }

    async fn run(&self, service: &'static str) -> Weir {
        let options = Options {
            command: service,
            ..Options::up(trace::LIMIT)
        };
        let options = options
            .with_config(&self.config)
            .on(Some(self.kafka.bootstrap()));
        Weir::start(options).await
    }
}

async fn post(client: &Client, batches: &[String]) {
    for batch in batches.chunks(BATCH) {
        client.post(batch).await;
    }
}

/// Who costs most is told with bounds that the recount lies in, and how many users each key had exactly, since they are few.
async fn sketches_hold(queries: &Client, expected: &Expected) {
    let top = [("by", "user"), ("meter", "cost"), FROM, TO];
    eventually("who costs most", COUNTED_WITHIN, async || {
        let told = queries.get("/v1/top", &top).await;
        let number = |value: &Value| {
            value
                .as_str()
                .and_then(|digits| digits.parse::<i128>().ok())
        };
        if number(&told["sum"]) != Some(expected.totals["platform"].cost_pico_usd) {
            return Err(told["sum"].to_string());
        }
        let entries = told["entries"].as_array().expect("a list");
        let is_wrong = |entry: &&Value| {
            let who = [&entry["tenant"], &entry["id"]].map(|id| id.as_str().unwrap_or_default());
            let exact = expected.totals[&who.join("/")].cost_pico_usd;
            let bounds = number(&entry["amount"]).zip(number(&entry["error"]));
            bounds.is_none_or(|(amount, error)| exact < amount - error || amount < exact)
        };
        match entries.iter().find(is_wrong) {
            Some(wrong) => panic!("{wrong} does not hold what was recounted"),
            None if entries.is_empty() => Err(told.to_string()),
            None => Ok(()),
        }
    })
    .await;
    let mut users: BTreeMap<[String; 2], BTreeSet<String>> = BTreeMap::new();
    for event in trace::events() {
        let event: Value = serde_json::from_str(&event).expect("an event");
        let [tenant, key, user] = [
            &event["subject"],
            &event["data"]["key"],
            &event["data"]["user"],
        ]
        .map(|id| id.as_str().unwrap_or_default().to_owned());
        users.entry([tenant, key]).or_default().insert(user);
    }
    let spread = [("of", "user"), ("per", "key"), FROM, TO];
    eventually("the users of each key", COUNTED_WITHIN, async || {
        let told = queries.get("/v1/spread", &spread).await;
        let entries = told["entries"].as_array().expect("a list");
        let counted = entries.iter().map(|entry| {
            let who = [&entry["tenant"], &entry["id"]].map(|id| id.as_str().unwrap_or_default());
            (who.map(str::to_owned), entry["count"].as_u64())
        });
        let counted: BTreeMap<_, _> = counted.collect();
        let exact = users
            .iter()
            .map(|(who, users)| (who.clone(), Some(users.len() as u64)));
        match exact.clone().eq(counted) {
            true => Ok(()),
            false => Err(told.to_string()),
        }
    })
    .await;
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
    sketches_hold(&queries, &expected).await;
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
