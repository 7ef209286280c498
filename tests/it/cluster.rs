//! Servers of a Kafka cluster come and go under load: the figures are those of the recount, and everybody is told once.
//!
//! `CLUSTER_ROUNDS` sets how often two servers die and come back (once unless it does).

mod load;
mod threads;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use schemas::partition::partition_of;
use serde_json::Value;
use tests::client::{Answer, Client, send};
use tests::eventually;
use tests::figures::{Figures, conserved, events};
use tests::kafka::Cluster;
use tests::metrics::Metrics;
use tests::receiver::{Receiver, SECRET, channel};
use tests::setting;
use tests::trace;
use tests::weir::{Options, Weir};

use load::{Done, Load, PROBES, live_tenant};

const USAGE: &str = "weir.usage.v1";
/// Of [`USAGE`], as made, and later.
const PARTITIONS: i32 = 4;
const GROWN: i32 = 6;
const BUSIEST: &str = "tenant-00";
/// Asks the gateway once in each outage, and is admitted.
const BYSTANDER: &str = "bystander";
const LIVE_LIMIT: &str = r#"
[[limit]]
name = "probes"
subject = "tenant/live-*"
meter = "probes"
window = "sliding 1h"
hard = 3
mode = "block"
"#;
/// Far more than anything here takes on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// A death comes at some moment within so much of the load.
const MOMENT_MAX_MS: u64 = 1_500;
const WATCHED: Duration = Duration::from_secs(3);

fn rounds() -> usize {
    setting("CLUSTER_ROUNDS", 1)
}

/// Fields are dropped in order: Weir ends before what it stands on does.
struct Trial {
    load: Load,
    client: Client,
    weir: Weir,
    receiver: Receiver,
    cluster: Cluster,
}

fn config(webhook: &str) -> String {
    let hook = channel(webhook);
    format!(
        r#"
[kafka]
partitions = {PARTITIONS}
replication = 3
ready_within = "120s"
delivery_within = "6s"

# That partitions were added is to be seen soon.
[kafka.settings]
"topic.metadata.refresh.interval.ms" = "1000"

[aggregator]
snapshot_interval_s = 1

# The trace is years old.
[notifier]
alert_age_max_s = 3000000000
poll_interval_ms = 50
{hook}messages_max = 1000
"#
    )
}

impl Trial {
    async fn start(stages: usize) -> Self {
        let cluster = Cluster::start().await;
        let mut receiver = Receiver::down();
        receiver.start().await;
        let options = Options::up(&format!("{}{LIVE_LIMIT}", trace::LIMIT))
            .with_config(&config(&receiver.url()))
            .on(Some(cluster.bootstrap()));
        let weir = Weir::start(options).await;
        let client = weir.client();
        let load = Load::start(client.clone(), &cluster.bootstrap(), stages);
        let trial = Self {
            load,
            client,
            weir,
            receiver,
            cluster,
        };
        trial.load_goes_on().await;
        trial
    }

    /// Some more requests are taken.
    async fn load_goes_on(&self) {
        let enough = self.load.taken() + 3;
        eventually("requests are taken", PATIENCE, async || {
            match self.load.taken() {
                taken if enough <= taken => Ok(()),
                taken => Err(format!(
                    "{taken} of {enough}; {} refused",
                    self.load.refused()
                )),
            }
        })
        .await;
    }

    async fn some_moment(&self) {
        let moment = Duration::from_millis(rand::random_range(0..MOMENT_MAX_MS));
        tokio::time::sleep(moment).await;
    }

    /// The server that answers for the partition with the most events.
    async fn leader(&self) -> i32 {
        let partition = partition_of(BUSIEST.as_bytes(), PARTITIONS);
        eventually("a leader", PATIENCE, async || {
            self.cluster.leader_of(USAGE, partition).await
        })
        .await
    }

