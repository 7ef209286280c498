//! Sums over time, as pure values: a window that slides, a bucket that drains, a calendar's period. They know no
//! limits and read no clock; time comes with each call.
//!
//! Each has a *head*: how far it has come. It moves by [`WindowState::advance`] and never goes back. An amount at or
//! behind the head is added where it belongs, or not at all when the window has left that place.

mod bucket;
mod calendar;
mod packed;
mod sliding;
mod sum;

use chrono_tz::Tz;
use schemas::policy::Window;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use bucket::Bucket;
use calendar::Calendar;
use sliding::Sliding;

/// What a window's state is read with; the state itself does not repeat it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) window: Window,
    /// Where a calendar's days begin.
    pub(crate) zone: Tz,
}

/// One window's state. Every call on one state takes the same [`Window`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WindowState {
    Sliding(Sliding),
    Bucket(Bucket),
    Calendar(Calendar),
}

impl WindowState {
    /// An empty window whose head is at `at`.
    pub(crate) fn new(terms: Terms, at: Timestamp) -> Self {
        match terms.window {
            Window::Sliding { .. } => Self::Sliding(Sliding::new(terms.window, at)),
            Window::Bucket { .. } => Self::Bucket(Bucket::new(at)),
            Window::Calendar(period) => Self::Calendar(Calendar::new(period, terms.zone, at)),
        }
    }

    /// What is in the window at its head.
    pub(crate) fn sum(&self, terms: Terms) -> i128 {
        match self {
            Self::Sliding(sliding) => sliding.sum(),
            Self::Bucket(bucket) => bucket.level(terms.window),
            Self::Calendar(calendar) => calendar.sum(),
        }
    }

    /// What is in the window at `by`, or at its head where that is later, if nothing more comes.
    pub(crate) fn sum_by(&self, terms: Terms, by: Timestamp) -> i128 {
        let mut then = self.clone();
        then.advance(terms, by);
        then.sum(terms)
    }

    /// Moves the head to `to`, and lets go of what has left the window by then. Nothing when `to` is behind it.
    pub(crate) fn advance(&mut self, terms: Terms, to: Timestamp) {
        match (self, terms.window) {
            (Self::Calendar(calendar), Window::Calendar(period)) => {
                calendar.advance(period, terms.zone, to);
            }
            (Self::Sliding(sliding), window) => sliding.advance(window, to),
            (Self::Bucket(bucket), window) => bucket.advance(window, to),
            (Self::Calendar(_), window) => unreachable!("a calendar's state read as {window}"),
        }
    }

    /// Adds `amount`, which happened at `at`, and says whether the window still holds that place. The head must
    /// have been moved there first.
    pub(crate) fn add(&mut self, terms: Terms, at: Timestamp, amount: i128) -> bool {
        debug_assert!(0 <= amount, "an amount is never below zero, not {amount}");
        match self {
            Self::Sliding(sliding) => sliding.add(terms.window, at, amount),
            Self::Bucket(bucket) => {
                bucket.add(terms.window, amount);
                true
            }
            Self::Calendar(calendar) => calendar.add(at, amount),
        }
    }

    /// When the sum, which is at least `threshold` now, falls below it if nothing more comes; `None` when that is
    /// after `by`.
    pub(crate) fn falls_below(
        &self,
        terms: Terms,
        threshold: i128,
        by: Timestamp,
    ) -> Option<Timestamp> {
        debug_assert!(0 < threshold, "nothing falls below {threshold}");
        debug_assert!(threshold <= self.sum(terms), "it is below already");
        match self {
            Self::Sliding(sliding) => sliding.falls_below(terms.window, threshold, by),
            Self::Bucket(bucket) => bucket.falls_below(terms.window, threshold, by),
            Self::Calendar(calendar) => calendar.falls_below(by),
        }
    }

    /// Bytes that it takes beside itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Sliding(sliding) => sliding.heap_bytes(),
            Self::Bucket(_) | Self::Calendar(_) => 0,
        }
    }

    /// From when on it makes no difference whether this state is kept, or made anew by the next amount.
    pub(crate) fn forgettable_from(&self, terms: Terms) -> Timestamp {
        match self {
            Self::Sliding(sliding) => sliding.forgettable_from(terms.window),
            Self::Bucket(bucket) => bucket.forgettable_from(terms.window),
            Self::Calendar(calendar) => calendar.ends_at(),
        }
    }

    /// Takes note of the time zone, which may be another one now: a calendar's period ends where it does there. Says
    /// whether that is another moment than before.
    pub(crate) fn change_zone(&mut self, terms: Terms) -> bool {
        match (self, terms.window) {
            (Self::Calendar(calendar), Window::Calendar(period)) => {
                calendar.change_zone(period, terms.zone)
            }
            _ => false,
        }
    }
}
