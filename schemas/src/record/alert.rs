use serde::{Deserialize, Serialize};

use super::Amount;
use crate::subject::Subject;
use crate::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A soft level was crossed upward: nothing is refused yet.
    Soft,
    /// The hard level was crossed upward.
    Hard,
    /// A block was lifted before its time or ended.
    Lifted,
    /// Browsers report a kind of violation not seen before.
    CspGroup,
    /// A tenant asks for more.
    Asked,
    /// A tenant's request is answered.
    Answered,
    /// What was counted of a limit was cleared.
    Cleared,
}

/// Something that a person is to be told, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The same in every run of one log: one crossing is one alert.
    pub id: String,
    pub kind: AlertKind,
    /// Absent for scopes wider than a tenant.
    pub tenant: Option<String>,
    pub subject: Subject,
    /// One line, for a subject line or a chat message.
    pub title: String,
    /// A few lines in plain words: what happened, what follows, until when.
    pub body: String,
    /// Event time of what happened.
    pub at: Timestamp,
    pub limit: Option<String>,
    pub level: Option<String>,
    pub used: Option<Amount>,
    pub max: Option<Amount>,
    /// The decision that came of it.
    pub decision: Option<String>,
    pub until: Option<Timestamp>,
}
