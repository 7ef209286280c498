//! What goes into deciding and what comes of it, as the core knows it. [`crate::wire`] turns it into records and back.
//! Amounts are whole numbers of the meter's unit, money in pico-dollars.

use schemas::policy::{Meter, Mode, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use uuid::Uuid;

/// The namespace of decisions' ids.
const DECISIONS: Uuid = Uuid::from_u128(0x6f1c_62a5_7b0e_4c8d_9a54_02d7_93b1_e8f6);

/// Stands in a cause where others have a limit's name: a person ordered it. No limit can be named like that.
pub(crate) const BLOCKED: &str = "command/block";

/// The record whose counting caused something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// A sum that went over a level of a limit (`up`), or fell below it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crossing {
    /// The same for the same crossing in every run of one log.
    pub(crate) id: String,
    pub(crate) subject: Subject,
    pub(crate) limit: String,
    /// The version of the policy that it was counted by.
    pub(crate) policy_version: u64,
    pub(crate) meter: Meter,
    pub(crate) window: Window,
    pub(crate) mode: Mode,
    /// The soft level as the policy has it; `None`: the hard one.
    pub(crate) soft: Option<String>,
    pub(crate) threshold: i128,
    pub(crate) up: bool,
    /// Event time of the event that crossed upward, or the moment at which the sum fell below.
    pub(crate) at: Timestamp,
    pub(crate) sum: i128,
    /// The limit's hard number.
    pub(crate) max: i128,
    /// Upward: when the sum falls below the level if nothing more comes.
    pub(crate) falls_at: Option<Timestamp>,
    pub(crate) origin: Origin,
}

/// A kind of violation that a tenant's browsers had not reported before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CspGroup {
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) directive: String,
    pub(crate) blocked_host: String,
    pub(crate) document_uri: String,
    pub(crate) at: Timestamp,
    pub(crate) new: bool,
}

/// What was counted of a limit counts no more, because somebody ordered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cleared {
    /// The same in every run of one log.
    pub(crate) id: String,
    pub(crate) subject: Subject,
    pub(crate) limit: String,
    pub(crate) meter: Meter,
    pub(crate) window: Window,
    pub(crate) at: Timestamp,
    pub(crate) before: i128,
    pub(crate) after: i128,
    /// The limit's hard number.
    pub(crate) max: i128,
    pub(crate) command: String,
    pub(crate) reason: String,
}

/// What the aggregator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Crossing(Crossing),
    CspGroup(CspGroup),
    Cleared(Cleared),
}

/// What a gateway is to do, mildest first; the most severe standing cause wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verdict {
    Allow,
    Throttle,
    Challenge,
    Block,
}

impl Verdict {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Throttle => "throttle",
            Verdict::Challenge => "challenge",
            Verdict::Block => "block",
        }
    }
}

/// One reason of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) limit: String,
    /// The version of the policy that its crossing was counted by.
    pub(crate) policy_version: u64,
    pub(crate) meter: Meter,
    pub(crate) window: Window,
    pub(crate) mode: Mode,
    /// What it asks for; in mode `open`, what it would have asked for.
    pub(crate) verdict: Verdict,
    /// The sum at the crossing.
    pub(crate) used: i128,
    pub(crate) max: i128,
    /// When the sum falls below `max` if nothing more comes; `None`: not by itself.
    pub(crate) reset_at: Option<Timestamp>,
    /// The crossing that caused it.
    pub(crate) crossing: String,
    pub(crate) origin: Origin,
}

impl Cause {
    /// What of it is obeyed.
    pub(crate) const fn obeyed(&self) -> Verdict {
        match self.mode {
            Mode::Open => Verdict::Allow,
            Mode::Block | Mode::Strict => self.verdict,
        }
    }
}

/// What stands for a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) id: String,
    pub(crate) subject: Subject,
    pub(crate) verdict: Verdict,
    /// The most severe first; of equally severe ones the one that lasts longest.
    pub(crate) causes: Vec<Cause>,
    /// Of a refusal.
    pub(crate) status: Option<u16>,
    /// When the last cause of this verdict ends by itself; `None`: it does not.
    pub(crate) until: Option<Timestamp>,
    /// Waiting does not help.
    pub(crate) terminal: bool,
    pub(crate) seq: i64,
    pub(crate) issued_at: Timestamp,
    pub(crate) ttl_seconds: u32,
}

impl Decision {
    /// Whether both say the same; when and how often it was said does not count.
    pub(crate) fn says_the_same_as(&self, other: &Decision) -> bool {
        self.id == other.id
            && self.verdict == other.verdict
            && self.status == other.status
            && self.until == other.until
            && self.terminal == other.terminal
            && self.causes == other.causes
    }

    /// Whether it stands at `now` if nobody says otherwise.
    pub(crate) fn stands_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The id of the decision that these causes make: the same in every run of one log.
pub(crate) fn decision_id(subject: &Subject, causes: &[Cause]) -> String {
    let mut crossings: Vec<&str> = causes.iter().map(|cause| cause.crossing.as_str()).collect();
    crossings.sort_unstable();
    let name = format!("{subject}\n{}", crossings.join("\n"));
    Uuid::new_v5(&DECISIONS, name.as_bytes()).to_string()
}
