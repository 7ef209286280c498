//! A limit's window and number, ready to count by.

use chrono_tz::Tz;
use schemas::calendar;
use schemas::policy::{Period, Window};
use schemas::time::Timestamp;

use super::slices::Run;

const MICROS_PER_SECOND: u64 = 1_000_000;

/// A window with the number from which on it is full, ready to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) hard: u128,
    pub(super) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Sliding(Sliding),
    Bucket(Bucket),
    Calendar(Period),
    /// A wallet's: all that was ever taken.
    Ever,
    /// What is in flight: nothing that was taken counts.
    InFlight,
}

/// The slice of now and `slices` before it count: the oldest in full, so that no span of the window's length ever
/// holds more than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sliding {
    slice_seconds: i64,
    pub(super) slices: i64,
}

/// Drains `drain` units every microsecond; one admission is `unit` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    drain: u128,
    unit: u128,
}

/// A rule's window, for those who count by it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// The slice of now and so many before it count.
    Sliding {
        slice_micros: i64,
        slices: i64,
    },
    /// Of `unit` parts that are one, `drain` go every microsecond.
    Bucket {
        unit: u128,
        drain: u128,
    },
    Calendar(Period),
    /// Nothing that was spent counts.
    InFlight,
}

// === impl Rule ===

impl Rule {
    /// A bucket is full at its burst, or at `hard` where that is less. A `hard` below one counts as one.
    #[must_use]
    pub fn new(window: Window, hard: i128) -> Self {
        let mut hard = u128::try_from(hard).unwrap_or(0).max(1);
        let span = match window {
            Window::Sliding { seconds } => {
                let slice = window.slice_seconds().unwrap_or(1);
                Span::Sliding(Sliding {
                    slice_seconds: slice.into(),
                    slices: (seconds / slice).into(),
                })
            }
            Window::Bucket {
                amount,
                seconds,
                burst,
            } => {
                hard = hard.min(burst.max(1).into());
                Span::Bucket(Bucket {
                    drain: amount.max(1).into(),
                    unit: (u64::from(seconds.max(1)) * MICROS_PER_SECOND).into(),
                })
            }
            Window::Calendar(period) => Span::Calendar(period),
            Window::Wallet => Span::Ever,
            Window::Concurrent => Span::InFlight,
        };
        Self { hard, span }
    }

    /// The earliest moment of which something may count at `now`; `None` where nothing that was taken does.
    #[must_use]
    pub fn reaches_to(&self, zone: Tz, now: Timestamp) -> Option<Timestamp> {
        Some(match self.span {
            Span::Sliding(sliding) => {
                let oldest = sliding.slice(now) - sliding.slices;
                Timestamp::from_seconds(oldest.saturating_mul(sliding.slice_seconds))
            }
            // What was spent beyond its burst, after the fact, takes longer to drain.
            Span::Bucket(bucket) => {
                let full = bucket.unit.saturating_mul(self.hard) / bucket.drain;
                Timestamp::from_micros(now.as_micros().saturating_sub(micros(full * 2)))
            }
            Span::Calendar(period) => calendar::bounds(period, zone, now).0,
            Span::Ever => Timestamp::MIN,
            Span::InFlight => return None,
        })
    }

    /// Whether what was taken at `at` may count at `now`.
    #[must_use]
    pub fn reaches(&self, at: Timestamp, zone: Tz, now: Timestamp) -> bool {
        self.reaches_to(zone, now).is_some_and(|from| from <= at)
    }

