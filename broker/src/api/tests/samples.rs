//! Requests of every API, with content in every field that matters here.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, ConsumerGroupHeartbeatRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FetchRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest, TopicName,
};

use super::super::*;
use crate::log::testing::batch_of;

pub(super) fn name(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(name("t"))
}

fn group() -> GroupId {
    GroupId(name("g"))
}

/// A request with content in every field that matters here and exists in this version.
pub(super) fn sample(api: ApiKey, version: i16) -> RequestKind {
    match api {
        ApiKey::Produce | ApiKey::Fetch | ApiKey::ListOffsets | ApiKey::OffsetForLeaderEpoch => {
            data_sample(api)
        }
        ApiKey::Metadata
        | ApiKey::FindCoordinator
        | ApiKey::ApiVersions
        | ApiKey::DescribeCluster
        | ApiKey::InitProducerId => broker_sample(api, version),
        ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::DeleteRecords
        | ApiKey::CreatePartitions
        | ApiKey::DescribeConfigs
        | ApiKey::AlterConfigs
        | ApiKey::IncrementalAlterConfigs => admin_sample(api, version),
        _ => group_sample(api, version),
    }
}

fn data_sample(api: ApiKey) -> RequestKind {
    match api {
        ApiKey::Produce => {
            let data = PartitionProduceData::default()
                .with_records(Some(batch_of(&[("k", Some("v"))], -1).into()));
            let topic = TopicProduceData::default().with_name(topic());
            let topic = topic.with_partition_data(vec![data]);
            ProduceRequest::default()
                .with_acks(-1)
                .with_topic_data(vec![topic])
                .into()
        }
        ApiKey::Fetch => {
            let partition = FetchPartition::default().with_partition_max_bytes(1000);
            let topic = FetchTopic::default()
                .with_topic(topic())
                .with_partitions(vec![partition]);
            FetchRequest::default()
                .with_topics(vec![topic])
                .with_max_bytes(1000)
                .into()
        }
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition::default().with_timestamp(-1);
            let topic = ListOffsetsTopic::default().with_name(topic());
            let topic = topic.with_partitions(vec![partition]);
            ListOffsetsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        _ => {
            let partition = OffsetForLeaderPartition::default();
            let topic = OffsetForLeaderTopic::default().with_topic(topic());
            let topic = topic.with_partitions(vec![partition]);
            OffsetForLeaderEpochRequest::default()
                .with_topics(vec![topic])
                .into()
        }
    }
}

fn broker_sample(api: ApiKey, version: i16) -> RequestKind {
    match api {
        ApiKey::Metadata => {
            let named = |name| MetadataRequestTopic::default().with_name(Some(TopicName(name)));
            let topics = vec![named(name("t")), named(name("missing"))];
            MetadataRequest::default().with_topics(Some(topics)).into()
        }
        ApiKey::FindCoordinator if version < 4 => {
            FindCoordinatorRequest::default().with_key(name("g")).into()
        }
        ApiKey::FindCoordinator => FindCoordinatorRequest::default()
            .with_coordinator_keys(vec![name("g")])
            .into(),
        ApiKey::InitProducerId => InitProducerIdRequest::default().into(),
        ApiKey::DescribeCluster => DescribeClusterRequest::default().into(),
        _ => ApiVersionsRequest::default().into(),
    }
}

