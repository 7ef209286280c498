use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Amount;
use crate::policy::{HARD, Level, Limit, Meter, Mode, Policy, Stale, TenantSettings, Window};
use crate::subject::{Pattern, SubjectError};
use crate::time::Timestamp;

/// A value of `weir.policies.v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyRecord {
    /// Under [`PolicyVersion::KEY`] the one that holds; under `version/N` each one that was.
    Policy(PolicyVersion),
    /// Under [`Layout::KEY`].
    Layout(Layout),
}

/// How many partitions the topics were made with: placement goes by these for ever, whatever is added later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub partitions: BTreeMap<String, i32>,
}

impl Layout {
    pub const KEY: &'static str = "layout";
}

/// One version of the policy, checked by the enforcer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVersion {
    pub version: i64,
    pub at: Timestamp,
    pub author: String,
    pub reason: String,
    /// The text it was read from.
    pub source: String,
    pub limits: Vec<LimitRecord>,
    pub tenants: BTreeMap<String, TenantRecord>,
    pub default_tier: Option<String>,
    pub default_zone: Option<String>,
}

impl PolicyVersion {
    pub const KEY: &'static str = "policy";

    /// The key that keeps this version when a newer one holds.
    #[must_use]
    pub fn version_key(&self) -> String {
        format!("version/{}", self.version)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRecord {
    pub name: String,
    /// A subject pattern.
    pub subject: String,
    pub meter: Meter,
    pub window: Window,
    pub soft: Vec<SoftLevel>,
    pub hard: Amount,
    pub mode: Mode,
    pub stale: Stale,
    pub tier: Option<String>,
    pub status: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftLevel {
    /// As the policy has it: `80%`.
    pub name: String,
    pub threshold: Amount,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    pub tier: Option<String>,
    /// An IANA time zone.
    pub zone: Option<String>,
}

/// Why a policy from the log cannot be obeyed. The enforcer lets none through; one of these means a foreign writer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    #[error("limit `{limit}`: {source}")]
    Subject { limit: String, source: SubjectError },
    #[error("`{0}` is no IANA time zone")]
    Zone(String),
    #[error("limit `{0}`: its levels are not above zero and rising, with the hard one last")]
    Levels(String),
    #[error("limit `{0}`: its status is not an HTTP status of refusal (400-599)")]
    Status(String),
    #[error("version {0} is not above zero")]
    Version(i64),
}

impl TryFrom<&PolicyVersion> for Policy {
    type Error = PolicyError;

    fn try_from(record: &PolicyVersion) -> Result<Policy, PolicyError> {
        let version = u64::try_from(record.version).ok().filter(|v| *v != 0);
        let version = version.ok_or(PolicyError::Version(record.version))?;
        let mut tenants = BTreeMap::new();
        for (id, tenant) in &record.tenants {
            let zone = tenant.zone.as_deref().map(zone).transpose()?;
            tenants.insert(
                id.clone(),
                TenantSettings {
                    tier: tenant.tier.clone(),
                    zone,
                },
            );
        }
        Ok(Policy {
            version,
            limits: record.limits.iter().map(limit).collect::<Result<_, _>>()?,
            tenants,
            default_tier: record.default_tier.clone(),
            default_zone: record.default_zone.as_deref().map(zone).transpose()?,
        })
    }
}

fn zone(name: &str) -> Result<chrono_tz::Tz, PolicyError> {
    name.parse().map_err(|_| PolicyError::Zone(name.to_owned()))
}

fn limit(record: &LimitRecord) -> Result<Limit, PolicyError> {
    let name = || record.name.clone();
    let pattern = Pattern::parse(&record.subject).map_err(|source| PolicyError::Subject {
        limit: name(),
        source,
    })?;
    let soft = record.soft.iter().map(|soft| Level {
        name: soft.name.clone(),
        threshold: soft.threshold.0,
    });
    let hard = Level {
        name: HARD.to_owned(),
        threshold: record.hard.0,
    };
    let levels: Vec<Level> = soft.chain([hard]).collect();
    let rising = levels
        .windows(2)
        .all(|pair| pair[0].threshold < pair[1].threshold);
    if levels[0].threshold <= 0 || !rising {
        return Err(PolicyError::Levels(name()));
    }
    let status = record
        .status
        .map(|s| u16::try_from(s).ok().filter(|s| (400..600).contains(s)));
    let status = status
        .map(|s| s.ok_or_else(|| PolicyError::Status(name())))
        .transpose()?;
    Ok(Limit {
        name: name(),
        pattern,
        meter: record.meter.clone(),
        window: record.window,
        levels,
        mode: record.mode,
        stale: record.stale,
        tier: record.tier.clone(),
        status,
    })
}

impl From<&Limit> for LimitRecord {
    fn from(limit: &Limit) -> Self {
        let soft = limit.levels.iter().filter(|level| level.name != HARD);
        Self {
            name: limit.name.clone(),
            subject: limit.pattern.as_str().to_owned(),
            meter: limit.meter.clone(),
            window: limit.window,
            soft: soft
                .map(|l| SoftLevel {
                    name: l.name.clone(),
                    threshold: Amount(l.threshold),
                })
                .collect(),
            hard: Amount(limit.hard()),
            mode: limit.mode,
            stale: limit.stale,
            tier: limit.tier.clone(),
            status: limit.status.map(i32::from),
        }
    }
}
