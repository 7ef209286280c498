//! What the bus counts. Labels are topics, partitions and groups: all bounded.

use std::collections::HashMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::access::Right;
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
    /// Partitions that topics have beyond those they were made with.
    added_partitions: Family<TopicLabel, Gauge>,
    /// One while the log takes records.
    pub(crate) available: Gauge,
    /// Records that wait for the log.
    pub(crate) queued: Gauge,
    /// One for each right that this process lacks.
    denied: Family<RightLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RightLabels {
    operation: &'static str,
    resource: String,
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
            added_partitions: Family::default(),
            available: Gauge::default(),
            queued: Gauge::default(),
            denied: Family::default(),
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
            "weir_bus_added_partitions",
            "Partitions of a topic beyond those it was made with: they get no keys",
            self.added_partitions.clone(),
        );
        registry.register(
            "weir_bus_available",
            "1 while the log takes records",
            self.available.clone(),
        );
        registry.register(
            "weir_bus_queued_records",
            "Records that wait for the log",
            self.queued.clone(),
        );
        registry.register(
            "weir_bus_denied",
            "1 while the log does not let this process do that",
            self.denied.clone(),
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

    pub(crate) fn denied(&self, right: &Right, denied: bool) {
        let labels = RightLabels {
            operation: right.operation(),
            resource: right.resource(),
        };
        self.denied.get_or_create(&labels).set(i64::from(denied));
    }

    pub(crate) fn rebalance(&self, group: &str, kind: &'static str) {
        let group = group.to_owned();
        self.rebalances
            .get_or_create(&RebalanceLabels { group, kind })
            .inc();
    }

    /// Tells that `topic` has `found` partitions although it was made with `made`: once for each number.
    pub(crate) fn grown(&self, topic: &'static str, made: i32, found: i32) {
        let label = TopicLabel {
            topic: topic.to_owned(),
        };
        let added = i64::from(found - made);
        if self.added_partitions.get_or_create(&label).set(added) != added {
            tracing::warn!(
                topic,
                "made with {made} partitions and has {found} now; those that were added stay without keys, and what others \
                 write there is moved"
            );
        }
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

    pub(crate) fn grown(&self, topic: &'static str, made: i32, found: i32) {
        self.metrics.grown(topic, made, found);
    }

    fn lag_labels(&self, partition: Partition) -> LagLabels {
        LagLabels {
            topic: partition.topic,
            partition: partition.index,
            group: self.group.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn shown(metrics: &Metrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[track_caller]
    fn check(metrics: &Metrics, line: &str, there: bool) {
        let text = shown(metrics);
        assert_eq!(text.lines().any(|l| l == line), there, "{line}\n{text}");
    }

    #[test]
    fn shows_what_was_counted() {
        let metrics = Metrics::default();
        metrics.produced("weir.usage.v1").inc_by(3);
        metrics.error("full");
        let produced = r#"weir_bus_produced_records_total{topic="weir.usage.v1"} 3"#;
        check(&metrics, produced, true);
        check(&metrics, r#"weir_bus_errors_total{kind="full"} 1"#, true);
        check(&metrics, "weir_bus_delivery_seconds_count 0", true);
        metrics.grown("weir.usage.v1", 12, 16);
        let added = r#"weir_bus_added_partitions{topic="weir.usage.v1"} 4"#;
        check(&metrics, added, true);
        let mut reader = metrics.reader("aggregator");
        reader.consumed("weir.usage.v1", 5);
        reader.rebalance("assigned");
        let consumed =
            r#"weir_bus_consumed_records_total{topic="weir.usage.v1",group="aggregator"} 5"#;
        check(&metrics, consumed, true);
        let changed = r#"weir_bus_rebalances_total{group="aggregator",kind="assigned"} 1"#;
        check(&metrics, changed, true);
    }

    #[test]
    fn lag_is_shown_only_while_a_partition_is_read_here() {
        let metrics = Metrics::default();
        let reader = metrics.reader("g");
        let partition = Partition {
            topic: "t",
            index: 4,
        };
        let line = r#"weir_bus_consumer_lag_records{topic="t",partition="4",group="g"} 17"#;
        reader.lag(partition, 17);
        check(&metrics, line, true);
        reader.forget(partition);
        check(&metrics, line, false);
    }
}
