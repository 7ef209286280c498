//! The policy as every service sees it: limits on subjects, already checked. How it is written down (TOML) is the
//! enforcer's business; how it travels is [`crate::record::PolicyVersion`].
//!
//! Amounts are `i128`: counts as they are, money in pico-dollars.

mod overrides;
mod weight;
mod window;

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::subject::{Dimension, Identity, Pattern, Sets, Subject};

pub use overrides::{Override, Overrides};
pub use weight::{WEIGHT_MAX, Weight};
pub use window::{Period, SLIDING_SECONDS_MAX, Window, WindowError, parse_span};

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Meter {
    Requests,
    InputTokens,
    OutputTokens,
    /// Input and output tokens together.
    Tokens,
    /// Pico-dollars.
    Cost,
    /// Failed sign-ins.
    Failures,
    /// Reports of a content security policy's violation.
    Violations,
    /// A number that events carry under `units`, by its name.
    Unit(String),
}

/// Which of the event streams feeds a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    Usage,
    Auth,
    Csp,
}

impl Meter {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Meter::Requests => "requests",
            Meter::InputTokens => "input_tokens",
            Meter::OutputTokens => "output_tokens",
            Meter::Tokens => "tokens",
            Meter::Cost => "cost",
            Meter::Failures => "failures",
            Meter::Violations => "violations",
            Meter::Unit(name) => name,
        }
    }

    #[must_use]
    pub const fn stream(&self) -> Stream {
        match self {
            Meter::Failures => Stream::Auth,
            Meter::Violations => Stream::Csp,
            _ => Stream::Usage,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no meter: use requests, input_tokens, output_tokens, tokens, cost, failures, violations, or the name of a unit (a-z, 0-9, _; at most 64)"
)]
pub struct MeterError(String);

impl FromStr for Meter {
    type Err = MeterError;

    fn from_str(name: &str) -> Result<Self, MeterError> {
        Ok(match name {
            "requests" => Meter::Requests,
            "input_tokens" => Meter::InputTokens,
            "output_tokens" => Meter::OutputTokens,
            "tokens" => Meter::Tokens,
            "cost" => Meter::Cost,
            "failures" => Meter::Failures,
            "violations" => Meter::Violations,
            _ if is_unit_name(name) => Meter::Unit(name.to_owned()),
            _ => return Err(MeterError(name.to_owned())),
        })
    }
}

impl TryFrom<String> for Meter {
    type Error = MeterError;

    fn try_from(name: String) -> Result<Self, MeterError> {
        name.parse()
    }
}

impl From<Meter> for String {
    fn from(meter: Meter) -> String {
        meter.name().to_owned()
    }
}

/// Whether `name` can name a unit of a user's own: `a-z`, then `a-z 0-9 _`, at most 64 characters.
#[must_use]
pub fn is_unit_name(name: &str) -> bool {
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest_well = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    starts_well && rest_well && name.len() <= 64
}

/// What a limit does when its hard number is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Records, and says what it would have done.
    Open,
    /// Refuses after the fact.
    Block,
    /// Refuses what would not fit any more: a gateway reserves before anything is spent. Else as `Block`.
    Strict,
}

impl Mode {
    /// Whether calls are refused once the hard number is reached.
    #[must_use]
    pub const fn refuses(self) -> bool {
        match self {
            Mode::Open => false,
            Mode::Block | Mode::Strict => true,
        }
    }
}

/// What a gateway does for a limit whose state it may not know any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    /// Obeys the decisions it knows.
    #[default]
    LastKnown,
    /// Admits.
    Open,
    /// Refuses.
    Closed,
}

/// A number of a limit that is worth telling: the hard one, or one of the soft ones before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Level {
    /// `hard`, or as the policy has it: `80%`.
    pub name: String,
    /// Reached when the sum is this or more.
    pub threshold: i128,
}

/// The name of the level at which a limit refuses.
pub const HARD: &str = "hard";

/// One limit, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: String,
    pub pattern: Pattern,
    pub meter: Meter,
    pub window: Window,
    /// Soft levels, lowest first, and the hard one last.
    pub levels: Vec<Level>,
    /// What is to be left in a wallet: its hard level lies that far below what was paid in. Zero for other windows.
    pub keep: i128,
    pub mode: Mode,
    pub stale: Stale,
    /// Only for tenants of this tier.
    pub tier: Option<String>,
    /// Tiers that have a limit of this name of their own, which stands there instead of this general one.
    pub replaced_in: Vec<String>,
    /// Instead of the status that follows from the window (429; of a wallet 402).
    pub status: Option<u16>,
    /// Whether callers are told what is left of it.
    pub headers: bool,
}

