//! One counter: what one subject was admitted under one limit. Small, because there may be millions: 48 bytes, and
//! a heap part only for a sliding window in which more than one slice holds something.

use std::collections::VecDeque;

use chrono_tz::Tz;
use schemas::policy::Window;
use schemas::time::Timestamp;

use crate::calendar;

const MICROS_PER_SECOND: u64 = 1_000_000;

/// A window with the number from which on it is full, ready to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    hard: u128,
    span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    /// The slice of now and `slices` before it count: the oldest in full, so that no span of the window's length
    /// ever holds more than its limit.
    Sliding {
        slice_micros: i64,
        slices: i64,
    },
    /// Drains `amount` units of `unit` every microsecond; one admission is one `unit`.
    Bucket {
        amount: u128,
        unit: u128,
    },
    Calendar(schemas::policy::Period),
}

impl Rule {
    /// A bucket is full at its burst, or at `hard` where that is less. A `hard` below one counts as one.
    #[must_use]
    pub fn new(window: Window, hard: i128) -> Self {
        let hard = u128::try_from(hard).unwrap_or(0).max(1);
        match window {
            Window::Sliding { seconds } => {
                let slice = window.slice_seconds().unwrap_or(1);
                let span = Span::Sliding {
                    slice_micros: i64::from(slice) * MICROS_PER_SECOND as i64,
                    slices: i64::from(seconds / slice),
                };
                Self { hard, span }
            }
            Window::Bucket {
                amount,
                seconds,
                burst,
            } => {
                let span = Span::Bucket {
                    amount: amount.max(1).into(),
                    unit: (u64::from(seconds.max(1)) * MICROS_PER_SECOND).into(),
                };
                let hard = hard.min(burst.max(1).into());
                Self { hard, span }
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

/// What a counter says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Admitted in the window; a bucket's level, rounded up.
    pub used: u128,
    /// When more is left than now if nothing else comes; where nothing is left, the exact moment at which a request
    /// is admitted again. `None` while nothing is used.
    pub frees_at: Option<Timestamp>,
}

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

/// What a slice holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    slice: i64,
    amount: u64,
}

/// The slices in use of one counter, oldest first; one slice may have several runs.
#[derive(Debug)]
pub(super) struct Slices {
    sum: u128,
    runs: VecDeque<Run>,
}

/// A `u128` that asks for no more than eight bytes' alignment, which would cost a counter sixteen.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(8))]
pub(super) struct Wide(u128);

#[derive(Debug)]
pub(super) enum State {
    One(Run),
    Many(Box<Slices>),
    /// The time at which it is empty, in microseconds times the rule's `amount`.
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

const _: () = assert!(size_of::<Counter>() <= 48);

// === impl Counter ===

impl Counter {
    pub(super) fn new(key: u128, rule: &Rule, now: Timestamp, zone: Tz) -> Self {
        let mut idle_at = i64::MIN;
        let state = match rule.span {
            Span::Sliding { slice_micros, .. } => State::One(Run {
                slice: now.as_micros().div_euclid(slice_micros),
                amount: 0,
            }),
            Span::Bucket { .. } => State::Bucket { empty_at: Wide(0) },
            Span::Calendar(period) => {
                idle_at = calendar::span(period, zone, now).1.as_micros();
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
            State::Many(many) => size_of::<Slices>() + many.runs.capacity() * size_of::<Run>(),
            _ => 0,
        }
    }

    /// Lets go of what has left the window at `now`. Time that goes back lets go of nothing.
    pub(super) fn advance(&mut self, rule: &Rule, now: Timestamp, zone: Tz) {
        match (&mut self.state, rule.span) {
            (State::One(run), Span::Sliding { .. }) => {
                let (oldest, head) = slices_of(rule, now);
                if run.slice < oldest {
                    *run = Run {
                        slice: head,
                        amount: 0,
                    };
                }
            }
            (State::Many(many), Span::Sliding { .. }) => {
                many.expire(slices_of(rule, now).0);
                if many.runs.len() <= 1 {
                    let head = slices_of(rule, now).1;
                    let none = Run {
                        slice: head,
                        amount: 0,
                    };
                    self.state = State::One(many.runs.pop_front().unwrap_or(none));
                }
            }
            (State::Calendar { used }, Span::Calendar(period))
                if self.idle_at <= now.as_micros() =>
            {
                *used = Wide(0);
                self.idle_at = calendar::span(period, zone, now).1.as_micros();
            }
            _ => {}
        }
    }

    /// What it holds at `now`, to which it must have been advanced.
    pub(super) fn tally(&self, rule: &Rule, now: Timestamp) -> Tally {
        match (&self.state, rule.span) {
            (State::One(run), Span::Sliding { .. }) => Tally {
                used: run.amount.into(),
                frees_at: (0 < run.amount).then(|| leaves_at(rule, run.slice)),
            },
            (State::Many(many), Span::Sliding { .. }) => many.tally(rule),
            (State::Bucket { empty_at }, Span::Bucket { amount, unit }) => {
                bucket_tally(rule.hard, empty_at.0, now, (amount, unit))
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
            (State::One(run), Span::Sliding { .. }) => {
                let slice = slices_of(rule, now).1.max(run.slice);
                let sum = run.amount.checked_add(amount);
                let fits = sum.filter(|_| run.slice == slice || run.amount == 0);
                match fits {
                    Some(sum) => *run = Run { slice, amount: sum },
                    None => self.state = State::Many(Slices::of(*run, Run { slice, amount })),
                }
                self.idle_at = leaves_at(rule, slice).as_micros();
            }
            (State::Many(many), Span::Sliding { .. }) => {
                let slice = many.add(slices_of(rule, now).1, amount);
                self.idle_at = leaves_at(rule, slice).as_micros();
            }
            (
                State::Bucket { empty_at },
                Span::Bucket {
                    amount: drain,
                    unit,
                },
            ) => {
                let from = empty_at.0.max(drained_until(now, drain));
                let until = from.saturating_add(unit.saturating_mul(amount.into()));
                *empty_at = Wide(until);
                self.idle_at = micros(until.div_ceil(drain));
            }
            (State::Calendar { used }, Span::Calendar(_)) => {
                *used = Wide(used.0.saturating_add(amount.into()));
            }
            _ => debug_assert!(false, "a counter's key tells its limit, and so its window"),
        }
    }
}

// === impl Slices ===

impl Slices {
    fn of(first: Run, second: Run) -> Box<Self> {
        Box::new(Self {
            sum: u128::from(first.amount) + u128::from(second.amount),
            runs: VecDeque::from([first, second]),
        })
    }

    fn expire(&mut self, oldest: i64) {
        while let Some(run) = self.runs.front().filter(|run| run.slice < oldest) {
            self.sum -= u128::from(run.amount);
            self.runs.pop_front();
        }
    }

    /// Returns the slice that it was counted in: the newest, should time have gone back.
    fn add(&mut self, head: i64, amount: u64) -> i64 {
        self.sum += u128::from(amount);
        let newest = self.runs.back_mut();
        let slice = newest.as_ref().map_or(head, |run| run.slice.max(head));
        match newest.filter(|run| run.slice == slice && run.amount.checked_add(amount).is_some()) {
            Some(run) => run.amount += amount,
            None => self.runs.push_back(Run { slice, amount }),
        }
        slice
    }

    fn tally(&self, rule: &Rule) -> Tally {
        let mut left = self.sum;
        let freeing = self.runs.iter().find(|run| {
            left -= u128::from(run.amount);
            left < self.sum.min(rule.hard)
        });
        Tally {
            used: self.sum,
            frees_at: freeing.map(|run| leaves_at(rule, run.slice)),
        }
    }
}

/// The oldest slice that counts at `now`, and the one that holds it.
fn slices_of(rule: &Rule, now: Timestamp) -> (i64, i64) {
    match rule.span {
        Span::Sliding {
            slice_micros,
            slices,
        } => {
            let head = now.as_micros().div_euclid(slice_micros);
            (head - slices, head)
        }
        _ => (0, 0),
    }
}

/// When `slice` counts no more.
fn leaves_at(rule: &Rule, slice: i64) -> Timestamp {
    match rule.span {
        Span::Sliding {
            slice_micros,
            slices,
        } => Timestamp::from_micros((slice + slices + 1).saturating_mul(slice_micros)),
        _ => Timestamp::MAX,
    }
}

fn drained_until(now: Timestamp, drain: u128) -> u128 {
    u128::from(now.as_micros().max(0).unsigned_abs()) * drain
}

fn micros(wide: u128) -> i64 {
    i64::try_from(wide).unwrap_or(i64::MAX)
}

fn bucket_tally(hard: u128, empty_at: u128, now: Timestamp, (drain, unit): (u128, u128)) -> Tally {
    let level = empty_at.saturating_sub(drained_until(now, drain));
    let used = level.div_ceil(unit);
    let frees_at = used.min(hard).checked_sub(1).map(|next| {
        let at = empty_at.saturating_sub(next.saturating_mul(unit));
        Timestamp::from_micros(micros(at.div_ceil(drain)))
    });
    Tally { used, frees_at }
}
