//! What the aggregator counts. What became of records comes from the shards' own ledgers, which snapshots keep: it is
//! true since the log began, across restarts, and all columns of one partition are read at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::Partition;
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use schemas::topic::PARTIALS;

use crate::engine::Sizes;
use crate::ledger::Ledger;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    topic: &'static str,
    partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutputLabels {
    kind: &'static str,
}

/// What one shard tells of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) ledger: Ledger,
    pub(crate) sizes: Sizes,
    pub(crate) duplicates_reach_s: u64,
}

/// The shards of this process.
#[derive(Clone, Debug, Default)]
struct Board(Arc<RwLock<BTreeMap<Partition, Figures>>>);

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    board: Board,
    outputs: Family<OutputLabels, Counter>,
    outputs_lost: Family<OutputLabels, Counter>,
    pub(crate) ticks: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) snapshot_seconds: Histogram,
    pub(crate) snapshot_bytes: Counter,
    pub(crate) snapshot_failures: Counter,
    pub(crate) restarts: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            board: Board::default(),
            outputs: Family::default(),
            outputs_lost: Family::default(),
            ticks: Counter::default(),
            snapshots: Counter::default(),
            snapshot_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            snapshot_bytes: Counter::default(),
            snapshot_failures: Counter::default(),
            restarts: Counter::default(),
        };
        registry.register_collector(Box::new(metrics.board.clone()));
        let named = |name: &str| format!("weir_aggregator_{name}");
        registry.register(
            named("outputs"),
            "Signals, rollups, sums of wider scopes, and dead and moved records that were written, by kind",
            metrics.outputs.clone(),
        );
        registry.register(
            named("outputs_lost"),
            "Outputs that the log can never take, by kind: nothing else loses any",
            metrics.outputs_lost.clone(),
        );
        registry.register(
            named("snapshot_seconds"),
            "Time from the beginning of a snapshot until it was written",
            metrics.snapshot_seconds.clone(),
        );
        let counters = [
            (
                "ticks",
                "Markers of time written into quiet partitions",
                &metrics.ticks,
            ),
            ("snapshots", "Snapshots written", &metrics.snapshots),
            (
                "snapshot_bytes",
                "Bytes of snapshots written",
                &metrics.snapshot_bytes,
            ),
            (
                "snapshot_failures",
                "Snapshots that could not be written",
                &metrics.snapshot_failures,
            ),
            (
                "restarts",
                "Times that all shards went back to their snapshots because outputs were not acknowledged",
                &metrics.restarts,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(named(name), help, counter.clone());
        }
        metrics
    }

    /// Tells what became of a shard's records, at once with every batch.
    pub(crate) fn set_ledger(&self, partition: Partition, ledger: Ledger) {
        self.board.0.write().entry(partition).or_default().ledger = ledger;
    }

    pub(crate) fn set_figures(&self, partition: Partition, figures: Figures) {
        self.board.0.write().insert(partition, figures);
    }

    /// Forgets a shard that another process has now.
    pub(crate) fn remove(&self, partition: Partition) {
        self.board.0.write().remove(&partition);
    }

    pub(crate) fn output(&self, kind: &'static str) {
        self.outputs.get_or_create(&OutputLabels { kind }).inc();
    }

    pub(crate) fn output_lost(&self, kind: &'static str) {
        self.outputs_lost
            .get_or_create(&OutputLabels { kind })
            .inc();
    }
}

/// A column of what a shard tells: name, help, value.
type Column = (&'static str, &'static str, fn(&Figures) -> u64);

/// The ledger of a shard of events. That of a shard of partials has the same columns under another name: sums are no
/// events, and a total over all shards must not count anything twice.
const LEDGER: [Column; 7] = [
    (
        "accepted",
        "Records that were counted, late, duplicate or dead",
        |f| f.ledger.accepted,
    ),
    ("counted", "Events that were counted", |f| f.ledger.counted),
    (
        "late",
        "Events that lay too far behind their tenant's newest",
        |f| f.ledger.late,
    ),
    ("duplicate", "Events that were seen before", |f| {
        f.ledger.duplicate
    }),
    (
        "dead",
        "Records that nobody could read, or that lay too far ahead",
        |f| f.ledger.dead,
    ),
    (
        "moved",
        "Records sent on to the partition where they belong",
        |f| f.ledger.moved,
    ),
    (
        "markers",
        "Changes of policy and ticks among the events",
        |f| f.ledger.markers,
    ),
];