impl Limit {
    /// The number from which on calls are refused.
    ///
    /// # Panics
    /// When the limit has no level, which [`crate::record::PolicyVersion`] does not let through.
    #[must_use]
    pub fn hard(&self) -> i128 {
        self.levels
            .last()
            .expect("a limit has a hard level")
            .threshold
    }

    /// Of a wallet: all that was paid in.
    #[must_use]
    pub fn paid_in(&self) -> i128 {
        self.hard().saturating_add(self.keep)
    }

    /// Whether it is meant for what is in `tier`: of a limit and a tier's of the same name, only the latter is.
    #[must_use]
    pub fn holds_in(&self, tier: Option<&str>) -> bool {
        match &self.tier {
            None => tier.is_none_or(|own| self.replaced_in.iter().all(|other| other != own)),
            Some(_) => self.tier.as_deref() == tier,
        }
    }
}

/// The smallest whole number that is at least `percent` of `hard`.
#[must_use]
pub fn part_of(hard: i128, percent: i128) -> i128 {
    let (whole, rest) = (hard / 100, hard % 100);
    whole * percent + (rest * percent + 99).div_euclid(100)
}

/// What part of the hard number a soft level is, by its name: 80 for `80%`.
#[must_use]
pub fn percent_of_name(level: &str) -> Option<i128> {
    level.strip_suffix('%')?.parse().ok()
}

/// What the policy says of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantSettings {
    pub tier: Option<String>,
    pub zone: Option<Tz>,
}

/// One version of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Counts up from 1; 0 is the empty policy before any.
    pub version: u64,
    pub limits: Vec<Limit>,
    /// Other numbers of limits for single subjects.
    pub overrides: Overrides,
    pub tenants: BTreeMap<String, TenantSettings>,
    /// The tier of tenants that the policy does not name.
    pub default_tier: Option<String>,
    /// The time zone of calendar windows where a tenant has none of its own; UTC when absent.
    pub default_zone: Option<Tz>,
    /// What requests count as, by their routes: the first that takes a route rules.
    pub weights: Vec<Weight>,
    /// Ids that limits count together. The patterns of limits know theirs.
    pub sets: Sets,
}

impl Policy {
    #[must_use]
    pub fn zone(&self, tenant: Option<&str>) -> Tz {
        let own = tenant
            .and_then(|t| self.tenants.get(t))
            .and_then(|t| t.zone);
        own.or(self.default_zone).unwrap_or(Tz::UTC)
    }

    #[must_use]
    pub fn tier(&self, tenant: &str) -> Option<&str> {
        let own = self.tenants.get(tenant).and_then(|t| t.tier.as_deref());
        own.or(self.default_tier.as_deref())
    }

    /// The general limit of this name, or the first tier's that has it. Which of them a subject falls under is
    /// told by [`Policy::limits_on`].
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<&Limit> {
        let named = |limit: &&Limit| limit.name == name;
        let general = self.limits.iter().filter(named).find(|l| l.tier.is_none());
        general.or_else(|| self.limits.iter().find(named))
    }

    /// Whether `limit` is meant for `tenant` by its tier. Limits wider than a tenant have no tier.
    #[must_use]
    pub fn tier_allows(&self, limit: &Limit, tenant: Option<&str>) -> bool {
        limit.holds_in(tenant.and_then(|t| self.tier(t)))
    }

    /// Every limit that `identity` falls under, with its subject there.
    pub fn limits_of<'a>(
        &'a self,
        identity: &'a Identity<'a>,
    ) -> impl Iterator<Item = (&'a Limit, Subject)> + 'a {
        self.limits.iter().filter_map(|limit| {
            let subject = limit.pattern.subject_of(identity)?;
            self.tier_allows(limit, identity.tenant)
                .then_some((limit, subject))
        })
    }

    /// The limit `name`, if it is counted for `subject` itself.
    #[must_use]
    pub fn limit_on(&self, subject: &Subject, name: &str) -> Option<&Limit> {
        self.limits_on(subject).find(|limit| limit.name == name)
    }

    /// Every limit that is counted for `subject` itself.
    pub fn limits_on<'p>(&'p self, subject: &Subject) -> impl Iterator<Item = &'p Limit> {
        let tenant = subject.id(Dimension::Tenant);
        self.limits.iter().filter(move |limit| {
            limit.pattern.accepts(subject) && self.tier_allows(limit, tenant.as_deref())
        })
    }
}

#[cfg(test)]
mod tests;
