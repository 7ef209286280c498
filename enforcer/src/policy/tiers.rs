//! Tiers that extend others: a tier has the limits of the one that it extends, and of those that that one extends, but
//! for those whose names it has itself.

use std::collections::{BTreeMap, BTreeSet};

use schemas::policy::Limit;

use super::LIMITS_MAX;
use super::reader::Reader;

/// Which tier each one extends, and where that is written.
#[derive(Default)]
pub(super) struct Parents<'t>(BTreeMap<&'t str, (&'t str, usize)>);

impl<'t> Parents<'t> {
    pub(super) fn add(&mut self, tier: &'t str, parent: &'t str, at: usize) {
        self.0.insert(tier, (parent, at));
    }

    /// The tiers that `tier` extends, the nearest first; of a cycle each once.
    pub(super) fn above(&self, tier: &str) -> Vec<&'t str> {
        let mut above: Vec<&'t str> = Vec::new();
        let mut next = self.0.get(tier);
        while let Some((parent, _)) = next.filter(|(parent, _)| !above.contains(parent)) {
            above.push(parent);
            next = self.0.get(parent);
        }
        above
    }

    /// Notes each cycle once, where the first of its tiers in the text extends another.
    pub(super) fn refuse_cycles(&self, reader: &mut Reader<'_>) {
        let mut tiers: Vec<(usize, &str)> =
            self.0.iter().map(|(tier, (_, at))| (*at, *tier)).collect();
        tiers.sort_unstable();
        let mut told: BTreeSet<&str> = BTreeSet::new();
        for (at, tier) in tiers {
            let above = self.above(tier);
            if told.contains(tier) || !above.contains(&tier) {
                continue;
            }
            let way = above.join("` -> `");
            reader.say(
                at,
                format!(
                    "tier `{tier}` extends itself: `{tier}` -> `{way}`; leave one `extends` out"
                ),
            );
            told.extend(above);
        }
    }

    /// Gives each tier the limits that it inherits.
    pub(super) fn hand_down(&self, reader: &mut Reader<'_>, limits: &mut Vec<Limit>) {
        let mut inherited = Vec::new();
        for (tier, (_, at)) in &self.0 {
            let of = |tier: &str| {
                let tier = tier.to_owned();
                limits
                    .iter()
                    .filter(move |limit| limit.tier.as_deref() == Some(tier.as_str()))
            };
            let mut names: BTreeSet<&str> = of(tier).map(|limit| limit.name.as_str()).collect();
            for parent in self.above(tier) {
                for limit in of(parent) {
                    if names.insert(&limit.name) {
                        inherited.push(Limit {
                            tier: Some((*tier).to_owned()),
                            ..limit.clone()
                        });
                    }
                }
            }
            let all = limits.len() + inherited.len();
            if LIMITS_MAX < all {
                let text = format!(
                    "with what tiers inherit these are {all} limits; a policy holds {LIMITS_MAX}"
                );
                reader.say(*at, text);
                return;
            }
        }
        limits.extend(inherited);
    }
}
