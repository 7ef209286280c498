//! One counter: what one subject was admitted under one limit. One line of the processor's cache, because there may
//! be millions; what does not fit into that is on the heap.

use chrono_tz::Tz;
use schemas::calendar;
use schemas::policy::{Period, Window};
use schemas::time::Timestamp;

use super::slices::{Few, Many, Run};

const MICROS_PER_SECOND: u64 = 1_000_000;

/// A window with the number from which on it is full, ready to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    hard: u128,
    span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    Sliding(Sliding),
    Bucket(Bucket),
    Calendar(Period),
}

/// The slice of now and `slices` before it count: the oldest in full, so that no span of the window's length ever
/// holds more than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sliding {
    slice_seconds: i64,
    slices: i64,
}

/// Drains `drain` units every microsecond; one admission is `unit` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    drain: u128,
    unit: u128,
}

/// What a counter says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Admitted in the window; a bucket's level, rounded up.
    pub used: u128,
    /// When more is left than now if nothing else comes; where nothing is left, the exact moment at which a request
    /// is admitted again. `None` while nothing is used.
    pub frees_at: Option<Timestamp>,
}

/// A `u128` that asks for no more than eight bytes' alignment, which would cost a counter sixteen.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(8))]
pub(super) struct Wide(u128);

#[derive(Debug)]
enum State {
    Few(Few),
    Many(Box<Many>),
    /// The time at which it is empty, in units: microseconds times the rule's drain.
    Bucket {
        empty_at: Wide,
    },
    Calendar {
        used: Wide,
    },
}

#[derive(Debug)]
pub(super) struct Counter {
    key: Wide,
    /// From this microsecond on it holds nothing.
    idle_at: i64,
    state: State,
}

const _: () = assert!(size_of::<Counter>() <= 64);

// === impl Rule ===

