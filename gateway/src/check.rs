//! One request, one answer: the decisions that stand for it and the gateway's own windows, merged.
//!
//! The most severe refusal rules, and of equals the one that lasts longest. A request is counted only when nothing
//! refuses it. While the view is stale (the log is lost, or was never read to its end) each limit is treated as it
//! chose: obeyed as last known, left open, or closed.

mod answer;
mod freshness;
mod shares;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use chrono_tz::Tz;
use parking_lot::Mutex;
use schemas::orders::{Order, OrderKey};
use schemas::policy::{Mode, Policy, Stale, Window};
use schemas::subject::{Identity, Subject};
use schemas::time::Timestamp;

pub use answer::{Answer, CauseOf, LimitOf, Why, seconds_until};
pub use freshness::{Feed, Freshness};
use shares::Asking;
pub(crate) use shares::Wanting;

use crate::cache::{self, Applied, Cache, Cause, Shapes, Standing};
use crate::hash::{Hasher, Hashes};
use crate::orders::{Book, Ordered};
use crate::plan::{Plan, Planned};
use crate::request::Request;
use crate::share::members::Split;
use crate::window::{self, Intent, Item, Tally, Windows};

/// Everything that a gateway knows. Shared by all threads; no call waits for another longer than a lookup.
pub struct Gate {
    hasher: Hasher,
    known: ArcSwap<Known>,
    book: Mutex<Book>,
    cache: Cache,
    asking: Asking,
    pub windows: Windows,
    pub freshness: Freshness,
}

/// What changes seldom, and together.
#[derive(Clone, Default)]
struct Known {
    plan: Arc<Plan>,
    ordered: Ordered,
    shapes: Shapes,
    shapes_version: u64,
    /// How gateways share limits; `None` where there is only one.
    split: Option<Arc<Split>>,
}

/// What a judgement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The request is made now.
    Check,
    /// Room is to be held for it; it counts when it is committed.
    Reserve,
}

/// What the ledger said of a request's limits in mode `strict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What the items of the answer say: it fits, or not.
    Fits,
    /// It fits, and is spent.
    Counts,
    /// It does not answer.
    Nothing,
}

/// What holds at one moment; an [`Answer`] refers to it.
pub struct View {
    known: Guard<Arc<Known>>,
    stale: Option<Duration>,
}

impl View {
    #[must_use]
    pub fn policy_version(&self) -> u64 {
        self.policy().version
    }

    pub(crate) fn policy(&self) -> &Policy {
        self.known.plan.policy()
    }
}

// === impl Gate ===

impl Gate {
    /// `seed` is to be random and to stay secret; `windows_bytes_max` bounds the memory of the own windows.
    #[must_use]
    pub fn new(seed: [u64; 2], windows_bytes_max: usize, freshness: Freshness) -> Self {
        Self {
            hasher: Hasher::new(seed),
            known: ArcSwap::default(),
            book: Mutex::default(),
            cache: Cache::default(),
            asking: Asking::default(),
            windows: Windows::new(windows_bytes_max),
            freshness,
        }
    }

    #[must_use]
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// From here on `policy` holds. Counters of limits that keep name, meter and window keep their counts.
    pub fn set_policy(&self, policy: Policy) {
        let plan = Arc::new(Plan::new(policy, &self.hasher));
        let mut book = self.book.lock();
        let ordered = book.plan(&plan, &self.hasher);
        self.known.rcu(|known| Known {
            plan: Arc::clone(&plan),
            ordered: ordered.clone(),
            ..Known::clone(known)
        });
    }

    /// From here on `order` holds, unless a newer one does. Counters keep their counts, but for those that it clears: they
    /// begin anew, once. Says whether it is news.
    pub fn put_order(&self, order: Order) -> bool {
        let mut book = self.book.lock();
        let plan = Arc::clone(&self.known.load().plan);
        let cleared = book.cleared(&order, &plan, &self.hasher);
        let ordered = book.put(order, &plan, &self.hasher);
        let is_news = ordered.is_some();
        // What stood before this gateway was speaks of nothing that it has counted.
        if is_news && self.freshness.was_read(Feed::Policies) {
            cleared.iter().for_each(|(_, key)| self.windows.clear(*key));
        }
        self.set_ordered(ordered);
        is_news
    }

    /// The counters that `order` clears, with their limits.
    pub(crate) fn cleared(&self, order: &Order) -> Vec<(Planned, u128)> {
        let plan = Arc::clone(&self.known.load().plan);
        let cleared = self.book.lock().cleared(order, &plan, &self.hasher);
        let cleared = cleared.into_iter();
        cleared
            .map(|(planned, key)| (planned.clone(), key))
            .collect()
    }

    /// The orders that clear, and stand at `now`.
    pub(crate) fn clearing(&self, now: Timestamp) -> Vec<Order> {
        self.book.lock().clearing(now)
    }

