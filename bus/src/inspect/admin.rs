//! What tools change about topics.

use std::collections::BTreeMap;

use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::{HELLO_WITHIN, Inspector, REQUEST_WITHIN, Setting, refused};
use crate::clock::Stopwatch;
use crate::error::BusError;

/// Between looking whether a new topic stands and looking again.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_WITHIN))
}

impl Inspector {
    /// What was set for a topic, or for its cluster.
    pub async fn settings(&self, topic: &str) -> Result<BTreeMap<String, Setting>, BusError> {
        let what = format!("show the settings of {topic}");
        let asked = [ResourceSpecifier::Topic(topic)];
        let described = self.admin.describe_configs(&asked, &options()).await;
        let described = described.map_err(|error| refused(&what, &error))?;
        let mut settings = BTreeMap::new();
        for resource in described {
            let resource = resource.map_err(|code| refused(&what, &code))?;
            for entry in resource.entries {
                let own = entry.source == ConfigSource::DynamicTopic;
                if entry.source == ConfigSource::Default {
                    continue;
                }
                if let Some(value) = entry.value {
                    settings.insert(entry.name, Setting { value, own });
                }
            }
        }
        Ok(settings)
    }

    /// Makes a topic, with as many copies as the configuration says, and waits until each partition has a leader.
    pub async fn create(
        &self,
        topic: &str,
        partitions: usize,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), BusError> {
        let what = format!("make the topic {topic}");
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let copies = TopicReplication::Fixed(self.config.replication);
        let new = NewTopic::new(topic, count, copies);
        let new = settings
            .iter()
            .fold(new, |new, (name, value)| new.set(name, value));
        let made = self.admin.create_topics(&[new], &options()).await;
        for result in made.map_err(|error| refused(&what, &error))? {
            result.map_err(|(_, code)| refused(&what, &code))?;
        }
        let since = Stopwatch::start();
        while !self.is_led(topic, partitions).await {
            if self.config.ready_within <= since.elapsed() {
                return Err(refused(&what, &"it has no leader yet; try again"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn is_led(&self, topic: &str, partitions: usize) -> bool {
        let name = topic.to_owned();
        let asked = self.ask(move |client| {
            let metadata = client.fetch_metadata(Some(&name), HELLO_WITHIN)?;
            let led = |topic: &rdkafka::metadata::MetadataTopic| {
                topic.partitions().len() == partitions
                    && topic.partitions().iter().all(|p| 0 <= p.leader())
            };
            Ok(metadata.topics().iter().all(led))
        });
        asked.await.unwrap_or(false)
    }

    /// Gives a topic these settings and no others of its own.
    pub async fn set_settings(
        &self,
        topic: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), BusError> {
        let what = format!("change the settings of {topic}");
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let change = settings
            .iter()
            .fold(change, |change, (name, value)| change.set(name, value));
        let changed = self.admin.alter_configs(&[change], &options()).await;
        for result in changed.map_err(|error| refused(&what, &error))? {
            result.map_err(|(_, code)| refused(&what, &code))?;
        }
        Ok(())
    }

    /// Deletes what lies before each of these offsets, by partition.
    pub async fn delete_before(&self, topic: &str, starts: &[(i32, i64)]) -> Result<(), BusError> {
        let what = format!("delete the first records of {topic}");
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for (partition, start) in starts {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*start));
            added.map_err(|error| refused(&what, &error))?;
        }
        let deleted = self.admin.delete_records(&list, &options()).await;
        let deleted = deleted.map_err(|error| refused(&what, &error))?;
        for element in deleted.elements() {
            element.error().map_err(|error| refused(&what, &error))?;
        }
        Ok(())
    }
}
