//! One request, one answer: the decisions that stand for it and the gateway's own windows, merged.
//!
//! The most severe refusal rules, and of equals the one that lasts longest. A request is counted only when nothing
//! refuses it. While the view is stale (the log is lost, or was never read to its end) each limit is treated as it
//! chose: obeyed as last known, left open, or closed.

mod answer;
mod freshness;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use chrono_tz::Tz;
use schemas::policy::{Mode, Policy, Stale, Window};
use schemas::subject::Identity;
use schemas::time::Timestamp;
use smallvec::SmallVec;

pub use answer::{Answer, CauseOf, LimitOf, Why, seconds_until};
pub use freshness::{Feed, Freshness};

use crate::cache::{Cache, Cause, Shapes, Standing};
use crate::hash::Hasher;
use crate::plan::{Plan, Planned};
use crate::request::Request;
use crate::window::{Intent, Item, Tally, Windows};

/// Everything that a gateway knows. Shared by all threads; no call waits for another longer than a lookup.
pub struct Gate {
    hasher: Hasher,
    plan: ArcSwap<Plan>,
    pub cache: Cache,
    pub windows: Windows,
    pub freshness: Freshness,
}

/// What holds at one moment; an [`Answer`] refers to it.
pub struct View {
    plan: Guard<Arc<Plan>>,
    shapes: Guard<Arc<Shapes>>,
    stale: Option<Duration>,
}

impl View {
    #[must_use]
    pub fn policy_version(&self) -> u64 {
        self.plan.policy().version
    }
}

// === impl Gate ===

impl Gate {
    /// `seed` is to be random and to stay secret; `windows_bytes_max` bounds the memory of the own windows.
    #[must_use]
    pub fn new(seed: [u64; 2], windows_bytes_max: usize, freshness: Freshness) -> Self {
        Self {
            hasher: Hasher::new(seed),
            plan: ArcSwap::default(),
            cache: Cache::default(),
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
        self.plan.store(Arc::new(Plan::new(policy, &self.hasher)));
    }

    #[must_use]
    pub fn view(&self, now: Timestamp) -> View {
        View {
            plan: self.plan.load(),
            shapes: self.cache.shapes(),
            stale: self.freshness.stale_for(now),
        }
    }

    /// Judges `request`, and counts it if it is admitted and uses anything.
    pub fn check<'v>(&self, view: &'v View, request: &Request<'_>, now: Timestamp) -> Answer<'v> {
        let plan: &'v Plan = &view.plan;
        let wanted = plan.dimensions.with(view.shapes.dimensions);
        let hashes = self.hasher.identity(&request.identity, wanted);
        let mut answer = Answer::new(view.stale);
        self.cache.find(&view.shapes, &hashes, now, |standing| {
            answer.stand(standing, self.obeyed(view, standing, now));
        });
        let only_looks = request.consume.is_empty();
        let mut limits: SmallVec<[&Planned; 4]> = SmallVec::new();
        let mut items: SmallVec<[Item<'_>; 4]> = SmallVec::new();
        for planned in plan.limits_of(&request.identity, request.tier) {
            if view.stale.is_some() && planned.limit.stale == Stale::Closed {
                answer.close(planned);
            }
            let amount = request.consume.amount(&planned.limit.meter);
            let amount = amount.or(only_looks.then_some(0));
            let amount = amount.filter(|_| planned.counts_requests);
            if let (Some(amount), Some(subject)) = (amount, hashes.subject(planned.shape)) {
                limits.push(planned);
                items.push(self.item(plan, planned, subject, (amount, request.identity)));
            }
        }
        let refused = answer.is_refused();
        let intent = if refused || only_looks {
            Intent::Look
        } else {
            Intent::Charge
        };
        let admitted = self.windows.take(&mut items, now, intent);
        answer.charged = admitted && intent == Intent::Charge;
        for (planned, item) in limits.into_iter().zip(items) {
            answer.count(planned, &item);
        }
        answer.settle(now);
        answer
    }

    fn item<'p>(
        &self,
        plan: &'p Plan,
        planned: &'p Planned,
        subject: u128,
        (amount, identity): (u64, Identity<'_>),
    ) -> Item<'p> {
        Item {
            key: subject.wrapping_add(planned.hash),
            rule: &planned.rule,
            amount,
            refuses: planned.limit.mode == Mode::Block,
            zone: match planned.limit.window {
                Window::Calendar(_) => plan.policy().zone(identity.tenant),
                _ => Tz::UTC,
            },
            full: false,
            tally: Tally::default(),
        }
    }

    /// Whether a decision is obeyed: always, unless what is known of it is stale and each limit behind its refusal
    /// would rather stay open then.
    fn obeyed(&self, view: &View, standing: &Standing, now: Timestamp) -> Obeyed {
        let overdue = standing.overdue(now);
        let stale = view.stale.or(overdue);
        let open = |cause: &Cause| {
            let mut limits = view.plan.policy().limits_on(&standing.subject);
            let limit = limits.find(|limit| limit.name == cause.limit);
            limit.is_some_and(|limit| limit.stale == Stale::Open)
        };
        let mut refusing = standing
            .causes
            .iter()
            .filter(|cause| cause.verdict.refuses() && cause.mode == Mode::Block)
            .peekable();
        let any = refusing.peek().is_some();
        let left_open = stale.is_some() && any && refusing.all(open);
        Obeyed {
            refuses: standing.verdict.refuses() && !left_open,
            overdue,
        }
    }
}

/// How a standing decision is taken.
#[derive(Clone, Copy, Debug)]
struct Obeyed {
    refuses: bool,
    /// For how long its owner has owed a word.
    overdue: Option<Duration>,
}
