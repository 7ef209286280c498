//! Orders, as one shard counts by them: who they are about is in a tier of its own. So is who the policy has an override
//! for.
//!
//! A subject that an order or an override is on has a tier of its own, by its path, which holds for all that lies in it
//! and is in no narrower one. It names the same series as others, with other numbers, so an order touches no window. A
//! tenant of which something narrower has a tier of its own has one too, and that one names every pattern: what is
//! counted for a narrower subject only is found by it.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemas::orders::{InForce, Order, OrderKey, Orders};
use schemas::subject::{Dimension, Subject};
use schemas::time::Timestamp;

use super::{Family, Kind, Plan, Tier};

/// The tiers of single subjects.
#[derive(Debug, Default)]
pub(crate) struct Own {
    pub(crate) orders: Orders,
    /// Places of tiers in the plan, by the paths of their subjects.
    by_path: HashMap<String, u32>,
    /// The subjects inside of each tenant's that have orders or overrides on them, by the tenant's path.
    narrow: HashMap<String, HashSet<Subject>>,
    /// Places that are free.
    free: Vec<u32>,
}

/// The tiers that an order has put in the place of others, by path: where those were.
#[derive(Debug, Default)]
pub(crate) struct Replaced(BTreeMap<String, Option<u32>>);

impl Plan {
    /// Takes all orders over.
    pub(super) fn take_orders(&mut self, orders: Orders) {
        let judging = orders.iter().filter(|order| order.judges());
        let mut subjects: HashSet<Subject> = judging.map(|o| o.subject.clone()).collect();
        for subject in &subjects {
            self.own.note(subject, true);
        }
        self.own.orders = orders;
        let overridden = self.policy.overrides.subjects();
        let concerned = overridden.filter(|s| s.tenant_id().is_some() != self.is_of_partials);
        for subject in concerned {
            self.own.note(subject, true);
            subjects.insert(subject.clone());
        }
        let mut changed = Replaced::default();
        for subject in subjects {
            self.renew(&root_of(&subject), &mut changed);
            self.renew(&subject, &mut changed);
        }
        self.drop_replaced(changed);
    }

    /// Obeys an order. `None` where nothing changes.
    pub(crate) fn put_order(&mut self, order: Order) -> Option<Replaced> {
        let subject = order.subject.clone();
        self.own.orders.put(order).then(|| {
            self.own.note(&subject, true);
            self.renew_in(&subject)
        })
    }

    /// Obeys an order no more. `None` where none of this key and up to this number stands.
    pub(crate) fn end_order(&mut self, key: &OrderKey, seq: i64) -> Option<Replaced> {
        self.own.orders.end(key, seq)?;
        if !self.is_special(&key.subject) {
            self.own.note(&key.subject, false);
        }
        Some(self.renew_in(&key.subject))
    }

    /// Takes note of an order that clears, or of its end, which change no tier. False where nothing changes.
    pub(crate) fn note_clearing(&mut self, order: Order, ended: bool) -> bool {
        match ended {
            true => self.own.orders.end(&order.key(), order.seq).is_some(),
            false => self.own.orders.put(order),
        }
    }

    /// Whether an order or an override is on this very subject.
    fn is_special(&self, subject: &Subject) -> bool {
        self.own.orders.judge(subject) || self.policy.overrides.has_any_on(subject)
    }

    /// Makes the tiers of a subject, and of all with orders on them that lie in it, anew.
    fn renew_in(&mut self, subject: &Subject) -> Replaced {
        let mut replaced = Replaced::default();
        let root = root_of(subject);
        self.renew(&root, &mut replaced);
        let narrow = self.own.narrow.get(root.as_str()).into_iter().flatten();
        let inside = narrow.filter(|narrow| lies_in(narrow, subject)).cloned();
        let mut inside: Vec<Subject> = inside.collect();
        if root.tenant_id().is_none() {
            let wide = self
                .own
                .by_path
                .keys()
                .filter_map(|path| Subject::parse(path).ok());
            inside.extend(wide.filter(|wide| lies_in(wide, subject)));
        }
        inside.push(subject.clone());
        for narrow in inside {
            self.renew(&narrow, &mut replaced);
        }
        replaced
    }

    /// Makes the tier of a subject anew, if it is to have one of its own.
    fn renew(&mut self, subject: &Subject, replaced: &mut Replaced) {
        let path = subject.as_str();
        if replaced.0.contains_key(path) {
            return;
        }
        let has_narrow = self.own.narrow.contains_key(path);
        let tier = (has_narrow || self.is_special(subject)).then(|| self.own_tier(subject));
        let was = match tier {
            Some(tier) => {
                let place = self.put_tier(tier);
                self.own.by_path.insert(path.to_owned(), place)
            }
            None => self.own.by_path.remove(path),
        };
        replaced.0.insert(path.to_owned(), was);
    }

