use serde::{Deserialize, Serialize};

use super::{Amount, Origin};
use crate::policy::{Meter, Mode, Window};
use crate::subject::Subject;
use crate::time::Timestamp;

/// What a gateway is to do, mildest first; the most severe standing cause wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allow,
    Throttle,
    Challenge,
    Block,
}

/// The decision that stands for a subject, by `weir.decisions.v1`; a tombstone lifts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The same for the same causes in every run of one log.
    pub id: String,
    pub subject: Subject,
    pub verdict: Verdict,
    /// All standing causes, the most severe first.
    pub causes: Vec<Cause>,
    /// The HTTP status of a refusal.
    pub status: Option<i32>,
    /// When the last refusing cause ends by itself; a gateway lifts the block then, also with Weir down.
    pub until: Option<Timestamp>,
    /// Waiting does not help.
    pub terminal: bool,
    /// Counts up per subject: of two decisions the higher one is newer.
    pub seq: i64,
    pub issued_at: Timestamp,
    /// Its owner says it again at half of this; past it, a gateway treats its view of the subject as stale.
    pub ttl_seconds: i32,
}

/// One reason of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub limit: String,
    pub policy_version: i64,
    pub meter: Meter,
    pub window: Window,
    pub mode: Mode,
    /// What it asks for; in mode `open`, what it would have asked for.
    pub verdict: Verdict,
    pub used: Amount,
    pub max: Amount,
    /// When the sum falls below `max` if nothing more comes.
    pub reset_at: Option<Timestamp>,
    /// The crossing that caused it.
    pub crossing: String,
    pub origin: Origin,
}

/// A request that a gateway refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub request_id: String,
    pub at: Timestamp,
    /// Which gateway said no.
    pub gateway: String,
    pub tenant: Option<String>,
    pub key: Option<String>,
    pub user: Option<String>,
    pub route: Option<String>,
    pub account: Option<String>,
    pub source: Option<String>,
    /// The subject whose decision or limit refused.
    pub subject: Subject,
    /// The limits that refused.
    pub limits: Vec<String>,
    pub verdict: Verdict,
    pub status: i32,
    pub retry_after_seconds: Option<i64>,
    /// The decision that it rests on; absent where the gateway's own count refused.
    pub decision: Option<String>,
}
