//! What the client library calls back with, kept for the reader's thread.
//!
//! Callbacks run inside `poll` on that same thread. They only take notes: the thread acts on them after `poll`, where
//! it may wait, open queues and fail like any other code.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use crate::logging;
use crate::metrics::Metrics;
use crate::statistics::Statistics;

/// A change that the group wants, to be answered by `assign` or `unassign`.
#[derive(Debug)]
pub(super) enum Change {
    Assign(Vec<(String, i32)>),
    /// Of everything: the assignment strategy is an eager one.
    Revoke,
}

pub(super) struct Context {
    changes: Mutex<VecDeque<Change>>,
    statistics: Mutex<Option<Statistics>>,
    /// The member is leaving: changes are agreed to at once.
    leaving: AtomicBool,
    metrics: Metrics,
}

impl Context {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            changes: Mutex::default(),
            statistics: Mutex::default(),
            leaving: AtomicBool::new(false),
            metrics: metrics.clone(),
        }
    }

    pub(super) fn next_change(&self) -> Option<Change> {
        self.changes.lock().pop_front()
    }

    pub(super) fn latest_statistics(&self) -> Option<Statistics> {
        self.statistics.lock().take()
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        logging::forward(level, facility, text);
    }

    fn stats_raw(&self, json: &[u8]) {
        match Statistics::parse(json) {
            Ok(statistics) => *self.statistics.lock() = Some(statistics),
            Err(error) => tracing::debug!(%error, "unreadable client statistics"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes this way too, and again as the result of a poll.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            self.metrics.error("client");
            tracing::debug!(%error, reason, "a reader's client reports an error");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        if self.leaving.load(Ordering::Acquire) {
            if let Err(error) = consumer.unassign() {
                tracing::warn!(%error, "cannot give partitions back while leaving a group");
            }
            return;
        }
        let change = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let elements = list.elements();
            let named = elements
                .iter()
                .map(|e| (e.topic().to_owned(), e.partition()));
            Change::Assign(named.collect())
        } else {
            Change::Revoke
        };
        self.changes.lock().push_back(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            self.metrics.error("commit");
            tracing::debug!(%error, "a commit was refused; the next one replaces it");
        }
    }
}
