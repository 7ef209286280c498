//! The classic group protocol, spoken word by word: who is a member, for how long, and who is not.

use anyhow::{Context, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, OffsetDeleteRequest,
    SyncGroupRequest, SyncGroupResponse,
};

use super::lab::{Lab, until};
use super::wire::{Wire, check_code, text, topic_name};

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;
const COMMIT: i16 = 8;
/// The shortest session that Kafka allows.
const SESSION_MS: i32 = 6_000;
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
fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(-1);
    bytes.freeze()
}

/// One who takes part in a group, on a connection of its own.
struct Member {
    wire: Wire,
    group: String,
    instance: Option<&'static str>,
    id: String,
    generation: i32,
    session_ms: i32,
    rebalance_ms: i32,
    strategy: &'static str,
    metadata: Bytes,
}

impl Member {
    fn new(lab: &Lab, group: &str) -> anyhow::Result<Self> {
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

    fn of_instance(mut self, instance: &'static str) -> Self {
        self.instance = Some(instance);
        self
    }

    /// The same in the eyes of the group, on another connection.
    fn double(&self, lab: &Lab) -> anyhow::Result<Self> {
        Ok(Self {
            wire: Wire::connect(lab)?,
            group: self.group.clone(),
            id: self.id.clone(),
            metadata: self.metadata.clone(),
            ..*self
        })
    }

    fn send_join(&mut self, version: i16) -> anyhow::Result<()> {
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

    fn joined(&mut self, version: i16) -> anyhow::Result<JoinGroupResponse> {
        let joined = self.wire.receive::<JoinGroupRequest>(version)?;
        if joined.error_code == 0 || joined.error_code == E::MemberIdRequired.code() {
            self.id = joined.member_id.to_string();
            self.generation = joined.generation_id;
        }
        Ok(joined)
    }

    fn try_join(&mut self, version: i16) -> anyhow::Result<JoinGroupResponse> {
        self.send_join(version)?;
        self.joined(version)
    }

    /// Joins, coming back with the id it is given if it must.
    fn join(&mut self) -> anyhow::Result<JoinGroupResponse> {
        self.ask_to_join()?;
        let joined = self.joined(JOIN)?;
        check_code(joined.error_code, 0)?;
        Ok(joined)
    }

    /// As [`Member::join`], up to the answer that has to wait for the others.
    fn ask_to_join(&mut self) -> anyhow::Result<()> {
        if self.id.is_empty() && self.instance.is_none() {
            let first = self.try_join(JOIN)?;
            check_code(first.error_code, E::MemberIdRequired.code())?;
        }
        self.send_join(JOIN)
    }

    fn send_sync(&mut self, members: &[&str]) -> anyhow::Result<()> {
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

    fn synced(&mut self) -> anyhow::Result<SyncGroupResponse> {
        self.wire.receive::<SyncGroupRequest>(SYNC)
    }

    /// Hands shares out to `members`, or waits for the one who does.
    fn sync(&mut self, members: &[&str]) -> anyhow::Result<SyncGroupResponse> {
        self.send_sync(members)?;
        self.synced()
    }

    /// The code of a heartbeat's answer.
    fn beat(&mut self) -> anyhow::Result<i16> {
        let mut request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        request.group_instance_id = self.instance.map(text);
        Ok(self.wire.ask(HEARTBEAT, &request)?.error_code)
    }

    /// The code of the answer to a commit of offset 0 of partition 0.
    fn commit(&mut self, topic: &str) -> anyhow::Result<i16> {
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

    fn leave(&mut self, members: Vec<MemberIdentity>) -> anyhow::Result<LeaveGroupResponse> {
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_members(members);
        self.wire.ask(LEAVE, &request)
    }
}

fn identity(id: &str, instance: Option<&str>) -> MemberIdentity {
    let mut identity = MemberIdentity::default().with_member_id(text(id));
    identity.group_instance_id = instance.map(text);
    identity
}

fn group(lab: &Lab) -> anyhow::Result<String> {
    let group = lab.name("group");
    await_coordinator(lab, &group)?;
    Ok(group)
}

/// Two members of one generation, the first of whom leads.
fn pair(mut a: Member, mut b: Member) -> anyhow::Result<(Member, Member)> {
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

pub(super) fn ids(lab: &Lab) -> anyhow::Result<()> {
    let group = group(lab)?;
    // Version 3 knows nothing of a second round.
    let mut old = Member::new(lab, &lab.name("group"))?;
    check_code(old.try_join(3)?.error_code, 0)?;
    let mut new = Member::new(lab, &group)?;
    check_code(new.try_join(4)?.error_code, E::MemberIdRequired.code())?;
    ensure!(!new.id.is_empty(), "it was given no id");
    check_code(new.try_join(4)?.error_code, 0)?;
    let mut stranger = Member::new(lab, &group)?;
    stranger.id = "nobody-gave-me-this".to_owned();
    check_code(
        stranger.try_join(JOIN)?.error_code,
        E::UnknownMemberId.code(),
    )
}

/// A wrong claim of membership, and what it is called.
type Claim = (&'static str, fn(&mut Member), E);

pub(super) fn strangers(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(1, &[])?, group(lab)?);
    let mut member = Member::new(lab, &group)?;
    member.join()?;
    check_code(member.sync(&[&member.id.clone()])?.error_code, 0)?;
    let claims: [Claim; 3] = [
        (
            "another id",
            |m| m.id = "nobody".to_owned(),
            E::UnknownMemberId,
        ),
        (
            "an old generation",
            |m| m.generation -= 1,
            E::IllegalGeneration,
        ),
        (
            "a generation to come",
            |m| m.generation += 1,
            E::IllegalGeneration,
        ),
    ];
    for (what, change, error) in claims {
        let mut claimant = member.double(lab)?;
        change(&mut claimant);
        check_code(claimant.beat()?, error.code()).with_context(|| format!("{what} beats"))?;
        check_code(claimant.commit(&topic)?, error.code())
            .with_context(|| format!("{what} commits"))?;
        check_code(claimant.sync(&[])?.error_code, error.code())
            .with_context(|| format!("{what} syncs"))?;
    }
    check_code(member.beat()?, 0)?;
    check_code(member.commit(&topic)?, 0)
}

pub(super) fn wrong_joins(lab: &Lab) -> anyhow::Result<()> {
    let group = group(lab)?;
    let mut member = Member::new(lab, &group)?;
    member.join()?;
    check_code(member.sync(&[&member.id.clone()])?.error_code, 0)?;
    let wrongs: [Claim; 3] = [
        ("no group", |m| m.group.clear(), E::InvalidGroupId),
        (
            "another strategy",
            |m| m.strategy = "roundrobin",
            E::InconsistentGroupProtocol,
        ),
        (
            "hardly a session",
            |m| m.session_ms = 1,
            E::InvalidSessionTimeout,
        ),
    ];
    for (what, change, error) in wrongs {
        let mut other = Member::new(lab, &group)?;
        change(&mut other);
        check_code(other.try_join(3)?.error_code, error.code()).context(what)?;
    }
    let mut nowhere = Member::new(lab, "")?;
    check_code(nowhere.beat()?, E::InvalidGroupId.code()).context("a heartbeat for no group")?;
    check_code(nowhere.sync(&[])?.error_code, E::InvalidGroupId.code())
        .context("a sync for no group")?;
    let left = nowhere.leave(vec![identity("nobody", None)])?;
    check_code(left.error_code, E::InvalidGroupId.code()).context("who leaves no group")?;
    // None of this disturbed the member.
    check_code(member.beat()?, 0)
}

pub(super) fn fenced(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(1, &[])?, group(lab)?);
    let mut first = Member::new(lab, &group)?.of_instance("one");
    first.join()?;
    check_code(first.sync(&[&first.id.clone()])?.error_code, 0)?;
    let mut second = Member::new(lab, &group)?.of_instance("one");
    let joined = second.join()?;
    ensure!(second.id != first.id, "it was given the id of the first");
    ensure!(
        joined.generation_id == first.generation,
        "another generation: {joined:?}"
    );
    let share = second.sync(&[])?;
    check_code(share.error_code, 0)?;
    let old_share = format!("share of {}", first.id);
    ensure!(
        share.assignment == old_share.as_bytes(),
        "not the share of the first: {share:?}"
    );
    let fenced = E::FencedInstanceId.code();
    check_code(first.beat()?, fenced).context("it beats")?;
    check_code(first.commit(&topic)?, fenced).context("it commits")?;
    check_code(first.sync(&[])?.error_code, fenced).context("it syncs")?;
    check_code(first.try_join(JOIN)?.error_code, fenced).context("it joins")?;
    let left = first.leave(vec![identity(&first.id.clone(), Some("one"))])?;
    check_code(left.members[0].error_code, fenced).context("it leaves")?;
    check_code(second.beat()?, 0).context("the second")?;
    check_code(second.commit(&topic)?, 0).context("the second")
}

/// It goes on leading, and learns who is in the group, but has nothing to assign.
pub(super) fn leader_returns(lab: &Lab) -> anyhow::Result<()> {
    let group = group(lab)?;
    let member = |instance| anyhow::Ok(Member::new(lab, &group)?.of_instance(instance));
    let (a, mut b) = pair(member("one")?, member("two")?)?;
    drop(a);
    let mut again = member("one")?;
    let joined = again.join()?;
    ensure!(
        joined.leader.as_str() == again.id,
        "another leads: {joined:?}"
    );
    ensure!(joined.skip_assignment, "it is to assign: {joined:?}");
    ensure!(joined.members.len() == 2, "it sees {:?}", joined.members);
    let share = again.sync(&[])?;
    check_code(share.error_code, 0)?;
    ensure!(share.assignment.starts_with(b"share of "), "{share:?}");
    check_code(b.beat()?, 0).context("the other is disturbed")
}

pub(super) fn session(lab: &Lab) -> anyhow::Result<()> {
    let group = group(lab)?;
    let mut member = Member::new(lab, &group)?;
    member.session_ms = SESSION_MS;
    let (mut silent, mut alive) = pair(member, Member::new(lab, &group)?)?;
    until("the silent one is given up", || match alive.beat()? {
        0 => Ok(false),
        code => check_code(code, E::RebalanceInProgress.code()).map(|()| true),
    })?;
    let joined = alive.join()?;
    ensure!(
        joined.members.len() == 1,
        "still there: {:?}",
        joined.members
    );
    check_code(silent.beat()?, E::UnknownMemberId.code())
}

/// It is alive, so its session does not end; but the others do not wait for it any longer than they must.
pub(super) fn rebalance(lab: &Lab) -> anyhow::Result<()> {
    let group = group(lab)?;
    let member = || {
        let mut member = Member::new(lab, &group)?;
        member.rebalance_ms = 2000;
        anyhow::Ok(member)
    };
    let (mut slow, mut quick) = pair(member()?, member()?)?;
    let mut third = member()?;
    third.ask_to_join()?;
    until("all are asked to join again", || {
        Ok(quick.beat()? == E::RebalanceInProgress.code())
    })?;
    quick.send_join(JOIN)?;
    check_code(slow.beat()?, E::RebalanceInProgress.code()).context("before the time is over")?;
    let joined = quick.joined(JOIN)?;
    check_code(joined.error_code, 0)?;
    check_code(third.joined(JOIN)?.error_code, 0)?;
    let seen = joined.members.len() + usize::from(joined.members.is_empty()) * 2;
    ensure!(seen == 2, "members: {:?}", joined.members);
    check_code(slow.beat()?, E::UnknownMemberId.code()).context("it was too slow")
}

/// As an administrator does it: by their instances, in one request.
pub(super) fn removed(lab: &Lab) -> anyhow::Result<()> {
    let group = group(lab)?;
    let member = |instance| anyhow::Ok(Member::new(lab, &group)?.of_instance(instance));
    let (mut a, mut b) = pair(member("one")?, member("two")?)?;
    let mut administrator = Member::new(lab, &group)?;
    let all = ["one", "two", "three"].map(|i| identity("", Some(i)));
    let answer = administrator.leave(all.to_vec())?;
    check_code(answer.error_code, 0)?;
    let codes: Vec<_> = answer.members.iter().map(|m| m.error_code).collect();
    ensure!(codes == [0, 0, E::UnknownMemberId.code()], "{codes:?}");
    for member in [&mut a, &mut b] {
        check_code(member.beat()?, E::UnknownMemberId.code())?;
    }
    Ok(())
}

/// What a group's members read keeps its offsets; what none of them reads may be forgotten.
pub(super) fn offsets_deleted(lab: &Lab) -> anyhow::Result<()> {
    let (read, unread) = (lab.topic(1, &[])?, lab.topic(1, &[])?);
    let group = group(lab)?;
    let mut member = Member::new(lab, &group)?;
    member.metadata = subscription(&read);
    member.join()?;
    check_code(member.sync(&[&member.id.clone()])?.error_code, 0)?;
    for topic in [&read, &unread] {
        check_code(member.commit(topic)?, 0)?;
    }
    let topic = |name: &String| {
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(name))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()])
    };
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text(&group)))
        .with_topics([&read, &unread].map(topic).to_vec());
    let answer = member.wire.ask(0, &request)?;
    check_code(answer.error_code, 0)?;
    for (name, code) in [(&read, E::GroupSubscribedToTopic.code()), (&unread, 0)] {
        let mut topics = answer.topics.iter();
        let Some(found) = topics.find(|t| t.name.as_str() == name) else {
            bail!("{name} is not in the answer");
        };
        check_code(found.partitions[0].error_code, code)?;
    }
    Ok(())
}
