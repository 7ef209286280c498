//! One consumer group of the classic protocol, as a state machine.
//!
//! ```text
//!            first join             all joined, or too late         leader's assignment
//!  Empty ─────────────────▶ Joining ───────────────────────▶ Syncing ──────────────────▶ Stable
//!    ▲                        ▲                                 │                          │
//!    └── last member gone ────┴──── a member comes, goes, or changes its subscription ─────┘
//! ```
//!
//! Coming, going and time are here; what members ask in between is in [`calls`].
//! Time is an argument. What others are told as a consequence is collected as [`Reply`]s.

mod calls;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::messages::{Join, JoinOutcome, Joined, Member, MemberOverview, Overview, Reply, Synced};

const MEMBERS_MAX: usize = 1000;
const SESSION_MIN: Duration = Duration::from_millis(10);
const SESSION_MAX: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Joining,
    Syncing,
    Stable,
}

/// What of this member is waiting for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    No,
    Join,
    Sync,
}

#[derive(Clone, Debug)]
struct Enrolled {
    instance: Option<String>,
    client: String,
    protocols: Vec<(String, Bytes)>,
    session: Duration,
    rebalance: Duration,
    seen: Instant,
    waits: Waits,
    assignment: Bytes,
}

/// The state of one group.
#[derive(Debug)]
pub(crate) struct Group {
    state: State,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Enrolled>,
    /// Ids that were given out and not yet used to join, and until when they may be.
    promised: BTreeMap<String, Instant>,
    /// When the phase of joining or syncing ends, complete or not.
    deadline: Option<Instant>,
    /// The group was empty: it waits for more members to the end of the delay.
    gathers: bool,
    join_delay: Duration,
    replies: Vec<Reply>,
}

impl Group {
    pub(crate) fn new(join_delay: Duration) -> Group {
        Group {
            state: State::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            deadline: None,
            gathers: false,
            join_delay,
            replies: vec![],
        }
    }

    /// Takes what others are to be told since the last call.
    pub(crate) fn take_replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How long the most patient member may be silent; zero if there is none.
    pub(crate) fn longest_session(&self) -> Duration {
        let sessions = self.members.values().map(|m| m.session);
        sessions.max().unwrap_or_default()
    }

