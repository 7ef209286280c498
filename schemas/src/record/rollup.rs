use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Amount, Origin};
use crate::time::Timestamp;

/// What one combination of dimensions used in one minute: absolute, so that the newest (by `origin`) replaces all
/// before it and writing one twice changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollup {
    pub tenant: String,
    pub key: Option<String>,
    pub user: Option<String>,
    pub route: Option<String>,
    pub provider: Option<String>,
    pub model: Option<String>,
    pub account: Option<String>,
    pub source: Option<String>,
    /// Start of the minute.
    pub minute: Timestamp,
    /// Sums per second with anything in it, in order; the minute's sum is theirs.
    pub seconds: Vec<SecondSums>,
    pub origin: Origin,
}

/// Sums of one second of a minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondSums {
    /// 0-59.
    pub second: i32,
    /// Events that were counted.
    pub events: i64,
    pub requests: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// Pico-dollars.
    pub cost: Amount,
    pub failures: i64,
    pub violations: i64,
    pub units: BTreeMap<String, i64>,
}