    /// The order of this key holds no more.
    pub fn end_order(&self, key: &OrderKey) {
        let mut book = self.book.lock();
        let plan = Arc::clone(&self.known.load().plan);
        let ordered = book.end(key, &plan, &self.hasher);
        self.set_ordered(ordered);
    }

    /// Orders that stand.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.book.lock().len()
    }

    fn set_ordered(&self, ordered: Option<Ordered>) {
        if let Some(ordered) = ordered {
            self.known.rcu(|known| Known {
                ordered: ordered.clone(),
                ..Known::clone(known)
            });
        }
    }

    /// Takes a decision in, unless a newer one stands.
    pub fn put(&self, standing: Standing, offset: i64, now: Timestamp) -> Applied {
        let applied = self.cache.put(&self.hasher, standing, offset, now);
        self.renew_shapes();
        applied
    }

    /// Forgets what stands for `subject`, if that is older than `offset`.
    pub fn lift(&self, subject: &Subject, offset: i64) -> Applied {
        let applied = self.cache.lift(&self.hasher, subject, offset);
        self.renew_shapes();
        applied
    }

    /// Forgets decisions that have ended, and counters that hold nothing, in one part of each table.
    pub fn sweep(&self, part: usize, now: Timestamp) {
        self.cache.sweep(part % cache::SHARDS, now);
        self.windows.sweep(part % window::SHARDS, now);
        self.renew_shapes();
    }

    /// What stands for `subject` itself.
    #[must_use]
    pub fn standing(&self, subject: &Subject, now: Timestamp) -> Option<Arc<Standing>> {
        self.cache.get(&self.hasher, subject, now)
    }

    #[must_use]
    pub fn decisions(&self) -> &Cache {
        &self.cache
    }

    #[must_use]
    pub fn view(&self, now: Timestamp) -> View {
        View {
            known: self.known.load(),
            stale: self.freshness.stale_for(now),
        }
    }

    fn renew_shapes(&self) {
        if self.known.load().shapes_version == self.cache.shapes_version() {
            return;
        }
        self.known.rcu(|known| {
            // Read first: should the shapes change in between, they are renewed once more.
            let shapes_version = self.cache.shapes_version();
            Known {
                shapes: self.cache.shapes(),
                shapes_version,
                ..Known::clone(known)
            }
        });
    }

    /// Judges `request`, and counts it if it is admitted and uses anything. Without a ledger: limits in mode `strict`
    /// refuse. [`Gate::judge`] is for those who have one.
    pub fn check<'v>(&self, view: &'v View, request: &Request<'_>, now: Timestamp) -> Answer<'v> {
        let mut answer = self.judge(view, request, now, Purpose::Check);
        if !answer.strict.is_empty() {
            self.conclude(&mut answer, Told::Nothing, now);
        }
        answer
    }

    /// Judges `request` by all but its limits in mode `strict`. Where there are none, and for a check, that is all and
    /// the request is counted; else [`Gate::conclude`] ends it with what their ledger says.
    pub fn judge<'v>(
        &self,
        view: &'v View,
        request: &Request<'_>,
        now: Timestamp,
        purpose: Purpose,
    ) -> Answer<'v> {
        let mut answer = self.gather(view, request, now);
        let whole = answer.strict.is_empty() && purpose == Purpose::Check;
        self.take(&mut answer, request, now, whole);
        if whole && !answer.charged {
            answer.settle(now);
        }
        answer
    }

    /// As [`Gate::check`], for a request that takes nothing of its limits in mode `strict`: they only look, and `tell`
    /// fills in what their ledger says.
    pub(crate) fn pass<'v>(
        &self,
        view: &'v View,
        request: &Request<'_>,
        now: Timestamp,
        tell: impl FnOnce(&mut Answer<'v>),
    ) -> Answer<'v> {
        let mut answer = self.gather(view, request, now);
        tell(&mut answer);
        let has_room = answer.strict_has_room();
        self.take(&mut answer, request, now, has_room);
        answer.settle(now);
        answer
    }

    /// What stands for `request`, and the limits that it falls under.
    fn gather<'v>(&self, view: &'v View, request: &Request<'_>, now: Timestamp) -> Answer<'v> {
        let Known {
            plan,
            ordered,
            shapes,
            split,
            ..
        } = &**view.known;
        let wanted = plan.dimensions.with(shapes.dimensions);
        let hashes = self.hasher.identity(&request.identity, wanted);
        let mut answer = Answer::new(view.stale);
        let mut stand = |standing: Arc<Standing>| {
            let obeyed = self.obeyed(view, &standing, now);
            answer.stand(standing, obeyed);
        };
        self.cache.find(shapes, &hashes, now, &mut stand);
        if shapes.have_sets() {
            let is_in = |set| plan.is_in(set, &request.identity);
            self.cache
                .find_in_sets(shapes, (&hashes, is_in), now, stand);
        }
        let moment = (view.stale.is_some(), now);
        sort_out((plan, ordered), moment, request, &hashes, &mut answer);
        if let Some(split) = split {
            shares::divide(split, &mut answer.counted, now);
        }
        answer
    }

    /// Looks at the own windows, and counts the request there if it is to be counted and nothing refuses it.
    fn take(&self, answer: &mut Answer<'_>, request: &Request<'_>, now: Timestamp, counts: bool) {
        let intent = if answer.is_refused() || request.consume.is_empty() || !counts {
            Intent::Look
        } else {
            Intent::Charge
        };
        let admitted = self.windows.take(&mut answer.counted, now, intent);
        self.asking.note(&answer.counted, &request.identity);
        answer.charged = admitted && intent == Intent::Charge;
    }

    /// Ends a judgement by what the ledger said of its strict limits. What they admitted is counted under all others
    /// as well, also where others have filled one meanwhile.
    pub fn conclude(&self, answer: &mut Answer<'_>, told: Told, now: Timestamp) {
        match told {
            Told::Fits => {}
            Told::Counts => {
                answer.strict_fit();
                self.charge(answer, now);
            }
            Told::Nothing => answer.close_strict(),
        }
        answer.settle(now);
    }

    /// Counts the request under its limits, whatever they say: it was admitted, or has happened.
    pub fn charge(&self, answer: &mut Answer<'_>, now: Timestamp) {
        for item in &mut answer.counted {
            item.refuses = false;
        }
        self.windows.take(&mut answer.counted, now, Intent::Charge);
        answer.charged = true;
    }

    /// Whether any limit is in mode `strict`.
    #[must_use]
    pub fn has_strict(&self, view: &View) -> bool {
        view.known.plan.has_strict()
    }

    /// The earliest moment of which something may count at `now` under any limit in mode `strict`; `None` where nothing
    /// that was spent does.
    #[must_use]
    pub fn strict_reaches_to(&self, view: &View, now: Timestamp) -> Option<Timestamp> {
        let plan = &view.known.plan;
        plan.strict()
            .filter_map(|planned| planned.rule.reaches_to(Tz::UTC, now))
            .min()
    }

    /// What `request` adds to its limits in mode `strict`, and nothing else of it.
    pub fn strict_of<'v>(
        &self,
        view: &'v View,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Answer<'v> {
        let Known { plan, ordered, .. } = &**view.known;
        let hashes = self.hasher.identity(&request.identity, plan.dimensions);
        let mut answer = Answer::new(None);
        sort_out((plan, ordered), (false, now), request, &hashes, &mut answer);
        answer
    }

    /// Whether a decision is obeyed: always, unless what is known of it is stale and each limit behind its refusal
    /// would rather stay open then.
    fn obeyed(&self, view: &View, standing: &Standing, now: Timestamp) -> Obeyed {
        let overdue = standing.overdue(now);
        let stale = view.stale.or(overdue);
        let open = |cause: &Cause| {
            let limit = view.policy().limit_on(&standing.subject, &cause.limit);
            limit.is_some_and(|limit| limit.stale == Stale::Open)
        };
        let mut refusing = standing
            .causes
            .iter()
            .filter(|cause| cause.verdict.refuses() && cause.mode.refuses())
            .peekable();
        let any = refusing.peek().is_some();
        let left_open = stale.is_some() && any && refusing.all(open);
        Obeyed {
            refuses: standing.verdict.refuses() && !left_open,
            overdue,
        }
    }
}

