//! The records of each topic as they travel. Wire types: services turn them into types of their own in `wire.rs`.

mod alert;
mod amount;
mod dead;
mod decision;
mod event;
mod key;
mod marker;
mod order;
mod policy;
mod rollup;
mod share;
mod signal;
mod sketch;

pub use alert::{Alert, AlertKind};
pub use amount::Amount;
pub use dead::{Dead, Header};
pub use decision::{Cause, Decision, Refusal, Verdict};
pub use event::{Auth, Csp, Outcome, Partial, Usage, UsageOf, UsageRef};
pub use key::{Command, Key, Role};
pub use marker::{Marker, Recorded};
pub use order::{Order, OrderError};
pub use policy::{
    Layout, LimitRecord, OverrideRecord, PolicyError, PolicyRecord, PolicyVersion, SetRecord,
    SoftLevel, TenantRecord, WeightRecord,
};
pub use rollup::{Rollup, SecondSums};
pub use share::{Share, ShareItem, ShareKind};
pub use signal::{Cleared, Crossing, CspGroup, Direction, Origin, Signal};
pub use sketch::{Ranking, RankingEntry, Sketch, Spread};

/// A value of `weir.usage.v1`.
pub type UsageRecord = Recorded<Usage>;
/// A value of `weir.auth.v1`.
pub type AuthRecord = Recorded<Auth>;
/// A value of `weir.csp.v1`.
pub type CspRecord = Recorded<Csp>;
/// A value of `weir.partials.v1`.
pub type PartialRecord = Recorded<Partial>;
