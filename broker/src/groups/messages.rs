//! What members say to their group, and what it says to them.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

/// A request to enter the group, or to enter it again.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Empty for a new member.
    pub(crate) member: String,
    pub(crate) instance: Option<String>,
    pub(crate) client: String,
    pub(crate) protocol_type: String,
    /// Assignment strategies in order of preference, each with what the member says to its leader.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) session: Duration,
    pub(crate) rebalance: Duration,
    /// The client understands that it must come back with the id it is given.
    pub(crate) takes_id: bool,
    /// The client understands that it may lead and have nothing to assign.
    pub(crate) skips_assignment: bool,
}

/// Who says something, and of which generation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) member: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: i32,
}

/// A member is ready for its assignment; the leader brings all of them.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) caller: Caller,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// What a member learns when the group is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) member: String,
    /// For the leader only.
    pub(crate) members: Vec<Member>,
    /// The leader's assignment stands: it watches over the members, and assigns nothing now.
    pub(crate) skip_assignment: bool,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) metadata: Bytes,
}

/// A member's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) assignment: Bytes,
}

/// An answer to a request of this member that has been waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Joined(String, Result<Joined, ResponseError>),
    Synced(String, Result<Synced, ResponseError>),
}

/// How a join ends that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JoinOutcome {
    /// A [`Reply::Joined`] for this member will come.
    Wait(String),
    /// Nothing changed: the answer is that of the standing generation.
    Now(Joined),
}

/// A group as an administrator sees it.
#[derive(Clone, Debug)]
pub(crate) struct Overview {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<MemberOverview>,
}

/// A member as an administrator sees it.
#[derive(Clone, Debug)]
pub(crate) struct MemberOverview {
    pub(crate) member: Member,
    pub(crate) client: String,
    pub(crate) assignment: Bytes,
}
