//! Groups, and how far they are.

use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::{Context, Inspector, REQUEST_WITHIN, TopicState, refused};
use crate::error::BusError;
use crate::producer::setting_error;

/// A log keeps the places of members that were killed, or that were there when it was, until they are missed.
const HAS_MEMBERS: &str =
    "it has members, or had some a moment ago: stop them, and try again in a minute";

/// A group and what it has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    pub name: String,
    /// In Kafka's words: `Stable`, `Empty` and so on.
    pub state: String,
    pub members: usize,
    /// In the topics that were asked for, by topic and partition.
    pub committed: Vec<Committed>,
}

/// Everything before `next` is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub topic: String,
    pub partition: i32,
    pub next: i64,
    /// What the one who committed said beside it.
    pub metadata: String,
}

impl Inspector {
    /// Every group, by name, with what it has committed in `topics`.
    pub async fn groups(&self, topics: &[TopicState]) -> Result<Vec<GroupState>, BusError> {
        let listed = self.ask(|client| {
            let list = client.fetch_group_list(None, REQUEST_WITHIN)?;
            let state = |group: &rdkafka::groups::GroupInfo| GroupState {
                name: group.name().to_owned(),
                state: group.state().to_owned(),
                members: group.members().len(),
                committed: Vec::new(),
            };
            Ok(list.groups().iter().map(state).collect())
        });
        let listed: Result<Vec<GroupState>, _> = listed.await;
        let mut groups = listed.map_err(|error| refused("list groups", &error))?;
        for group in &mut groups {
            group.committed = self.committed(&group.name, topics).await?;
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    async fn committed(
        &self,
        group: &str,
        topics: &[TopicState],
    ) -> Result<Vec<Committed>, BusError> {
        let what = format!("say what the group {group} has committed");
        let member = self.member(group)?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for index in (0..).take(topic.spans.len()) {
                list.add_partition(&topic.name, index);
            }
        }
        let ask = move || member.committed_offsets(list, REQUEST_WITHIN);
        let asked = tokio::task::spawn_blocking(ask).await;
        let found = asked
            .unwrap_or(Err(KafkaError::Canceled))
            .map_err(|error| refused(&what, &error))?;
        let committed = found.elements().into_iter().filter_map(|element| {
            let Offset::Offset(next) = element.offset() else {
                return None;
            };
            Some(Committed {
                topic: element.topic().to_owned(),
                partition: element.partition(),
                next,
                metadata: element.metadata().to_owned(),
            })
        });
        Ok(committed.collect())
    }

    /// Makes this what `group` has committed. Refused by the log while the group has members.
    pub async fn commit(&self, group: &str, committed: &[Committed]) -> Result<(), BusError> {
        let what = format!("commit for the group {group}");
        let member = self.member(group)?;
        let mut list = TopicPartitionList::with_capacity(committed.len());
        for one in committed {
            let mut element = list.add_partition(&one.topic, one.partition);
            let set = element.set_offset(Offset::Offset(one.next));
            set.map_err(|error| refused(&what, &error))?;
            element.set_metadata(&one.metadata);
        }
        let commit = move || member.commit(&list, CommitMode::Sync);
        let done = tokio::task::spawn_blocking(commit).await;
        done.unwrap_or(Err(KafkaError::Canceled)).map_err(|error| {
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::UnknownMemberId) => refused(&what, &HAS_MEMBERS),
                _ => refused(&what, &error),
            }
        })
    }

    /// Speaks for a group without joining it.
    fn member(&self, group: &str) -> Result<Arc<BaseConsumer<Context>>, BusError> {
        let member = self.config.consumer(group).create_with_context(Context);
        Ok(Arc::new(member.map_err(|error| setting_error(&error))?))
    }
}
