//! A partition that is counted without its snapshot and without the beginning of its log, where the markers of policy and
//! orders were: it goes by what held.

use std::fs;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::weir::{Options, Weir};

const PARTITIONS: i32 = 12;
const SOON: Duration = Duration::from_secs(60);

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 60m"
hard = 1000
"#;

async fn use_tokens(client: &Client, tokens: i64) {
    let event = usage("acme", &json!({ "input_tokens": tokens }));
    client.post(&[event]).await;
}

/// Deletes every event, and with them the markers.
async fn forget_events(bootstrap: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let added = all.add_partition_offset(super::USAGE, partition, Offset::End);
        added.expect("a place");
    }
    let deleted = admin.delete_records(&all, &AdminOptions::new()).await;
    assert_eq!(deleted.expect("an answer").count(), PARTITIONS as usize);
}

#[tokio::test]
async fn orders_outlast_the_log_that_told_of_them() {
    let mut weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let raise = json!({ "kind": "raise", "subject": "tenant/acme", "limit": "tokens", "hard": 2000, "reason": "test" });
    client.ordered(&raise).await;
    use_tokens(&client, 10).await;
    let look = json!({ "tenant": "acme", "consume": { "tokens": 1 } });
    eventually("the raise holds", SOON, async || {
        let max = client.check(&look).await["limits"][0]["max"].clone();
        (max == 2000).then_some(()).ok_or_else(|| max.to_string())
    })
    .await;
    // Stopped and started, so that all that was said is in the log.
    assert!(
        weir.terminate(super::STOP_WITHIN)
            .is_some_and(|s| s.success())
    );
    weir.start_again().await;
    forget_events(&weir.bootstrap()).await;
    weir.kill9();
    let snapshots = weir.data_folder().join("snapshots");
    fs::remove_dir_all(snapshots).expect("snapshots");
    weir.start_again().await;

    // Told of the number that the raise gave, and of no other.
    let client = weir.client();
    use_tokens(&client, 1_500).await;
    use_tokens(&client, 600).await;
    let query = [("subject", "tenant/acme")];
    let signals = eventually("the crossing", SOON, async || {
        let signals = client.list("/v1/signals", &query).await;
        match signals.is_empty() {
            true => Err("none yet".to_owned()),
            false => Ok(signals),
        }
    })
    .await;
    let told: Vec<[&Value; 2]> = signals.iter().map(|s| [&s["max"], &s["sum"]]).collect();
    assert_eq!(told, [[2000, 2100]], "{signals:#?}");
}
