//! Orders that clear: what was counted of a limit for one subject counts no more.
//!
//! Limits that look at the same sums ([`Series`]) are cleared together. What comes after the order in the log counts,
//! also where it happened before. The order stands as long as anything from before it might be counted by somebody who
//! reads the past back, and then ends by itself.

use std::time::Duration;

use chrono_tz::Tz;

use super::{Change, InForce, Order};
use crate::calendar;
use crate::policy::{Limit, Meter, Window};
use crate::subject::{Pattern, Subject};
use crate::time::Timestamp;

/// So much longer than what was counted can count: clocks differ, and the past may be read late.
const SLACK: Duration = Duration::from_secs(3_600);

/// Until when what was counted of `limit` by `at` may count; `None` where that never ends.
#[must_use]
pub fn counts_until(limit: &Limit, zone: Tz, at: Timestamp) -> Option<Timestamp> {
    let ends = match limit.window {
        Window::Sliding { seconds } => {
            let slice = limit.window.slice_seconds().unwrap_or(1);
            at.plus(Duration::from_secs(u64::from(seconds) + u64::from(slice)))
        }
        Window::Bucket {
            amount,
            seconds,
            burst,
        } => {
            // What is counted after the fact may fill it beyond its burst.
            let full = burst.saturating_mul(seconds.into()) / amount.max(1);
            at.plus(Duration::from_secs(full.saturating_mul(2)))
        }
        Window::Calendar(period) => calendar::bounds(period, zone, at).1,
        // Of what is in flight nothing is counted.
        Window::Wallet | Window::Concurrent => return None,
    };
    Some(ends.plus(SLACK))
}

/// What limits that look at the same sums have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series<'a> {
    pattern: &'a Pattern,
    meter: &'a Meter,
    window: Window,
}

impl<'a> Series<'a> {
    #[must_use]
    pub const fn of(limit: &'a Limit) -> Self {
        Self {
            pattern: &limit.pattern,
            meter: &limit.meter,
            window: limit.window,
        }
    }
}

impl<'a> InForce<'a> {
    /// What the limits of this name that are counted for `subject` itself look at.
    pub fn series_named<'s>(
        &self,
        limit: &'s str,
        subject: &'s Subject,
    ) -> impl Iterator<Item = Series<'a>> + use<'a, 's> {
        let tier = self.tier(subject);
        let named = self.policy.limits.iter().filter(move |l| l.name == limit);
        let here = named.filter(move |l| l.holds_in(tier) && l.pattern.accepts(subject));
        here.map(Series::of)
    }

    /// The newest order that has cleared what `limit` looks at for `subject`.
    #[must_use]
    pub fn cleared(&self, limit: &Limit, subject: &Subject) -> Option<&'a Order> {
        let on_subject = self.orders.by_subject.get(subject)?;
        let stands = on_subject.cleared.iter();
        let stands = stands.filter(|(_, order)| !order.has_ended(self.now));
        let same = stands.filter(|(named, _)| {
            let mut series = self.series_named(named, subject);
            series.any(|series| series == Series::of(limit))
        });
        same.map(|(_, order)| order).max_by_key(|order| order.seq)
    }
}

impl Order {
    /// The limit that it clears.
    #[must_use]
    pub fn clears(&self) -> Option<&str> {
        match &self.change {
            Change::Cleared { limit, .. } => Some(limit),
            Change::Numbers { .. } | Change::Tier(_) => None,
        }
    }
}
