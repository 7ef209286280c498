//! A policy that somebody wants to hold, on its way from the management plane to the loop that publishes versions one
//! after the other.

use schemas::policy::Policy;
use tokio::sync::oneshot;

use crate::policy::Version;

/// Proposals that wait for the loop; there are seldom two.
pub(crate) const PROPOSALS_MAX: usize = 16;

/// A checked policy, and who wants it why.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) policy: Policy,
    /// The text that it was read from.
    pub(crate) source: String,
    pub(crate) author: String,
    pub(crate) reason: String,
    /// The versions that it may follow; `None`: any.
    pub(crate) based_on: Option<Vec<u64>>,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What became of a proposal.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It holds, from now on or already.
    InForce(Box<Version>),
    /// Another version than it was based on holds: this one.
    MovedOn(u64),
}
