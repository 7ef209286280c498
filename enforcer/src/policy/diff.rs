//! What changes from one policy to another: its limits, and what tenants fall under.

mod overrides;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemas::money::format_usd;
use schemas::policy::{Limit, Meter, Policy};
use schemas::subject::Dimension;
use serde::Serialize;

pub use overrides::OverrideChange;
pub use sets::SetChange;

/// What changes from one policy to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Of the policy itself: `default_tier`, `zone`, and the weights of routes.
    pub settings: Vec<FieldChange>,
    /// As they stand in the policy, the general ones first.
    pub limits: Vec<LimitChange>,
    /// Ids that limits count together.
    pub sets: Vec<SetChange>,
    /// Other numbers of single subjects.
    pub overrides: Vec<OverrideChange>,
    /// Who falls under something else than before.
    pub tenants: Vec<TenantChange>,
}

/// A field that has another value, written as the policy has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    pub field: &'static str,
    /// Absent where there was none.
    pub from: Option<String>,
    /// Absent where there is none any more.
    pub to: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

impl Kind {
    /// What became of something that was there before, or is there after.
    const fn of<T>(before: Option<&T>, after: Option<&T>) -> Self {
        match (before, after) {
            (None, _) => Self::Added,
            (_, None) => Self::Removed,
            _ => Self::Changed,
        }
    }
}

/// A limit that is new, gone, or has other values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitChange {
    pub change: Kind,
    pub name: String,
    /// The tier whose limit it is; of a tenant's limit, the tier that it comes from now.
    pub tier: Option<String>,
    pub fields: Vec<FieldChange>,
}

/// What changes for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantChange {
    /// `None`: every tenant that neither policy names.
    pub tenant: Option<String>,
    /// Its tier and its zone.
    pub settings: Vec<FieldChange>,
    /// The limits that it, or something of it, falls under.
    pub limits: Vec<LimitChange>,
}

impl Diff {
    /// Whether both policies say the same. Their numbers do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
            && self.limits.is_empty()
            && self.sets.is_empty()
            && self.overrides.is_empty()
            && self.tenants.is_empty()
    }
}

/// What changes from `from` to `to`.
#[must_use]
pub fn diff(from: &Policy, to: &Policy) -> Diff {
    let all = |policy| limits_by(policy, |_| true, |limit| (limit.tier.clone(), &*limit.name));
    let settings = vec![
        (
            "default_tier",
            from.default_tier.clone(),
            to.default_tier.clone(),
        ),
        ("zone", own_zone(from), own_zone(to)),
        ("weight", weights(from), weights(to)),
    ];
    let named: BTreeSet<&str> = names(from).chain(names(to)).collect();
    let tenants = named.into_iter().map(Some).chain([None]);
    Diff {
        settings: changed(settings),
        limits: limit_changes(&all(from), &all(to)),
        sets: sets::changes(&from.sets, &to.sets),
        overrides: overrides::changes(from, to),
        tenants: tenants
            .filter_map(|tenant| tenant_change(from, to, tenant))
            .collect(),
    }
}

/// The tenants that a policy names, in settings or as the one subject of a limit.
fn names(policy: &Policy) -> impl Iterator<Item = &str> {
    let limits = policy.limits.iter();
    let subjects = limits.filter_map(|limit| limit.pattern.named(Dimension::Tenant));
    policy.tenants.keys().map(String::as_str).chain(subjects)
}

fn own_zone(policy: &Policy) -> Option<String> {
    policy.default_zone.map(|zone| zone.name().to_owned())
}

/// In their order, which says which of them rules.
fn weights(policy: &Policy) -> Option<String> {
    let weights = policy.weights.iter();
    let weights: Vec<String> = weights
        .map(|weight| format!("`{}` {}", weight.route(), weight.requests))
        .collect();
    (!weights.is_empty()).then(|| weights.join(", "))
}

fn tenant_change(from: &Policy, to: &Policy, tenant: Option<&str>) -> Option<TenantChange> {
    // What holds for all that are not named is in the settings of the policy.
    let settings = tenant.map_or_else(Vec::new, |tenant| {
        let tier = |policy: &Policy| policy.tier(tenant).map(str::to_owned);
        let zone = |policy: &Policy| Some(policy.zone(Some(tenant)).name().to_owned());
        changed(vec![
            ("tier", tier(from), tier(to)),
            ("zone", zone(from), zone(to)),
        ])
    });
    let limits = limit_changes(&limits_on(from, tenant), &limits_on(to, tenant));
    let tenant = tenant.map(str::to_owned);
    (!settings.is_empty() || !limits.is_empty()).then_some(TenantChange {
        tenant,
        settings,
        limits,
    })
}

/// The limits that a tenant, or something of it, falls under. They have a name each: a tier's stands instead of the
/// general one.
fn limits_on<'p>(
    policy: &'p Policy,
    tenant: Option<&str>,
) -> BTreeMap<&'p str, (usize, &'p Limit)> {
    let is_on = |limit: &Limit| match tenant {
        Some(tenant) => limit.pattern.takes(Dimension::Tenant, tenant),
        None => {
            !limit.pattern.is_wider_than_tenant()
                && limit.pattern.named(Dimension::Tenant).is_none()
        }
    };
    // No policy names a tenant by the empty id, so that one is of the default tier.
    let id = Some(tenant.unwrap_or_default());
    let falls_under = |limit: &Limit| is_on(limit) && policy.tier_allows(limit, id);
    limits_by(policy, falls_under, |limit| &*limit.name)
}

