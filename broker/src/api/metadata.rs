//! Who is there and where: this broker, alone, leads everything and coordinates everything.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::topics::Topic;

/// The only broker.
const NODE: BrokerId = BrokerId(1);
/// "Not asked for", in the fields of authorized operations.
const NO_OPERATIONS: i32 = i32::MIN;
/// Kinds of coordinators.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

impl Context<'_> {
    fn host(&self) -> StrBytes {
        text(self.core.address.ip().to_string())
    }

    fn port(&self) -> i32 {
        i32::from(self.core.address.port())
    }

    fn cluster_id(&self) -> StrBytes {
        text(self.core.topics.cluster_id().simple().to_string())
    }
}

pub(super) fn metadata(context: &Context<'_>, request: MetadataRequest) -> MetadataResponse {
    let topics = &context.core.topics;
    let named = match request.topics {
        Some(wanted) if !(wanted.is_empty() && context.version == 0) => wanted
            .into_iter()
            .map(|t| match t.name {
                Some(name) => topics.get(&name).ok_or(
                    MetadataResponseTopic::default()
                        .with_name(Some(name))
                        .with_error_code(ResponseError::UnknownTopicOrPartition.code()),
                ),
                None => topics.get_by_id(t.topic_id).ok_or(
                    MetadataResponseTopic::default()
                        .with_topic_id(t.topic_id)
                        .with_error_code(ResponseError::UnknownTopicId.code()),
                ),
            })
            .collect(),
        _ => topics.all().into_iter().map(Ok).collect::<Vec<_>>(),
    };
    let broker = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(context.host())
        .with_port(context.port());
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(context.cluster_id()))
        .with_controller_id(NODE)
        .with_topics(
            named
                .into_iter()
                .map(|t| t.map_or_else(|e| e, |t| describe(&t)))
                .collect(),
        )
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id)
        .with_topic_authorized_operations(NO_OPERATIONS)
        .with_partitions((0..topic.partitions.len() as i32).map(partition).collect())
}

pub(super) fn describe_cluster(context: &Context<'_>) -> DescribeClusterResponse {
    let broker = DescribeClusterBroker::default()
        .with_broker_id(NODE)
        .with_host(context.host())
        .with_port(context.port());
    DescribeClusterResponse::default()
        .with_cluster_id(context.cluster_id())
        .with_controller_id(NODE)
        .with_cluster_authorized_operations(NO_OPERATIONS)
        .with_brokers(vec![broker])
}

/// Transactions have no coordinator here: the refusal is one that clients do not retry.
pub(super) fn find_coordinator(
    context: &Context<'_>,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let why = StrBytes::from_static_str("only consumer groups are supported, no transactions");
    let refusal = match request.key_type {
        GROUP => None,
        TRANSACTION => Some(ResponseError::TransactionalIdAuthorizationFailed),
        _ => Some(ResponseError::InvalidRequest),
    };
    let refusal = refusal.map(|error| (error.code(), why));
    let (host, port) = (context.host(), context.port());
    if context.version >= 4 {
        let coordinator = |key| match &refusal {
            None => Coordinator::default()
                .with_key(key)
                .with_node_id(NODE)
                .with_host(host.clone())
                .with_port(port),
            Some((code, why)) => Coordinator::default()
                .with_key(key)
                .with_error_code(*code)
                .with_error_message(Some(why.clone())),
        };
        let coordinators = request
            .coordinator_keys
            .into_iter()
            .map(coordinator)
            .collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let response = FindCoordinatorResponse::default();
    match refusal {
        None => response.with_node_id(NODE).with_host(host).with_port(port),
        Some((code, why)) => response.with_error_code(code).with_error_message(Some(why)),
    }
}