    /// Whether what was taken counts at all, and not only while it is held.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.span != Span::InFlight
    }

    /// A moment as good as `at`: of all moments of a slice the same, of others never an earlier one.
    #[must_use]
    pub fn grain(&self, at: Timestamp) -> Timestamp {
        match self.span {
            Span::Sliding(sliding) => {
                let slice = sliding.slice(at);
                Timestamp::from_seconds(slice.saturating_mul(sliding.slice_seconds))
            }
            Span::Bucket(_) => Timestamp::from_seconds(second_after(at).into()),
            // Days begin on whole minutes, so what counts together stays together.
            Span::Calendar(_) | Span::Ever | Span::InFlight => {
                Timestamp::from_seconds(at.second().div_euclid(60) * 60)
            }
        }
    }

    pub(crate) fn parts(&self) -> Parts {
        match self.span {
            Span::Sliding(sliding) => Parts::Sliding {
                slice_micros: sliding.slice_seconds * MICROS_PER_SECOND as i64,
                slices: sliding.slices,
            },
            Span::Bucket(Bucket { drain, unit }) => Parts::Bucket { unit, drain },
            Span::Calendar(period) => Parts::Calendar(period),
            Span::InFlight => Parts::InFlight,
            Span::Ever => unreachable!("nobody reserves from a wallet"),
        }
    }

    /// From this number on nothing more is admitted.
    #[must_use]
    pub const fn hard(&self) -> u128 {
        self.hard
    }
}

impl AsRef<Rule> for Rule {
    fn as_ref(&self) -> &Rule {
        self
    }
}

// === impl Sliding ===

impl Sliding {
    /// The slice that holds `now`.
    #[inline]
    pub(super) fn slice(self, now: Timestamp) -> i64 {
        let second = now.second();
        match self.slice_seconds {
            1 => second,
            seconds => second.div_euclid(seconds),
        }
    }

    /// When `slice` counts no more.
    #[inline]
    pub(super) fn leaves_at(self, slice: i64) -> Timestamp {
        Timestamp::from_seconds((slice + self.slices + 1).saturating_mul(self.slice_seconds))
    }

    /// When less than `used` is held, and less than `hard`.
    #[inline]
    pub(super) fn frees_at(
        self,
        hard: u128,
        used: u128,
        mut runs: impl Iterator<Item = Run>,
    ) -> Option<Timestamp> {
        if used < hard {
            return runs.next().map(|oldest| self.leaves_at(oldest.slice));
        }
        self.falls_to(hard.saturating_sub(1), used, runs)
    }

    /// When no more than `left` of `used` is held.
    #[inline]
    pub(super) fn falls_to(
        self,
        left: u128,
        used: u128,
        mut runs: impl Iterator<Item = Run>,
    ) -> Option<Timestamp> {
        let mut held = used;
        let freeing = runs.find(|run| {
            held = held.saturating_sub(run.amount.into());
            held <= left
        });
        freeing.map(|run| self.leaves_at(run.slice))
    }
}

// === impl Bucket ===

impl Bucket {
    fn drained_until(self, now: Timestamp) -> u128 {
        u128::from(now.as_micros().max(0).unsigned_abs()) * self.drain
    }

    /// Adds `amount` to what is empty at `empty_at`, and says when it will be then.
    pub(super) fn pour(self, empty_at: u128, amount: u64, now: Timestamp) -> u128 {
        let from = empty_at.max(self.drained_until(now));
        from.saturating_add(self.unit.saturating_mul(amount.into()))
    }

    /// The level at `now`, rounded up.
    pub(super) fn level(self, empty_at: u128, now: Timestamp) -> u128 {
        let level = empty_at.saturating_sub(self.drained_until(now));
        level.div_ceil(self.unit)
    }

    /// When the level, rounded up, is `level`.
    pub(super) fn falls_to(self, level: u128, empty_at: u128) -> Timestamp {
        let at = empty_at.saturating_sub(level.saturating_mul(self.unit));
        Timestamp::from_micros(micros(at.div_ceil(self.drain)))
    }
}

/// The whole second at or after `at`; the last of 32 bits, in 2106, for all that is later.
pub(super) fn second_after(at: Timestamp) -> u32 {
    let before = at
        .as_micros()
        .saturating_sub(1)
        .div_euclid(MICROS_PER_SECOND as i64);
    u32::try_from(before.saturating_add(1).max(0)).unwrap_or(u32::MAX)
}

fn micros(wide: u128) -> i64 {
    i64::try_from(wide).unwrap_or(i64::MAX)
}
