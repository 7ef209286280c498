//! Orders, made ready for checks: for which subjects a limit has other numbers, and who is in which tier.
//!
//! It chooses as [`schemas::orders::InForce`] does (a property test holds it to that), but by hashes: a limit that no
//! order is about costs nothing, and any other one a lookup for each form of subject that has an order on it. An order
//! that has ended is passed over from that moment on, whether the log has said so or not. An override of the policy is
//! beside the order on its subject, and holds where none does.
//!
//! What checks read never changes: an order makes a new value, which shares all but one of its parts with the old one.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use schemas::orders::{About, Change, InForce, Order, OrderKey, Orders, Series};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use smallvec::SmallVec;

use crate::hash::{Hasher, Hashes, Shape};
use crate::plan::{Plan, Planned};

/// With a hundred thousand orders a part has a hundred: an order copies one part, and the list of all.
const PARTS: usize = 1_024;

/// What is known of hashes, in parts that are shared until they change.
#[derive(Clone, Debug)]
struct Parts<V>(Arc<Vec<Arc<Part<V>>>>);

type Part<V> = HashMap<u128, V, foldhash::fast::RandomState>;

impl<V> Default for Parts<V> {
    fn default() -> Self {
        let empty = Arc::new(Part::default());
        Self(Arc::new(vec![empty; PARTS]))
    }
}

impl<V: Clone> Parts<V> {
    fn get(&self, key: u128) -> Option<&V> {
        self.0[part_of(key)].get(&key)
    }

    fn set(&mut self, key: u128, value: Option<V>) {
        let parts = Arc::make_mut(&mut self.0);
        let part = Arc::make_mut(&mut parts[part_of(key)]);
        match value {
            Some(value) => part.insert(key, value),
            None => part.remove(&key),
        };
    }
}

fn part_of(key: u128) -> usize {
    (key >> 100) as usize % PARTS
}

/// Limits with other numbers, with their places in the plan.
type Changed = Arc<[(usize, Planned)]>;

/// The limits of one name as they are for one subject.
#[derive(Clone, Debug, Default)]
struct Special {
    /// By an order, until it ends.
    ordered: Option<(Option<Timestamp>, Changed)>,
    /// By the policy's own word.
    overridden: Option<Changed>,
}

impl Special {
    fn at(&self, place: usize, now: Timestamp) -> Option<&Planned> {
        let standing = self.ordered.as_ref();
        let standing = standing.filter(|(until, _)| !has_ended(*until, now));
        let changed = standing.map(|(_, changed)| changed);
        let mut changed = changed.or(self.overridden.as_ref())?.iter();
        changed.find_map(|(at, planned)| (*at == place).then_some(planned))
    }
}

#[derive(Clone, Debug)]
struct Tiered {
    until: Option<Timestamp>,
    tier: Arc<str>,
}

/// The orders as checks read them, for one plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ordered {
    /// By the hash of the subject plus that of the limit's name.
    specials: Parts<Special>,
    /// By the hash of the subject.
    tiers: Parts<Tiered>,
    /// For each limit of the plan the forms of the subjects that have other numbers of it, narrowest first.
    special_shapes: Arc<Vec<SmallVec<[Shape; 2]>>>,
    /// The forms of all subjects that were put in a tier, narrowest first.
    tier_shapes: Arc<Vec<Shape>>,
}

impl Ordered {
    /// The tier that was ordered for the request's subject of `shape`, or for one that it lies in.
    pub(crate) fn tier(&self, shape: Shape, hashes: &Hashes, now: Timestamp) -> Option<&str> {
        let shapes = self
            .tier_shapes
            .iter()
            .filter(|own| shape.begins_with(**own));
        let mut tiers = shapes.filter_map(|own| self.tiers.get(hashes.subject(*own)?));
        let tiered = tiers.find(|tiered| !has_ended(tiered.until, now))?;
        Some(&tiered.tier)
    }

