//! Consumer groups on the wire.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, GroupId, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, code, text};
use crate::core::Core;
use crate::groups::{Caller, Join, Overview, Sync};

/// The first version of JoinGroup whose clients come back with the id they were given.
const TAKES_ID_FROM: i16 = 4;
/// The first version whose clients can be told that they lead and have nothing to assign.
const SKIPS_ASSIGNMENT_FROM: i16 = 9;
/// The first version that may leave the protocol's name out.
const NULL_PROTOCOL_FROM: i16 = 7;

fn owned(name: &StrBytes) -> String {
    name.to_string()
}

fn millis(of: i32) -> Duration {
    Duration::from_millis(of.max(0) as u64)
}

pub(super) async fn join(context: &Context<'_>, request: JoinGroupRequest) -> JoinGroupResponse {
    if request.group_id.is_empty() {
        return join_refused(
            context,
            ResponseError::InvalidGroupId,
            owned(&request.member_id),
        );
    }
    let session = millis(request.session_timeout_ms);
    let rebalance = millis(request.rebalance_timeout_ms);
    let protocols = request.protocols.iter();
    let join = Join {
        member: owned(&request.member_id),
        instance: request.group_instance_id.as_ref().map(owned),
        client: owned(&context.client),
        protocol_type: owned(&request.protocol_type),
        protocols: protocols
            .map(|p| (owned(&p.name), p.metadata.clone()))
            .collect(),
        session,
        rebalance: if rebalance.is_zero() {
            session
        } else {
            rebalance
        },
        takes_id: context.version >= TAKES_ID_FROM,
        skips_assignment: context.version >= SKIPS_ASSIGNMENT_FROM,
    };
    let joined = match context.core.groups.join(&request.group_id, join).await {
        Ok(joined) => joined,
        Err((error, member)) => return join_refused(context, error, member),
    };
    let members = joined.members.into_iter().map(|m| {
        JoinGroupResponseMember::default()
            .with_member_id(text(m.id))
            .with_group_instance_id(m.instance.map(text))
            .with_metadata(m.metadata)
    });
    let response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(text(joined.protocol)))
        .with_leader(text(joined.leader))
        .with_member_id(text(joined.member))
        .with_skip_assignment(joined.skip_assignment)
        .with_members(members.collect());
    match context.version >= NULL_PROTOCOL_FROM {
        true => response.with_protocol_type(Some(text(joined.protocol_type))),
        false => response,
    }
}

fn join_refused(context: &Context<'_>, error: ResponseError, member: String) -> JoinGroupResponse {
    let name = (context.version < NULL_PROTOCOL_FROM).then(StrBytes::default);
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name(name)
        .with_member_id(text(member))
}

pub(super) async fn sync(core: &Arc<Core>, request: SyncGroupRequest) -> SyncGroupResponse {
    if request.group_id.is_empty() {
        return SyncGroupResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
    }
    let assignments = request.assignments.iter();
    let sync = Sync {
        caller: Caller {
            member: owned(&request.member_id),
            instance: request.group_instance_id.as_ref().map(owned),
            generation: request.generation_id,
        },
        protocol: request.protocol_name.as_ref().map(owned),
        assignments: assignments
            .map(|a| (owned(&a.member_id), a.assignment.clone()))
            .collect(),
    };
    match core.groups.sync(&request.group_id, sync).await {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(e) => SyncGroupResponse::default().with_error_code(e.code()),
    }
}

pub(super) fn heartbeat(core: &Arc<Core>, request: &HeartbeatRequest) -> HeartbeatResponse {
    let caller = Caller {
        member: owned(&request.member_id),
        instance: request.group_instance_id.as_ref().map(owned),
        generation: request.generation_id,
    };
    let alive = match request.group_id.is_empty() {
        true => Err(ResponseError::InvalidGroupId),
        false => core.groups.heartbeat(&request.group_id, &caller),
    };
    HeartbeatResponse::default().with_error_code(code(&alive))
}

