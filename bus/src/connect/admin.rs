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
use rdkafka::types::RDKafkaRespErr;
use schemas::topic::TopicSpec;

use super::LOOK_EVERY;
use super::diagnose::{self, Finding};
use super::settings::{Difference, difference, settings, wanted as wanted_settings};
use crate::access::Right;
use crate::clock::Stopwatch;
use crate::config::Config;
use crate::error::{BusError, ONLY_THEY_ENCRYPT, Trouble, is_about_their_certificate, remedy};
use crate::layout::wanted;
use crate::logging;
use crate::producer::{Client, setting_error};

/// How long one request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// How long one question for metadata may take.
const METADATA_WITHIN: Duration = Duration::from_secs(2);

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
                Err(error) => self.judge(&error).await?,
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

    /// Why the log gives no answer. That it and this client do not trust one another does not pass by waiting.
    async fn judge(&self, error: &KafkaError) -> Result<String, BusError> {
        let access = &self.client.access;
        let untrusted = |reason: String| BusError::Untrusted {
            bootstrap: self.config.bootstrap.clone(),
            remedy: remedy(&reason),
            reason,
        };
        match access.distrust() {
            Some(reason) if is_about_their_certificate(&reason) => match self.shake_hands().await {
                Finding::Bad(what) => Err(untrusted(format!("their certificate: {what}"))),
                Finding::Good | Finding::NoTls => Err(untrusted(reason)),
            },
            Some(reason) => Err(untrusted(reason)),
            None if !self.config.is_encrypted() && self.shake_hands().await != Finding::NoTls => {
                Err(untrusted(ONLY_THEY_ENCRYPT.to_owned()))
            }
            None => Ok(access.last_words().unwrap_or_else(|| error.to_string())),
        }
    }

    async fn shake_hands(&self) -> Finding {
        let bootstrap = self.config.bootstrap.clone();
        let ca = self.config.tls.as_ref().and_then(|tls| tls.ca.clone());
        let asked = tokio::task::spawn_blocking(move || diagnose::shake_hands(&bootstrap, ca));
        asked.await.unwrap_or(Finding::NoTls)
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
        let mut refused = None;
        for (topic, code) in results.into_iter().filter_map(Result::err) {
            match code {
                RDKafkaErrorCode::TopicAlreadyExists => self.check_shown(topic).await?,
                // Also while a cluster's servers are still coming up.
                RDKafkaErrorCode::InvalidReplicationFactor => {
                    reason = format!(
                        "{topic} cannot have {} copies: set `replication` under [kafka] to at most the number of servers",
                        self.config.replication
                    );
                }
                code if Trouble::of(code) == Trouble::Passing => {
                    reason = format!("{topic}: {code}")
                }
                code => refused = refused.or(Some(code)),
            }
        }
        match refused {
            None => Ok(reason),
            Some(code) => Err(self.not_made(missing, code)),
        }
    }

    /// A topic that is there and does not show is one that this client may not see, or one that is very new.
    async fn check_shown(&self, topic: String) -> Result<(), BusError> {
        let client = Arc::clone(&self.client);
        let named = topic.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let found = client
                .native
                .client()
                .fetch_metadata(Some(&named), METADATA_WITHIN)?;
            Ok::<_, KafkaError>(found.topics().iter().any(|topic| {
                topic.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
            }))
        });
        match asked.await {
            Ok(Ok(true)) => {
                let denial = self.client.access.denial(Right::DescribeTopic(topic));
                Err(BusError::Denied(Box::new(denial)))
            }
            _ => Ok(()),
        }
    }

    fn not_made(&self, missing: &[&TopicSpec], code: RDKafkaErrorCode) -> BusError {
        let bootstrap = &self.config.bootstrap;
        let command = |spec: &&TopicSpec| {
            let settings = settings(spec, self.config.replication);
            let settings: String = settings
                .iter()
                .map(|(name, value)| format!(" --config {name}={value}"))
                .collect();
            format!(
                "\n  kafka-topics.sh --bootstrap-server {bootstrap} --create --if-not-exists --topic {} --partitions {} \
                 --replication-factor {}{settings}",
                spec.name,
                wanted(spec, self.config.partitions),
                self.config.replication,
            )
        };
        let may_create = self.client.access.denial(Right::CreateTopics);
        let reason = match Trouble::of(code) {
            Trouble::Denied => may_create.to_string(),
            _ => code.to_string(),
        };
        BusError::NotMade {
            topics: missing.len(),
            reason,
            commands: missing.iter().map(command).collect(),
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
        let asked = wanted_settings(spec, self.config.replication, self.config.record_bytes_max);
        let mut told = Vec::new();
        for (setting, wanted) in &asked {
            let value = found.get(setting).and_then(|entry| entry.value.as_deref());
            let Some(value) = value else { continue };
            match difference(setting, value, wanted) {
                Difference::None => {}
                Difference::Told(why) => {
                    let reason = format!("{setting} is `{value}`, not `{wanted}`, so {why}");
                    told.push((format!("{setting}={wanted}"), reason));
                }
                Difference::Refused => {
                    return Err(BusError::Topic {
                        reason: format!("{setting} is `{value}`, not `{wanted}`"),
                        remedy: self.mend(name, &format!("{setting}={wanted}")),
                        topic: name.clone(),
                    });
                }
            }
        }
        if !told.is_empty() {
            let (mends, reasons): (Vec<_>, Vec<_>) = told.into_iter().unzip();
            let remedy = self.mend(name, &mends.join(","));
            tracing::warn!(topic = name, "{}; {remedy}", reasons.join("; "));
        }
        Ok(())
    }

    fn mend(&self, topic: &str, settings: &str) -> String {
        format!(
            "`kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} \
             --add-config {settings}` mends it",
            self.config.bootstrap
        )
    }
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    partitions: i32,
    /// Every partition has a server that answers for it.
    led: bool,
}
