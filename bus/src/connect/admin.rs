//! Topics: made where missing, waited for, compared with what Weir needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use schemas::topic::{Cleanup, TopicSpec};

use crate::clock::Stopwatch;
use crate::config::Config;
use crate::error::BusError;
use crate::layout::wanted;
use crate::logging;
use crate::producer::{Client, setting_error};

/// How long one request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// How long one question for metadata may take.
const METADATA_WITHIN: Duration = Duration::from_secs(2);

/// Between looking whether topics stand and looking again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Copies from which on one may be away without a pause.
const SAFE_REPLICATION: i32 = 3;

/// Logs as the rest of the bus does.
struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        logging::forward(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the administrative client reports an error");
    }
}

pub(super) struct Admin<'a> {
    config: &'a Config,
    client: Arc<Client>,
    admin: AdminClient<Context>,
    /// Since when the log and its topics are waited for.
    since: Stopwatch,
}

impl<'a> Admin<'a> {
    pub(super) fn new(
        config: &'a Config,
        client: Arc<Client>,
        since: Stopwatch,
    ) -> Result<Self, BusError> {
        let admin = config
            .admin()
            .create_with_context(Context)
            .map_err(|error| setting_error(&error))?;
        Ok(Self {
            config,
            client,
            admin,
            since,
        })
    }

    /// Makes what is missing and waits until every partition of `specs` has a leader: Kafka acknowledges a new topic
    /// before it shows it. Gives how many partitions each has.
    pub(super) async fn make_topics(
        &self,
        specs: &[TopicSpec],
    ) -> Result<BTreeMap<String, i32>, BusError> {
        loop {
            let reason = match self.topics().await {
                Ok(found) => {
                    let missing: Vec<_> = specs
                        .iter()
                        .filter(|s| !found.contains_key(s.name))
                        .collect();
                    if missing.is_empty() && specs.iter().all(|s| found[s.name].led) {
                        let count = |(name, shape): (String, Shape)| (name, shape.partitions);
                        return Ok(found.into_iter().map(count).collect());
                    }
                    self.create(&missing).await?
                }
                Err(error) => error.to_string(),
            };
            if self.config.ready_within <= self.since.elapsed() {
                return Err(BusError::Unreachable {
                    bootstrap: self.config.bootstrap.clone(),
                    waited: self.config.ready_within,
                    reason,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// All topics that the log shows.
    async fn topics(&self) -> Result<BTreeMap<String, Shape>, KafkaError> {
        let client = Arc::clone(&self.client);
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = client
                .native
                .client()
                .fetch_metadata(None, METADATA_WITHIN)?;
            let shape = |topic: &rdkafka::metadata::MetadataTopic| {
                let partitions = topic.partitions();
                let shape = Shape {
                    partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
                    led: !partitions.is_empty() && partitions.iter().all(|p| 0 <= p.leader()),
                };
                (topic.name().to_owned(), shape)
            };
            Ok(metadata.topics().iter().map(shape).collect())
        });
        asked.await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Makes `missing`. What passes by itself is told as the reason to look again.
    async fn create(&self, missing: &[&TopicSpec]) -> Result<String, BusError> {
        if missing.is_empty() {
            return Ok("partitions have no leader yet".to_owned());
        }
        let settings: Vec<_> = missing
            .iter()
            .map(|spec| settings(spec, self.config.replication))
            .collect();
        let new = missing.iter().zip(&settings).map(|(spec, settings)| {
            let partitions = wanted(spec, self.config.partitions);
            let copies = TopicReplication::Fixed(self.config.replication);
            let topic = NewTopic::new(spec.name, partitions, copies);
            settings
                .iter()
                .fold(topic, |topic, (name, value)| topic.set(name, value))
        });
        let new: Vec<_> = new.collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST_WITHIN));
        let results = match self.admin.create_topics(&new, &options).await {
            Ok(results) => results,
            Err(error) => return Ok(error.to_string()),
        };
        let mut reason = "new topics do not show yet".to_owned();
        for (topic, code) in results.into_iter().filter_map(Result::err) {
            match code {
                RDKafkaErrorCode::TopicAlreadyExists => {}
                // Also while a cluster's servers are still coming up.
                RDKafkaErrorCode::InvalidReplicationFactor => {
                    reason = format!(
                        "{topic} cannot have {} copies: set `replication` under [kafka] to at most the number of servers",
                        self.config.replication
                    );
                }
                RDKafkaErrorCode::RequestTimedOut | RDKafkaErrorCode::NotController => {
                    reason = format!("{topic}: {code}");
                }
                code => return Err(self.not_made(topic, code)),
            }
        }
        Ok(reason)
    }

    fn not_made(&self, topic: String, code: RDKafkaErrorCode) -> BusError {
        BusError::Topic {
            remedy: format!(
                "let this client make topics, or make it with `kafka-topics.sh --bootstrap-server {} --create --topic {topic}`",
                self.config.bootstrap
            ),
            reason: format!("it does not exist and cannot be made ({code})"),
            topic,
        }
    }

    /// Compares the settings of topics that exist with those that a new one gets.
    ///
    /// # Errors
    /// When records would be deleted that Weir needs: the rest is the operator's choice and only told.
    pub(super) async fn check_settings(&self, specs: &[TopicSpec]) -> Result<(), BusError> {
        let topics: Vec<_> = specs
            .iter()
            .map(|s| ResourceSpecifier::Topic(s.name))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST_WITHIN));
        let described = match self.admin.describe_configs(&topics, &options).await {
            Ok(described) => described,
            Err(error) => {
                tracing::warn!(%error, "the settings of the topics cannot be read and were not checked");
                return Ok(());
            }
        };
        for resource in described {
            match resource {
                Ok(resource) => self.check_topic(specs, &resource)?,
                Err(code) => tracing::warn!(%code, "a topic's settings were not checked"),
            }
        }
        Ok(())
    }

