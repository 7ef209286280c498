//! No span of a window's length ever holds more than its limit's number. Random schedules of requests come to a gate that
//! lets in what the counting side has told no crossing against; what it let in is then added up span by span, by loops
//! that share no code with the windows.

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};
use schemas::policy::Window;

use super::*;
use crate::counter::{Counter, Limits, Rules};
use crate::window::{Amount, Terms};

/// Random schedules for each kind of window; `make soak` asks for more.
fn schedules() -> u64 {
    std::env::var("SPAN_SCHEDULES").map_or(SCHEDULES_DEFAULT, |n| n.parse().unwrap())
}

const SCHEDULES_DEFAULT: u64 = 300;
const REQUESTS: usize = 150;
const SECOND_US: i64 = 1_000_000;

/// What was let in: its time, the newest time until then, and how much it was.
struct Admitted {
    at: i64,
    clock: i64,
    amount: i128,
}

/// Lets in what no crossing stands against, and counts it.
trait Gate {
    fn asks(&mut self, at: Timestamp, amount: i64) -> bool;
    /// Until when it is closed, where it knows.
    fn closed_until(&self) -> Timestamp;
}

/// A gate that obeys what a whole engine tells, as gateways do: closed until the sum falls, by the moment that was told.
struct Obedient {
    engine: Engine,
    offset: i64,
    closed_until: Timestamp,
}

impl Obedient {
    fn new(window: Window, hard: u64) -> Self {
        let limit = format!("l tenant/* input_tokens hard={hard} : {window}");
        let marker = Input::Policy {
            policy: Box::new(policy(1, &limit)),
            at: at(0),
        };
        let mut gate = Self {
            engine: usage_engine(0, 1),
            offset: 0,
            closed_until: Timestamp::MIN,
        };
        gate.step(at(0), marker);
        gate
    }

    fn step(&mut self, appended_at: Timestamp, input: Input<'_>) {
        let (offset, mut out) = (self.offset, Vec::new());
        self.offset += 1;
        let place = Place {
            offset,
            appended_at,
        };
        let outcome = self.engine.step(place, input, &mut out).unwrap();
        assert!(matches!(outcome, Outcome::Counted | Outcome::Marker));
        for output in out {
            match output {
                Output::Crossing(crossing) => {
                    self.closed_until = crossing.falls_at.unwrap_or(Timestamp::MIN);
                }
                Output::Prolonged(p) => self.closed_until = p.crossing.falls_at.unwrap(),
                other => panic!("{other:?} was not asked for"),
            }
        }
        // Whatever is dropped or kept by a snapshot must make no difference.
        match offset % 50 {
            20 => self.engine.forget(),
            40 => self.engine = reborn(std::mem::replace(&mut self.engine, usage_engine(0, 1))),
            _ => {}
        }
    }
}

impl Gate for Obedient {
    fn asks(&mut self, at: Timestamp, amount: i64) -> bool {
        if at < self.closed_until {
            return false;
        }
        let id = self.offset.to_string();
        self.step(at, Input::Event(call(("acme", "u"), &id, at, amount)));
        true
    }

    fn closed_until(&self) -> Timestamp {
        self.closed_until
    }
}

/// A gate at the counter itself, for requests that come out of order.
struct Direct {
    policy: Policy,
    counter: Option<Counter>,
}

impl Direct {
    fn new(window: Window, hard: u64) -> Self {
        Self {
            policy: policy(1, &format!("l tenant/* tokens hard={hard} : {window}")),
            counter: None,
        }
    }
}

/// Of the one limit of `policy`.
fn rules(policy: &Policy) -> Rules<'_> {
    let limit = &policy.limits[0];
    Rules {
        series: 0,
        limits: Limits::of(&policy.limits),
        places: &[0],
        lowest: limit.levels[0].threshold,
        terms: Terms {
            window: limit.window,
            zone: chrono_tz::UTC,
        },
    }
}

impl Gate for Direct {
    fn asks(&mut self, at: Timestamp, amount: i64) -> bool {
        let rules = rules(&self.policy);
        let new = || Counter::new(std::iter::once(rules), at);
        let counter = self.counter.get_or_insert_with(new);
        counter.fall(rules, at, &mut Vec::new());
        let open = !counter.stands();
        if open {
            let amount = Amount {
                amount: amount.into(),
                at,
                floor: Timestamp::MIN,
            };
            counter.add(|_, _| rules, amount, &mut Vec::new());
        }
        open
    }

    fn closed_until(&self) -> Timestamp {
        let rules = rules(&self.policy);
        let counter = self.counter.as_ref();
        let falls_at = counter.and_then(|counter| counter.next_fall(rules, Timestamp::MAX));
        falls_at.unwrap_or(Timestamp::MIN)
    }
}

/// The window's length, or the time in which a full bucket drains, and the finest step in it, in microseconds.
fn lengths(window: Window) -> (i64, i64) {
    match window {
        Window::Sliding { seconds } => {
            let slice = window.slice_seconds().unwrap();
            (i64::from(seconds) * SECOND_US, i64::from(slice) * SECOND_US)
        }
        Window::Bucket {
            amount,
            seconds,
            burst,
        } => {
            let step = i64::from(seconds) * SECOND_US / amount.cast_signed();
            (step * burst.cast_signed(), step)
        }
        _ => unreachable!("{window} does not slide"),
    }
}

