use serde::{Deserialize, Serialize};

use super::{Amount, Origin};
use crate::policy::Meter;
use crate::time::Timestamp;

/// A value of `weir.sketches.v1`: counted with a stated error. Anomalies are found by these, and limits never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sketch {
    Spread(Spread),
    Ranking(Ranking),
}

/// How many different ids of one dimension came with an id of another in one hour: absolute, and at least two. It only grows,
/// but for an id that made room for busier ones and came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    pub tenant: String,
    /// The dimension that is counted: `source`, `account`, `user`.
    pub of: String,
    /// The dimension of `id`: `account`, `source`, `key`.
    pub per: String,
    pub id: String,
    /// Start of the hour.
    pub hour: Timestamp,
    /// Exact up to 96; above, the standard error is 3.25 % of it.
    pub count: i64,
    /// Events of `id` in this hour that may not be in the count: from before it was told apart, or when there was no room.
    pub missed_max: i64,
    /// What the count is made of, to be merged with that of other hours. How it is made up is the aggregator's affair.
    #[serde(with = "serde_bytes")]
    pub sketch: Vec<u8>,
    pub origin: Origin,
}

/// Which ids of a dimension came most in one hour: absolute, so that the newest (by `origin`) replaces all before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranking {
    pub tenant: String,
    /// `user` or `source`.
    pub by: String,
    pub meter: Meter,
    /// Start of the hour.
    pub hour: Timestamp,
    /// The largest count first.
    pub entries: Vec<RankingEntry>,
    /// For how much an id that is not listed may have come.
    pub missing_max: Amount,
    /// Of all that came, exactly.
    pub sum: Amount,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankingEntry {
    pub id: String,
    /// Never too low.
    pub count: Amount,
    /// By how much the count may be too high.
    pub error: Amount,
}