    fn check_topic(&self, specs: &[TopicSpec], found: &ConfigResource) -> Result<(), BusError> {
        let OwnedResourceSpecifier::Topic(name) = &found.specifier else {
            return Ok(());
        };
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
            return Ok(());
        };
        for (setting, wanted) in settings(spec, self.config.replication) {
            let value = found.get(setting).and_then(|entry| entry.value.as_deref());
            let Some(value) = value.filter(|value| *value != wanted) else {
                continue;
            };
            let reason = format!("{setting} is `{value}`, not `{wanted}`");
            let remedy = format!(
                "`kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {name} \
                 --add-config {setting}={wanted}` mends it",
                self.config.bootstrap
            );
            match setting {
                "cleanup.policy" => {
                    return Err(BusError::Topic {
                        topic: name.clone(),
                        reason,
                        remedy,
                    });
                }
                "message.timestamp.type" => {
                    tracing::warn!(
                        topic = name,
                        "{reason}: a sender's clock decides when records are deleted; {remedy}"
                    );
                }
                _ => tracing::debug!(topic = name, "{reason}"),
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    partitions: i32,
    /// Every partition has a server that answers for it.
    led: bool,
}

/// The settings of a new topic. Records carry the time at which the log took them: retention goes by it, and with an
/// event's own time there a late or replayed event would be deleted at once.
fn settings(spec: &TopicSpec, replication: i32) -> Vec<(&'static str, String)> {
    let mut settings = vec![("message.timestamp.type", "LogAppendTime".to_owned())];
    match spec.cleanup {
        Cleanup::Delete { retention } => settings.extend([
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", retention.as_millis().to_string()),
        ]),
        Cleanup::Keep => settings.extend([
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", "-1".to_owned()),
        ]),
        // Small segments that close within the hour: only closed ones are compacted, and a follower reads the rest.
        Cleanup::Compact => settings.extend([
            ("cleanup.policy", "compact".to_owned()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
            ("segment.bytes", (64 << 20).to_string()),
            ("segment.ms", "3600000".to_owned()),
        ]),
    }
    if SAFE_REPLICATION <= replication {
        settings.push(("min.insync.replicas", "2".to_owned()));
    }
    settings
}

#[cfg(test)]
mod tests {
    use schemas::topic::{COMMANDS, DECISIONS, USAGE};

    use super::*;

    #[track_caller]
    fn check(spec: TopicSpec, replication: i32, setting: &str, expected: Option<&str>) {
        let settings = settings(&spec, replication);
        let found = settings.iter().find(|(name, _)| *name == setting);
        assert_eq!(found.map(|(_, value)| value.as_str()), expected);
    }

    #[test]
    fn a_topic_is_kept_as_it_says() {
        for spec in [USAGE.spec(), DECISIONS.spec(), COMMANDS.spec()] {
            check(spec, 1, "message.timestamp.type", Some("LogAppendTime"));
        }
        check(USAGE.spec(), 1, "cleanup.policy", Some("delete"));
        check(USAGE.spec(), 1, "retention.ms", Some("604800000"));
        check(DECISIONS.spec(), 1, "cleanup.policy", Some("compact"));
        check(DECISIONS.spec(), 1, "retention.ms", None);
        check(COMMANDS.spec(), 1, "retention.ms", Some("-1"));
        check(COMMANDS.spec(), 1, "min.insync.replicas", None);
        check(COMMANDS.spec(), 3, "min.insync.replicas", Some("2"));
    }
}
