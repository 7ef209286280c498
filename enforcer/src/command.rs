//! What people order, as the core knows it.

mod read;

use schemas::orders::{Change, Numbers};
use schemas::subject::Subject;
use schemas::time::Timestamp;

pub(crate) use read::{Draft, Drafted, is_id, read};

/// A command, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) id: String,
    pub(crate) subject: Subject,
    pub(crate) at: Timestamp,
    /// The id of the key it was ordered with.
    pub(crate) actor: String,
    pub(crate) reason: String,
    /// When it ends by itself.
    pub(crate) until: Option<Timestamp>,
    pub(crate) action: Action,
}

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A limit has other numbers for the subject.
    Raise { limit: String, numbers: Numbers },
    /// A wallet of the subject has so much more paid into it; below zero, so much is taken back.
    TopUp { limit: String, amount: i128 },
    /// What was counted of a limit for the subject counts no more.
    Clear { limit: String },
    /// The subject is in another tier.
    SetTier { tier: String },
    /// The subject is refused, whatever it has used.
    Block,
    /// A block ends.
    Unblock,
    /// The subject's tenant asks that a limit have other numbers for it.
    Ask { limit: String, numbers: Numbers },
    /// What a request asked for holds, for a while.
    Approve {
        request: String,
        limit: String,
        numbers: Numbers,
    },
    /// What a request asked for does not come.
    Decline { request: String, limit: String },
    /// What the command of this id changed is as it was before it, unless a later one changed it again.
    Undo {
        command: String,
        what: Undone,
        /// What it had replaced, and holds again.
        back: Option<Box<Back>>,
    },
}

/// What an undone command had changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    Raise { limit: String },
    TopUp { limit: String, amount: i128 },
    SetTier,
    Block,
}

/// An earlier command of the same kind on the same thing, which another had replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Back {
    pub(crate) command: String,
    pub(crate) until: Option<Timestamp>,
    pub(crate) change: Change,
}

/// All kinds, by their names.
pub(crate) const KINDS: [&str; 10] = [
    "raise", "clear", "top_up", "set_tier", "block", "unblock", "ask", "approve", "decline", "undo",
];

impl Action {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Action::Raise { .. } => "raise",
            Action::Clear { .. } => "clear",
            Action::TopUp { .. } => "top_up",
            Action::SetTier { .. } => "set_tier",
            Action::Block => "block",
            Action::Unblock => "unblock",
            Action::Ask { .. } => "ask",
            Action::Approve { .. } => "approve",
            Action::Decline { .. } => "decline",
            Action::Undo { .. } => "undo",
        }
    }

    /// Whether a second record of it must change nothing: entries of wallets add up, and a request has one answer, where
    /// of other commands the last one holds.
    pub(crate) const fn counts_once(&self) -> bool {
        matches!(
            self,
            Action::TopUp { .. }
                | Action::Approve { .. }
                | Action::Decline { .. }
                | Action::Undo {
                    what: Undone::TopUp { .. },
                    ..
                }
        )
    }

    /// The limit it is about, by name.
    pub(crate) fn limit(&self) -> Option<&str> {
        match self {
            Action::Raise { limit, .. }
            | Action::Clear { limit }
            | Action::TopUp { limit, .. }
            | Action::Ask { limit, .. }
            | Action::Approve { limit, .. }
            | Action::Decline { limit, .. }
            | Action::Undo {
                what: Undone::Raise { limit } | Undone::TopUp { limit, .. },
                ..
            } => Some(limit),
            _ => None,
        }
    }
}

/// The id of the answer to a request: it has one.
pub(crate) fn answer_id(request: &str) -> String {
    format!("answer-{request}")
}

/// What has come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Approved,
    Declined,
}

impl State {
    const ALL: [State; 3] = [State::Open, State::Approved, State::Declined];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Approved => "approved",
            State::Declined => "declined",
        }
    }

    /// The kind of command that leads to it; of one that is open, its own name.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Approved => "approve",
            State::Declined => "decline",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    pub(crate) fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.kind() == kind)
    }
}
