use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Amount, SoftLevel};
use crate::orders::{self, Change, Numbers, Paid};
use crate::policy::{Level, Mode};
use crate::subject::Subject;
use crate::time::Timestamp;

/// What a command changed of the limits of one subject: in `weir.policies.v1` under its [`orders::OrderKey`] until a
/// tombstone ends it, and as a marker among the events that it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The command's id.
    pub command: String,
    /// The command's place in its partition of `weir.commands.v1`.
    pub seq: i64,
    pub subject: Subject,
    /// When it was ordered, or has ended.
    pub at: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The limit that has other numbers.
    pub limit: Option<String>,
    pub hard: Option<Amount>,
    #[serde(default)]
    pub soft: Vec<SoftLevel>,
    pub mode: Option<String>,
    /// What was paid into the wallet that the limit is, beside what it starts with.
    #[serde(default)]
    pub paid_in: Option<Amount>,
    /// The commands that paid in last, oldest first.
    #[serde(default)]
    pub paid_by: Vec<String>,
    /// The tier that the subject is in.
    pub tier: Option<String>,
    /// The limit that is counted anew from the marker on.
    #[serde(default)]
    pub cleared: Option<String>,
    /// Why it is.
    #[serde(default)]
    pub reason: Option<String>,
    /// It holds no more: only in a marker, since a tombstone says so elsewhere.
    #[serde(default)]
    pub ended: bool,
}

/// Why an order from the log cannot be obeyed. The enforcer lets none through; one of these means a foreign writer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OrderError {
    #[error(
        "the order of command `{0}` names not one of a limit with other numbers, a tier and a limit that is cleared"
    )]
    Change(String),
    #[error("the order of command `{0}`: its levels are not above zero and rising")]
    Levels(String),
    #[error("the order of command `{command}`: `{mode}` is no mode")]
    Mode { command: String, mode: String },
}

impl TryFrom<&Order> for orders::Order {
    type Error = OrderError;

    fn try_from(record: &Order) -> Result<Self, OrderError> {
        let command = || record.command.clone();
        let change = match (&record.limit, &record.tier, &record.cleared) {
            (Some(limit), None, None) => Change::Numbers {
                limit: limit.clone(),
                numbers: changed(record)?,
            },
            (None, Some(tier), None) => Change::Tier(tier.clone()),
            (None, None, Some(limit)) => Change::Cleared {
                limit: limit.clone(),
                reason: record.reason.clone().unwrap_or_default(),
            },
            _ => return Err(OrderError::Change(command())),
        };
        Ok(Self {
            command: command(),
            seq: record.seq,
            subject: record.subject.clone(),
            at: record.at,
            until: record.until,
            change,
        })
    }
}

/// The hard number and the soft levels before it; `None` where they are not above zero and rising.
pub(super) fn numbers(
    hard: Option<Amount>,
    soft: &[SoftLevel],
) -> Option<(Option<i128>, Vec<Level>)> {
    let soft = soft.iter().map(|soft| Level {
        name: soft.name.clone(),
        threshold: soft.threshold.0,
    });
    let soft: Vec<Level> = soft.collect();
    let hard = hard.map(|hard| hard.0);
    let thresholds = soft.iter().map(|level| level.threshold).chain(hard);
    let thresholds: Vec<i128> = [0].into_iter().chain(thresholds).collect();
    let rising = thresholds.windows(2).all(|pair| pair[0] < pair[1]);
    rising.then_some((hard, soft))
}

pub(super) fn soft_records(soft: &[Level]) -> Vec<SoftLevel> {
    let soft = soft.iter().map(|level| SoftLevel {
        name: level.name.clone(),
        threshold: Amount(level.threshold),
    });
    soft.collect()
}

fn changed(record: &Order) -> Result<Numbers, OrderError> {
    let numbers = numbers(record.hard, &record.soft);
    let (hard, soft) = numbers.ok_or_else(|| OrderError::Levels(record.command.clone()))?;
    let mode = record.mode.as_deref().map(|mode| {
        mode_named(mode).ok_or_else(|| OrderError::Mode {
            command: record.command.clone(),
            mode: mode.to_owned(),
        })
    });
    Ok(Numbers {
        hard,
        soft,
        mode: mode.transpose()?,
        paid: Paid {
            sum: record.paid_in.map_or(0, |paid_in| paid_in.0),
            by: record.paid_by.clone(),
        },
    })
}

/// A mode by the name that limits have for it.
pub(super) fn mode_named(name: &str) -> Option<Mode> {
    serde_json::from_value(serde_json::Value::from(name)).ok()
}

pub(super) fn mode_name(mode: Mode) -> Option<String> {
    let name = serde_json::to_value(mode).ok()?;
    name.as_str().map(str::to_owned)
}

impl From<&orders::Order> for Order {
    /// As it holds. One that has ended says so by `at` and `ended`.
    fn from(order: &orders::Order) -> Self {
        let mut record = Self {
            command: order.command.clone(),
            seq: order.seq,
            subject: order.subject.clone(),
            at: order.at,
            until: order.until,
            limit: None,
            hard: None,
            soft: Vec::new(),
            mode: None,
            paid_in: None,
            paid_by: Vec::new(),
            tier: None,
            cleared: None,
            reason: None,
            ended: false,
        };
        match &order.change {
            Change::Numbers { limit, numbers } => {
                record.limit = Some(limit.clone());
                record.hard = numbers.hard.map(Amount);
                record.soft = soft_records(&numbers.soft);
                record.mode = numbers.mode.and_then(mode_name);
                if !numbers.paid.is_none() {
                    record.paid_in = Some(Amount(numbers.paid.sum));
                    record.paid_by.clone_from(&numbers.paid.by);
                }
            }
            Change::Tier(tier) => record.tier = Some(tier.clone()),
            Change::Cleared { limit, reason } => {
                record.cleared = Some(limit.clone());
                record.reason = Some(reason.clone());
            }
        }
        record
    }
}
