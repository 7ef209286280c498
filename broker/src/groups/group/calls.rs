//! What members ask of their group once they are in it.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::super::messages::{Caller, Reply, Sync, Synced};
use super::{Group, State, Waits};

impl Group {
    /// A member wants its share: at once if there is one, else with a [`Reply::Synced`].
    ///
    /// # Errors
    /// The protocol's own.
    pub(crate) fn sync(
        &mut self,
        sync: Sync,
        now: Instant,
    ) -> Result<Option<Synced>, ResponseError> {
        self.check(&sync.caller)?;
        if sync.protocol.is_some_and(|name| name != self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let id = sync.caller.member;
        let member = self
            .members
            .get_mut(&id)
            .ok_or(ResponseError::UnknownMemberId)?;
        member.seen = now;
        match self.state {
            State::Empty => return Err(ResponseError::UnknownMemberId),
            State::Joining => return Err(ResponseError::RebalanceInProgress),
            State::Stable => {
                let assignment = member.assignment.clone();
                return Ok(Some(self.synced(assignment)));
            }
            State::Syncing => member.waits = Waits::Sync,
        }
        if id == self.leader {
            self.assign(sync.assignments, now);
        }
        Ok(None)
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now: Instant) {
        let mut shares: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        self.state = State::Stable;
        self.deadline = None;
        for (id, member) in &mut self.members {
            member.assignment = shares.remove(id).unwrap_or_default();
        }
        for id in self.waiting(Waits::Sync) {
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.waits = Waits::No;
            member.seen = now;
            let assignment = member.assignment.clone();
            let synced = self.synced(assignment);
            self.replies.push(Reply::Synced(id, Ok(synced)));
        }
    }

    /// # Errors
    /// `RebalanceInProgress` while the others join; else the protocol's own.
    pub(crate) fn heartbeat(&mut self, caller: &Caller, now: Instant) -> Result<(), ResponseError> {
        self.check(caller)?;
        if let Some(member) = self.members.get_mut(&caller.member) {
            member.seen = now;
        }
        match self.state {
            State::Joining => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// The protocol's own: not a member, an old generation, or between two generations.
    pub(crate) fn may_commit(
        &mut self,
        caller: &Caller,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if caller.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check(caller)?;
        if let Some(member) = self.members.get_mut(&caller.member) {
            member.seen = now;
        }
        match self.state {
            State::Syncing => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// If nobody has this id or instance.
    pub(crate) fn leave(
        &mut self,
        member: &str,
        instance: Option<&str>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if self.promised.remove(member).is_some() {
            return Ok(());
        }
        let id = match instance {
            None => member.to_owned(),
            Some(instance) => {
                let id = self
                    .static_member(instance)
                    .ok_or(ResponseError::UnknownMemberId)?;
                if !member.is_empty() && member != id {
                    return Err(ResponseError::FencedInstanceId);
                }
                id
            }
        };
        if !self.members.contains_key(&id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.remove(&id, now);
        Ok(())
    }

    /// Whether the caller is a member of this generation.
    fn check(&self, caller: &Caller) -> Result<(), ResponseError> {
        if let Some(instance) = &caller.instance {
            let id = self
                .static_member(instance)
                .ok_or(ResponseError::UnknownMemberId)?;
            if id != caller.member {
                return Err(ResponseError::FencedInstanceId);
            }
        }
        if !self.members.contains_key(&caller.member) {
            return Err(ResponseError::UnknownMemberId);
        }
        if caller.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }
}
