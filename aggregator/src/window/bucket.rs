//! A bucket that drains at a steady rate. The level is kept in whole units so small that draining for a microsecond
//! is a whole number of them: one of the meter is `seconds * 1,000,000` units, and `amount` units drain a microsecond.
//!
//! An amount behind the head is added in full at the head, as though it had just come: a bucket keeps no history to
//! put it into, and a level that is too high for a moment admits nothing that it should not.

use schemas::policy::Window;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::sum::Sum;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    head: Timestamp,
    /// Units in the bucket at the head.
    units: Sum,
}

/// Units of one of the meter, and units that drain in a microsecond.
#[derive(Clone, Copy)]
struct Rate {
    scale: i128,
    drain: i128,
}

impl Rate {
    fn of(window: Window) -> Self {
        match window {
            Window::Bucket {
                amount, seconds, ..
            } => Self {
                scale: i128::from(seconds) * 1_000_000,
                drain: i128::from(amount),
            },
            _ => unreachable!("a bucket's state read as {window}"),
        }
    }
}

impl Bucket {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            head: at,
            units: Sum::default(),
        }
    }

    /// The level in whole numbers of the meter, rounded up: at a threshold exactly while one more would not fit below
    /// it, which is when a gateway that counts for itself refuses.
    pub(super) fn level(&self, window: Window) -> i128 {
        ceil(self.units.get(), Rate::of(window).scale)
    }

    pub(super) fn advance(&mut self, window: Window, to: Timestamp) {
        if self.head < to {
            let micros = to.as_micros().saturating_sub(self.head.as_micros());
            let drained = Rate::of(window).drain.saturating_mul(i128::from(micros));
            self.units = self.units.get().saturating_sub(drained).max(0).into();
            self.head = to;
        }
    }

    pub(super) fn add(&mut self, window: Window, amount: i128) {
        let units = amount.saturating_mul(Rate::of(window).scale);
        self.units = self.units.get().saturating_add(units).into();
    }

    pub(super) fn falls_below(
        &self,
        window: Window,
        threshold: i128,
        by: Timestamp,
    ) -> Option<Timestamp> {
        let rate = Rate::of(window);
        let fits = threshold.saturating_sub(1).saturating_mul(rate.scale);
        let at = self.after(ceil(self.units.get().saturating_sub(fits), rate.drain));
        (at <= by).then_some(at)
    }

    pub(super) fn forgettable_from(&self, window: Window) -> Timestamp {
        self.after(ceil(self.units.get(), Rate::of(window).drain))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.get() == 0
    }

    pub(super) fn clear(&mut self) {
        self.units = Sum::default();
    }

    /// So many microseconds after the head.
    fn after(&self, micros: i128) -> Timestamp {
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.head.as_micros().saturating_add(micros))
    }
}

/// `a / b` rounded up; `b` is above zero.
fn ceil(a: i128, b: i128) -> i128 {
    a.div_euclid(b) + i128::from(a.rem_euclid(b) != 0)
}
