//! Where the group last committed: asked of the log before partitions are assigned.
//!
//! The client library would ask as well. But where the answer to it is an error, as from a coordinator that has just
//! taken over, it reports that once and leaves the partition unread for as long as it is assigned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::{Phase, Reader};
use crate::clock::Stopwatch;
use crate::consumer::Start;
use crate::error::BusError;
use crate::record::Partition;

/// How long one question may take: nothing else is done in the meantime.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Between asking in vain and asking again.
const ASK_EVERY: Duration = Duration::from_millis(100);

impl Reader {
    /// Begins to read once it is known where, which takes as long as the log is away.
    pub(super) fn locate(&mut self) -> Result<(), BusError> {
        let Phase::Locating {
            partitions,
            offsets,
            asked,
        } = &mut self.phase
        else {
            return Ok(());
        };
        if asked
            .as_ref()
            .is_some_and(|asked| asked.elapsed() < ASK_EVERY)
        {
            return Ok(());
        }
        let (partitions, offsets) = (Arc::clone(partitions), offsets.clone());
        let unknown = partitions.iter().filter(|partition| {
            self.subscription.start == Start::Committed
                && offsets.iter().all(|(of, _)| of != *partition)
        });
        let unknown: Vec<Partition> = unknown.copied().collect();
        match self.committed(&unknown) {
            Ok(committed) => self.assign(&partitions, &offsets, &committed),
            Err(error) => {
                self.tell_group(&error);
                if let Phase::Locating { asked, .. } = &mut self.phase {
                    *asked = Some(Stopwatch::start());
                }
                Ok(())
            }
        }
    }

    /// Where to begin with each of `partitions`. One that the log does not let this process see is left out: reading
    /// it is what will tell whose right is missing.
    pub(super) fn committed(
        &self,
        partitions: &[Partition],
    ) -> KafkaResult<BTreeMap<Partition, Offset>> {
        let mut committed = BTreeMap::new();
        if partitions.is_empty() {
            return Ok(committed);
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for Partition { topic, index } in partitions {
            list.add_partition(topic, *index);
        }
        let found = self.consumer.committed_offsets(list, ANSWER_WITHIN)?;
        for partition in partitions {
            let Partition { topic, index } = partition;
            let Some(found) = found.find_partition(topic, *index) else {
                return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
            };
            match found.error() {
                Ok(()) => {}
                Err(error) if is_denied(&error) => continue,
                Err(error) => return Err(error),
            }
            let start = match found.offset() {
                offset @ Offset::Offset(_) => offset,
                // Nothing was committed yet.
                _ => Offset::Beginning,
            };
            committed.insert(*partition, start);
        }
        Ok(committed)
    }
}

fn is_denied(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use schemas::topic::REFUSALS;

    use crate::access::Access;
    use crate::config::Config;
    use crate::consumer::{Consumer, Event, Settings, Subscription};
    use crate::metrics::Metrics;

    use super::*;

    const GROUP: &str = "g";
    const PATIENCE: Duration = Duration::from_secs(30);

    fn start(config: &Config, metrics: &Metrics) -> Consumer {
        let subscription = Subscription {
            group: GROUP.to_owned(),
            topics: vec![REFUSALS.spec()],
            start: Start::Committed,
            batch_records_max: 10,
        };
        let settings = Settings {
            client: config.consumer(GROUP),
            batches_max: 4,
            hand_over_within: PATIENCE,
            made: Arc::default(),
            access: Access::new(config, metrics),
        };
        Consumer::start(subscription, settings, metrics).unwrap()
    }

    /// A server with a topic of one partition, and what writes to it.
    fn cluster() -> (
        MockCluster<'static, DefaultProducerContext>,
        Config,
        impl Fn(&str),
    ) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(REFUSALS.name(), 1, 1).unwrap();
        let config = Config {
            bootstrap: cluster.bootstrap_servers(),
            ..Config::default()
        };
        let producer: ThreadedProducer<DefaultProducerContext> = config.admin().create().unwrap();
        let send = move |value: &str| {
            let record = BaseRecord::to(REFUSALS.name()).key("k").payload(value);
            producer.send(record).unwrap();
            producer.flush(PATIENCE).unwrap();
        };
        (cluster, config, send)
    }

    async fn read(config: &Config, value: &str) {
        let mut consumer = start(config, &Metrics::default());
        assert_eq!(next_value(&mut consumer).await, value);
        consumer.close().await;
    }

    async fn next_value(consumer: &mut Consumer) -> Bytes {
        let value = async {
            loop {
                match consumer.next().await {
                    Event::Records(batch) => {
                        let value = batch.records[0].value.clone();
                        consumer.commit(batch.partition, batch.records[0].offset + 1);
                        return value.unwrap();
                    }
                    Event::Failed(error) => panic!("{error}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, value).await.unwrap()
    }

    /// What a server answers that does not coordinate the group any more, or not yet.
    #[tokio::test]
    async fn a_coordinator_that_moves_keeps_nobody_from_reading() {
        let (cluster, config, send) = cluster();
        send("first");
        read(&config, "first").await;
        send("second");
        let moved = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
        let loading = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
        cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[moved, loading, moved]);
        read(&config, "second").await;
    }

    #[tokio::test]
    async fn who_has_read_all_is_not_behind_after_a_restart() {
        let (_cluster, config, send) = cluster();
        send("first");
        read(&config, "first").await;
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let mut consumer = start(&config, &metrics);
        let lag = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let mut lines = text.lines().map(str::to_owned);
            lines.find(|line| line.starts_with("weir_bus_consumer_lag_records{"))
        };
        // The end is known by the library's statistics, which come once a second.
        let known = async {
            while lag().is_none() {
                let next = consumer.next();
                let _ = tokio::time::timeout(Duration::from_millis(10), next).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.unwrap();
        assert!(lag().unwrap().ends_with(" 0"), "{:?}", lag());
        consumer.close().await;
    }
}
