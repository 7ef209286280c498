//! The policy as people write it: TOML text, read into a checked [`Policy`] or into everything that is wrong with it.
//!
//! Pure: no file, no clock. All problems are told at once, each with its line and column, what is meant, and the
//! nearest right name. Half a policy is never returned.

mod amount;
mod diff;
mod fields;
mod json;
mod limit;
mod nearest;
mod overrides;
mod problem;
mod reader;
mod sets;
#[cfg(test)]
mod tests;
mod tiers;
mod version;
mod weight;

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use schemas::policy::{Limit, Overrides, Policy, TenantSettings};
use schemas::subject::{Dimension, ID_BYTES_MAX};
use toml::de::DeTable;

pub use self::diff::{
    Diff, FieldChange, Kind, LimitChange, OverrideChange, SetChange, TenantChange, diff,
};
use self::fields::{POLICY, TENANT, TIER};
pub use self::fields::{json_schema, reference};
pub use self::json::{Located, read_located, toml_of};
pub(crate) use self::nearest::{did_you_mean, meant_dimension};
pub use self::problem::Problem;
use self::reader::{Reader, Table};
pub(crate) use self::sets::meant_set;
use self::tiers::Parents;
pub(crate) use self::version::{FILE, Head, Version, check_reason, file_is_news};

/// The most limits that one policy may hold.
pub const LIMITS_MAX: usize = 1_000;

/// The largest policy that is read. A version travels as one record of the log, with its text and what was read from
/// it, which has to stay below the million bytes that a Kafka takes by default.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;

const EMPTY: &str = "the policy is empty; the least is one limit: `[[limit]]` with name, subject, meter, window and \
                     hard. Write `zone = \"UTC\"` for a policy without limits";

/// Reads a policy. Its version is 0 until it is given one.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn read(text: &str) -> Result<Policy, Vec<Problem>> {
    let mut reader = Reader::new(text);
    if POLICY_BYTES_MAX < text.len() {
        let bytes = text.len();
        reader.say(
            0,
            format!("the policy has {bytes} bytes; {POLICY_BYTES_MAX} are taken"),
        );
        return Err(reader.finish());
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        reader.say(at, format!("not TOML: {}", error.message()));
    }
    if reader.found_any() {
        return Err(reader.finish());
    }
    if document.get_ref().is_empty() {
        reader.say(0, EMPTY);
        return Err(reader.finish());
    }
    let policy = whole(&mut reader, document.get_ref());
    if reader.found_any() {
        Err(reader.finish())
    } else {
        Ok(policy)
    }
}

fn whole(reader: &mut Reader<'_>, document: &DeTable<'_>) -> Policy {
    let top = Table::new(document, 0);
    reader.refuse_unknown(&top, &POLICY.names(), POLICY.what);
    let tiers = named_tables(reader, &top, "tier");
    let names: BTreeSet<&str> = tiers.iter().map(|(name, _)| *name).collect();
    let sets = sets::read(reader, &top);
    let mut limits = Limits::default();
    for value in reader.tables(&top, "limit") {
        let read = limit::read(reader, &value, (None, &sets));
        limits.add(reader, read, &names);
    }
    let mut parents = Parents::default();
    for (tier, table) in &tiers {
        check_name(reader, tier, table.at, "tier");
        if let Some((parent, at)) = reader.text(table, "extends") {
            check_tier(reader, parent, at, &names);
            parents.add(tier, parent, at);
        }
        reader.refuse_unknown(table, &TIER.names(), TIER.what);
        for value in reader.tables(table, "limit") {
            let read = limit::read(reader, &value, (Some(tier), &sets));
            limits.add(reader, read, &names);
        }
    }
    let default_tier = reader.text(&top, "default_tier");
    if let Some((tier, at)) = default_tier {
        check_tier(reader, tier, at, &names);
    }
    parents.refuse_cycles(reader);
    parents.hand_down(reader, &mut limits.read);
    let places = std::mem::take(&mut limits.named_tenants);
    let mut policy = Policy {
        version: 0,
        limits: limits.finish(),
        overrides: Overrides::default(),
        tenants: tenants(reader, &top, &names),
        default_tier: default_tier.map(|(tier, _)| tier.to_owned()),
        default_zone: zone(reader, &top),
        weights: weight::read(reader, &top),
        sets: sets.sets,
    };
    for (tenant, tier, at) in places {
        let own = policy.tier(&tenant);
        let inherits = own.is_some_and(|own| parents.above(own).contains(&tier.as_str()));
        if own != Some(tier.as_str()) && !inherits {
            refuse_tenant_of_another(reader, (&tenant, own), &tier, at);
        }
    }
    overrides::read(reader, &top, &mut policy);
    policy
}

/// A tier's limit on one tenant counts nothing where that tenant is of another tier: of `own`.
fn refuse_tenant_of_another(
    reader: &mut Reader<'_>,
    (tenant, own): (&str, Option<&str>),
    tier: &str,
    at: usize,
) {
    let own = own.map_or("no tier".to_owned(), |own| format!("tier `{own}`"));
    reader.say(
        at,
        format!(
            "this limit of tier `{tier}` matches nothing: tenant `{tenant}` is of {own}; leave the tier out to limit \
             the tenant itself"
        ),
    );
}

