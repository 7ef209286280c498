//! A Kafka cluster of three processes on this machine: each is broker and controller, and every topic has a copy on
//! each of them. Two of three must be there for anything to be acknowledged.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::{Metadata, MetadataPartition};

use super::{Jars, QUICK, READY_WITHIN, Tuning, lines};
use crate::eventually;
use crate::process::{Signal, free_port};

/// How many nodes there are, and copies of each partition.
const NODES: usize = 3;
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// A broker that is silent for four seconds has lost what it led; what Kafka keeps for itself has a copy on every node
/// as well.
const REPLICATED: [(&str, &str); 9] = [
    (
        "listener.security.protocol.map",
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    ),
    ("broker.heartbeat.interval.ms", "500"),
    ("broker.session.timeout.ms", "4000"),
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    ("transaction.state.log.replication.factor", "3"),
    ("unclean.leader.election.enable", "false"),
];

/// Nodes are numbered from 1 as Kafka numbers them. Dropped: all stopped, their data gone.
pub struct Cluster {
    nodes: Vec<Jars>,
    bootstrap: String,
    client: Arc<BaseConsumer>,
}

impl Cluster {
    /// Starts all three and waits until they know each other.
    ///
    /// # Panics
    /// When they do not, or when Java or Kafka's jars are not there.
    pub async fn start() -> Self {
        let ports: [(u16, u16); NODES] = std::array::from_fn(|_| (free_port(), free_port()));
        // All at once: most of it is Java's own start.
        let prepared: Vec<_> = (1..=NODES)
            .map(|id| {
                let properties = properties(id, &ports);
                std::thread::spawn(move || Jars::with(&properties, Tuning::OneOfThree))
            })
            .collect();
        let nodes = prepared
            .into_iter()
            .map(|node| node.join().expect("a node"));
        let bootstrap = ports.map(|(port, _)| format!("127.0.0.1:{port}")).join(",");
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("log_level", "0")
            .create()
            .expect("a client");
        let mut cluster = Self {
            nodes: nodes.collect(),
            bootstrap,
            client: Arc::new(client),
        };
        cluster.nodes.iter_mut().for_each(Jars::run);
        cluster.wait_in_sync().await;
        cluster
    }

    /// The value for `bootstrap.servers`: all of them.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    /// Ends a node with no chance to write anything more.
    pub fn kill9(&mut self, node: i32) {
        self.node(node).kill9();
    }

    /// Asks a node to stop, which hands over what it leads before it ends, and waits for that.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(&mut self, node: i32) {
        let jars = self.node(node);
        jars.leash = None;
        let process = jars.process.as_mut().expect("a node that was started");
        process.signal(Signal::TERM);
        eventually("a node stops", STOPPED_WITHIN, async || {
            let ended = process.ended();
            ended.ok_or_else(|| "it still runs".to_owned())
        })
        .await;
    }

    /// Starts a node again on the data it had; does not wait for it.
    pub fn restart(&mut self, node: i32) {
        self.node(node).run();
    }

    /// Waits until all nodes are there and hold all that was written.
    ///
    /// # Panics
    /// When that does not come to be, or a node has ended that is not to.
    pub async fn wait_in_sync(&mut self) {
        eventually("all nodes are in sync", READY_WITHIN, async || {
            self.nodes.iter_mut().for_each(Jars::check);
            let metadata = self.metadata(None).await?;
            match (metadata.brokers().len(), behind(&metadata)) {
                (NODES, behind) if behind.is_empty() => Ok(()),
                (nodes, behind) => Err(format!("{nodes} nodes; behind: {behind:?}")),
            }
        })
        .await;
    }

    /// The node that answers for a partition.
    ///
    /// # Errors
    /// When none does at the moment.
    pub async fn leader_of(&self, topic: &'static str, partition: i32) -> Result<i32, String> {
        let metadata = self.metadata(Some(topic)).await?;
        let mut partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        let found = partitions.find(|p| p.id() == partition);
        found
            .map(MetadataPartition::leader)
            .filter(|leader| 0 < *leader)
            .ok_or_else(|| format!("{topic}/{partition} has no leader"))
    }

    /// Gives a topic more partitions, `count` in all, as an operator would.
    ///
    /// # Panics
    /// When the cluster refuses.
    pub async fn grow(&self, topic: &str, count: usize) {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()
            .expect("a client");
        let wanted = [NewPartitions::new(topic, count)];
        let grown = admin
            .create_partitions(&wanted, &AdminOptions::new())
            .await
            .expect("an answer");
        assert_eq!(grown, [Ok(topic.to_owned())]);
    }

    async fn metadata(&self, topic: Option<&'static str>) -> Result<Metadata, String> {
        let client = Arc::clone(&self.client);
        let asked = tokio::task::spawn_blocking(move || client.fetch_metadata(topic, ASK_WITHIN));
        let metadata = asked.await.expect("the question is asked");
        metadata.map_err(|error| error.to_string())
    }

    fn node(&mut self, node: i32) -> &mut Jars {
        let index = usize::try_from(node - 1).ok();
        let found = index.and_then(|index| self.nodes.get_mut(index));
        found.expect("a node's number")
    }
}

/// Partitions that no node answers for, or that not all nodes hold whole.
fn behind(metadata: &Metadata) -> Vec<String> {
    let partitions = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions().iter().map(move |p| (topic.name(), p)));
    partitions
        .filter(|(_, p)| p.leader() < 1 || p.isr().len() != p.replicas().len())
        .map(|(topic, p)| format!("{topic}/{}", p.id()))
        .collect()
}

fn properties(id: usize, ports: &[(u16, u16); NODES]) -> String {
    let (port, controller) = ports[id - 1];
    let voters: Vec<String> = (1..)
        .zip(ports)
        .map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}"))
        .collect();
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n{}",
        voters.join(","),
        lines(REPLICATED.iter().chain(&QUICK).copied()),
    )
}