/// The limits that `request` falls under, each with what it adds there.
fn sort_out<'v>(
    (plan, ordered): (&'v Plan, &'v Ordered),
    (stale, now): (bool, Timestamp),
    request: &Request<'_>,
    hashes: &Hashes,
    answer: &mut Answer<'v>,
) {
    let only_looks = request.consume.is_empty();
    let limits = plan.limits_of(&request.identity, request.tier, hashes, (ordered, now));
    for (planned, subject) in limits {
        let strict = planned.limit.mode == Mode::Strict;
        if stale && planned.limit.stale == Stale::Closed {
            answer.close(planned);
        }
        let amount = request.consume.amount(&planned.limit.meter);
        let amount = amount.or(only_looks.then_some(0));
        if let Some(amount) = amount.filter(|_| planned.counts_requests) {
            let item = Item {
                key: subject.wrapping_add(planned.hash),
                limit: planned,
                amount,
                refuses: planned.limit.mode.refuses(),
                zone: zone(plan, planned, &request.identity),
                full: false,
                tally: Tally::default(),
                share: None,
            };
            if strict {
                answer.strict.push(item);
            } else {
                answer.counted.push(item);
            }
        }
    }
}

/// The time zone that calendar windows go by; others do without.
fn zone(plan: &Plan, planned: &Planned, identity: &Identity<'_>) -> Tz {
    match planned.limit.window {
        Window::Calendar(_) => plan.policy().zone(identity.tenant),
        _ => Tz::UTC,
    }
}

/// How a standing decision is taken.
#[derive(Clone, Copy, Debug)]
struct Obeyed {
    refuses: bool,
    /// For how long its owner has owed a word.
    overdue: Option<Duration>,
}
