//! A calendar's day, week or month in a time zone.

use chrono_tz::Tz;
use schemas::calendar::bounds;
use schemas::policy::Period;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::sum::Sum;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calendar {
    /// The period that counts: from its start, up to but without its end.
    start: Timestamp,
    end: Timestamp,
    head: Timestamp,
    sum: Sum,
}

impl Calendar {
    pub(super) fn new(period: Period, zone: Tz, at: Timestamp) -> Self {
        let (start, end) = bounds(period, zone, at);
        Self {
            start,
            end,
            head: at,
            sum: Sum::default(),
        }
    }

    pub(super) fn sum(&self) -> i128 {
        self.sum.get()
    }

    pub(super) fn ends_at(&self) -> Timestamp {
        self.end
    }

    pub(super) fn advance(&mut self, period: Period, zone: Tz, to: Timestamp) {
        self.head = self.head.max(to);
        if self.end <= self.head {
            (self.start, self.end) = bounds(period, zone, self.head);
            self.sum = Sum::default();
        }
    }

    /// Whether it holds what happened at `at`, to which or beyond which its head has come.
    pub(super) fn holds(&self, at: Timestamp) -> bool {
        self.start <= at
    }

    pub(super) fn add(&mut self, at: Timestamp, amount: i128) {
        if self.holds(at) {
            self.sum = (self.sum.get() + amount).into();
        }
    }

    pub(super) fn clear(&mut self) {
        self.sum = Sum::default();
    }

    pub(super) fn falls_below(&self, by: Timestamp) -> Option<Timestamp> {
        (self.end <= by).then_some(self.end)
    }

    /// What was counted stays; the period is the one around the head in the new zone.
    pub(super) fn change_zone(&mut self, period: Period, zone: Tz) -> bool {
        let end = self.end;
        (self.start, self.end) = bounds(period, zone, self.head);
        end != self.end
    }
}
