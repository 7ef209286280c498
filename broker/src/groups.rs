//! Consumer groups: the registry, and who waits for which answer.
//!
//! The rules are in [`group`], a state machine that reads no clock and waits for nothing. This
//! module gives it the time, new member ids, and turns its replies into the answers that requests
//! wait for.

mod group;
#[cfg(test)]
mod group_tests;
mod messages;
mod subscribed;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::clock;
use group::Group;
pub(crate) use messages::{Caller, Join, Joined, Overview, Sync, Synced};
use messages::{JoinOutcome, Reply};
pub(crate) use subscribed::{CONSUMER, Subscribed};

type Waiters<T> = HashMap<String, oneshot::Sender<Result<T, ResponseError>>>;
type Waiting<T> = oneshot::Receiver<Result<T, ResponseError>>;

#[derive(Debug)]
struct Entry {
    group: Group,
    joins: Waiters<Joined>,
    syncs: Waiters<Synced>,
}

impl Entry {
    /// Delivers what the state machine has decided. A request that gave up is no loss.
    fn deliver(&mut self) {
        for reply in self.group.take_replies() {
            match reply {
                Reply::Joined(member, result) => {
                    if let Some(waiter) = self.joins.remove(&member) {
                        let _ = waiter.send(result);
                    }
                }
                Reply::Synced(member, result) => {
                    if let Some(waiter) = self.syncs.remove(&member) {
                        let _ = waiter.send(result);
                    }
                }
            }
        }
    }
}

/// All consumer groups that have, or had, members.
#[derive(Debug)]
pub(crate) struct Groups {
    by_id: Mutex<HashMap<String, Entry>>,
    join_delay: Duration,
    groups_max: usize,
    /// Until when members of groups that had some before this process may come back.
    missed: HashMap<String, Instant>,
    /// Told when a deadline may have come closer.
    rescheduled: Notify,
}

impl Groups {
    /// `sessions` are the groups that had members when the log was last open, and how long those may be silent.
    pub(crate) fn new(
        join_delay: Duration,
        groups_max: usize,
        sessions: Vec<(String, Duration)>,
    ) -> Groups {
        let now = clock::monotonic();
        let missed = sessions.into_iter();
        Groups {
            missed: missed.map(|(group, s)| (group, now + s)).collect(),
            by_id: Mutex::default(),
            join_delay,
            groups_max,
            rescheduled: Notify::new(),
        }
    }

    /// Enters a member, and waits until the group is complete.
    ///
    /// # Errors
    /// The protocol's own; with `MemberIdRequired` comes the id to join with.
    pub(crate) async fn join(
        &self,
        group: &str,
        join: Join,
    ) -> Result<Joined, (ResponseError, String)> {
        let id = join.member.clone();
        let failed = |e| (e, id.clone());
        let new_id = format!(
            "{}-{}",
            join.instance.as_deref().unwrap_or(&join.client),
            Uuid::new_v4()
        );
        let waiting: Waiting<Joined> = {
            let mut by_id = self.by_id.lock();
            if !by_id.contains_key(group) && by_id.len() >= self.groups_max {
                return Err(failed(ResponseError::GroupMaxSizeReached));
            }
            let entry = by_id.entry(group.to_owned()).or_insert_with(|| Entry {
                group: Group::new(self.join_delay),
                joins: HashMap::new(),
                syncs: HashMap::new(),
            });
            let outcome = entry.group.join(join, new_id.clone(), clock::monotonic());
            let waiting = match outcome {
                Err(ResponseError::MemberIdRequired) => {
                    Err((ResponseError::MemberIdRequired, new_id))
                }
                Err(e) => Err(failed(e)),
                Ok(JoinOutcome::Now(joined)) => Ok(Err(joined)),
                Ok(JoinOutcome::Wait(member)) => {
                    let (waiter, waiting) = oneshot::channel();
                    if let Some(older) = entry.joins.insert(member, waiter) {
                        let _ = older.send(Err(ResponseError::RebalanceInProgress));
                    }
                    Ok(Ok(waiting))
                }
            };
            entry.deliver();
            self.rescheduled.notify_one();
            match waiting? {
                Ok(waiting) => waiting,
                Err(joined) => return Ok(joined),
            }
        };
        let answer = waiting.await.unwrap_or(Err(ResponseError::UnknownMemberId));
        answer.map_err(failed)
    }

    /// Hands in the leader's assignment, or waits for it.
    ///
    /// # Errors
    /// The protocol's own.
    pub(crate) async fn sync(&self, group: &str, sync: Sync) -> Result<Synced, ResponseError> {
        let waiting: Waiting<Synced> = {
            let mut by_id = self.by_id.lock();
            let entry = by_id.get_mut(group).ok_or(ResponseError::UnknownMemberId)?;
            let member = sync.caller.member.clone();
            let at_once = entry.group.sync(sync, clock::monotonic())?;
            if let Some(synced) = at_once {
                return Ok(synced);
            }
            let (waiter, waiting) = oneshot::channel();
            entry.syncs.insert(member, waiter);
            entry.deliver();
            self.rescheduled.notify_one();
            waiting
        };
        waiting
            .await
            .unwrap_or(Err(ResponseError::RebalanceInProgress))
    }

