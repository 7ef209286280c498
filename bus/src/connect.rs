//! From a configuration to a bus whose topics stand.

mod admin;
mod diagnose;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use schemas::codec::Wire;
use schemas::record::{Layout, PolicyRecord};
use schemas::topic::{self, POLICIES, Topic, TopicSpec};

use crate::access::{Access, Denial};
use crate::clock::{SharedClock, Stopwatch};
use crate::config::Config;
use crate::consumer::{Consumer, Settings, Subscription};
use crate::error::BusError;
use crate::follow::{Followed, Follower, Following};
use crate::inspect::Inspector;
use crate::layout::{self, Partitions};
use crate::metrics::Metrics;
use crate::producer::{Client, Producer};
use admin::Admin;

/// Between looking for what is waited for and looking again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The log as one process sees it. A clone is cheap and shares everything.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    clock: SharedClock,
    client: Arc<Client>,
    partitions: Arc<Partitions>,
    metrics: Metrics,
}

impl Bus {
    /// Waits for the log, makes the topics that are missing, and checks those that are there.
    ///
    /// # Errors
    /// When the log does not answer within `ready_within`, or a topic is not as Weir needs it; the text says what to
    /// do.
    pub async fn connect(config: Config, clock: SharedClock) -> Result<Self, BusError> {
        let config = config.prepare(clock.now())?;
        let since = Stopwatch::start();
        let metrics = Metrics::default();
        let client = Arc::new(Client::start(&config, &metrics)?);
        let admin = Admin::new(&config, Arc::clone(&client), since)?;
        let found = admin.make_topics(&topic::ALL).await?;
        admin.check_settings(&topic::ALL).await?;
        let partitions = settle(&config, &client, &found).await?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                clock,
                client,
                partitions: Arc::new(partitions),
                metrics,
            }),
        })
    }

    /// How many partitions `topic` was made with. Ones that were added later are read but get no keys.
    #[must_use]
    pub fn partitions(&self, topic: TopicSpec) -> i32 {
        self.shared.partitions.of(topic.name)
    }

    /// The partition in which `key` lives.
    #[must_use]
    pub fn partition_of(&self, topic: TopicSpec, key: &str) -> i32 {
        self.shared.partitions.place(topic.name, key.as_bytes())
    }

    /// The one producer of this process.
    #[must_use]
    pub fn producer(&self) -> Producer {
        let client = Arc::clone(&self.shared.client);
        Producer::new(client, Arc::clone(&self.shared.partitions))
    }

    /// Whether the log answers, as far as is known without asking: cheap enough for every request.
    #[must_use]
    pub fn available(&self) -> bool {
        self.shared.client.health.available()
    }

    /// What the log does not let this process do at the moment. Each was logged, with what it takes to grant it.
    #[must_use]
    pub fn denials(&self) -> Vec<Denial> {
        self.shared.client.access.denials()
    }

    /// Waits until nothing can be sent any more for good, and says why: the process must end then, since only a new
    /// one can go on. Cancel safe.
    pub async fn failure(&self) -> BusError {
        self.shared.client.failure().await
    }

    /// Joins a group and reads what it is given.
    ///
    /// # Errors
    /// When the client library refuses the settings. That the log is away is no error here: reading waits for it.
    pub fn consume(&self, subscription: Subscription) -> Result<Consumer, BusError> {
        let config = &self.shared.config;
        let settings = Settings {
            client: config.consumer(&subscription.group),
            batches_max: config.batches_max,
            hand_over_within: config.hand_over_within,
            made: Arc::clone(&self.shared.partitions),
            access: Arc::clone(&self.shared.client.access),
        };
        Consumer::start(subscription, settings, &self.shared.metrics)
    }

    /// Follows a compacted topic from its start.
    ///
    /// # Errors
    /// When the client library refuses the settings. That the log is away is no error here: following waits for it.
    pub fn follow<V: Wire>(&self, topic: &Topic<V>) -> Result<Follower<V>, BusError> {
        let partitions = self.partitions(topic.spec());
        follow(&self.shared.config, &self.shared.client, topic, partitions)
    }

    /// All that `topic` holds now: the newest value of each key, sorted by key. For compacted topics. Records that
    /// nobody can read are passed over, and logged.
    ///
    /// # Errors
    /// When reading cannot go on. While the log is away it waits.
    pub async fn read_all<V: Wire>(&self, topic: &Topic<V>) -> Result<Vec<(String, V)>, BusError> {
        let all = collect(self.follow(topic)?, topic.name()).await?;
        Ok(all.into_iter().collect())
    }

    /// A look at the log as a whole, for a service that reads back what was.
    ///
    /// # Errors
    /// When the log does not answer within `ready_within`.
    pub async fn inspect(&self) -> Result<Inspector, BusError> {
        Inspector::connect(self.shared.config.clone()).await
    }

    /// What the bus counts; see [`Metrics::register`].
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Shows what the bus counts in `registry`. Once per registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }
}

