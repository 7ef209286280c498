//! Orders: what commands changed of the limits of single subjects, and for how long. And the one place where it is
//! decided by which numbers a subject is judged.
//!
//! From wide to narrow: a limit as the policy has it for all, the limit of the same name that the tier has instead, an
//! order on the tenant, an order on a key or user of it. The narrowest wins. An order gives a limit other numbers and
//! leaves its counters alone: what was used stays used.
//!
//! An override of the policy is as narrow as the subject that it names, and holds for that one only. An order on the
//! same subject stands above it, and has its numbers where it says none itself.
//!
//! An order on a subject holds for it and for all that lies in it: on `tenant/acme` it holds for `tenant/acme/user/u_9`
//! too, where the limit is counted there. One on `platform` holds for `platform` only.
//!
//! An order that clears a limit gives it no numbers: it says from where on the subject is counted anew (`cleared`).

mod cleared;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::policy::{HARD, Level, Limit, Mode, Override, Policy, Window, part_of, percent_of_name};
use crate::subject::Subject;
use crate::time::Timestamp;

pub use cleared::{Series, counts_until};

/// Other numbers of a limit. What is absent stays as the policy has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub hard: Option<i128>,
    /// Lowest first. Empty: the limit's own; those that are parts of the hard number are taken of the new one.
    pub soft: Vec<Level>,
    pub mode: Option<Mode>,
    /// What was paid into a wallet, beside what it starts with.
    pub paid: Paid,
}

/// What was paid into one wallet: a fold of the entries of the trail, each counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    /// All entries together; below zero where more was taken back than paid.
    pub sum: i128,
    /// The entries that were counted last, oldest first, at most [`PAID_BY_MAX`]: by them one that comes again is
    /// known.
    pub by: Vec<String>,
}

/// How many of the last entries of a wallet are known by their ids: what is read again after a crash is among them. What
/// the log holds twice is kept apart before it comes here, however far one lies from the other.
pub const PAID_BY_MAX: usize = 32;

impl Paid {
    /// With one more entry. `None` where it was counted already.
    #[must_use]
    pub fn with(&self, entry: &str, amount: i128) -> Option<Self> {
        if self.by.iter().any(|known| known == entry) {
            return None;
        }
        let older = (self.by.len() + 1).saturating_sub(PAID_BY_MAX);
        let kept = self.by.iter().skip(older).cloned();
        Some(Self {
            sum: self.sum.saturating_add(amount),
            by: kept.chain([entry.to_owned()]).collect(),
        })
    }

    #[must_use]
    pub fn is_none(&self) -> bool {
        self.by.is_empty()
    }
}

/// What an order changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Numbers {
        limit: String,
        numbers: Numbers,
    },
    Tier(String),
    /// What was counted for the subject before the order's place in the log counts no more; `reason` is who ordered it
    /// gave.
    Cleared {
        limit: String,
        reason: String,
    },
}

/// One order that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The id of the command that gave it.
    pub command: String,
    /// Of two orders of one key the one with the higher number is newer.
    pub seq: i64,
    pub subject: Subject,
    pub at: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    pub change: Change,
}

/// What an order is about: of one key at most one order stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey {
    pub subject: Subject,
    pub about: About,
}

/// What of a subject an order is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    Tier,
    /// The numbers of the limit of this name.
    Numbers(String),
    /// What is counted of the limit of this name.
    Cleared(String),
}

const OVERRIDE: &str = "override/";
const TIER: &str = "tier/";
const CLEARED: &str = "cleared/";

impl OrderKey {
    /// What a record's key in `weir.policies.v1` is about; `None` for one that is no order's.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        // A limit's name has no `#`; a route may have one.
        let of_limit = |key: &str| {
            let (subject, limit) = key.rsplit_once('#')?;
            Some((subject.to_owned(), limit.to_owned()))
        };
        let (subject, about) = if let Some(subject) = key.strip_prefix(TIER) {
            (subject.to_owned(), About::Tier)
        } else if let Some(key) = key.strip_prefix(OVERRIDE) {
            let (subject, limit) = of_limit(key)?;
            (subject, About::Numbers(limit))
        } else {
            let (subject, limit) = of_limit(key.strip_prefix(CLEARED)?)?;
            (subject, About::Cleared(limit))
        };
        let subject = Subject::parse(&subject).ok()?;
        Some(Self { subject, about })
    }
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.about {
            About::Tier => write!(f, "{TIER}{}", self.subject),
            About::Numbers(limit) => write!(f, "{OVERRIDE}{}#{limit}", self.subject),
            About::Cleared(limit) => write!(f, "{CLEARED}{}#{limit}", self.subject),
        }
    }
}

impl Order {
    #[must_use]
    pub fn key(&self) -> OrderKey {
        let about = match &self.change {
            Change::Numbers { limit, .. } => About::Numbers(limit.clone()),
            Change::Tier(_) => About::Tier,
            Change::Cleared { limit, .. } => About::Cleared(limit.clone()),
        };
        OrderKey {
            subject: self.subject.clone(),
            about,
        }
    }