impl Rule {
    /// A bucket is full at its burst, or at `hard` where that is less. A `hard` below one counts as one.
    #[must_use]
    pub fn new(window: Window, hard: i128) -> Self {
        let hard = u128::try_from(hard).unwrap_or(0).max(1);
        match window {
            Window::Sliding { seconds } => {
                let slice = window.slice_seconds().unwrap_or(1);
                let sliding = Sliding {
                    slice_seconds: slice.into(),
                    slices: (seconds / slice).into(),
                };
                Self {
                    hard,
                    span: Span::Sliding(sliding),
                }
            }
            Window::Bucket {
                amount,
                seconds,
                burst,
            } => {
                let bucket = Bucket {
                    drain: amount.max(1).into(),
                    unit: (u64::from(seconds.max(1)) * MICROS_PER_SECOND).into(),
                };
                Self {
                    hard: hard.min(burst.max(1).into()),
                    span: Span::Bucket(bucket),
                }
            }
            Window::Calendar(period) => Self {
                hard,
                span: Span::Calendar(period),
            },
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

// === impl Tally ===

impl Tally {
    #[must_use]
    pub const fn is_full(&self, rule: &Rule) -> bool {
        rule.hard <= self.used
    }

    #[must_use]
    pub const fn remaining(&self, rule: &Rule) -> u128 {
        rule.hard.saturating_sub(self.used)
    }
}

// === impl Counter ===

impl Counter {
    pub(super) fn new(key: u128, rule: &Rule, now: Timestamp, zone: Tz) -> Self {
        let mut idle_at = i64::MIN;
        let state = match rule.span {
            Span::Sliding(_) => State::Few(Few::default()),
            Span::Bucket(_) => State::Bucket { empty_at: Wide(0) },
            Span::Calendar(period) => {
                idle_at = calendar::bounds(period, zone, now).1.as_micros();
                State::Calendar { used: Wide(0) }
            }
        };
        Self {
            key: Wide(key),
            idle_at,
            state,
        }
    }

    pub(super) fn key(&self) -> u128 {
        self.key.0
    }

    pub(super) fn idle_at(&self) -> i64 {
        self.idle_at
    }

    /// What it holds outside of itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.state {
            State::Many(many) => many.heap_bytes(),
            _ => 0,
        }
    }

    /// Lets go of what has left the window at `now`. Time that goes back lets go of nothing.
    pub(super) fn advance(&mut self, rule: &Rule, now: Timestamp, zone: Tz) {
        match (&mut self.state, rule.span) {
            (State::Few(few), Span::Sliding(sliding)) => few.expire(sliding.oldest(now)),
            (State::Many(many), Span::Sliding(sliding)) => {
                if many.expire(sliding.oldest(now))
                    && let Some(few) = many.as_few()
                {
                    self.state = State::Few(few);
                }
            }
            (State::Calendar { used }, Span::Calendar(period))
                if self.idle_at <= now.as_micros() =>
            {
                *used = Wide(0);
                self.idle_at = calendar::bounds(period, zone, now).1.as_micros();
            }
            _ => {}
        }
    }

    /// What it holds at `now`, to which it must have been advanced.
    pub(super) fn tally(&self, rule: &Rule, now: Timestamp) -> Tally {
        match (&self.state, rule.span) {
            (State::Few(few), Span::Sliding(sliding)) => {
                sliding.tally(rule.hard, few.sum(), few.runs())
            }
            (State::Many(many), Span::Sliding(sliding)) => {
                sliding.tally(rule.hard, many.sum(), many.runs())
            }
            (State::Bucket { empty_at }, Span::Bucket(bucket)) => {
                bucket.tally(rule.hard, empty_at.0, now)
            }
            (State::Calendar { used }, Span::Calendar(_)) => Tally {
                used: used.0,
                frees_at: (0 < used.0).then(|| Timestamp::from_micros(self.idle_at)),
            },
            _ => Tally::default(),
        }
    }

    /// Counts `amount` more at `now`, to which it must have been advanced.
    pub(super) fn add(&mut self, rule: &Rule, amount: u64, now: Timestamp) {
        match (&mut self.state, rule.span) {
            (State::Few(few), Span::Sliding(sliding)) => {
                let head = sliding.slice(now);
                let slice = match few.add(head, amount) {
                    Some(slice) => slice,
                    None => {
                        let mut many = Box::new(Many::of(few));
                        let slice = many.add(head, amount);
                        self.state = State::Many(many);
                        slice
                    }
                };
                self.idle_at = sliding.leaves_at(slice).as_micros();
            }
            (State::Many(many), Span::Sliding(sliding)) => {
                let slice = many.add(sliding.slice(now), amount);
                self.idle_at = sliding.leaves_at(slice).as_micros();
            }
            (State::Bucket { empty_at }, Span::Bucket(bucket)) => {
                let from = empty_at.0.max(bucket.drained_until(now));
                let until = from.saturating_add(bucket.unit.saturating_mul(amount.into()));
                *empty_at = Wide(until);
                self.idle_at = micros(until.div_ceil(bucket.drain));
            }
            (State::Calendar { used }, Span::Calendar(_)) => {
                *used = Wide(used.0.saturating_add(amount.into()));
            }
            _ => debug_assert!(false, "a counter's key tells its limit, and so its window"),
        }
    }
}

// === impl Sliding ===

impl Sliding {
    /// The slice that holds `now`.
    fn slice(self, now: Timestamp) -> i64 {
        let second = now.second();
        match self.slice_seconds {
            1 => second,
            seconds => second.div_euclid(seconds),
        }
    }

    /// The oldest slice that counts at `now`.
    fn oldest(self, now: Timestamp) -> i64 {
        self.slice(now) - self.slices
    }

    /// When `slice` counts no more.
    fn leaves_at(self, slice: i64) -> Timestamp {
        Timestamp::from_seconds((slice + self.slices + 1).saturating_mul(self.slice_seconds))
    }

    fn tally(self, hard: u128, sum: u128, mut runs: impl Iterator<Item = Run>) -> Tally {
        let more_is_left_below = sum.min(hard);
        let mut left = sum;
        let freeing = runs.find(|run| {
            left -= u128::from(run.amount);
            left < more_is_left_below
        });
        Tally {
            used: sum,
            frees_at: freeing.map(|run| self.leaves_at(run.slice)),
        }
    }
}

// === impl Bucket ===

impl Bucket {
    fn drained_until(self, now: Timestamp) -> u128 {
        u128::from(now.as_micros().max(0).unsigned_abs()) * self.drain
    }

    fn tally(self, hard: u128, empty_at: u128, now: Timestamp) -> Tally {
        let level = empty_at.saturating_sub(self.drained_until(now));
        let used = level.div_ceil(self.unit);
        let frees_at = used.min(hard).checked_sub(1).map(|next| {
            let at = empty_at.saturating_sub(next.saturating_mul(self.unit));
            Timestamp::from_micros(micros(at.div_ceil(self.drain)))
        });
        Tally { used, frees_at }
    }
}

fn micros(wide: u128) -> i64 {
    i64::try_from(wide).unwrap_or(i64::MAX)
}