const GAUGES: [Column; 6] = [
    (
        "owners",
        "Tenants, and scopes wider than one, that are known",
        |f| f.sizes.owners as u64,
    ),
    ("counters", "Counters in memory", |f| {
        f.sizes.counters as u64
    }),
    ("cells", "Minutes of usage in memory", |f| {
        f.sizes.cells as u64
    }),
    (
        "state_bytes",
        "What counters, minutes of usage, sketches and remembered events take in memory, about",
        |f| f.sizes.bytes as u64,
    ),
    ("duplicates_known", "Events that are remembered", |f| {
        f.sizes.seen as u64
    }),
    (
        "duplicates_reach_seconds",
        "Age of the oldest event that is remembered: what is sent again after longer may be counted twice",
        |f| f.duplicates_reach_s,
    ),
];

/// What was refused because `state_bytes_max` was reached, or a list of a sketch was full.
const REFUSED: [Column; 4] = [
    (
        "refused_counters",
        "Amounts that no counter was made for, for want of room",
        |f| f.sizes.refused.counters,
    ),
    (
        "refused_details",
        "Events whose usage is told for their tenant alone, for want of room",
        |f| f.sizes.refused.details,
    ),
    (
        "refused_scopes",
        "Amounts for scopes wider than a tenant that were not taken, for want of room",
        |f| f.sizes.refused.scopes,
    ),
    (
        "sketches_displaced",
        "Ids that made room for another in a sketch, or found none: it was full or could not grow",
        |f| f.sizes.refused.displaced,
    ),
];

impl Collector for Board {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let figures: Vec<(Partition, Figures)> = self
            .0
            .read()
            .iter()
            .map(|(partition, figures)| (*partition, *figures))
            .collect();
        let labels = |partition: &Partition| PartitionLabels {
            topic: partition.topic,
            partition: partition.index,
        };
        for (what, is_of_partials) in [("events", false), ("partials", true)] {
            let of_kind = |(partition, _): &&(Partition, Figures)| {
                (partition.topic == PARTIALS.name()) == is_of_partials
            };
            for (name, help, value) in LEDGER {
                let name = format!("weir_aggregator_{what}_{name}");
                let mut metric =
                    encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
                for (partition, figures) in figures.iter().filter(of_kind) {
                    let counter = ConstCounter::new(value(figures));
                    counter.encode(metric.encode_family(&labels(partition))?)?;
                }
            }
        }
        for (name, help, value) in REFUSED {
            let name = format!("weir_aggregator_{name}");
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (partition, figures) in &figures {
                let counter = ConstCounter::new(value(figures));
                counter.encode(metric.encode_family(&labels(partition))?)?;
            }
        }
        for (name, help, value) in GAUGES {
            let name = format!("weir_aggregator_{name}");
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for (partition, figures) in &figures {
                let gauge = ConstGauge::new(i64::try_from(value(figures)).unwrap_or(i64::MAX));
                gauge.encode(metric.encode_family(&labels(partition))?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn a_ledger_is_shown_by_partition() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let partition = |topic| Partition { topic, index: 3 };
        let ledger = Ledger {
            accepted: 5,
            counted: 4,
            late: 1,
            ..Ledger::default()
        };
        for topic in ["weir.usage.v1", PARTIALS.name()] {
            metrics.set_ledger(partition(topic), ledger);
        }
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        for (what, topic) in [("events", "weir.usage.v1"), ("partials", PARTIALS.name())] {
            for (name, value) in [("accepted", 5), ("counted", 4), ("late", 1), ("dead", 0)] {
                let labels = format!(r#"{{topic="{topic}",partition="3"}}"#);
                let line = format!("weir_aggregator_{what}_{name}_total{labels} {value}\n");
                assert_eq!(shown().matches(&line).count(), 1, "{line} in\n{}", shown());
            }
        }
        assert_eq!(shown().matches("events_counted_total{").count(), 1);
        metrics.remove(partition("weir.usage.v1"));
        assert!(!shown().contains(r#"topic="weir.usage.v1""#), "{}", shown());
    }
}