    /// The limit at `place` of the plan with the numbers that it has for the request; `None`: its own.
    pub(crate) fn special(
        &self,
        place: usize,
        hashes: &Hashes,
        now: Timestamp,
        name: u128,
    ) -> Option<&Planned> {
        let shapes = self.special_shapes.get(place)?.iter();
        let mut specials = shapes.filter_map(|own| {
            let subject = hashes.subject(*own)?;
            self.specials.get(subject.wrapping_add(name))
        });
        specials.find_map(|special| special.at(place, now))
    }
}

fn has_ended(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_some_and(|until| until <= now)
}

/// All orders, and what checks read of them.
#[derive(Debug, Default)]
pub(crate) struct Book {
    orders: Orders,
    /// How many orders there are on subjects of a form (by its number), by limit; without one: about tiers.
    counts: BTreeMap<(Option<String>, Reverse<usize>), usize>,
    ordered: Ordered,
}

impl Book {
    /// What checks read, for a new plan.
    pub(crate) fn plan(&mut self, plan: &Plan, hasher: &Hasher) -> Ordered {
        self.ordered = Ordered::default();
        for (subject, limit, _) in plan.policy().overrides.iter() {
            self.ordered.set_overridden((subject, limit), plan, hasher);
        }
        for order in self.orders.iter() {
            self.ordered.set(order, plan, hasher);
        }
        self.renew_shapes(plan);
        self.ordered.clone()
    }

    /// Takes an order in, unless a newer one stands; `None` where nothing changes.
    pub(crate) fn put(&mut self, order: Order, plan: &Plan, hasher: &Hasher) -> Option<Ordered> {
        let key = order.key();
        let is_first = self.orders.get(&key).is_none();
        if !self.orders.put(order) {
            return None;
        }
        let order = self.orders.get(&key)?;
        self.ordered.set(order, plan, hasher);
        if is_first {
            self.count(&key, hasher, plan, true);
        }
        Some(self.ordered.clone())
    }

