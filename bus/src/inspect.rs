//! A log as tools see it: whatever it holds, topic by topic and partition by partition, without a service's types,
//! groups or placement. Nothing is made or changed here unless a call says so.
//!
//! - [`Inspector`] tells topics with their partitions, offsets and settings, and groups with what they have committed.
//! - [`RawReader`] reads stretches of partitions as they are, fillers included; [`MergedReader`] those of many partitions
//!   as one.
//! - [`RawWriter`] writes records so that they keep offset and time: a copy of a log. [`Appender`] adds records at the
//!   end.

mod admin;
mod groups;
mod merge;
mod read;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::time::Timestamp;

pub use groups::{Committed, GroupState};
pub use merge::MergedReader;
pub use read::{RawReader, Slice};
pub use write::{Appender, COPY_BYTES_MAX, RawWriter};

use crate::access::Access;
use crate::clock::{Clock as _, Stopwatch, SystemClock};
use crate::config::Config;
use crate::consumer::{Consumer, Settings, Subscription};
use crate::error::BusError;
use crate::logging;
use crate::metrics::Metrics;
use crate::producer::setting_error;
use crate::record::Partition;

/// How long one request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// How long one question at the start may take, before it is asked again.
const HELLO_WITHIN: Duration = Duration::from_secs(2);

/// From one question to a partition's leader to the next, while it has none.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// How long the log waits for more before it says that a partition ends. Only then is a slice's end known, and there may
/// be many.
const END_WITHIN: Duration = Duration::from_millis(5);

/// The group of the tools' own readers. They never join it.
const GROUP: &str = "weir-log";

/// Logs as the rest of the bus does.
struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        logging::forward(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a tool's client reports an error");
    }
}

impl ConsumerContext for Context {}

/// A topic as it is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    pub name: String,
    /// By partition.
    pub spans: Vec<Span>,
    /// What was set for this topic, or for its cluster; what has Kafka's own default is left out.
    pub settings: BTreeMap<String, Setting>,
}

/// The offsets of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Of the first record that can still be read.
    pub start: i64,
    /// That the next record will get.
    pub end: i64,
}

impl Span {
    /// Records at the most: compaction leaves gaps.
    #[must_use]
    pub const fn records_max(&self) -> i64 {
        self.end - self.start
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub value: String,
    /// Set for this topic alone.
    pub own: bool,
}

/// Looks at one log.
pub struct Inspector {
    config: Config,
    client: Arc<BaseConsumer<Context>>,
    admin: AdminClient<Context>,
}

impl Inspector {
    /// Waits until the log answers, `ready_within` at the most.
    ///
    /// # Errors
    /// When the settings are refused, or nothing answers.
    pub async fn connect(config: Config) -> Result<Self, BusError> {
        let config = config.prepare(SystemClock.now())?;
        let client = config.consumer(GROUP).create_with_context(Context);
        let admin = config.admin().create_with_context(Context);
        let inspector = Self {
            client: Arc::new(client.map_err(|error| setting_error(&error))?),
            admin: admin.map_err(|error| setting_error(&error))?,
            config,
        };
        let since = Stopwatch::start();
        loop {
            let asked = inspector.ask(|client| client.fetch_metadata(None, HELLO_WITHIN).map(drop));
            let Err(error) = asked.await else {
                return Ok(inspector);
            };
            let waited = inspector.config.ready_within;
            if waited <= since.elapsed() {
                return Err(BusError::Unreachable {
                    bootstrap: inspector.config.bootstrap.clone(),
                    waited,
                    reason: error.to_string(),
                });
            }
        }
    }

    /// Asks where waiting does no harm.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Context>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let client = Arc::clone(&self.client);
        let asked = tokio::task::spawn_blocking(move || question(&client));
        asked.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Asks the leaders of partitions. Of one that was made a moment ago, or changes its leader, a cluster says for a
    /// while that there is none.
    async fn ask_leaders<T: Send + 'static>(
        &self,
        question: impl Fn(&BaseConsumer<Context>) -> Result<T, KafkaError> + Send + Sync + 'static,
    ) -> Result<T, KafkaError> {
        let question = Arc::new(question);
        let since = Stopwatch::start();
        loop {
            let asked = Arc::clone(&question);
            match self.ask(move |client| asked(client)).await {
                Err(error) if lacks_leader(&error) && since.elapsed() < REQUEST_WITHIN => {
                    tokio::time::sleep(LEADER_PAUSE).await;
                }
                answered => return answered,
            }
        }
    }