    /// Whether it changes by what its subject is judged, and not only what is counted.
    #[must_use]
    pub fn judges(&self) -> bool {
        self.clears().is_none()
    }

    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Numbers {
    /// `limit` with these numbers. A wallet has only its own number, and what was paid in on top: where that is
    /// nothing, or less, the smallest number there is, so that who has spent anything is refused.
    #[must_use]
    pub fn on(&self, limit: &Limit) -> Limit {
        if limit.window == Window::Wallet {
            return self.in_wallet(limit);
        }
        let hard = self.hard.unwrap_or_else(|| limit.hard());
        let own = match self.soft.as_slice() {
            [] => limit.levels.as_slice(),
            soft => soft,
        };
        let soft = own.iter().filter(|level| level.name != HARD).map(|level| {
            let threshold = match percent_of_name(&level.name) {
                Some(percent) => part_of(hard, percent),
                None => level.threshold,
            };
            let name = level.name.clone();
            Level { name, threshold }
        });
        Limit {
            levels: levels(soft, hard),
            mode: match limit.window {
                // Known only of what is reserved, whatever was ordered when the limit had another window.
                Window::Concurrent => limit.mode,
                _ => self.mode.unwrap_or(limit.mode),
            },
            ..limit.clone()
        }
    }

    /// A soft level of a wallet that is no part of it is an amount that is left, and stays as far from the end.
    fn in_wallet(&self, limit: &Limit) -> Limit {
        let hard = limit.hard().saturating_add(self.paid.sum).max(1);
        let added = hard.saturating_sub(limit.hard());
        let own = limit.levels.iter().filter(|level| level.name != HARD);
        let soft = own.map(|level| Level {
            name: level.name.clone(),
            threshold: match percent_of_name(&level.name) {
                Some(percent) => part_of(hard, percent),
                None => level.threshold.saturating_add(added),
            },
        });
        Limit {
            levels: levels(soft, hard),
            ..limit.clone()
        }
    }
}

/// The levels below `hard`, lowest first, and itself.
fn levels(soft: impl Iterator<Item = Level>, hard: i128) -> Vec<Level> {
    let mut levels: Vec<Level> = soft
        .filter(|l| 0 < l.threshold && l.threshold < hard)
        .collect();
    levels.sort_by_key(|level| level.threshold);
    levels.dedup_by_key(|level| level.threshold);
    levels.push(Level {
        name: HARD.to_owned(),
        threshold: hard,
    });
    levels
}

/// All orders that stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    by_subject: HashMap<Subject, OnSubject>,
    len: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OnSubject {
    tier: Option<Order>,
    /// By limit.
    numbers: BTreeMap<String, Order>,
    cleared: BTreeMap<String, Order>,
}

impl OnSubject {
    fn get(&self, about: &About) -> Option<&Order> {
        match about {
            About::Tier => self.tier.as_ref(),
            About::Numbers(limit) => self.numbers.get(limit),
            About::Cleared(limit) => self.cleared.get(limit),
        }
    }

    fn put(&mut self, about: About, order: Order) {
        match about {
            About::Tier => self.tier = Some(order),
            About::Numbers(limit) => drop(self.numbers.insert(limit, order)),
            About::Cleared(limit) => drop(self.cleared.insert(limit, order)),
        }
    }

    fn take(&mut self, about: &About) -> Option<Order> {
        match about {
            About::Tier => self.tier.take(),
            About::Numbers(limit) => self.numbers.remove(limit),
            About::Cleared(limit) => self.cleared.remove(limit),
        }
    }

    fn judges(&self) -> bool {
        self.tier.is_some() || !self.numbers.is_empty()
    }
}

impl Orders {
    /// Takes an order, unless a newer one of its key stands. False where nothing changes.
    pub fn put(&mut self, order: Order) -> bool {
        let key = order.key();
        let on_subject = self.by_subject.entry(key.subject).or_default();
        let held = on_subject.get(&key.about);
        if held.is_some_and(|held| order.seq < held.seq || *held == order) {
            return false;
        }
        self.len += usize::from(held.is_none());
        on_subject.put(key.about, order);
        true
    }

    /// Ends the order of this key, unless one newer than `seq` stands.
    pub fn end(&mut self, key: &OrderKey, seq: i64) -> Option<Order> {
        let on_subject = self.by_subject.get_mut(&key.subject)?;
        let held = on_subject.get(&key.about)?;
        if seq < held.seq {
            return None;
        }
        let ended = on_subject.take(&key.about);
        if !on_subject.judges() && on_subject.cleared.is_empty() {
            self.by_subject.remove(&key.subject);
        }
        self.len -= 1;
        ended
    }

    #[must_use]
    pub fn get(&self, key: &OrderKey) -> Option<&Order> {
        self.by_subject.get(&key.subject)?.get(&key.about)
    }

