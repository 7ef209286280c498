//! A member of a classic group that says one word at a time.

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, SyncGroupRequest,
    SyncGroupResponse,
};

use super::lab::{Lab, until};
use super::wire::{Wire, check_code, text, topic_name};

pub(super) const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;
const COMMIT: i16 = 8;
/// A session, or a rebalance, that does not end while a case runs.
const LONG_MS: i32 = 60_000;

/// Waits until the group's coordinator answers; a fresh Kafka has to make its topic first.
pub(super) fn await_coordinator(lab: &Lab, group: &str) -> anyhow::Result<()> {
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    until("a coordinator", || {
        let mut wire = Wire::connect(lab)?;
        let found = wire.ask(4, &request)?.coordinators.remove(0);
        let beat = HeartbeatRequest::default().with_group_id(GroupId(text(group)));
        let code = wire.ask(HEARTBEAT, &beat)?.error_code;
        Ok(found.error_code == 0 && code == E::UnknownMemberId.code())
    })
}

/// What a consumer of the classic protocol says of itself: the topics it reads.
pub(super) fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(-1);
    bytes.freeze()
}

/// One who takes part in a group, on a connection of its own.
pub(super) struct Member {
    pub(super) wire: Wire,
    pub(super) group: String,
    pub(super) instance: Option<&'static str>,
    pub(super) id: String,
    pub(super) generation: i32,
    pub(super) session_ms: i32,
    pub(super) rebalance_ms: i32,
    pub(super) strategy: &'static str,
    pub(super) metadata: Bytes,
}

impl Member {
    pub(super) fn new(lab: &Lab, group: &str) -> anyhow::Result<Self> {
        Ok(Self {
            wire: Wire::connect(lab)?,
            group: group.to_owned(),
            instance: None,
            id: String::new(),
            generation: -1,
            session_ms: LONG_MS,
            rebalance_ms: LONG_MS,
            strategy: "range",
            metadata: Bytes::new(),
        })
    }

    pub(super) fn of_instance(mut self, instance: &'static str) -> Self {
        self.instance = Some(instance);
        self
    }

    /// The same in the eyes of the group, on another connection.
    pub(super) fn double(&self, lab: &Lab) -> anyhow::Result<Self> {
        Ok(Self {
            wire: Wire::connect(lab)?,
            group: self.group.clone(),
            id: self.id.clone(),
            metadata: self.metadata.clone(),
            ..*self
        })
    }

    pub(super) fn send_join(&mut self, version: i16) -> anyhow::Result<()> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(self.strategy))
            .with_metadata(self.metadata.clone());
        let mut request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_session_timeout_ms(self.session_ms)
            .with_rebalance_timeout_ms(self.rebalance_ms)
            .with_member_id(text(&self.id))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        request.group_instance_id = self.instance.map(text);
        self.wire.send(version, &request)
    }

    pub(super) fn joined(&mut self, version: i16) -> anyhow::Result<JoinGroupResponse> {
        let joined = self.wire.receive::<JoinGroupRequest>(version)?;
        if joined.error_code == 0 || joined.error_code == E::MemberIdRequired.code() {
            self.id = joined.member_id.to_string();
            self.generation = joined.generation_id;
        }
        Ok(joined)
    }

    pub(super) fn try_join(&mut self, version: i16) -> anyhow::Result<JoinGroupResponse> {
        self.send_join(version)?;
        self.joined(version)
    }

    /// Joins, coming back with the id it is given if it must.
    pub(super) fn join(&mut self) -> anyhow::Result<JoinGroupResponse> {
        self.ask_to_join()?;
        let joined = self.joined(JOIN)?;
        check_code(joined.error_code, 0)?;
        Ok(joined)
    }

    /// As [`Member::join`], up to the answer that has to wait for the others.
    pub(super) fn ask_to_join(&mut self) -> anyhow::Result<()> {
        if self.id.is_empty() && self.instance.is_none() {
            let first = self.try_join(JOIN)?;
            check_code(first.error_code, E::MemberIdRequired.code())?;
        }
        self.send_join(JOIN)
    }

    pub(super) fn send_sync(&mut self, members: &[&str]) -> anyhow::Result<()> {
        let assign = |id: &&str| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(id))
                .with_assignment(Bytes::from(format!("share of {id}")))
        };
        let mut request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text(self.strategy)))
            .with_assignments(members.iter().map(assign).collect());
        request.group_instance_id = self.instance.map(text);
        self.wire.send(SYNC, &request)
    }

    pub(super) fn synced(&mut self) -> anyhow::Result<SyncGroupResponse> {
        self.wire.receive::<SyncGroupRequest>(SYNC)
    }

    /// Hands shares out to `members`, or waits for the one who does.
    pub(super) fn sync(&mut self, members: &[&str]) -> anyhow::Result<SyncGroupResponse> {
        self.send_sync(members)?;
        self.synced()
    }

    /// The code of a heartbeat's answer.
    pub(super) fn beat(&mut self) -> anyhow::Result<i16> {
        let mut request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        request.group_instance_id = self.instance.map(text);
        Ok(self.wire.ask(HEARTBEAT, &request)?.error_code)
    }

    /// The code of the answer to a commit of offset 0 of partition 0.
    pub(super) fn commit(&mut self, topic: &str) -> anyhow::Result<i16> {
        let partition =
            OffsetCommitRequestPartition::default().with_committed_metadata(Some(text("")));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let mut request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.id))
            .with_topics(vec![topic]);
        request.group_instance_id = self.instance.map(text);
        let answer = self.wire.ask(COMMIT, &request)?;
        Ok(answer.topics[0].partitions[0].error_code)
    }

    pub(super) fn leave(
        &mut self,
        members: Vec<MemberIdentity>,
    ) -> anyhow::Result<LeaveGroupResponse> {
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_members(members);
        self.wire.ask(LEAVE, &request)
    }
}

pub(super) fn identity(id: &str, instance: Option<&str>) -> MemberIdentity {
    let mut identity = MemberIdentity::default().with_member_id(text(id));
    identity.group_instance_id = instance.map(text);
    identity
}

/// Two members of one generation, the first of whom leads.
pub(super) fn pair(mut a: Member, mut b: Member) -> anyhow::Result<(Member, Member)> {
    a.join()?;
    a.sync(&[&a.id.clone()])?;
    b.ask_to_join()?;
    until("the first is asked to join again", || {
        Ok(a.beat()? == E::RebalanceInProgress.code())
    })?;
    let again = a.join()?;
    check_code(b.joined(JOIN)?.error_code, 0)?;
    ensure!(again.leader.as_str() == a.id, "the other leads: {again:?}");
    ensure!(
        again.members.len() == 2,
        "the leader sees {:?}",
        again.members
    );
    b.send_sync(&[])?;
    b.wire
        .expect_silence()
        .context("before the leader has assigned")?;
    let ids = [a.id.clone(), b.id.clone()];
    for synced in [a.sync(&[&ids[0], &ids[1]])?, b.synced()?] {
        check_code(synced.error_code, 0)?;
        ensure!(synced.assignment.starts_with(b"share of "), "{synced:?}");
    }
    Ok((a, b))
}
