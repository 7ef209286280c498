//! The classic group protocol, word by word: who is a member, for how long, and who is not.

use anyhow::{Context, bail, ensure};
use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetDeleteRequest};

use super::lab::{Lab, until};
use super::member::{JOIN, Member, await_coordinator, identity, pair, subscription};
use super::wire::{check_code, text, topic_name};

/// The shortest session that Kafka allows.
const SESSION_MS: i32 = 6_000;
/// Longer than this machine may be busy with something else.
const REBALANCE_MS: i32 = 5_000;

fn group(lab: &Lab) -> anyhow::Result<String> {
    let group = lab.name("group");
    await_coordinator(lab, &group)?;
    Ok(group)
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
        member.rebalance_ms = REBALANCE_MS;
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
