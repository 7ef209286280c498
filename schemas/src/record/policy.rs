mod sets;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::order::{mode_name, mode_named, numbers, soft_records};
use super::{Amount, Order};
use crate::orders::Numbers;
use crate::policy::{
    HARD, Level, Limit, Meter, Mode, Override, Overrides, Policy, Stale, TenantSettings,
    WEIGHT_MAX, Weight, Window,
};
use crate::subject::{Pattern, Sets, Subject, SubjectError};
use crate::time::Timestamp;

pub use sets::SetRecord;

/// A value of `weir.policies.v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyRecord {
    /// Under [`PolicyVersion::KEY`] the one that holds; under `version/N` each one that was.
    Policy(PolicyVersion),
    /// Under [`Layout::KEY`].
    Layout(Layout),
    /// Under its [`crate::orders::OrderKey`], while it stands.
    Order(Order),
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
    #[serde(default)]
    pub overrides: Vec<OverrideRecord>,
    pub tenants: BTreeMap<String, TenantRecord>,
    pub default_tier: Option<String>,
    pub default_zone: Option<String>,
    #[serde(default)]
    pub weights: Vec<WeightRecord>,
    #[serde(default)]
    pub sets: Vec<SetRecord>,
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
    /// What is to be left in a wallet.
    #[serde(default)]
    pub keep: Option<Amount>,
    pub mode: Mode,
    pub stale: Stale,
    pub tier: Option<String>,
    pub status: Option<i32>,
    /// Whether callers are told what is left of it.
    #[serde(default = "told")]
    pub headers: bool,
}

/// Limits were told of before one could say that it is not.
const fn told() -> bool {
    true
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftLevel {
    /// As the policy has it: `80%`.
    pub name: String,
    pub threshold: Amount,
}

/// Other numbers of one limit for one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideRecord {
    pub subject: Subject,
    /// By name.
    pub limit: String,
    pub hard: Option<Amount>,
    pub soft: Vec<SoftLevel>,
    pub mode: Option<String>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    pub tier: Option<String>,
    /// An IANA time zone.
    pub zone: Option<String>,
}

/// What one request on some routes counts as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightRecord {
    /// A route, or the start of some with `*` after it.
    pub route: String,
    pub requests: i64,
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
    #[error("weight of `{route}`: {source}")]
    Route { route: String, source: SubjectError },
    #[error("weight of `{0}`: not a whole number from 0 to {WEIGHT_MAX}")]
    Weight(String),
    #[error("set `{set}`: {source}")]
    Ids { set: String, source: SubjectError },
    #[error("set `{set}` {what}")]
    Set { set: String, what: &'static str },
    #[error("version {0} is not above zero")]
    Version(i64),
    #[error("the override of `{limit}` on `{subject}` {what}")]
    Override {
        subject: Subject,
        limit: String,
        what: &'static str,
    },
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
        let sets = sets::read(&record.sets)?;
        Ok(Policy {
            version,
            limits: limits(&record.limits, &sets)?,
            overrides: overrides(&record.overrides)?,
            tenants,
            default_tier: record.default_tier.clone(),
            default_zone: record.default_zone.as_deref().map(zone).transpose()?,
            weights: record
                .weights
                .iter()
                .map(weight)
                .collect::<Result<_, _>>()?,
            sets,
        })
    }
}

impl From<&Policy> for PolicyVersion {
    /// As it holds, without who made it, when and why.
    fn from(policy: &Policy) -> Self {
        let tenants = policy.tenants.iter().map(|(id, settings)| {
            let zone = settings.zone.map(|zone| zone.name().to_owned());
            let tier = settings.tier.clone();
            (id.clone(), TenantRecord { tier, zone })
        });
        Self {
            version: i64::try_from(policy.version).unwrap_or(i64::MAX),
            at: Timestamp::default(),
            author: String::new(),
            reason: String::new(),
            source: String::new(),
            limits: policy.limits.iter().map(LimitRecord::from).collect(),
            overrides: OverrideRecord::all(&policy.overrides),
            sets: SetRecord::all(&policy.sets),
            tenants: tenants.collect(),
            default_tier: policy.default_tier.clone(),
            default_zone: policy.default_zone.map(|zone| zone.name().to_owned()),
            weights: policy.weights.iter().map(WeightRecord::from).collect(),
        }
    }
}

fn zone(name: &str) -> Result<chrono_tz::Tz, PolicyError> {
    name.parse().map_err(|_| PolicyError::Zone(name.to_owned()))
}

/// All limits, each general one told in which tiers another of its name stands instead of it.
fn limits(records: &[LimitRecord], sets: &Sets) -> Result<Vec<Limit>, PolicyError> {
    let mut tiers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in records {
        if let Some(tier) = &record.tier {
            tiers.entry(&record.name).or_default().push(tier);
        }
    }
    let limits = records.iter().map(|record| limit(record, sets));
    let mut limits: Vec<Limit> = limits.collect::<Result<_, _>>()?;
    for limit in limits.iter_mut().filter(|limit| limit.tier.is_none()) {
        let replacing = tiers.get(limit.name.as_str()).into_iter().flatten();
        limit.replaced_in = replacing.map(|tier| (*tier).to_owned()).collect();
    }
    Ok(limits)
}