    /// The limits of `plan` whose counters `order` clears, with these: those of its name, in whatever tier, and those that
    /// look at the same sums as the one that holds for its subject.
    pub(crate) fn cleared<'p>(
        &self,
        order: &Order,
        plan: &'p Plan,
        hasher: &Hasher,
    ) -> Vec<(&'p Planned, u128)> {
        let Some(name) = order.clears() else {
            return Vec::new();
        };
        let in_force = InForce {
            policy: plan.policy(),
            orders: &self.orders,
            now: order.at,
        };
        let series: Vec<Series<'_>> = in_force.series_named(name, &order.subject).collect();
        let (_, subject) = hasher.subject(&order.subject);
        let counted = plan.limits().iter().filter(|planned| {
            let limit = &planned.limit;
            planned.counts_requests
                && limit.pattern.accepts(&order.subject)
                && (limit.name == name || series.contains(&Series::of(limit)))
        });
        let cleared = counted.map(|planned| (planned, subject.wrapping_add(planned.hash)));
        cleared.collect()
    }

    /// The orders that clear, and stand at `now`.
    pub(crate) fn clearing(&self, now: Timestamp) -> Vec<Order> {
        let standing = self.orders.iter().filter(|order| !order.has_ended(now));
        let clearing = standing.filter(|order| order.clears().is_some());
        clearing.cloned().collect()
    }

    /// Forgets the order of this key; `None` where there is none.
    pub(crate) fn end(&mut self, key: &OrderKey, plan: &Plan, hasher: &Hasher) -> Option<Ordered> {
        self.orders.end(key, i64::MAX)?;
        let (_, subject) = hasher.subject(&key.subject);
        match &key.about {
            About::Numbers(limit) => {
                let key = subject.wrapping_add(hasher.name(limit));
                self.ordered.set_ordered(key, None);
            }
            About::Tier => self.ordered.tiers.set(subject, None),
            About::Cleared(_) => {}
        }
        self.count(key, hasher, plan, false);
        Some(self.ordered.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.orders.len()
    }

    /// Counts an order that is new, or gone.
    fn count(&mut self, key: &OrderKey, hasher: &Hasher, plan: &Plan, is_new: bool) {
        let (shape, _) = hasher.subject(&key.subject);
        let limit = match &key.about {
            About::Numbers(limit) => Some(limit.clone()),
            About::Tier => None,
            About::Cleared(_) => return,
        };
        let counted = (limit, Reverse(shape.index()));
        let count = self.counts.entry(counted.clone()).or_default();
        *count = if is_new {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        let (count, is_first) = (*count, is_new && *count == 1);
        if count == 0 {
            self.counts.remove(&counted);
        }
        if count == 0 || is_first {
            self.renew_shapes(plan);
        }
    }

    fn renew_shapes(&mut self, plan: &Plan) {
        let overridden = plan.policy().overrides.iter();
        let overridden: HashSet<&str> = overridden.map(|(_, limit, _)| limit).collect();
        let special = plan.limits().iter().map(|planned| {
            let name = planned.limit.name.as_str();
            let shapes = self.shapes(Some(name));
            let shapes = shapes.filter(|own| planned.shape.begins_with(*own));
            // Its own subjects are the narrowest.
            let own = overridden.contains(name).then_some(planned.shape);
            let wider = shapes.filter(|shape| Some(*shape) != own);
            own.into_iter().chain(wider).collect()
        });
        let special = Arc::new(special.collect());
        let tiers = Arc::new(self.shapes(None).collect());
        self.ordered.special_shapes = special;
        self.ordered.tier_shapes = tiers;
    }

    /// The forms of the subjects that there are orders on, narrowest first.
    fn shapes<'a>(&'a self, limit: Option<&'a str>) -> impl Iterator<Item = Shape> + 'a {
        let here = self
            .counts
            .keys()
            .filter(move |(own, _)| own.as_deref() == limit);
        here.map(|(_, Reverse(shape))| Shape::from_index(*shape))
    }
}

impl Ordered {
    fn set(&mut self, order: &Order, plan: &Plan, hasher: &Hasher) {
        let (shape, subject) = hasher.subject(&order.subject);
        let until = order.until;
        match &order.change {
            Change::Cleared { .. } => {}
            Change::Tier(tier) => {
                let tier = Arc::from(tier.as_str());
                self.tiers.set(subject, Some(Tiered { until, tier }));
            }
            Change::Numbers { limit, numbers } => {
                let places = plan.limits().iter().enumerate().filter(|(_, planned)| {
                    planned.limit.name == *limit && planned.shape.begins_with(shape)
                });
                let planned = places.map(|(place, planned)| {
                    let overridden = plan.policy().overridden(&planned.limit, &order.subject);
                    let limit = match overridden {
                        Some(overridden) => numbers.on(&overridden.numbers.on(&planned.limit)),
                        None => numbers.on(&planned.limit),
                    };
                    (place, planned.with(limit))
                });
                let planned = planned.collect();
                let key = subject.wrapping_add(hasher.name(limit));
                self.set_ordered(key, Some((until, planned)));
            }
        }
    }

    fn set_ordered(&mut self, key: u128, ordered: Option<(Option<Timestamp>, Changed)>) {
        let known = self.specials.get(key).cloned().unwrap_or_default();
        let special = Special { ordered, ..known };
        let says_anything = special.ordered.is_some() || special.overridden.is_some();
        self.specials.set(key, says_anything.then_some(special));
    }

    /// Takes what the policy itself says of a limit for one subject.
    fn set_overridden(&mut self, (subject, limit): (&Subject, &str), plan: &Plan, hasher: &Hasher) {
        let named = plan.limits().iter().enumerate();
        let named = named.filter(|(_, planned)| planned.limit.name == limit);
        let changed = named.filter_map(|(place, planned)| {
            let overridden = plan.policy().overridden(&planned.limit, subject)?;
            let limit = overridden.numbers.on(&planned.limit);
            Some((place, planned.with(limit)))
        });
        let (_, hash) = hasher.subject(subject);
        let key = hash.wrapping_add(hasher.name(limit));
        let special = Special {
            ordered: None,
            overridden: Some(changed.collect()),
        };
        self.specials.set(key, Some(special));
    }
}
