//! From a configuration to a bus whose topics stand.

use std::sync::Arc;

use schemas::codec::Wire;
use schemas::topic::{Topic, TopicSpec};

use crate::clock::SharedClock;
use crate::config::Config;
use crate::consumer::{Consumer, Subscription};
use crate::error::BusError;
use crate::follow::Follower;
use crate::layout::Partitions;
use crate::metrics::Metrics;
use crate::producer::{Client, Producer};

/// The log as one process sees it. A clone is cheap and shares everything.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    client: Arc<Client>,
    partitions: Arc<Partitions>,
    metrics: Metrics,
}

impl Bus {
    pub async fn connect(config: Config, clock: SharedClock) -> Result<Self, BusError> {
        config.check()?;
        let _ = clock;
        let metrics = Metrics::default();
        let client = Arc::new(Client::start(&config, &metrics)?);
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                client,
                partitions: Arc::default(),
                metrics,
            }),
        })
    }

    /// How many partitions `topic` was made with.
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

    pub fn consume(&self, subscription: Subscription) -> Result<Consumer, BusError> {
        let _ = (subscription, &self.shared.config);
        Err(BusError::Closed)
    }

    pub fn follow<V: Wire>(&self, topic: &Topic<V>) -> Result<Follower<V>, BusError> {
        let _ = topic;
        Err(BusError::Closed)
    }

    /// All that `topic` holds now: the newest value of each key, sorted by key. For compacted topics.
    pub async fn read_all<V: Wire>(&self, topic: &Topic<V>) -> Result<Vec<(String, V)>, BusError> {
        let _ = topic;
        Err(BusError::Closed)
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}
