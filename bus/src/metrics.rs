//! What the bus counts. Labels are topics, partitions and groups: all bounded.

use std::collections::HashMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::record::Partition;

/// Everything that the bus of one process counts. A clone counts into the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Records acknowledged by the log, by topic.
    produced: Family<TopicLabel, Counter>,
    /// Records handed to a reader, by topic and group.
    consumed: Family<GroupLabel, Counter>,
    /// From handing a record to the client until the log's acknowledgement.
    pub(crate) delivery: Histogram,
    /// What went wrong, by kind.
    errors: Family<KindLabel, Counter>,
    /// Records between a reader and the end of the log.
    lag: Family<LagLabels, Gauge>,
    /// Changes of ownership, by group and what changed.
    rebalances: Family<RebalanceLabels, Counter>,
    /// One while the log answers.
    pub(crate) available: Gauge,
    /// Records that wait for the log.
    pub(crate) queued: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GroupLabel {
    topic: &'static str,
    group: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LagLabels {
    topic: &'static str,
    partition: i32,
    group: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RebalanceLabels {
    group: String,
    kind: &'static str,
}

/// 0.25 ms to 8 s.
fn delivery_buckets() -> impl Iterator<Item = f64> {
    (0..16).map(|power| 0.000_25 * f64::from(1 << power))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            produced: Family::default(),
            consumed: Family::default(),
            delivery: Histogram::new(delivery_buckets()),
            errors: Family::default(),
            lag: Family::default(),
            rebalances: Family::default(),
            available: Gauge::default(),
            queued: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Shows these numbers in `registry`. Once per registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "weir_bus_produced_records",
            "Records acknowledged by the log",
            self.produced.clone(),
        );
        registry.register(
            "weir_bus_consumed_records",
            "Records handed to a reader",
            self.consumed.clone(),
        );
        registry.register(
            "weir_bus_delivery_seconds",
            "From sending a record to the log's acknowledgement",
            self.delivery.clone(),
        );
        registry.register(
            "weir_bus_errors",
            "Errors between Weir and its log, by kind",
            self.errors.clone(),
        );
        registry.register(
            "weir_bus_consumer_lag_records",
            "Records between a reader and the end of the log",
            self.lag.clone(),
        );
        registry.register(
            "weir_bus_rebalances",
            "Changes of who reads which partition",
            self.rebalances.clone(),
        );
        registry.register(
            "weir_bus_available",
            "1 while the log answers",
            self.available.clone(),
        );
        registry.register(
            "weir_bus_queued_records",
            "Records that wait for the log",
            self.queued.clone(),
        );
    }

    pub(crate) fn produced(&self, topic: &str) -> Counter {
        let label = TopicLabel {
            topic: topic.to_owned(),
        };
        self.produced.get_or_create_owned(&label)
    }

    pub(crate) fn error(&self, kind: &'static str) {
        self.errors.get_or_create(&KindLabel { kind }).inc();
    }

    pub(crate) fn rebalance(&self, group: &str, kind: &'static str) {
        let group = group.to_owned();
        self.rebalances
            .get_or_create(&RebalanceLabels { group, kind })
            .inc();
    }

    /// The numbers of one reader.
    pub(crate) fn reader(&self, group: &str) -> ReaderMetrics {
        ReaderMetrics {
            metrics: self.clone(),
            group: group.to_owned(),
            consumed: HashMap::new(),
        }
    }
}

/// The numbers of one reader, looked up once per topic rather than once per batch.
pub(crate) struct ReaderMetrics {
    metrics: Metrics,
    group: String,
    consumed: HashMap<&'static str, Counter>,
}

impl ReaderMetrics {
    pub(crate) fn consumed(&mut self, topic: &'static str, records: usize) {
        let (metrics, group) = (&self.metrics, &self.group);
        let counter = self.consumed.entry(topic).or_insert_with(|| {
            let group = group.clone();
            metrics
                .consumed
                .get_or_create_owned(&GroupLabel { topic, group })
        });
        counter.inc_by(records as u64);
    }

    pub(crate) fn lag(&self, partition: Partition, records: i64) {
        let labels = self.lag_labels(partition);
        self.metrics.lag.get_or_create(&labels).set(records);
    }

    /// A partition that is read elsewhere has its lag there.
    pub(crate) fn forget(&self, partition: Partition) {
        self.metrics.lag.remove(&self.lag_labels(partition));
    }

    pub(crate) fn error(&self, kind: &'static str) {
        self.metrics.error(kind);
    }

    pub(crate) fn rebalance(&self, kind: &'static str) {
        self.metrics.rebalance(&self.group, kind);
    }

    fn lag_labels(&self, partition: Partition) -> LagLabels {
        LagLabels {
            topic: partition.topic,
            partition: partition.index,
            group: self.group.clone(),
        }
    }
}