    /// Every topic in the log with its number of partitions.
    pub async fn names(&self) -> Result<BTreeMap<String, usize>, BusError> {
        let asked = self.ask(|client| {
            let metadata = client.fetch_metadata(None, REQUEST_WITHIN)?;
            let count = |topic: &rdkafka::metadata::MetadataTopic| {
                (topic.name().to_owned(), topic.partitions().len())
            };
            Ok(metadata.topics().iter().map(count).collect())
        });
        asked.await.map_err(|error| refused("list topics", &error))
    }

    /// Those of `wanted` that are in the log, by name.
    pub async fn topics(&self, wanted: &[&str]) -> Result<Vec<TopicState>, BusError> {
        let mut found = self.names().await?;
        found.retain(|name, _| wanted.contains(&name.as_str()));
        let mut topics = Vec::new();
        for (name, partitions) in found {
            topics.push(TopicState {
                spans: self.spans(&name, partitions).await?,
                settings: self.settings(&name).await?,
                name,
            });
        }
        Ok(topics)
    }

    /// The offsets of each of a topic's partitions.
    pub async fn spans(&self, topic: &str, partitions: usize) -> Result<Vec<Span>, BusError> {
        let name = topic.to_owned();
        let asked = self.ask_leaders(move |client| {
            let span = |index: usize| {
                let index = i32::try_from(index).unwrap_or(i32::MAX);
                let (start, end) = client.fetch_watermarks(&name, index, REQUEST_WITHIN)?;
                Ok(Span { start, end })
            };
            (0..partitions).map(span).collect()
        });
        let what = format!("say which offsets {topic} holds");
        asked.await.map_err(|error| refused(&what, &error))
    }

    /// By partition, the offset of the first record that was appended at `at` or later; the end where there is none.
    pub async fn offsets_at(
        &self,
        topic: &TopicState,
        at: Timestamp,
    ) -> Result<Vec<i64>, BusError> {
        let mut times = TopicPartitionList::new();
        for index in (0..).take(topic.spans.len()) {
            let time = Offset::Offset(at.as_millis());
            let added = times.add_partition_offset(&topic.name, index, time);
            added.map_err(|error| refused("find a time", &error))?;
        }
        let asked =
            self.ask_leaders(move |client| client.offsets_for_times(times.clone(), REQUEST_WITHIN));
        let found = asked
            .await
            .map_err(|error| refused("find a time", &error))?;
        let offset = |(index, span): (i32, &Span)| {
            let found = found.find_partition(&topic.name, index);
            match found.map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => span.end,
            }
        };
        Ok((0..).zip(&topic.spans).map(offset).collect())
    }

    /// A reader of what is there.
    pub fn reader(&self) -> Result<RawReader, BusError> {
        RawReader::new(&self.config, END_WITHIN)
    }

    /// A reader of these stretches of partitions as one, in the order in which the log took their records.
    ///
    /// # Errors
    /// When the settings are refused.
    pub fn merged(&self, stretches: &[(Partition, Range<i64>)]) -> Result<MergedReader, BusError> {
        MergedReader::start(&self.config, stretches)
    }

    /// A reader that waits for what is still to come.
    pub fn watcher(&self) -> Result<RawReader, BusError> {
        RawReader::new(&self.config, Duration::from_millis(500))
    }

    /// A writer of copies to this log.
    pub fn copier(&self) -> Result<RawWriter, BusError> {
        RawWriter::new(&self.config)
    }

    /// A writer at the end of this log.
    pub fn appender(&self) -> Result<Appender, BusError> {
        Appender::new(&self.config)
    }

    /// Joins a group: for a tool that must be the only one at its work.
    pub fn consume(&self, subscription: Subscription) -> Result<Consumer, BusError> {
        let metrics = Metrics::default();
        let settings = Settings {
            client: self.config.consumer(&subscription.group),
            batches_max: self.config.batches_max,
            hand_over_within: self.config.hand_over_within,
            made: Arc::default(),
            access: Access::new(&self.config, &metrics),
        };
        Consumer::start(subscription, settings, &metrics)
    }
}

/// Settings of a reader of the past: it begins where it is told or not at all, and reads so much ahead.
fn past(config: &Config, wait: Duration, ahead_kbytes: u32) -> ClientConfig {
    let mut client = config.consumer(GROUP);
    client
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", wait.as_millis().to_string())
        .set("queued.max.messages.kbytes", ahead_kbytes.to_string())
        .set("statistics.interval.ms", "0");
    client
}

fn lacks_leader(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{LeaderNotAvailable, NotLeaderForPartition};
    let code = error.rdkafka_error_code();
    matches!(code, Some(LeaderNotAvailable | NotLeaderForPartition))
}

fn refused(what: &str, reason: &dyn std::fmt::Display) -> BusError {
    BusError::Refused {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}