fn admin_sample(api: ApiKey, version: i16) -> RequestKind {
    match api {
        ApiKey::CreateTopics => {
            let config = CreatableTopicConfig::default()
                .with_name(name("retention.ms"))
                .with_value(Some(name("1000")));
            let topic = |of| {
                CreatableTopic::default()
                    .with_name(TopicName(of))
                    .with_num_partitions(1)
            };
            let topics = vec![
                topic(name("u")).with_configs(vec![config]),
                topic(name("not one")),
            ];
            CreateTopicsRequest::default().with_topics(topics).into()
        }
        ApiKey::DeleteTopics if version < 6 => DeleteTopicsRequest::default()
            .with_topic_names(vec![TopicName(name("x"))])
            .into(),
        ApiKey::DeleteTopics => {
            let topic = DeleteTopicState::default().with_name(Some(TopicName(name("x"))));
            DeleteTopicsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::DeleteRecords => {
            let topic = DeleteRecordsTopic::default().with_name(topic());
            let topic = topic.with_partitions(vec![DeleteRecordsPartition::default()]);
            DeleteRecordsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::CreatePartitions => {
            let topic = CreatePartitionsTopic::default()
                .with_name(topic())
                .with_count(1);
            CreatePartitionsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        _ => configs_sample(api),
    }
}

fn configs_sample(api: ApiKey) -> RequestKind {
    let (setting, value) = (name("retention.ms"), Some(name("1000")));
    match api {
        ApiKey::DescribeConfigs => {
            let resource = DescribeConfigsResource::default().with_resource_type(2);
            let resource = resource
                .with_resource_name(name("t"))
                .with_configuration_keys(None);
            DescribeConfigsRequest::default()
                .with_resources(vec![resource])
                .into()
        }
        ApiKey::AlterConfigs => {
            let config = AlterableConfig::default()
                .with_name(setting)
                .with_value(value);
            let resource = AlterConfigsResource::default().with_resource_type(2);
            let resource = resource
                .with_resource_name(name("t"))
                .with_configs(vec![config]);
            AlterConfigsRequest::default()
                .with_resources(vec![resource])
                .into()
        }
        _ => {
            let config = incremental::AlterableConfig::default();
            let config = config.with_name(setting).with_value(value);
            let resource = incremental::AlterConfigsResource::default().with_resource_type(2);
            let resource = resource
                .with_resource_name(name("t"))
                .with_configs(vec![config]);
            IncrementalAlterConfigsRequest::default()
                .with_resources(vec![resource])
                .into()
        }
    }
}

fn group_sample(api: ApiKey, version: i16) -> RequestKind {
    match api {
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default().with_name(name("range"));
            // A group of its own: in a common one it would wait for the others to join again.
            let alone = GroupId(text(format!("alone in version {version}")));
            let join = JoinGroupRequest::default().with_group_id(alone);
            let join = join
                .with_protocol_type(name("consumer"))
                .with_protocols(vec![protocol]);
            let join = join.with_session_timeout_ms(6000);
            match version {
                0 => join.into(),
                _ => join.with_rebalance_timeout_ms(6000).into(),
            }
        }
        ApiKey::SyncGroup => SyncGroupRequest::default().with_group_id(group()).into(),
        ApiKey::Heartbeat => HeartbeatRequest::default().with_group_id(group()).into(),
        ApiKey::LeaveGroup if version < 3 => LeaveGroupRequest::default()
            .with_group_id(group())
            .with_member_id(name("m"))
            .into(),
        ApiKey::LeaveGroup => {
            let member = MemberIdentity::default().with_member_id(name("m"));
            LeaveGroupRequest::default()
                .with_group_id(group())
                .with_members(vec![member])
                .into()
        }
        ApiKey::DescribeGroups => DescribeGroupsRequest::default()
            .with_groups(vec![group()])
            .into(),
        ApiKey::ListGroups => ListGroupsRequest::default().into(),
        ApiKey::DeleteGroups => DeleteGroupsRequest::default()
            .with_groups_names(vec![GroupId(name("x"))])
            .into(),
        ApiKey::ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest::default().into(),
        _ => offsets_sample(api, version),
    }
}

fn offsets_sample(api: ApiKey, version: i16) -> RequestKind {
    match api {
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
            let topic = OffsetCommitRequestTopic::default().with_name(topic());
            let topic = topic.with_partitions(vec![partition]);
            OffsetCommitRequest::default()
                .with_group_id(group())
                .with_topics(vec![topic])
                .into()
        }
        ApiKey::OffsetFetch if version < 8 => {
            let topic = OffsetFetchRequestTopic::default().with_name(topic());
            let topics = Some(vec![topic.with_partition_indexes(vec![0])]);
            OffsetFetchRequest::default()
                .with_group_id(group())
                .with_topics(topics)
                .into()
        }
        ApiKey::OffsetFetch => {
            let topic = OffsetFetchRequestTopics::default().with_name(topic());
            let topics = Some(vec![topic.with_partition_indexes(vec![0])]);
            let wanted = OffsetFetchRequestGroup::default().with_group_id(group());
            OffsetFetchRequest::default()
                .with_groups(vec![wanted.with_topics(topics)])
                .into()
        }
        ApiKey::OffsetDelete => {
            let partition = OffsetDeleteRequestPartition::default();
            let topic = OffsetDeleteRequestTopic::default().with_name(topic());
            let topic = topic.with_partitions(vec![partition]);
            OffsetDeleteRequest::default()
                .with_group_id(group())
                .with_topics(vec![topic])
                .into()
        }
        other => panic!("{other:?} is advertised and not tested"),
    }
}