    fn own_tier(&self, subject: &Subject) -> Tier {
        let in_force = InForce {
            policy: &self.policy,
            orders: &self.own.orders,
            // Only the log ends an order here.
            now: Timestamp::MIN,
        };
        let limits = self.policy.limits.iter().enumerate();
        let own = limits.filter_map(|(place, limit)| {
            let held = in_force.held(limit, subject);
            held.is_own().then(|| (place, held.limit.into_owned()))
        });
        let own: HashMap<usize, _> = own.collect();
        let tier = in_force.tier(subject);
        let mut families = self.families(tier, &own, Some(subject));
        if self.own.narrow.contains_key(subject.as_str()) {
            for series in &self.series {
                if families
                    .iter()
                    .all(|family| family.pattern != series.pattern)
                {
                    families.push(Family {
                        pattern: series.pattern.clone(),
                        groups: Vec::new(),
                    });
                }
            }
        }
        Tier {
            name: tier.map(str::to_owned),
            families,
        }
    }

    fn put_tier(&mut self, tier: Tier) -> u32 {
        match self.own.free.pop() {
            Some(place) => {
                self.tiers[place as usize] = tier;
                place
            }
            None => {
                self.tiers.push(tier);
                u32::try_from(self.tiers.len() - 1).expect("fewer than 2^32 orders are known")
            }
        }
    }

    /// Forgets the tiers that others have replaced, once nothing is judged by them any more.
    pub(crate) fn drop_replaced(&mut self, replaced: Replaced) {
        for place in replaced.0.into_values().flatten() {
            self.tiers[place as usize].families = Vec::new();
            self.own.free.push(place);
        }
    }

    /// The place of the own tier by which the subject of `path` goes; `None`: it goes by its owner's.
    pub(super) fn own_place(&self, path: &str) -> Option<u32> {
        self.own_place_before(path, &Replaced::default())
    }

    fn own_place_before(&self, path: &str, replaced: &Replaced) -> Option<u32> {
        if self.own.by_path.is_empty() && replaced.0.is_empty() {
            return None;
        }
        above(path).find_map(|(above, is_whole)| {
            let place = match replaced.0.get(above) {
                Some(was) => *was,
                None => self.own.by_path.get(above).copied(),
            };
            place.filter(|_| is_whole || holds_others(above))
        })
    }

    /// The tier by which the subject of `path` went before `replaced`, when its owner was in the one at `owners`.
    pub(crate) fn tier_before(&self, path: &str, owners: u32, replaced: &Replaced) -> &Tier {
        self.tier(self.own_place_before(path, replaced).unwrap_or(owners))
    }

    /// The tier by which the subject of `path` goes when its owner is in the one at `owners`.
    pub(crate) fn tier_at(&self, path: &str, owners: u32) -> &Tier {
        self.tier(self.own_place(path).unwrap_or(owners))
    }

    /// Whether something in the owner with this path has a tier of its own.
    pub(crate) fn has_narrow(&self, root: &str) -> bool {
        !self.own.narrow.is_empty() && self.own.narrow.contains_key(root)
    }

    /// All orders that stand, in an order that is always the same.
    pub(crate) fn orders(&self) -> Vec<&Order> {
        let mut orders: Vec<&Order> = self.own.orders.iter().collect();
        orders.sort_by_key(|order| order.key());
        orders
    }

    /// Whether an order on `subject` can make a difference to a shard of this kind.
    pub(crate) fn is_concerned(kind: Kind, subject: &Subject) -> bool {
        let is_tenants = subject.tenant_id().is_some();
        is_tenants == matches!(kind, Kind::Events(_))
    }
}

impl Own {
    /// Notes that a subject inside of a tenant's has orders or overrides on it, or none any more.
    fn note(&mut self, subject: &Subject, has_orders: bool) {
        let root = root_of(subject);
        if root == *subject {
            return;
        }
        let root = String::from(root);
        if has_orders {
            self.narrow.entry(root).or_default().insert(subject.clone());
        } else if let Some(narrow) = self.narrow.get_mut(&root) {
            narrow.remove(subject);
            if narrow.is_empty() {
                self.narrow.remove(&root);
            }
        }
    }
}

/// The subject of the owner in which `subject` lies: its tenant, or itself where it is wider than one.
pub(crate) fn root_of(subject: &Subject) -> Subject {
    match subject.tenant_id() {
        Some(tenant) => Subject::tenant(&tenant),
        None => subject.clone(),
    }
}

/// Whether `subject` is `other` or lies in it.
pub(crate) fn lies_in(subject: &Subject, other: &Subject) -> bool {
    subject.path_and_above().any(|path| path == other.as_str())
}

/// The path, and what is left of it before each slash from the last on; whether it is the whole.
fn above(path: &str) -> impl Iterator<Item = (&str, bool)> {
    let shorter = path.rmatch_indices('/').map(|(at, _)| (&path[..at], false));
    [(path, true)].into_iter().chain(shorter)
}

/// Whether other subjects can lie in the one of this path: the slashes of a route or model are its own.
fn holds_others(path: &str) -> bool {
    let subject = Subject::parse(path);
    subject.is_ok_and(|subject| {
        let last = subject.parts().pop().map(|(dimension, _)| dimension);
        !matches!(last, Some(Dimension::Route | Dimension::Model))
    })
}