/// `[NAME.…]` under `[field]`, by name.
fn named_tables<'t>(
    reader: &mut Reader<'_>,
    top: &Table<'t>,
    field: &'static str,
) -> Vec<(&'t str, Table<'t>)> {
    let Some(outer) = top.get(field) else {
        return Vec::new();
    };
    let Some(table) = outer.table() else {
        reader.say(
            outer.at,
            format!("`{field}` holds tables by name: write `[{field}.NAME]`"),
        );
        return Vec::new();
    };
    let mut tables = Vec::new();
    for (name, at, value) in table.entries() {
        match value.table() {
            Some(inner) => tables.push((name, inner.located_at(at))),
            None => reader.say(
                value.at,
                format!("`{field}.{name}` must be a table: write `[{field}.{name}]`"),
            ),
        }
    }
    tables
}

fn tenants(
    reader: &mut Reader<'_>,
    top: &Table<'_>,
    tiers: &BTreeSet<&str>,
) -> BTreeMap<String, TenantSettings> {
    let mut tenants = BTreeMap::new();
    for (id, table) in named_tables(reader, top, "tenant") {
        if id.is_empty() || ID_BYTES_MAX < id.len() {
            reader.say(
                table.at,
                format!("a tenant's id has 1 to {ID_BYTES_MAX} bytes"),
            );
        }
        reader.refuse_unknown(&table, &TENANT.names(), TENANT.what);
        let tier = reader.text(&table, "tier");
        if let Some((tier, at)) = tier {
            check_tier(reader, tier, at, tiers);
        }
        let settings = TenantSettings {
            tier: tier.map(|(tier, _)| tier.to_owned()),
            zone: zone(reader, &table),
        };
        tenants.insert(id.to_owned(), settings);
    }
    tenants
}

fn zone(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Tz> {
    let (name, at) = reader.text(table, "zone")?;
    let zone = name.parse().ok();
    if zone.is_none() {
        let zones = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        let hint = did_you_mean(name, zones);
        reader.say(
            at,
            format!("`{name}` is no IANA time zone such as `Europe/Berlin`{hint}"),
        );
    }
    zone
}

fn check_tier(reader: &mut Reader<'_>, tier: &str, at: usize, tiers: &BTreeSet<&str>) {
    if !tiers.contains(tier) {
        let hint = did_you_mean(tier, tiers.iter().copied());
        reader.say(
            at,
            format!("no tier `{tier}` is declared by `[tier.{tier}]`{hint}"),
        );
    }
}

/// Names of limits and tiers travel in headers, queries and metrics of others: plain characters, bounded.
fn check_name(reader: &mut Reader<'_>, name: &str, at: usize, what: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || 64 < name.len() || !name.bytes().all(plain) {
        reader.say(
            at,
            format!("a {what}'s name has 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`, not `{name}`"),
        );
    }
}

/// The limits read so far, no two of one name in one tier.
#[derive(Default)]
struct Limits {
    read: Vec<Limit>,
    /// Where each name of each tier (none: the general ones) was taken.
    taken: BTreeMap<(Option<String>, String), usize>,
    /// The one tenant that a tier's limit is about, the tier, and where the limit stands.
    named_tenants: Vec<(String, String, usize)>,
    seen: usize,
}

impl Limits {
    /// Takes one limit's name and tier into account, and the limit itself where it could be read.
    fn add(&mut self, reader: &mut Reader<'_>, read: limit::Read, tiers: &BTreeSet<&str>) {
        self.seen += 1;
        if self.seen == LIMITS_MAX + 1 {
            reader.say(
                read.at,
                format!("this is limit {}; a policy holds {LIMITS_MAX}", self.seen),
            );
        }
        if let Some((tier, at)) = &read.tier {
            check_tier(reader, tier, *at, tiers);
        }
        if let Some((name, at)) = &read.name {
            check_name(reader, name, *at, "limit");
            let tier = read.tier.as_ref().map(|(tier, _)| tier.clone());
            match self.taken.get(&(tier.clone(), name.clone())) {
                Some(first) => {
                    let line = reader.line(*first);
                    let text = format!("another limit is named `{name}` already, on line {line}");
                    reader.say(*at, text);
                }
                None => {
                    self.taken.insert((tier, name.clone()), *at);
                }
            }
        }
        if let Some(limit) = &read.limit
            && let Some(tier) = &limit.tier
            && let Some(tenant) = limit.pattern.named(Dimension::Tenant)
        {
            let place = (tenant.to_owned(), tier.clone(), read.at);
            self.named_tenants.push(place);
        }
        self.read.extend(read.limit);
    }

    /// The limits, each general one told in which tiers another of its name stands instead.
    fn finish(self) -> Vec<Limit> {
        let mut limits = self.read;
        let mut tiers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for limit in &limits {
            if let Some(tier) = &limit.tier {
                tiers
                    .entry(limit.name.clone())
                    .or_default()
                    .push(tier.clone());
            }
        }
        for limit in limits.iter_mut().filter(|limit| limit.tier.is_none()) {
            limit.replaced_in = tiers.get(&limit.name).cloned().unwrap_or_default();
        }
        limits
    }
}
