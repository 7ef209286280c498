//! Limits that this gateway shares with others.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemas::subject::Identity;
use schemas::time::Timestamp;

use super::{Gate, Known};
use crate::plan::Planned;
use crate::share::lease::Account;
use crate::share::members::Split;
use crate::window::{Item, Part, Place};

/// Accounts that wait to be asked for. Beyond that they wait for their next request.
const WANTING_MAX: usize = 4_096;

/// More is wanted of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanting {
    pub(crate) account: Account,
    pub(crate) units: u64,
}

/// What the other gateways are to be asked for. Checks leave it here.
#[derive(Default)]
pub(super) struct Asking(Mutex<Vec<Wanting>>);

impl Asking {
    /// Leaves what `items` ask for.
    pub(super) fn note(&self, items: &[Item<'_, Planned>], identity: &Identity<'_>) {
        for item in items {
            let Some(units) = item.share.and_then(|share| share.asks) else {
                continue;
            };
            let limit = &item.limit.limit;
            let Some(subject) = limit.pattern.subject_of(identity) else {
                continue;
            };
            let account = Account {
                limit: limit.name.clone(),
                subject,
            };
            let mut wanting = self.0.lock();
            if wanting.len() < WANTING_MAX {
                wanting.push(Wanting { account, units });
            }
        }
    }
}

/// Gives each of `items` this gateway's part of its number.
pub(super) fn divide(split: &Split, items: &mut [Item<'_, Planned>], now: Timestamp) {
    for item in items {
        item.share = item.limit.span.map(|span| Part {
            base: split.base(hard(item.limit), span, now),
            ..Part::default()
        });
    }
}

fn hard(planned: &Planned) -> u64 {
    u64::try_from(planned.rule.hard()).unwrap_or(u64::MAX)
}

impl Gate {
    /// From here on limits are shared so; `None`: there is nobody to share with.
    pub(crate) fn set_split(&self, split: Option<Split>) {
        let split = split.map(Arc::new);
        self.known.rcu(|known| Known {
            split: split.clone(),
            ..Known::clone(known)
        });
    }

    /// What the others are to be asked for since this was last called.
    pub(crate) fn wanting(&self) -> Vec<Wanting> {
        std::mem::take(&mut *self.asking.0.lock())
    }

    /// Where an account is counted here, and what is this gateway's own part of it. `None` where no such limit holds.
    pub(crate) fn place_of(&self, account: &Account, now: Timestamp) -> Option<Place> {
        let known = self.known.load();
        let Account { limit, subject } = account;
        let held = (&known.ordered, now);
        let (planned, subject) = known.plan.limit_on(subject, limit, &self.hasher, held)?;
        let (span, hard) = (planned.span?, hard(planned));
        let base = match &known.split {
            Some(split) => split.base(hard, span, now),
            None => hard,
        };
        Some(Place {
            key: subject.wrapping_add(planned.hash),
            rule: planned.rule,
            base,
            span,
        })
    }

    /// How long what is admitted may count under any limit that gateways share.
    pub(crate) fn span_max(&self) -> Option<Duration> {
        self.known.load().plan.span_max()
    }
}
