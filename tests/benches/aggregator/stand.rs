//! A Kafka, and a Weir whose aggregator is a process of its own.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tests::client::Client;
use tests::eventually;
use tests::kafka::Kafka;
use tests::process::{cpu_time, resident_mib};
use tests::weir::{Options, Weir};

pub(crate) const TOPIC: &str = schemas::topic::USAGE.name();
pub(crate) const PARTITIONS: i32 = 4;
/// As the peer's own limit is.
const ONE_LIMIT: &str = "\
[[limit]]
name = \"tokens\"
subject = \"tenant/*/key/*\"
meter = \"tokens\"
window = \"sliding 60s\"
hard = 100000
mode = \"block\"
";
/// Nothing but the tenant's rollup is made besides the sums, as the peer makes none at all.
const NO_ROLLUPS: &str = "[aggregator]\nrollup_by = []\n";
const PATIENCE: Duration = Duration::from_secs(300);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked how far it is.
const STEP: Duration = Duration::from_millis(100);

pub(crate) struct Stand {
    aggregator: Weir,
    /// Has ended; what it made lets others be asked.
    enforcer: Weir,
    kafka: Kafka,
}

/// What is asked of the aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One minute of tokens for each key: what the peer does.
    Sums,
    /// The same, and usage told apart by everything that an event names, with its rows.
    Rollups,
    /// Six windows each for the tenant, the key, the user and the model.
    Wide,
}

impl Work {
    fn policy(self) -> String {
        if self != Self::Wide {
            return ONE_LIMIT.to_owned();
        }
        let subjects = ["", "/key/*", "/user/*", "/model/*"];
        let windows = [
            "sliding 1s",
            "sliding 10s",
            "sliding 60s",
            "sliding 5m",
            "sliding 1h",
            "calendar day",
        ];
        let limit = |(number, (subject, window)): (usize, (&str, &str))| {
            format!(
                "[[limit]]\nname = \"l{number}\"\nsubject = \"tenant/*{subject}\"\nmeter = \"tokens\"\n\
                 window = \"{window}\"\nhard = 1000000000000\nmode = \"block\"\n\n"
            )
        };
        let pairs = subjects.iter().flat_map(|s| windows.map(|w| (*s, w)));
        pairs.enumerate().map(limit).collect()
    }

    fn config(self) -> String {
        let partitions = format!("[kafka]\npartitions = {PARTITIONS}\n");
        match self {
            Self::Rollups => partitions,
            Self::Sums | Self::Wide => format!("{partitions}\n{NO_ROLLUPS}"),
        }
    }
}

/// What counting took.
pub(crate) struct Taken {
    pub(crate) per_cpu_second: f64,
    pub(crate) resident_mib: f64,
}

impl Stand {
    /// With the policy in force in every partition, and its markers gone from the topic: only events are in it then.
    pub(crate) async fn start(kafka: Kafka, work: Work) -> Self {
        let bootstrap = kafka.bootstrap();
        create_topics(&bootstrap).await;
        let (policy, config) = (work.policy(), work.config());
        let run = async |command| {
            let options = Options {
                command,
                ..Options::up(&policy)
            };
            Weir::start(options.with_config(&config).on(Some(bootstrap.clone()))).await
        };
        let mut enforcer = run("enforcer").await;
        let mut aggregator = run("aggregator").await;
        let client = enforcer.client_at(&aggregator);
        eventually(
            "the policy in every partition",
            PATIENCE,
            async || match of_topic(&client, "weir_aggregator_events_markers_total").await {
                found if found < f64::from(PARTITIONS) => Err(format!("{found} markers")),
                _ => Ok(()),
            },
        )
        .await;
        // It leaves snapshots with the policy in them.
        for weir in [&mut aggregator, &mut enforcer] {
            let ended = weir.terminate(STOP_PATIENCE);
            assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        }
        delete_markers(&bootstrap).await;
        Self {
            aggregator,
            enforcer,
            kafka,
        }
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// Counts all `events` of the topic: measured from a fifth of them on.
    pub(crate) async fn count(&mut self, events: usize) -> Taken {
        self.aggregator.start_again().await;
        let (first, at_first) = self.counted(events / 5).await;
        let (last, at_last) = self.counted(events).await;
        assert_eq!(last, events as f64, "each event is counted once");
        let resident_mib = resident_mib(self.aggregator.id());
        self.stop();
        Taken {
            per_cpu_second: (last - first) / (at_last - at_first).as_secs_f64(),
            resident_mib,
        }
    }

    /// Starts it again on what it left: how long until `events` are counted, of which all but the newest were before.
    #[expect(clippy::disallowed_methods, reason = "a bench measures wall time")]
    pub(crate) async fn restart(&mut self, events: usize) -> Duration {
        let from = Instant::now();
        self.aggregator.start_again().await;
        self.counted(events).await;
        let restarted = from.elapsed();
        self.stop();
        restarted
    }

    fn stop(&mut self) {
        let ended = self.aggregator.terminate(STOP_PATIENCE);
        assert!(ended.is_some(), "the aggregator ends");
    }

    /// Waits until at least so many events are counted: how many, and the CPU time until then.
    async fn counted(&self, least: usize) -> (f64, Duration) {
        let client = self.enforcer.client_at(&self.aggregator);
        let wait = async {
            loop {
                let counted = of_topic(&client, "weir_aggregator_events_counted_total").await;
                if least as f64 <= counted {
                    return (counted, cpu_time(self.aggregator.id()));
                }
                tokio::time::sleep(STEP).await;
            }
        };
        let counted = tokio::time::timeout(PATIENCE, wait).await;
        counted.unwrap_or_else(|_| panic!("{least} events are not counted in {PATIENCE:?}"))
    }
}

/// What a metric says of the topic of the events.
async fn of_topic(client: &Client, metric: &str) -> f64 {
    client.metrics().await.sum(metric, &[("topic", TOPIC)])
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// The topic of events, whose records keep the time that their sender gives them, so that a load of minutes can be
/// written in seconds; and the one into which the peer writes.
async fn create_topics(bootstrap: &str) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("a client");
    let out = format!("{TOPIC}-out");
    let new = [TOPIC, &out].map(|name| {
        NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)).set("retention.ms", "-1")
    });
    let created = admin.create_topics(&new, &AdminOptions::new()).await;
    for topic in created.expect("an answer") {
        topic.expect("a new topic");
    }
}

async fn delete_markers(bootstrap: &str) {
    let reader: BaseConsumer = client(bootstrap).create().expect("a client");
    let mut ends = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let bounds = reader.fetch_watermarks(TOPIC, partition, STOP_PATIENCE);
        let (_, end) = bounds.expect("a partition's bounds");
        ends.add_partition_offset(TOPIC, partition, Offset::Offset(end))
            .expect("an offset");
    }
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("a client");
    let deleted = admin.delete_records(&ends, &AdminOptions::new()).await;
    deleted.expect("the markers are deleted");
}