/// Limits by `key`, with their place in the policy.
fn limits_by<'p, K: Ord>(
    policy: &'p Policy,
    is_wanted: impl Fn(&Limit) -> bool,
    key: impl Fn(&'p Limit) -> K,
) -> BTreeMap<K, (usize, &'p Limit)> {
    let limits = policy.limits.iter().enumerate();
    let wanted = limits.filter(|(_, limit)| is_wanted(limit));
    wanted
        .map(|(place, limit)| (key(limit), (place, limit)))
        .collect()
}

/// In the order of the new policy, those that are gone last.
fn limit_changes<K: Ord>(
    from: &BTreeMap<K, (usize, &Limit)>,
    to: &BTreeMap<K, (usize, &Limit)>,
) -> Vec<LimitChange> {
    let mut changes = Vec::new();
    for (key, (place, limit)) in to {
        let before = from.get(key).map(|(_, limit)| *limit);
        changes.extend(limit_change(before, Some(limit)).map(|change| ((false, *place), change)));
    }
    for (key, (place, limit)) in from {
        if !to.contains_key(key) {
            changes.extend(limit_change(Some(limit), None).map(|change| ((true, *place), change)));
        }
    }
    changes.sort_by_key(|(place, _)| *place);
    changes.into_iter().map(|(_, change)| change).collect()
}

fn limit_change(from: Option<&Limit>, to: Option<&Limit>) -> Option<LimitChange> {
    let limit = to.or(from)?;
    let before = from.map(fields).unwrap_or_default();
    let after = to.map(fields).unwrap_or_default();
    let both = FIELDS.into_iter().zip(before).zip(after);
    let fields = changed(both.map(|((field, from), to)| (field, from, to)).collect());
    (!fields.is_empty()).then(|| LimitChange {
        change: Kind::of(from, to),
        name: limit.name.clone(),
        tier: limit.tier.clone(),
        fields,
    })
}

const FIELDS: [&str; 10] = [
    "subject", "meter", "window", "hard", "keep", "soft", "mode", "stale", "status", "headers",
];

/// The values of [`FIELDS`], as a policy has them.
fn fields(limit: &Limit) -> [Option<String>; FIELDS.len()] {
    let soft = limit.levels.split_last().map_or(&[][..], |(_, soft)| soft);
    let soft: Vec<&str> = soft.iter().map(|level| level.name.as_str()).collect();
    let amount = |number: i128| amount(&limit.meter, number);
    [
        Some(limit.pattern.as_str().to_owned()),
        Some(limit.meter.name().to_owned()),
        Some(limit.window.to_string()),
        Some(amount(limit.paid_in())),
        (limit.keep != 0).then(|| amount(limit.keep)),
        (!soft.is_empty()).then(|| soft.join(", ")),
        word(limit.mode),
        word(limit.stale),
        limit.status.map(|status| status.to_string()),
        (!limit.headers).then(|| "false".to_owned()),
    ]
}

fn amount(meter: &Meter, amount: i128) -> String {
    match meter {
        Meter::Cost => format!("{} USD", format_usd(amount)),
        _ => amount.to_string(),
    }
}

/// A choice as the policy has it.
fn word(choice: impl Serialize) -> Option<String> {
    let word = serde_json::to_value(choice).ok()?;
    word.as_str().map(str::to_owned)
}

fn changed(pairs: Vec<(&'static str, Option<String>, Option<String>)>) -> Vec<FieldChange> {
    let differing = pairs.into_iter().filter(|(_, from, to)| from != to);
    differing
        .map(|(field, from, to)| FieldChange { field, from, to })
        .collect()
}

// === For people ===

/// A line each, with what is below a heading set in by two spaces.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.settings.iter().map(ToString::to_string).collect();
        lines.extend(self.sets.iter().map(ToString::to_string));
        lines.extend(self.limits.iter().map(ToString::to_string));
        lines.extend(self.overrides.iter().map(ToString::to_string));
        for change in &self.tenants {
            let whose = match &change.tenant {
                Some(tenant) => format!("tenant {tenant}:"),
                None => "every tenant that is not named:".to_owned(),
            };
            lines.push(whose);
            lines.extend(change.settings.iter().map(|field| format!("  {field}")));
            lines.extend(change.limits.iter().map(|limit| format!("  {limit}")));
        }
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for LimitChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} limit {}", self.change.sign(), self.name)?;
        if let Some(tier) = &self.tier {
            write!(f, " of tier {tier}")?;
        }
        write_fields(f, self.change, &self.fields)
    }
}

impl Kind {
    const fn sign(self) -> char {
        match self {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, change: Kind, fields: &[FieldChange]) -> fmt::Result {
    for (place, field) in fields.iter().enumerate() {
        let gap = if place == 0 { ":" } else { "," };
        write!(f, "{gap} ")?;
        match (change, &field.from, &field.to) {
            (Kind::Changed, ..) => write!(f, "{field}")?,
            (_, from, to) => {
                let value = to.as_ref().or(from.as_ref());
                write!(f, "{} {}", field.field, value.map_or("", String::as_str))?;
            }
        }
    }
    Ok(())
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let (field, from, to) = (self.field, shown(&self.from), shown(&self.to));
        write!(f, "{field} {from} -> {to}")
    }
}

#[cfg(test)]
mod tests;
