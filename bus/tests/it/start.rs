//! What `connect` finds at start.

use std::sync::Arc;
use std::time::Duration;

use bus::clock::SystemClock;
use bus::{Bus, BusError, Config};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use schemas::topic::{ALERTS, DECISIONS, KEYS};

use crate::checks::outage::Switch as _;
use crate::checks::{Fresh, connect};
use crate::embedded::Log;

async fn refused(config: Config) -> BusError {
    match Bus::connect(config, Arc::new(SystemClock)).await {
        Err(error) => error,
        Ok(_) => panic!("connected all the same"),
    }
}

#[track_caller]
fn check(error: &BusError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text}");
    }
}

fn admin(log: &Log) -> AdminClient<DefaultClientContext> {
    let mut client = rdkafka::ClientConfig::new();
    client
        .set("bootstrap.servers", log.bootstrap())
        .create()
        .unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_to_do_when_nothing_answers() {
    let error = refused(Config {
        bootstrap: "127.0.0.1:1".to_owned(),
        ready_within: Duration::from_secs(1),
        ..Config::default()
    })
    .await;
    assert!(matches!(error, BusError::Unreachable { .. }));
    check(&error, &["127.0.0.1:1", "start it", "[kafka]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_a_setting_that_the_client_does_not_take() {
    let log = Log::start().await;
    let mut config = Fresh::new(log.bootstrap()).config();
    config.settings.insert("no.such".to_owned(), "1".to_owned());
    check(&refused(config).await, &["no.such"]);
    log.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_topic_that_would_forget() {
    let log = Log::start().await;
    let config = Fresh::new(log.bootstrap()).config();
    let made = NewTopic::new(DECISIONS.name(), 12, TopicReplication::Fixed(1))
        .set("cleanup.policy", "delete");
    let results = admin(&log).create_topics([&made], &AdminOptions::new());
    assert!(results.await.unwrap()[0].is_ok());
    let error = refused(config).await;
    assert!(matches!(error, BusError::Topic { .. }));
    check(
        &error,
        &[
            DECISIONS.name(),
            "`delete`, not `compact`",
            "kafka-configs.sh --bootstrap-server 127.0.0.1:",
            "--add-config cleanup.policy=compact",
        ],
    );
    log.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_several_partitions_where_order_matters() {
    let log = Log::start().await;
    let config = Fresh::new(log.bootstrap()).config();
    let made =
        NewTopic::new(KEYS.name(), 2, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let results = admin(&log).create_topics([&made], &AdminOptions::new());
    assert!(results.await.unwrap()[0].is_ok());
    check(
        &refused(config).await,
        &[KEYS.name(), "must have 1 partition"],
    );
    log.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_has_grown_places_keys_as_before() {
    let log = Log::start().await;
    let fresh = Fresh::new(log.bootstrap());
    let before = fresh.bus().await;
    let made = before.partitions(ALERTS.spec());
    let more = NewPartitions::new(ALERTS.name(), 20);
    let results = admin(&log).create_partitions([&more], &AdminOptions::new());
    assert!(results.await.unwrap()[0].is_ok());
    let after = connect(fresh.config()).await;
    assert_eq!(after.partitions(ALERTS.spec()), made);
    for key in ["acme", "globex", "initech"] {
        let place = before.partition_of(ALERTS.spec(), key);
        assert_eq!(after.partition_of(ALERTS.spec(), key), place);
    }
    log.stop().await;
}