    /// Nobody is in it or was told to come.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.promised.is_empty()
    }

    // ---- entering

    /// A member comes, for the first time (then it may get `new_id`) or again.
    ///
    /// # Errors
    /// The protocol's own. `MemberIdRequired` means that `new_id` is now promised to the caller.
    pub(crate) fn join(
        &mut self,
        join: Join,
        new_id: String,
        now: Instant,
    ) -> Result<JoinOutcome, ResponseError> {
        if !(SESSION_MIN..=SESSION_MAX).contains(&join.session) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        if !self.understands(&join) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if let Some(instance) = &join.instance {
            match self.static_member(instance) {
                Some(old) if join.member.is_empty() => {
                    return Ok(self.replace(old, join, new_id, now));
                }
                Some(old) if old != join.member => return Err(ResponseError::FencedInstanceId),
                None if !join.member.is_empty() => return Err(ResponseError::UnknownMemberId),
                _ => {}
            }
        }
        let is_new = !self.members.contains_key(&join.member);
        let id = if join.member.is_empty() {
            if join.instance.is_none() && join.takes_id {
                self.promised.insert(new_id, now + join.session);
                return Err(ResponseError::MemberIdRequired);
            }
            new_id
        } else if is_new && self.promised.remove(&join.member).is_none() {
            return Err(ResponseError::UnknownMemberId);
        } else {
            join.member.clone()
        };
        if is_new && self.members.len() >= MEMBERS_MAX {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        Ok(self.enter(id, join, now))
    }

    /// Whether a common language is left if this member comes.
    fn understands(&self, join: &Join) -> bool {
        let others = || {
            self.members
                .iter()
                .filter(|(id, _)| **id != join.member)
                .map(|(_, m)| m)
        };
        let common = |name: &str| others().all(|m| m.metadata(name).is_some());
        let same_type = others().next().is_none() || self.protocol_type == join.protocol_type;
        !join.protocol_type.is_empty()
            && same_type
            && join.protocols.iter().any(|(name, _)| common(name))
    }

    fn enter(&mut self, id: String, join: Join, now: Instant) -> JoinOutcome {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
        }
        let known = self.members.get(&id);
        let unchanged = known.is_some_and(|m| m.protocols == join.protocols);
        let assignment = known.map(|m| m.assignment.clone()).unwrap_or_default();
        let was_empty = self.members.is_empty();
        let member = Enrolled::new(join, assignment, now);
        self.members.insert(id.clone(), member);
        let is_retry = match self.state {
            State::Syncing => unchanged,
            State::Stable => unchanged && self.leader != id,
            State::Empty | State::Joining => false,
        };
        if is_retry {
            return JoinOutcome::Now(self.joined(&id));
        }
        if was_empty {
            self.state = State::Joining;
            self.gathers = true;
            self.deadline = Some(now + self.join_delay);
        }
        self.wait_for_others(id, now)
    }

    fn wait_for_others(&mut self, id: String, now: Instant) -> JoinOutcome {
        self.start_joining(now);
        if let Some(member) = self.members.get_mut(&id) {
            member.waits = Waits::Join;
        }
        self.complete_if_all_joined(now);
        JoinOutcome::Wait(id)
    }

    /// A static member comes back under a new id and takes over what the old one was and had.
    fn replace(&mut self, old: String, join: Join, new_id: String, now: Instant) -> JoinOutcome {
        let Some(gone) = self.members.remove(&old) else {
            return self.enter(new_id, join, now);
        };
        match gone.waits {
            Waits::No => {}
            Waits::Join => {
                self.replies.push(Reply::Joined(
                    old.clone(),
                    Err(ResponseError::FencedInstanceId),
                ));
            }
            Waits::Sync => {
                self.replies.push(Reply::Synced(
                    old.clone(),
                    Err(ResponseError::FencedInstanceId),
                ));
            }
        }
        let skips_assignment = join.skips_assignment;
        self.members
            .insert(new_id.clone(), Enrolled::new(join, gone.assignment, now));
        let leads = self.leader == old;
        if leads {
            self.leader = new_id.clone();
        }
        if self.state == State::Stable && self.choose_protocol() == self.protocol {
            let mut joined = self.joined(&new_id);
            if leads && skips_assignment {
                joined.skip_assignment = true;
            } else if leads {
                // Told of a leader that is not itself, it takes its old share and assigns nothing.
                joined.leader = old;
                joined.members.clear();
            }
            return JoinOutcome::Now(joined);
        }
        self.wait_for_others(new_id, now)
    }

    // ---- phases

    /// Asks everybody to join again, unless that is under way.
    fn start_joining(&mut self, now: Instant) {
        if self.state == State::Joining {
            return;
        }
        for (id, member) in &mut self.members {
            if member.waits == Waits::Sync {
                member.waits = Waits::No;
                let again = Err(ResponseError::RebalanceInProgress);
                self.replies.push(Reply::Synced(id.clone(), again));
            }
        }
        self.state = State::Joining;
        self.gathers = false;
        self.deadline = Some(now + self.patience());
    }

    /// How long the slowest member may take to join again.
    fn patience(&self) -> Duration {
        self.members
            .values()
            .map(|m| m.rebalance)
            .max()
            .unwrap_or_default()
    }

    fn complete_if_all_joined(&mut self, now: Instant) {
        let gathering = self.gathers && self.deadline.is_some_and(|at| now < at);
        if !gathering && self.members.values().all(|m| m.waits == Waits::Join) {
            self.complete_join(now);
        }
    }

    /// Starts the next generation with those who have joined. Static members may be late.
    fn complete_join(&mut self, now: Instant) {
        self.members
            .retain(|_, m| m.waits == Waits::Join || m.instance.is_some());
        let joined: Vec<String> = self.waiting(Waits::Join);
        let Some(first) = joined.first() else {
            self.deadline = Some(now + self.patience());
            return self.empty_if_deserted();
        };
        self.generation += 1;
        self.gathers = false;
        if !joined.contains(&self.leader) {
            self.leader = first.clone();
        }
        self.protocol = self.choose_protocol();
        self.state = State::Syncing;
        self.deadline = Some(now + self.patience());
        for id in joined {
            if let Some(member) = self.members.get_mut(&id) {
                member.waits = Waits::No;
                member.seen = now;
            }
            let answer = self.joined(&id);
            self.replies.push(Reply::Joined(id, Ok(answer)));
        }
    }

    fn empty_if_deserted(&mut self) {
        if self.members.is_empty() {
            self.state = State::Empty;
            self.generation += 1;
            self.deadline = None;
            self.leader.clear();
            self.protocol.clear();
        }
    }

    fn waiting(&self, waits: Waits) -> Vec<String> {
        let all = self.members.iter();
        all.filter(|(_, m)| m.waits == waits)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The strategy that all members know and most of them like best.
    fn choose_protocol(&self) -> String {
        let common = |name: &str| self.members.values().all(|m| m.metadata(name).is_some());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, n)| *n)
            .map(|(name, _)| name.to_owned())
            .unwrap_or_default()
    }

    fn joined(&self, id: &str) -> Joined {
        let describe = |(id, m): (&String, &Enrolled)| Member {
            id: id.clone(),
            instance: m.instance.clone(),
            metadata: m.metadata(&self.protocol).unwrap_or_default(),
        };
        let is_leader = self.leader == id;
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member: id.to_owned(),
            members: if is_leader {
                self.members.iter().map(describe).collect()
            } else {
                vec![]
            },
            skip_assignment: false,
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }

    // ---- going

    fn remove(&mut self, id: &str, now: Instant) {
        let Some(gone) = self.members.remove(id) else {
            return;
        };
        let unknown = ResponseError::UnknownMemberId;
        match gone.waits {
            Waits::No => {}
            Waits::Join => self
                .replies
                .push(Reply::Joined(id.to_owned(), Err(unknown))),
            Waits::Sync => self
                .replies
                .push(Reply::Synced(id.to_owned(), Err(unknown))),
        }
        if self.members.is_empty() {
            return self.empty_if_deserted();
        }
        self.start_joining(now);
        self.complete_if_all_joined(now);
    }

    // ---- time

    /// Acts on every deadline up to `now`.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.promised.retain(|_, until| now < *until);
        let silent = |m: &Enrolled| m.waits == Waits::No && now >= m.seen + m.session;
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| silent(m))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.remove(&id, now);
        }
        if self.deadline.is_none_or(|at| now < at) {
            return;
        }
        match self.state {
            State::Joining => self.complete_join(now),
            State::Syncing => {
                for id in self.waiting(Waits::No) {
                    self.remove(&id, now);
                }
                // Nobody to remove, and still no assignment: the leader waits for itself. Begin again.
                if self.state == State::Syncing {
                    self.start_joining(now);
                }
            }
            State::Empty | State::Stable => self.deadline = None,
        }
    }

    /// When [`Group::expire`] next has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let silent = self.members.values().filter(|m| m.waits == Waits::No);
        let sessions = silent.map(|m| m.seen + m.session);
        sessions
            .chain(self.promised.values().copied())
            .chain(self.deadline)
            .min()
    }

    // ---- looking

    pub(crate) fn overview(&self) -> Overview {
        let describe = |(id, m): (&String, &Enrolled)| MemberOverview {
            member: Member {
                id: id.clone(),
                instance: m.instance.clone(),
                metadata: m.metadata(&self.protocol).unwrap_or_default(),
            },
            client: m.client.clone(),
            assignment: m.assignment.clone(),
        };
        Overview {
            state: match self.state {
                State::Empty => "Empty",
                State::Joining => "PreparingRebalance",
                State::Syncing => "CompletingRebalance",
                State::Stable => "Stable",
            },
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: self.members.iter().map(describe).collect(),
        }
    }

    fn static_member(&self, instance: &str) -> Option<String> {
        let mut all = self.members.iter();
        all.find(|(_, m)| m.instance.as_deref() == Some(instance))
            .map(|(id, _)| id.clone())
    }
}

impl Enrolled {
    fn new(join: Join, assignment: Bytes, now: Instant) -> Enrolled {
        Enrolled {
            instance: join.instance,
            client: join.client,
            protocols: join.protocols,
            session: join.session,
            rebalance: join.rebalance,
            seen: now,
            waits: Waits::No,
            assignment,
        }
    }

    /// What the member says to a leader that uses this strategy, if it knows it.
    fn metadata(&self, protocol: &str) -> Option<Bytes> {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, data)| data.clone())
    }
}
