//! What the log does not let this member do: told, waited for, and found out when it ends.
//!
//! The client library tells once that a topic is denied, and goes on asking. When it is allowed again and nothing new
//! has been written, it says nothing at all. So while a topic is denied each of its partitions is sent back to where
//! it stands from time to time: then either the refusal comes again, or a record, or the news that there is none.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::Reader;
use crate::access::Right;
use crate::clock::Stopwatch;
use crate::consumer::Start;
use crate::consumer::partition::OpenPartition;
use crate::record::Partition;

/// Between asking for records of a denied topic and asking again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long one question to a server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

impl Reader {
    /// The log gives no records of `partition`.
    pub(super) fn read_denied(&mut self, partition: Partition) {
        self.metrics.error("denied");
        self.access.denied(right_to_read(partition.topic));
        if self.denied.is_empty() {
            self.asked = Stopwatch::start();
        }
        self.denied.insert(partition);
    }

    /// The log gives records of `partition`, or says that there are no more.
    pub(super) fn read_granted(&mut self, partition: Partition) {
        let topic = partition.topic;
        if self.denied.remove(&partition) && self.denied.iter().all(|other| other.topic != topic) {
            self.access.granted(&right_to_read(topic));
        }
    }

    /// Other partitions are read from here on: what these are denied, they will say themselves.
    pub(super) fn forget_denied(&mut self) {
        for partition in std::mem::take(&mut self.denied) {
            self.access.granted(&right_to_read(partition.topic));
        }
    }

    /// Whether `error` of the group is a refusal; it is told then.
    pub(super) fn group_denied(&self, error: &KafkaError) -> bool {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                let group = self.subscription.group.clone();
                self.access.denied(Right::JoinGroup(group));
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                for topic in self.hidden_topics() {
                    self.access.denied(right_to_read(topic));
                }
            }
            _ => return false,
        }
        self.metrics.error("denied");
        true
    }

    /// This member belongs to its group, which has given it `partitions`.
    pub(super) fn group_granted(&self, partitions: &[Partition]) {
        if self.access.any() {
            let group = self.subscription.group.clone();
            self.access.granted(&Right::JoinGroup(group));
            for partition in partitions {
                self.access.granted(&right_to_read(partition.topic));
            }
        }
    }

    /// The topics of this subscription that the log does not even show: its refusal names none.
    fn hidden_topics(&self) -> Vec<&'static str> {
        let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        let hidden = |topic: &&str| {
            let asked = self.consumer.fetch_metadata(Some(topic), ANSWER_WITHIN);
            asked.is_ok_and(|found| found.topics().iter().any(|t| t.error() == Some(denied)))
        };
        let names = self.subscription.topics.iter().map(|spec| spec.name);
        names.filter(hidden).collect()
    }

    /// Asks again for records of denied partitions, when it is time.
    pub(super) fn ask_for_denied(&mut self) {
        if self.denied.is_empty() || self.asked.elapsed() < ASK_EVERY {
            return;
        }
        self.asked = Stopwatch::start();
        for open in &self.open {
            let partition = open.partition;
            if !self.denied.contains(&partition) {
                continue;
            }
            let Some(place) = self.place_of(open) else {
                continue;
            };
            let Partition { topic, index } = partition;
            if let Err(error) = self.consumer.seek(topic, index, place, Duration::ZERO) {
                tracing::debug!(%error, %partition, "cannot ask again");
            }
        }
    }

    /// Where the next record of a partition is sought; `None` while the log does not say.
    fn place_of(&self, open: &OpenPartition) -> Option<Offset> {
        if 0 < open.next {
            return Some(Offset::Offset(open.next));
        }
        match self.subscription.start {
            Start::Stored => Some(Offset::Beginning),
            // Nothing was read yet, so it stands where the group last committed.
            Start::Committed => self
                .committed(&[open.partition])
                .ok()?
                .remove(&open.partition),
        }
    }
}

fn right_to_read(topic: &str) -> Right {
    Right::ReadTopic(topic.to_owned())
}
