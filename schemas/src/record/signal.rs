use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Amount;
use crate::policy::{Meter, Mode, Window};
use crate::subject::Subject;
use crate::time::Timestamp;

/// Where an output comes from: the record whose counting caused it. Consumers apply only newer ones, so a replay
/// after a crash changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// A value of `weir.signals.v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    Crossing(Crossing),
    CspGroup(CspGroup),
    Cleared(Cleared),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Up,
    Down,
}

/// A sum that went over a level of a limit, or fell below it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossing {
    /// The same for the same crossing in every run of one log.
    pub id: String,
    pub subject: Subject,
    pub limit: String,
    pub policy_version: i64,
    pub meter: Meter,
    pub window: Window,
    pub mode: Mode,
    /// `hard`, or the soft level as the policy has it: `80%`.
    pub level: String,
    /// The level's number.
    pub threshold: Amount,
    pub direction: Direction,
    /// Event time: of the event that crossed upward, or the moment at which the sum fell below.
    pub at: Timestamp,
    /// The sum after the crossing.
    pub sum: Amount,
    /// The limit's hard number.
    pub max: Amount,
    /// Upward: when the sum falls below the level if nothing more comes.
    pub falls_at: Option<Timestamp>,
    /// Upward: the event that did it, as its source and id.
    pub event_source: Option<String>,
    pub event_id: Option<String>,
    pub origin: Origin,
}

impl Crossing {
    /// What happened, as people and programs are shown it: without whence it came.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let event = self.event_id.as_ref();
        json!({
            "subject": self.subject,
            "limit": self.limit,
            "meter": self.meter,
            "window": self.window,
            "mode": self.mode,
            "level": self.level,
            "threshold": self.threshold.to_json_of(&self.meter),
            "direction": self.direction,
            "at": self.at.to_string(),
            "sum": self.sum.to_json_of(&self.meter),
            "max": self.max.to_json_of(&self.meter),
            "falls_at": self.falls_at.map(|at| at.to_string()),
            "event": event.map(|id| json!({ "source": self.event_source, "id": id })),
        })
    }
}

/// A command has cleared what was counted of a limit: it counts no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// The same in every run of one log.
    pub id: String,
    pub subject: Subject,
    pub limit: String,
    pub policy_version: i64,
    pub meter: Meter,
    pub window: Window,
    /// When it was ordered.
    pub at: Timestamp,
    /// What was counted until then.
    pub before: Amount,
    /// What of it counts from here on.
    pub after: Amount,
    /// The limit's hard number.
    pub max: Amount,
    /// The id of the command that ordered it.
    pub command: String,
    /// Why, in the words of who ordered it.
    pub reason: String,
    /// The marker from which on it is counted anew.
    pub origin: Origin,
}

/// A kind of violation that a tenant's browsers had not reported before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CspGroup {
    pub id: String,
    pub tenant: String,
    pub directive: String,
    pub blocked_host: String,
    /// The first report's page and time.
    pub document_uri: String,
    pub at: Timestamp,
    /// Reports in this group so far.
    pub count: i64,
    /// Whether this is the group's first report; later ones only tell the count.
    pub new: bool,
    pub origin: Origin,
}