    /// Two of three are enough.
    async fn the_leader_dies(&mut self) -> i32 {
        self.load.next_stage();
        self.some_moment().await;
        let dead = self.leader().await;
        self.cluster.kill9(dead);
        eventually("another leader", PATIENCE, async || {
            match self.leader().await {
                leader if leader == dead => Err("the dead one is still named".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        self.load_goes_on().await;
        dead
    }

    /// One is not: everything waits, and says so.
    async fn another_dies(&mut self) -> i32 {
        self.load.next_stage();
        decided(&self.client, &live_tenant(0)).await;
        self.some_moment().await;
        let dead = self.leader().await;
        self.cluster.kill9(dead);
        eventually("Weir says that the log is away", PATIENCE, async || {
            let available = self.metric("weir_bus_available").await;
            match (available, self.ready().await.status) {
                (0.0, 503) => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
        let taken = self.load.taken();
        let busy = threads::busy(self.weir.id(), WATCHED).await;
        assert!(
            busy.is_empty(),
            "busy while there is nothing to do: {busy:?}"
        );
        assert_eq!(self.load.taken(), taken, "taken by a log that is away");
        assert_eq!(self.ready().await.status, 503);
        let refusal = self
            .client
            .try_post(String::new())
            .await
            .expect("an answer");
        assert_eq!(refusal.status, 503, "{}", refusal.text());
        assert!(refusal.header("retry-after").is_some(), "{refusal:?}");
        // What a gateway knows, it knows without the log.
        assert_eq!(self.client.forward_auth(&live_tenant(0)).await.status, 429);
        assert_eq!(self.client.forward_auth(BYSTANDER).await.status, 200);
        dead
    }

    async fn both_return(&mut self, dead: [i32; 2]) {
        self.load.next_stage();
        for node in dead {
            self.cluster.restart(node);
        }
        self.load_goes_on().await;
        eventually("Weir says that the log is back", PATIENCE, async || {
            let available = self.metric("weir_bus_available").await;
            match (available, self.ready().await.status) {
                (1.0, 200) => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
        self.cluster.wait_in_sync().await;
    }

    /// They are reported; what a foreign producer writes there is moved.
    async fn partitions_are_added(&mut self) {
        self.load.next_stage();
        self.cluster.grow(USAGE, GROWN as usize).await;
        eventually("added partitions are reported", PATIENCE, async || {
            let metrics = self.client.metrics().await;
            let added = metrics.sum("weir_bus_added_partitions", &[("topic", USAGE)]);
            match added {
                2.0 => Ok(()),
                _ => Err(format!("{added} added")),
            }
        })
        .await;
        eventually("misplaced events are moved", PATIENCE, async || {
            let moved = events(&self.client.metrics().await, USAGE, "moved");
            match (moved, self.load.misplaced()) {
                (0.0, misplaced) => Err(format!("none of {misplaced}")),
                _ => Ok(()),
            }
        })
        .await;
        self.load_goes_on().await;
    }

    /// One by one, and in order: nobody notices.
    async fn every_server_restarts(&mut self) {
        self.load.next_stage();
        let refused = self.load.refused();
        for node in [1, 2, 3] {
            self.cluster.stop(node).await;
            self.load_goes_on().await;
            self.cluster.restart(node);
            self.cluster.wait_in_sync().await;
        }
        assert_eq!(self.load.refused(), refused, "refused in a rolling restart");
    }

    async fn ready(&self) -> Answer {
        let request = self.client.management(Method::GET, "/ready");
        send(request).await.expect("an answer")
    }

    async fn metric(&self, name: &str) -> f64 {
        self.client.metrics().await.sum(name, &[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_while_servers_come_and_go() {
    let mut trial = Trial::start(3 + 3 * rounds()).await;
    for _ in 0..rounds() {
        let first = trial.the_leader_dies().await;
        let second = trial.another_dies().await;
        trial.both_return([first, second]).await;
    }
    trial.partitions_are_added().await;
    trial.every_server_restarts().await;

    let Trial {
        load,
        client,
        weir,
        receiver,
        cluster: _cluster,
    } = trial;
    let done = load.finish().await;
    all_is_counted(&client, &done).await;
    decisions_are_right(&client, &done).await;
    everybody_is_told_once(&client, &receiver, &done).await;
    nothing_waits(&client).await;
    let output = weir.output();
    assert!(!output.contains("ERROR"), "{output}");
    let reported = format!("made with {PARTITIONS} partitions");
    assert!(output.contains(&reported), "{output}");
}

async fn all_is_counted(client: &Client, done: &Done) {
    let expected = trace::expected();
    let wanted = [
        // What the gateway admitted without the log it reports once it is back.
        (
            "counted",
            expected.events + PROBES * done.live.len() + rounds(),
        ),
        ("late", 0),
        ("dead", 0),
        ("moved", done.misplaced),
    ];
    eventually("every event's outcome", PATIENCE, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, USAGE)?;
        for (outcome, wanted) in wanted {
            let seen = events(&metrics, USAGE, outcome);
            if seen != wanted as f64 {
                let behind = metrics.by("weir_bus_consumer_lag_records", "partition");
                return Err(format!(
                    "{seen} {outcome}, not {wanted}; behind: {behind:?}"
                ));
            }
        }
        let figures = Figures::read(client, &expected).await;
        match figures.differences(&expected) {
            none if none.is_empty() => Ok(()),
            found => Err(format!("{} differences: {found:#?}", found.len())),
        }
    })
    .await;
}

/// Waits until this tenant, which has crossed its limit, is refused.
async fn refused(client: &Client, tenant: &str) {
    let subject = format!("tenant/{tenant}");
    eventually("the refusal", PATIENCE, async || {
        match client.forward_auth(tenant).await.status {
            429 => Ok(()),
            status => {
                let asked = [("subject", subject.as_str())];
                let signals = client.list("/v1/signals", &asked).await;
                let decisions = client.list("/v1/decisions", &asked).await;
                let metrics = client.metrics().await;
                let behind = metrics.by("weir_bus_consumer_lag_records", "topic");
                let heard = metrics.by("weir_enforcer_signals_total", "outcome");
                Err(format!(
                    "{tenant}: {status}; {signals:#?}; {decisions:#?}; behind: {behind:?}; heard: {heard:?}"
                ))
            }
        }
    })
    .await;
}

/// Waits until there is one decision on this tenant. It is listed from rows, which come a moment after the log's record
/// of it.
async fn decided(client: &Client, tenant: &str) {
    let subject = format!("tenant/{tenant}");
    eventually("the decision", PATIENCE, async || {
        let decisions = client.list("/v1/decisions", &[("subject", &subject)]).await;
        match decisions.len() {
            1 => Ok(()),
            _ => Err(format!("{decisions:#?}")),
        }
    })
    .await;
}

async fn decisions_are_right(client: &Client, done: &Done) {
    for tenant in &done.live {
        refused(client, tenant).await;
        decided(client, tenant).await;
    }
    // What was crossed in 2023 refuses nobody today.
    for tenant in trace::expected().windows.keys() {
        assert_eq!(client.forward_auth(tenant).await.status, 200, "{tenant}");
    }
}

/// An alert as a person tells it from others: whose, of what, and when.
type Content = [String; 4];

async fn everybody_is_told_once(client: &Client, receiver: &Receiver, done: &Done) {
    let windows = trace::expected().windows;
    let crossed: usize = windows
        .values()
        .map(|windows| windows.upward_crossings)
        .sum();
    let expected = crossed + done.live.len();
    eventually("all is told", PATIENCE, async || {
        match receiver.received().len() {
            told if expected <= told => Ok(()),
            told => Err(format!("{told} of {expected}")),
        }
    })
    .await;
    // The outbox shows what was sent as well as what would still be.
    let alerts = client.list("/v1/alerts", &[]).await;
    assert_eq!(alerts.len(), expected, "{alerts:#?}");
    let (mut ids, mut contents) = (BTreeMap::new(), BTreeMap::<Content, usize>::new());
    for webhook in receiver.received() {
        assert!(webhook.is_signed_with(SECRET), "signed: {webhook:?}");
        let data: Value = webhook.json()["data"].clone();
        let content = ["subject", "limit", "kind", "at"]
            .map(|name| data[name].as_str().unwrap_or_default().to_owned());
        *ids.entry(webhook.id).or_insert(0) += 1;
        *contents.entry(content).or_default() += 1;
    }
    let twice: Vec<_> = ids.iter().filter(|(_, times)| 1 < **times).collect();
    assert!(twice.is_empty(), "told twice: {twice:?}");
    let twice: Vec<_> = contents.iter().filter(|(_, times)| 1 < **times).collect();
    assert!(twice.is_empty(), "told twice under two ids: {twice:?}");
    assert_eq!(contents.len(), expected);
}

/// Nothing is behind, and nothing that was sent is without an answer.
async fn nothing_waits(client: &Client) {
    eventually("nothing waits", PATIENCE, async || {
        let metrics = client.metrics().await;
        let waiting = |name| metrics.sum(name, &[]);
        let waiting = ["weir_bus_queued_records", "weir_bus_consumer_lag_records"].map(waiting);
        match (waiting, undelivered(&metrics)) {
            ([0.0, 0.0], 0.0) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
}

/// Acknowledged records whose time was not taken.
fn undelivered(metrics: &Metrics) -> f64 {
    metrics.sum("weir_bus_produced_records_total", &[])
        - metrics.sum("weir_bus_delivery_seconds_count", &[])
}
