//! One counter: what one subject was admitted under one limit. Half a line of the processor's cache, because there
//! may be millions; what does not fit into that is on the heap.

use chrono_tz::Tz;
use schemas::calendar;
use schemas::time::Timestamp;

use super::rule::{Rule, Span, second_after};
use super::slices::{Few, Many};
use super::table::Keyed;

/// What a counter says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Admitted in the window; a bucket's level, rounded up.
    pub used: u128,
    /// When more is left than now if nothing else comes; where nothing is left, the exact moment at which a request
    /// is admitted again. `None` while nothing is used.
    pub frees_at: Option<Timestamp>,
}

/// What is asked of a counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) amount: u64,
    /// Whether being full refuses.
    pub(crate) refuses: bool,
    /// Whether to count what is not refused.
    pub(crate) charges: bool,
    /// The tenant's, for calendar windows.
    pub(crate) zone: Tz,
    /// How much of the rule's number this gateway has, where it shares that with others.
    pub(crate) room: Option<u64>,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Whether it was full before.
    pub(crate) full: bool,
    /// Whether it was that only for want of a larger share.
    pub(crate) short: bool,
    /// What it says now.
    pub(crate) tally: Tally,
}

/// A `u128` that asks for no more than eight bytes' alignment, which would cost a counter sixteen.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(8))]
pub(super) struct Wide(u128);

/// What is held, and from which second since 1970 on it is nothing.
#[derive(Debug)]
enum State {
    Few {
        idle_at: u32,
        few: Few,
    },
    Many {
        idle_at: u32,
        many: Box<Many>,
    },
    Bucket {
        idle_at: u32,
        /// When it is empty, in units: microseconds times the rule's drain.
        empty_at: Wide,
    },
    Calendar {
        /// The end of the period; a wallet's never comes.
        idle_at: u32,
        used: Wide,
    },
}

#[derive(Debug)]
#[repr(align(32))]
pub(crate) struct Counter {
    key: u64,
    state: State,
}

const _: () = assert!(size_of::<Option<Counter>>() == 32);
// === impl Tally ===

impl Tally {
    #[must_use]
    pub const fn remaining(&self, rule: &Rule) -> u128 {
        rule.hard.saturating_sub(self.used)
    }
}

// === impl Counter ===

impl Counter {
    pub(crate) fn new(key: u64, rule: &Rule, now: Timestamp, zone: Tz) -> Self {
        let state = match rule.span {
            Span::Sliding(_) => State::Few {
                idle_at: 0,
                few: Few::default(),
            },
            Span::Bucket(_) => State::Bucket {
                idle_at: 0,
                empty_at: Wide(0),
            },
            Span::Calendar(period) => State::Calendar {
                idle_at: second_after(calendar::bounds(period, zone, now).1),
                used: Wide(0),
            },
            Span::Ever => State::Calendar {
                idle_at: u32::MAX,
                used: Wide(0),
            },
            Span::InFlight => State::Calendar {
                idle_at: 0,
                used: Wide(0),
            },
        };
        Self { key, state }
    }

    /// From this second since 1970 on it holds nothing.
    pub(crate) fn idle_at(&self) -> u32 {
        match self.state {
            State::Few { idle_at, .. }
            | State::Many { idle_at, .. }
            | State::Bucket { idle_at, .. }
            | State::Calendar { idle_at, .. } => idle_at,
        }
    }