    /// A member is alive.
    ///
    /// # Errors
    /// `RebalanceInProgress` asks it to join again; the others say that it is no longer a member.
    pub(crate) fn heartbeat(&self, group: &str, caller: &Caller) -> Result<(), ResponseError> {
        let mut by_id = self.by_id.lock();
        let entry = by_id.get_mut(group).ok_or(ResponseError::UnknownMemberId)?;
        entry.group.heartbeat(caller, clock::monotonic())
    }

    /// A member goes, named by its id or by its instance.
    ///
    /// # Errors
    /// If there is no such member.
    pub(crate) fn leave(
        &self,
        group: &str,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), ResponseError> {
        let mut by_id = self.by_id.lock();
        let entry = by_id.get_mut(group).ok_or(ResponseError::UnknownMemberId)?;
        let result = entry.group.leave(member, instance, clock::monotonic());
        entry.deliver();
        self.rescheduled.notify_one();
        result
    }

    /// Whether this caller may commit offsets now. Gives the longest session of the group's members, zero if it has
    /// none.
    ///
    /// # Errors
    /// The protocol's own. A caller that is no member may, as long as the group has none. One that had some when the
    /// log was last open is not taken to be empty until they are missed: what a member read before it lost its place
    /// may come late and without a generation, after others have gone on.
    pub(crate) fn may_commit(
        &self,
        group: &str,
        caller: &Caller,
    ) -> Result<Duration, ResponseError> {
        let now = clock::monotonic();
        let is_anonymous = caller.generation < 0;
        if is_anonymous && self.missed.get(group).is_some_and(|until| now < *until) {
            return Err(ResponseError::UnknownMemberId);
        }
        match self.by_id.lock().get_mut(group) {
            Some(entry) => {
                entry.group.may_commit(caller, now)?;
                Ok(entry.group.longest_session())
            }
            None if is_anonymous => Ok(Duration::ZERO),
            None => Err(ResponseError::IllegalGeneration),
        }
    }

    /// All groups that were joined, with their state.
    pub(crate) fn overviews(&self) -> Vec<(String, Overview)> {
        let by_id = self.by_id.lock();
        by_id
            .iter()
            .map(|(id, entry)| (id.clone(), entry.group.overview()))
            .collect()
    }

    pub(crate) fn overview(&self, group: &str) -> Option<Overview> {
        self.by_id
            .lock()
            .get(group)
            .map(|entry| entry.group.overview())
    }

    /// Forgets a group without members; `false` if it was not known.
    ///
    /// # Errors
    /// If it has members.
    pub(crate) fn delete(&self, group: &str) -> Result<bool, ResponseError> {
        let mut by_id = self.by_id.lock();
        match by_id.get(group) {
            Some(entry) if !entry.group.is_empty() => Err(ResponseError::NonEmptyGroup),
            _ => Ok(by_id.remove(group).is_some()),
        }
    }

    /// Acts on every deadline that has passed: silent members go, late ones are not waited for.
    /// Returns the next deadline.
    fn expire(&self) -> Option<Instant> {
        let now = clock::monotonic();
        let mut by_id = self.by_id.lock();
        for entry in by_id.values_mut() {
            entry.group.expire(now);
            entry.deliver();
        }
        by_id.retain(|_, entry| !entry.group.is_idle());
        by_id
            .values()
            .filter_map(|entry| entry.group.next_deadline())
            .min()
    }

    /// Keeps deadlines until it is dropped. Sleeps as long as there are none.
    pub(crate) async fn keep_deadlines(&self) {
        loop {
            let deadline = self.expire();
            let sleep = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.rescheduled.notified() => {}
            }
        }
    }

    /// Answers everybody who waits, at shutdown.
    pub(crate) fn release(&self) {
        for entry in self.by_id.lock().values_mut() {
            entry.joins.clear();
            entry.syncs.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has no membership commits for `group`, of which the last run of the log has noted `sessions`.
    #[track_caller]
    fn check(sessions: &[(&str, u64)], group: &str, expected: Result<Duration, ResponseError>) {
        let sessions = sessions.iter();
        let sessions = sessions.map(|(group, s)| ((*group).to_owned(), Duration::from_secs(*s)));
        let groups = Groups::new(Duration::ZERO, 10, sessions.collect());
        let nobody = Caller {
            member: String::new(),
            instance: None,
            generation: -1,
        };
        assert_eq!(groups.may_commit(group, &nobody), expected);
    }

    #[test]
    fn a_group_whose_members_may_come_back_is_not_empty() {
        check(&[], "g", Ok(Duration::ZERO));
        check(&[("g", 3600)], "g", Err(ResponseError::UnknownMemberId));
        check(&[("g", 3600)], "h", Ok(Duration::ZERO));
        check(&[("g", 0)], "g", Ok(Duration::ZERO));
    }
}