    /// Whether `subject` itself has an order by which it is judged.
    #[must_use]
    pub fn judge(&self, subject: &Subject) -> bool {
        let on_subject = self.by_subject.get(subject);
        on_subject.is_some_and(OnSubject::judges)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = &Order> {
        self.by_subject.values().flat_map(|on| {
            on.tier
                .iter()
                .chain(on.numbers.values())
                .chain(on.cleared.values())
        })
    }

    /// The order that holds at `now` for `subject`, about its tier or the numbers of a limit: the narrowest.
    fn narrowest(&self, subject: &Subject, limit: Option<&str>, now: Timestamp) -> Option<&Order> {
        if self.is_empty() {
            return None;
        }
        let mut paths = subject.path_and_above();
        paths.find_map(|path| {
            let on_subject = self.by_subject.get(path)?;
            let order = match limit {
                Some(limit) => on_subject.numbers.get(limit)?,
                None => on_subject.tier.as_ref()?,
            };
            (!order.has_ended(now)).then_some(order)
        })
    }
}

impl FromIterator<Order> for Orders {
    fn from_iter<I: IntoIterator<Item = Order>>(all: I) -> Self {
        let mut orders = Self::default();
        for order in all {
            orders.put(order);
        }
        orders
    }
}

/// What holds at one moment: the policy, and what was ordered since.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    pub policy: &'a Policy,
    pub orders: &'a Orders,
    /// Orders that have ended by then hold no more. [`Timestamp::MIN`] where only the log ends an order.
    pub now: Timestamp,
}

impl<'a> InForce<'a> {
    /// The tier by which the limits of `subject` go: the one ordered for it, or else for its tenant; or else the one
    /// that the policy gives the tenant. `None` also for scopes wider than a tenant.
    #[must_use]
    pub fn tier(&self, subject: &Subject) -> Option<&'a str> {
        let tenant = subject.tenant_id()?;
        let ordered = self.tier_order(subject);
        let ordered = ordered.and_then(|order| match &order.change {
            Change::Tier(tier) => Some(tier.as_str()),
            _ => None,
        });
        ordered.or_else(|| self.policy.tier(&tenant))
    }

    /// The order that put `subject`, or what it lies in, into its tier; `None`: the policy did.
    #[must_use]
    pub fn tier_order(&self, subject: &Subject) -> Option<&'a Order> {
        self.orders.narrowest(subject, None, self.now)
    }

    /// Every limit that is counted for `subject` itself, with the numbers by which it is judged there.
    pub fn limits_on(&self, subject: &Subject) -> impl Iterator<Item = Held<'a>> {
        let tier = self.tier(subject);
        let policy = self.policy;
        let here = policy
            .limits
            .iter()
            .filter(move |limit| limit.holds_in(tier))
            .filter(|limit| limit.pattern.accepts(subject));
        here.map(|limit| self.held(limit, subject))
    }

    /// `limit` as it holds for `subject`. What was paid into a wallet is that subject's alone: nothing that lies in it has
    /// it too.
    #[must_use]
    pub fn held(&self, limit: &'a Limit, subject: &Subject) -> Held<'a> {
        let overridden = self.policy.overridden(limit, subject);
        let order = self.orders.narrowest(subject, Some(&limit.name), self.now);
        let order = order.filter(|order| match limit.window {
            Window::Wallet => order.subject == *subject && limit.pattern.accepts(subject),
            // A wider one is less narrow than the override.
            _ => overridden.is_none() || order.subject == *subject,
        });
        let written = match overridden {
            Some(overridden) => Cow::Owned(overridden.numbers.on(limit)),
            None => Cow::Borrowed(limit),
        };
        let changed = order.and_then(|order| match &order.change {
            Change::Numbers { numbers, .. } => Some(numbers.on(&written)),
            _ => None,
        });
        Held {
            limit: changed.map_or(written, Cow::Owned),
            written: limit,
            overridden,
            order,
        }
    }
}

/// A limit as it holds for one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    pub limit: Cow<'a, Limit>,
    /// As the policy has it, or the tier.
    pub written: &'a Limit,
    /// The override of the policy that gives it other numbers.
    pub overridden: Option<&'a Override>,
    /// The order that its numbers are from; `None`: they are the policy's: the override's, the tier's, or the limit's.
    pub order: Option<&'a Order>,
}

impl Held<'_> {
    /// Whether the subject has it with other numbers than it is written with.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.overridden.is_some() || self.order.is_some()
    }

    /// Of a wallet: what it starts with and all entries together, below zero where more was taken back than that.
    #[must_use]
    pub fn paid_in(&self) -> i128 {
        let entries = match self.order.map(|order| &order.change) {
            Some(Change::Numbers { numbers, .. }) => numbers.paid.sum,
            _ => 0,
        };
        self.written.paid_in().saturating_add(entries)
    }
}

#[cfg(test)]
mod tests;