fn follow<V: Wire>(
    config: &Config,
    client: &Client,
    topic: &Topic<V>,
    partitions: i32,
) -> Result<Follower<V>, BusError> {
    let following = Following {
        topic: topic.name(),
        partitions,
        lost_after: config.lost_after,
        access: Arc::clone(&client.access),
    };
    let settings = config.consumer(&format!("{}-follow", config.client_id));
    Follower::start(following, &settings, &client.metrics)
}

async fn collect<V: Wire>(
    mut follower: Follower<V>,
    topic: &str,
) -> Result<BTreeMap<String, V>, BusError> {
    let mut all = BTreeMap::new();
    loop {
        match follower.next().await? {
            Followed::Put { key, value, .. } => {
                all.insert(key, value);
            }
            Followed::Lifted { key, .. } => {
                all.remove(&key);
            }
            Followed::Unreadable {
                key,
                partition,
                offset,
                reason,
            } => {
                tracing::warn!(topic, key, partition, offset, reason, "unreadable record");
            }
            Followed::CaughtUp => return Ok(all),
            Followed::Lost | Followed::Back => {}
        }
    }
}

/// Waits until the log denies something: at start that is told at once, and not waited for.
async fn denied(access: &Access) -> Denial {
    loop {
        if let Some(denial) = access.denials().into_iter().next() {
            return denial;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Goes by the layout that is recorded in the log, and records it where it is not.
async fn settle(
    config: &Config,
    client: &Arc<Client>,
    found: &BTreeMap<String, i32>,
) -> Result<Partitions, BusError> {
    let follower = follow(config, client, &POLICIES, 1)?;
    let policies = collect(follower, POLICIES.name());
    let in_time = tokio::time::timeout(config.ready_within, policies);
    let mut policies = tokio::select! {
        read = in_time => read.map_err(|_| BusError::Unreachable {
            bootstrap: config.bootstrap.clone(),
            waited: config.ready_within,
            reason: format!("{} could not be read", POLICIES.name()),
        })??,
        denial = denied(&client.access) => return Err(BusError::Denied(Box::new(denial))),
    };
    let recorded = match policies.remove(Layout::KEY) {
        Some(PolicyRecord::Layout(layout)) => Some(layout),
        _ => None,
    };
    let settled = layout::settle(&topic::ALL, recorded, found)?;
    for (topic, made, found) in settled.grown {
        client.metrics.grown(topic, made, found);
    }
    let partitions = Arc::new(settled.partitions);
    if settled.write {
        let layout = PolicyRecord::Layout(partitions.record());
        Producer::new(Arc::clone(client), Arc::clone(&partitions))
            .send(&POLICIES, Layout::KEY, &layout)
            .await
            .map_err(|source| BusError::Record {
                topic: POLICIES.name(),
                source,
            })?;
    }
    Ok(Arc::unwrap_or_clone(partitions))
}