fn overrides(records: &[OverrideRecord]) -> Result<Overrides, PolicyError> {
    let mut overrides = Overrides::default();
    for record in records {
        let error = |what| PolicyError::Override {
            subject: record.subject.clone(),
            limit: record.limit.clone(),
            what,
        };
        let numbers = numbers(record.hard, &record.soft);
        let (hard, soft) = numbers.ok_or_else(|| error("has levels that are not rising"))?;
        let mode = match record.mode.as_deref() {
            Some(mode) => Some(mode_named(mode).ok_or_else(|| error("has no known mode"))?),
            None => None,
        };
        let overridden = Override {
            numbers: Numbers {
                hard,
                soft,
                mode,
                ..Numbers::default()
            },
            reason: record.reason.clone(),
        };
        if !overrides.add(record.subject.clone(), record.limit.clone(), overridden) {
            return Err(error("is there twice"));
        }
    }
    Ok(overrides)
}

impl OverrideRecord {
    /// All overrides of a policy.
    #[must_use]
    pub fn all(overrides: &Overrides) -> Vec<Self> {
        let record = |(subject, limit, overridden): (&Subject, &str, &Override)| {
            let numbers = &overridden.numbers;
            Self {
                subject: subject.clone(),
                limit: limit.to_owned(),
                hard: numbers.hard.map(Amount),
                soft: soft_records(&numbers.soft),
                mode: numbers.mode.and_then(mode_name),
                reason: overridden.reason.clone(),
            }
        };
        overrides.iter().map(record).collect()
    }
}

fn limit(record: &LimitRecord, sets: &Sets) -> Result<Limit, PolicyError> {
    let name = || record.name.clone();
    let pattern = Pattern::parse_with(&record.subject, sets);
    let pattern = pattern.map_err(|source| PolicyError::Subject {
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
        keep: record.keep.map_or(0, |keep| keep.0),
        mode: record.mode,
        stale: record.stale,
        tier: record.tier.clone(),
        replaced_in: Vec::new(),
        status,
        headers: record.headers,
    })
}

fn weight(record: &WeightRecord) -> Result<Weight, PolicyError> {
    let route = || record.route.clone();
    let requests = u32::try_from(record.requests).ok();
    let requests = requests.filter(|requests| *requests <= WEIGHT_MAX);
    let requests = requests.ok_or_else(|| PolicyError::Weight(route()))?;
    Weight::new(&record.route, requests).map_err(|source| PolicyError::Route {
        route: route(),
        source,
    })
}

impl From<&Weight> for WeightRecord {
    fn from(weight: &Weight) -> Self {
        Self {
            route: weight.route().to_owned(),
            requests: weight.requests.into(),
        }
    }
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
            keep: (limit.keep != 0).then_some(Amount(limit.keep)),
            mode: limit.mode,
            stale: limit.stale,
            tier: limit.tier.clone(),
            status: limit.status.map(i32::from),
            headers: limit.headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Subject;

    fn limit(name: &str, tier: Option<&str>, hard: i128) -> LimitRecord {
        LimitRecord {
            name: name.to_owned(),
            subject: "tenant/*".to_owned(),
            meter: Meter::Requests,
            window: Window::Sliding { seconds: 60 },
            soft: Vec::new(),
            hard: Amount(hard),
            keep: None,
            mode: Mode::Block,
            stale: Stale::LastKnown,
            tier: tier.map(str::to_owned),
            status: None,
            headers: true,
        }
    }

    #[track_caller]
    fn check(policy: &Policy, tenant: &str, expected: &[(&str, i128)]) {
        let subject = Subject::tenant(tenant);
        let limits = policy.limits_on(&subject);
        let limits: Vec<_> = limits.map(|l| (l.name.as_str(), l.hard())).collect();
        assert_eq!(limits, expected, "{tenant}");
    }

    #[test]
    fn a_tier_replaces_the_general_limit_of_the_same_name() {
        let tenant = |tier: &str| TenantRecord {
            tier: Some(tier.to_owned()),
            zone: None,
        };
        let record = PolicyVersion {
            version: 1,
            at: Timestamp::from_seconds(0),
            author: String::new(),
            reason: String::new(),
            source: String::new(),
            limits: vec![
                limit("rpm", None, 60),
                limit("rpm", Some("pro"), 600),
                limit("extra", Some("pro"), 5),
            ],
            overrides: Vec::new(),
            tenants: BTreeMap::from([
                ("acme".to_owned(), tenant("pro")),
                ("free-1".to_owned(), tenant("free")),
            ]),
            default_tier: None,
            default_zone: None,
            weights: Vec::new(),
            sets: Vec::new(),
        };
        let policy = Policy::try_from(&record).unwrap();
        check(&policy, "acme", &[("rpm", 600), ("extra", 5)]);
        check(&policy, "free-1", &[("rpm", 60)]);
        check(&policy, "unnamed", &[("rpm", 60)]);
        assert_eq!(policy.limit("rpm").unwrap().hard(), 60);
        assert_eq!(policy.limit("extra").unwrap().hard(), 5);
        assert_eq!(LimitRecord::from(&policy.limits[1]), record.limits[1]);
    }

    #[test]
    fn a_weight_is_read_as_it_was_written() {
        let check = |route: &str, requests: i64, told: &str| {
            let record = WeightRecord {
                route: route.to_owned(),
                requests,
            };
            match weight(&record) {
                Ok(read) => assert_eq!((WeightRecord::from(&read), ""), (record, told)),
                Err(error) => assert_eq!(error.to_string(), told),
            }
        };
        check("POST /v1/bulk/*", 20, "");
        check("GET /50%25", 0, "");
        check("*", i64::from(WEIGHT_MAX), "");
        let bounds = "weight of `*`: not a whole number from 0 to 1000000";
        check("*", -1, bounds);
        check("*", i64::from(WEIGHT_MAX) + 1, bounds);
        check("", 1, "weight of ``: `route` has no id after it");
    }
}