pub(super) fn leave(context: &Context<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let groups = &context.core.groups;
    if request.group_id.is_empty() {
        return LeaveGroupResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
    }
    if context.version < 3 {
        let left = groups.leave(&request.group_id, &request.member_id, None);
        note_if_empty(context.core, &request.group_id);
        return LeaveGroupResponse::default().with_error_code(code(&left));
    }
    let members = request.members.into_iter().map(|m| {
        let instance = m.group_instance_id.as_ref().map(|i| i.as_str());
        let left = groups.leave(&request.group_id, &m.member_id, instance);
        MemberResponse::default()
            .with_error_code(code(&left))
            .with_member_id(m.member_id)
            .with_group_instance_id(m.group_instance_id)
    });
    let response = LeaveGroupResponse::default().with_members(members.collect());
    note_if_empty(context.core, &request.group_id);
    response
}

/// Else nobody without a membership could commit for a group whose members have gone, after a restart of the log.
fn note_if_empty(core: &Core, group: &str) {
    let overview = core.groups.overview(group);
    if overview.is_some_and(|found| !found.members.is_empty()) {
        return;
    }
    match core.offsets.note_left(group) {
        Ok(()) => core.note_committed(),
        Err(e) => {
            tracing::warn!(file = %core.offsets.path().display(), "cannot note that {group} has no members: {e}");
        }
    }
}

/// As a Kafka broker answers whose groups of KIP-848 are switched off.
pub(super) fn refuse_kip_848() -> ConsumerGroupHeartbeatResponse {
    let why =
        StrBytes::from_static_str("only classic groups are supported: group.protocol=classic");
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_error_message(Some(why))
}

/// Groups with members, and groups of which only the committed offsets are known.
pub(super) fn list(core: &Arc<Core>, request: &ListGroupsRequest) -> ListGroupsResponse {
    let joined = core.groups.overviews();
    let is_joined = |id: &String| joined.iter().any(|(joined, _)| joined == id);
    let mut all: Vec<(String, String, &str)> = core
        .offsets
        .groups()
        .into_iter()
        .filter(|g| !is_joined(g))
        .map(dormant)
        .collect();
    all.extend(
        joined
            .into_iter()
            .map(|(id, group)| (id, group.protocol_type, group.state)),
    );
    let states = &request.states_filter;
    let groups = all
        .into_iter()
        .filter(|(_, _, state)| states.is_empty() || states.iter().any(|s| s.as_str() == *state))
        .map(|(id, protocol_type, state)| {
            ListedGroup::default()
                .with_group_id(GroupId(text(id)))
                .with_protocol_type(text(protocol_type))
                .with_group_state(text(state))
        });
    ListGroupsResponse::default().with_groups(groups.collect())
}

fn dormant(group: String) -> (String, String, &'static str) {
    (group, "consumer".to_owned(), "Empty")
}

pub(super) fn describe(
    core: &Arc<Core>,
    request: &DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = request.groups.iter().map(|id| {
        let described = DescribedGroup::default()
            .with_group_id(id.clone())
            .with_authorized_operations(i32::MIN);
        match core.groups.overview(id) {
            Some(group) => described_group(described, group),
            None => {
                let known = core.offsets.has_group(id);
                described.with_group_state(text(if known { "Empty" } else { "Dead" }))
            }
        }
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn described_group(described: DescribedGroup, group: Overview) -> DescribedGroup {
    let members = group.members.into_iter().map(|m| {
        DescribedGroupMember::default()
            .with_member_id(text(m.member.id))
            .with_group_instance_id(m.member.instance.map(text))
            .with_member_metadata(m.member.metadata)
            .with_client_id(text(m.client))
            .with_client_host(StrBytes::from_static_str("/127.0.0.1"))
            .with_member_assignment(m.assignment)
    });
    described
        .with_group_state(text(group.state))
        .with_protocol_type(text(group.protocol_type))
        .with_protocol_data(text(group.protocol))
        .with_members(members.collect())
}

pub(super) fn delete(core: &Arc<Core>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let code = code(&delete_one(core, &id));
        DeletableGroupResult::default()
            .with_group_id(id)
            .with_error_code(code)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}

fn delete_one(core: &Arc<Core>, group: &str) -> Result<(), ResponseError> {
    if group.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    let was_joined = core.groups.delete(group)?;
    let had_offsets = core.offsets.drop_group(group).map_err(|e| {
        tracing::error!(file = %core.offsets.path().display(), "cannot delete a group: {e}");
        ResponseError::KafkaStorageError
    })?;
    core.note_committed();
    if was_joined || had_offsets {
        Ok(())
    } else {
        Err(ResponseError::GroupIdNotFound)
    }
}