/// From `clock` until then, in microseconds; nothing when it is over.
fn until(then: Timestamp, clock: i64) -> i64 {
    then.as_micros().saturating_sub(clock).max(0)
}

/// Plays a random schedule, with requests up to `behind_us` behind the newest.
fn play(
    rng: &mut TestRng,
    (window, hard): (Window, u64),
    behind_us: i64,
    gate: &mut impl Gate,
) -> Vec<Admitted> {
    let (length, step) = lengths(window);
    let single = rng.random_range(0..2) == 0;
    let mut clock = 1_700_000_000 * SECOND_US + rng.random_range(0..2 * length);
    let (mut newest, mut admitted) = (i64::MIN, Vec::new());
    for _ in 0..REQUESTS {
        let wait = match rng.random_range(0..12) {
            0 | 1 => 0,
            2 => length,
            3 => length - 1,
            4 => step,
            5 => until(gate.closed_until(), clock),
            6 => until(gate.closed_until(), clock + 1),
            7 => rng.random_range(0..=length),
            8 => step - clock.rem_euclid(step) - 1,
            _ => rng.random_range(0..=2 * length / hard.cast_signed()),
        };
        clock += wait;
        let at = clock - rng.random_range(0..=behind_us);
        let amount = match single {
            true => 1,
            false => rng.random_range(1..=1 + hard.cast_signed() / 2),
        };
        if gate.asks(Timestamp::from_micros(at), amount) {
            newest = newest.max(at);
            let (clock, amount) = (newest, amount.into());
            admitted.push(Admitted { at, clock, amount });
        }
    }
    admitted
}

/// The most that any span held which reaches the newest time there was, with one for what came last in it: that is let
/// in whole, however large, as long as one fits. For a bucket the most that it took beyond what drained, rounded up.
fn fullest(window: Window, admitted: &[Admitted]) -> i128 {
    let held = admitted.iter().enumerate().map(|(last, newest)| {
        let before = &admitted[..last];
        match window {
            Window::Sliding { seconds } => {
                let from = newest.clock - i64::from(seconds) * SECOND_US;
                let within = before.iter().filter(|other| from < other.at);
                within.map(|other| other.amount).sum::<i128>() + 1
            }
            Window::Bucket {
                amount, seconds, ..
            } => {
                let unit = i128::from(seconds) * i128::from(SECOND_US);
                let (mut sum, mut most) = (1, unit);
                for first in before.iter().rev() {
                    sum += first.amount;
                    let drained = i128::from(newest.clock - first.clock) * i128::from(amount);
                    most = most.max(sum * unit - drained);
                }
                (most + unit - 1).div_euclid(unit)
            }
            _ => unreachable!("{window} does not slide"),
        }
    });
    held.max().unwrap_or(0)
}

/// Plays [`schedules`] for the windows that `window` makes, in order and not, and prints the worst span of all.
#[track_caller]
#[expect(clippy::print_stdout, reason = "figures for whoever asked for them")]
fn check(kind: &str, window: impl Fn(&mut TestRng, u64) -> Window) {
    for in_order in [true, false] {
        let (mut admitted, mut filled, mut worst) = (0, 0, (0, 1));
        for number in 0..schedules() {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            seed[8] = u8::from(in_order);
            let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
            let hard = rng.random_range(1..=40_u64);
            let window = window(&mut rng, hard);
            let let_in = if in_order {
                let mut gate = Obedient::new(window, hard);
                play(&mut rng, (window, hard), 0, &mut gate)
            } else {
                let behind = rng.random_range(0..=2 * lengths(window).0);
                play(
                    &mut rng,
                    (window, hard),
                    behind,
                    &mut Direct::new(window, hard),
                )
            };
            let held = fullest(window, &let_in);
            let hard = i128::from(hard);
            assert!(
                held <= hard,
                "{window} held {held} of {hard}, schedule {number}, in order: {in_order}"
            );
            admitted += let_in.len();
            filled += u64::from(held == hard);
            if worst.0 * hard < held * worst.1 {
                worst = (held, hard);
            }
        }
        // A gate that lets in too little would pass as well.
        assert!(schedules() < filled * 2, "{filled} filled their limit");
        let order = if in_order { "in order" } else { "out of order" };
        println!(
            "{kind}, {order}: {} schedules, {admitted} requests let in, worst span {} of {}, reached by {filled}",
            schedules(),
            worst.0,
            worst.1,
        );
    }
}

#[test]
fn no_span_holds_more_than_the_limit_in_slices_of_a_second() {
    check("sliding, slices of 1 s", |rng, _| Window::Sliding {
        seconds: match rng.random_range(0..3) {
            0 => rng.random_range(1..=3),
            1 => 600,
            _ => rng.random_range(1..=600),
        },
    });
}

#[test]
fn no_span_holds_more_than_the_limit_in_slices_of_a_minute() {
    check("sliding, slices of 1 min", |rng, _| Window::Sliding {
        seconds: 60 * rng.random_range(11..=600),
    });
}

#[test]
fn no_span_holds_more_than_the_limit_in_slices_of_an_hour() {
    check("sliding, slices of 1 h", |rng, _| Window::Sliding {
        seconds: 3_600 * rng.random_range(11..=720),
    });
}

#[test]
fn no_span_holds_more_than_a_bucket_and_what_drains() {
    check("bucket", |rng, burst| Window::Bucket {
        amount: rng.random_range(1..=9),
        seconds: rng.random_range(1..=90),
        burst,
    });
}
