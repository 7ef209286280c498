//! The load: the trace over HTTP and, for some tenants, straight to the topic, and live tenants that cross a limit. It
//! goes on by stages, so that some of it is left for each, however long one takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use schemas::partition::partition_of;
use serde_json::{Value, json};
use tests::client::Client;
use tests::events::usage;
use tests::trace;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{GROWN, PARTITIONS, USAGE};

/// Tenants whose events a foreign producer writes. By the number of partitions that the topic has in the end they
/// belong elsewhere, one of them in a partition that was there from the start.
pub(super) const FOREIGN: [&str; 4] = ["tenant-03", "tenant-08", "tenant-13", "tenant-14"];
/// Probes after which a live tenant is refused.
pub(super) const PROBES: usize = 3;
/// About how long a stage is thought to take.
const STAGE: Duration = Duration::from_secs(12);
const PAUSE: Duration = Duration::from_millis(100);
/// An honest client that was refused tries again.
const RETRY: Duration = Duration::from_millis(200);
const DONE_WITHIN: Duration = Duration::from_secs(180);

pub(super) struct Load {
    shared: Arc<Shared>,
    stage: watch::Sender<usize>,
    tasks: JoinSet<()>,
}

struct Shared {
    client: Client,
    stages: usize,
    /// Requests that were answered 202.
    taken: AtomicUsize,
    /// Requests that were answered 503, or not at all.
    refused: AtomicUsize,
    /// Records that the foreign producer wrote to partitions to which they do not belong.
    misplaced: AtomicUsize,
}

/// What came of all of it.
pub(super) struct Done {
    /// Live tenants, each of which has crossed its limit once.
    pub(super) live: Vec<String>,
    pub(super) misplaced: usize,
}

impl Load {
    /// Begins with the first stage.
    pub(super) fn start(client: Client, bootstrap: &str, stages: usize) -> Self {
        let (foreign, own): (Vec<_>, Vec<_>) = trace::events()
            .into_iter()
            .map(|event| (tenant(&event), event))
            .partition(|(tenant, _)| FOREIGN.contains(&tenant.as_str()));
        let shared = Arc::new(Shared {
            client,
            stages,
            taken: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            misplaced: AtomicUsize::new(0),
        });
        let (stage, seen) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let own = own.into_iter().map(|(_, event)| event).collect();
        tasks.spawn(post_trace(Arc::clone(&shared), own, seen.clone()));
        let producer = foreign_producer(bootstrap);
        tasks.spawn(produce(Arc::clone(&shared), producer, foreign, seen));
        let mut load = Self {
            shared,
            stage,
            tasks,
        };
        load.begin_live(0);
        load
    }

    /// Lets the next share of the trace go, and another live tenant begin.
    pub(super) fn next_stage(&mut self) {
        self.stage.send_modify(|stage| *stage += 1);
        let stage = *self.stage.borrow();
        assert!(stage < self.shared.stages, "a stage too many");
        self.begin_live(stage);
    }

    pub(super) fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }

    pub(super) fn misplaced(&self) -> usize {
        self.shared.misplaced.load(Ordering::Relaxed)
    }

    /// Sends the rest without a pause.
    pub(super) async fn finish(mut self) -> Done {
        let stages = self.shared.stages;
        assert_eq!(*self.stage.borrow() + 1, stages, "a stage was left out");
        self.stage.send_replace(stages);
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.expect("the load was taken");
            }
        };
        let all = tokio::time::timeout(DONE_WITHIN, all).await;
        all.expect("the whole load is taken in time");
        Done {
            live: (0..stages).map(live_tenant).collect(),
            misplaced: self.misplaced(),
        }
    }

    fn begin_live(&mut self, stage: usize) {
        self.tasks
            .spawn(probe(Arc::clone(&self.shared), live_tenant(stage)));
    }
}

pub(super) fn live_tenant(stage: usize) -> String {
    format!("live-{stage}")
}

fn tenant(event: &str) -> String {
    let event: Value = serde_json::from_str(event).expect("an event");
    event["subject"].as_str().expect("a tenant").to_owned()
}

impl Shared {
    /// Posts as an honest client does: the same again and again, until it is told that all is taken.
    async fn post(&self, events: &[String]) {
        loop {
            match self.client.try_post(events.join("\n")).await {
                Ok(answer) if answer.status == 202 => {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                Err(_) => {}
            }
            self.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Of `all` events, so many may be sent until `stage` ends.
    fn share(&self, all: usize, stage: usize) -> usize {
        all * (stage + 1).min(self.stages) / self.stages
    }

    /// So many of `all` events are sent between two pauses.
    fn at_once(&self, all: usize) -> usize {
        let pauses = self.stages * (STAGE.as_millis() / PAUSE.as_millis()) as usize;
        all.div_ceil(pauses)
    }

    async fn pause(&self, stage: &watch::Receiver<usize>) {
        if *stage.borrow() < self.stages {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Waits until more than `sent` of `all` events may be sent, and gives how many.
async fn allowed(
    shared: &Shared,
    all: usize,
    sent: usize,
    stage: &mut watch::Receiver<usize>,
) -> usize {
    let reached = stage
        .wait_for(|stage| sent < shared.share(all, *stage))
        .await;
    let stage = *reached.expect("the load is finished before it is dropped");
    shared.share(all, stage)
}

async fn post_trace(shared: Arc<Shared>, events: Vec<String>, mut stage: watch::Receiver<usize>) {
    let mut sent = 0;
    while sent < events.len() {
        let allowed = allowed(&shared, events.len(), sent, &mut stage).await;
        let next = allowed.min(sent + shared.at_once(events.len()));
        shared.post(&events[sent..next]).await;
        sent = next;
        shared.pause(&stage).await;
    }
}

fn foreign_producer(bootstrap: &str) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "0")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        .set("message.timeout.ms", "0")
        .set("topic.metadata.refresh.interval.ms", "1000")
        .create()
        .expect("a producer")
}

/// Writes each event once the one before it is acknowledged, wherever the library's partitioner puts it.
async fn produce(
    shared: Arc<Shared>,
    producer: FutureProducer,
    events: Vec<(String, String)>,
    mut stage: watch::Receiver<usize>,
) {
    let mut sent = 0;
    while sent < events.len() {
        let allowed = allowed(&shared, events.len(), sent, &mut stage).await;
        let next = allowed.min(sent + shared.at_once(events.len()));
        for (tenant, event) in &events[sent..next] {
            let record = FutureRecord::to(USAGE).key(tenant).payload(event);
            let delivery = producer.send(record, Timeout::Never).await;
            let delivery = delivery.expect("it waits for as long as it takes");
            assert!((0..GROWN).contains(&delivery.partition));
            if delivery.partition != partition_of(tenant.as_bytes(), PARTITIONS) {
                shared.misplaced.fetch_add(1, Ordering::Relaxed);
            }
        }
        sent = next;
        shared.pause(&stage).await;
    }
}

/// Uses what a live tenant may, one by one.
async fn probe(shared: Arc<Shared>, tenant: String) {
    for _ in 0..PROBES {
        let data = json!({ "requests": 0, "units": { "probes": 1 } });
        shared.post(&[usage(&tenant, &data)]).await;
        tokio::time::sleep(PAUSE).await;
    }
}