    /// What it holds outside of itself.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.state {
            State::Many { many, .. } => many.heap_bytes(),
            _ => 0,
        }
    }

    /// Lets go of what has left the window at `now`, and counts `amount` unless `ask` says that being full refuses or
    /// nothing is to be counted. Time that goes back lets go of nothing.
    #[inline]
    pub(crate) fn take(&mut self, rule: &Rule, ask: Ask, now: Timestamp) -> Taken {
        match (&mut self.state, rule.span) {
            (State::Few { idle_at, few }, Span::Sliding(sliding)) => {
                let head = sliding.slice(now);
                few.expire(head - sliding.slices);
                let mut taken = Taken::of(rule, few.sum(), ask);
                if taken.admits(ask) {
                    let Some(slice) = few.add(head, ask.amount) else {
                        self.state = State::Many {
                            idle_at: *idle_at,
                            many: Box::new(Many::of(few)),
                        };
                        return self.take(rule, ask, now);
                    };
                    taken.tally.used += u128::from(ask.amount);
                    *idle_at = second_after(sliding.leaves_at(slice));
                }
                taken.tally.frees_at = sliding.frees_at(rule.hard, taken.tally.used, few.runs());
                taken
            }
            (State::Many { idle_at, many }, Span::Sliding(sliding)) => {
                let head = sliding.slice(now);
                if many.expire(head - sliding.slices)
                    && let Some(few) = many.as_few()
                {
                    let idle_at = *idle_at;
                    self.state = State::Few { idle_at, few };
                    return self.take(rule, ask, now);
                }
                let mut taken = Taken::of(rule, many.sum(), ask);
                if taken.admits(ask) {
                    let slice = many.add(head, ask.amount);
                    taken.tally.used += u128::from(ask.amount);
                    *idle_at = second_after(sliding.leaves_at(slice));
                }
                taken.tally.frees_at = sliding.frees_at(rule.hard, taken.tally.used, many.runs());
                taken
            }
            (State::Bucket { idle_at, empty_at }, Span::Bucket(bucket)) => {
                let mut taken = Taken::of(rule, bucket.level(empty_at.0, now), ask);
                if taken.admits(ask) {
                    *empty_at = Wide(bucket.pour(empty_at.0, ask.amount, now));
                    taken.tally.used = bucket.level(empty_at.0, now);
                    *idle_at = second_after(bucket.falls_to(0, empty_at.0));
                }
                let next = taken.tally.used.min(rule.hard).checked_sub(1);
                taken.tally.frees_at = next.map(|next| bucket.falls_to(next, empty_at.0));
                taken
            }
            (State::Calendar { idle_at, used }, Span::Calendar(period)) => {
                if i64::from(*idle_at) <= now.second() {
                    *used = Wide(0);
                    *idle_at = second_after(calendar::bounds(period, ask.zone, now).1);
                }
                let mut taken = used.take(rule, ask);
                let ends_at = Timestamp::from_seconds((*idle_at).into());
                taken.tally.frees_at = (0 < taken.tally.used).then_some(ends_at);
                taken
            }
            (State::Calendar { used, .. }, Span::Ever) => used.take(rule, ask),
            (State::Calendar { .. }, Span::InFlight) => Taken::of(rule, 0, ask),
            _ => {
                debug_assert!(false, "a counter's key tells its limit, and so its window");
                Taken::of(rule, 0, ask)
            }
        }
    }

    /// When no more than `left` is held if nothing else comes. To be asked after [`Counter::take`] at that time, and
    /// while more is held; `None` where that never comes.
    pub(crate) fn falls_to(&self, rule: &Rule, left: u128) -> Option<Timestamp> {
        match (&self.state, rule.span) {
            (State::Few { few, .. }, Span::Sliding(sliding)) => {
                sliding.falls_to(left, few.sum(), few.runs())
            }
            (State::Many { many, .. }, Span::Sliding(sliding)) => {
                sliding.falls_to(left, many.sum(), many.runs())
            }
            (State::Bucket { empty_at, .. }, Span::Bucket(bucket)) => {
                Some(bucket.falls_to(left, empty_at.0))
            }
            (State::Calendar { idle_at, .. }, Span::Calendar(_)) => {
                Some(Timestamp::from_seconds((*idle_at).into()))
            }
            _ => None,
        }
    }
}

// === impl Wide ===

impl Wide {
    /// Adds what is admitted to a sum from which nothing drains.
    fn take(&mut self, rule: &Rule, ask: Ask) -> Taken {
        let mut taken = Taken::of(rule, self.0, ask);
        if taken.admits(ask) {
            self.0 = self.0.saturating_add(ask.amount.into());
            taken.tally.used = self.0;
        }
        taken
    }
}

// === impl Taken ===

impl Taken {
    /// Whoever has all of the number admits whole while any of it is left; of a share no more is given than there is.
    pub(super) fn of(rule: &Rule, used: u128, ask: Ask) -> Self {
        let tally = Tally {
            used,
            frees_at: None,
        };
        let spent = rule.hard <= used;
        let room = ask.room.map(u128::from).filter(|room| *room < rule.hard);
        let short = room.is_some_and(|room| room < used + u128::from(ask.amount.max(1)));
        Self {
            full: spent || short,
            short: short && !spent,
            tally,
        }
    }

    pub(super) fn admits(&self, ask: Ask) -> bool {
        ask.charges && !(ask.refuses && self.full)
    }
}

impl Keyed for Counter {
    #[inline]
    fn key(&self) -> u64 {
        self.key
    }
}
