//! The windows against a naive model: a sorted list of all admissions, and loops over it.

use chrono_tz::Tz;
use proptest::prelude::*;
use schemas::calendar;
use schemas::policy::{Period, Window};
use schemas::time::Timestamp;

use super::{Intent, Item, Rule, Tally, Windows};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const START: i64 = 1_709_999_990 * SECOND;
pub(crate) const ZONE: Tz = Tz::Europe__Berlin;

#[derive(Clone, Copy, Debug)]
struct Step {
    wait_micros: i64,
    amount: u64,
    /// What was admitted before counts no more.
    clears: bool,
}

/// Every admission ever, in order.
#[derive(Default)]
pub(crate) struct Model(pub(crate) Vec<(i64, u64)>);

impl Model {
    /// What counts at `now` of a sliding window or a calendar's.
    pub(crate) fn used(&self, window: Window, now: i64) -> u128 {
        let from = match window {
            Window::Sliding { seconds } => {
                let slice = i64::from(window.slice_seconds().unwrap()) * SECOND;
                now.div_euclid(slice) * slice - i64::from(seconds) * SECOND
            }
            Window::Calendar(period) => {
                let now = Timestamp::from_micros(now);
                calendar::bounds(period, ZONE, now).0.as_micros()
            }
            Window::Wallet => i64::MIN,
            Window::Concurrent => return 0,
            Window::Bucket {
                amount, seconds, ..
            } => return self.level(now, amount.into(), i128::from(seconds) * i128::from(SECOND)),
        };
        let counted = self.0.iter().filter(|(at, _)| from <= *at);
        counted.map(|(_, amount)| u128::from(*amount)).sum()
    }

    /// A bucket's level, rounded up: poured in and drained step by step.
    fn level(&self, now: i64, amount: i128, unit: i128) -> u128 {
        let (mut level, mut since) = (0_i128, 0);
        for (at, poured) in self.0.iter().copied().chain([(now, 0)]) {
            level = 0.max(level - i128::from(at - since) * amount) + i128::from(poured) * unit;
            since = at;
        }
        level.unsigned_abs().div_ceil(unit.unsigned_abs())
    }

    /// No span of a sliding window's length holds more than its limit, but for what came last in it.
    fn check_busiest(&self, window: Window, hard: u64) -> Result<(), TestCaseError> {
        if let Window::Sliding { seconds } = window {
            prop_assert!(self.busiest_before_last(seconds) < u128::from(hard));
        }
        Ok(())
    }

    /// The most that was admitted in any span of `seconds`, without what came last in it: that one may be whole.
    pub(crate) fn busiest_before_last(&self, seconds: u32) -> u128 {
        let length = i64::from(seconds) * SECOND;
        let ends = self.0.iter().enumerate();
        let sums = ends.map(|(end, (at, _))| {
            let before = self.0[..end].iter();
            let within = before.filter(|(other, _)| at - length < *other);
            within.map(|(_, amount)| u128::from(*amount)).sum()
        });
        sums.max().unwrap_or(0)
    }
}

const KEY: u128 = 42;

struct Real {
    windows: Windows,
    rule: Rule,
}

impl Real {
    fn new(window: Window, hard: u64) -> Self {
        Self {
            windows: Windows::new(1 << 20),
            rule: Rule::new(window, hard.into()),
        }
    }

    /// Whether a request would be admitted at `then`, if nothing else came after what `model` holds.
    fn later(&self, model: &Model, then: i64) -> bool {
        let copy = Self {
            windows: Windows::new(1 << 20),
            rule: self.rule,
        };
        for (at, amount) in &model.0 {
            copy.take(*at, *amount, Intent::Charge);
        }
        copy.take(then, 1, Intent::Charge).0
    }

    fn take(&self, now: i64, amount: u64, intent: Intent) -> (bool, Tally) {
        let mut items = [Item {
            key: KEY,
            limit: &self.rule,
            amount,
            refuses: true,
            zone: ZONE,
            tally: Tally::default(),
            full: false,
            share: None,
        }];
        let now = Timestamp::from_micros(now);
        let admitted = self.windows.take(&mut items, now, intent);
        (admitted, items[0].tally)
    }
}

fn run(window: Window, hard: u64, steps: &[Step]) -> Result<(), TestCaseError> {
    let real = Real::new(window, hard);
    let mut model = Model::default();
    let mut now = START;
    for step in steps {
        now += step.wait_micros;
        if step.clears {
            model.check_busiest(window, hard)?;
            model.0.clear();
            real.windows.clear(KEY);
        }
        let before = model.used(window, now);
        let (admitted, tally) = real.take(now, step.amount, Intent::Charge);
        prop_assert_eq!(admitted, before < u128::from(hard), "at {}", now);
        if admitted {
            model.0.push((now, step.amount));
            prop_assert_eq!(tally.used, model.used(window, now));
            continue;
        }
        // Refused one microsecond before, admitted at that time.
        prop_assert_eq!(tally.used, before);
        let frees_at = tally.frees_at.unwrap().as_micros();
        prop_assert!(now < frees_at);
        prop_assert!(!real.later(&model, frees_at - 1));
        prop_assert!(real.later(&model, frees_at));
        prop_assert!(u128::from(hard) <= model.used(window, frees_at - 1));
        prop_assert!(model.used(window, frees_at) < u128::from(hard));
    }
    model.check_busiest(window, hard)
}

/// Waits of all sizes, many of them none or at the edge of a slice.
fn steps(longest: i64) -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![
        Just(0),
        0..SECOND,
        (0..=longest / SECOND).prop_map(|seconds| seconds * SECOND),
        (1..=longest / SECOND).prop_map(|seconds| seconds * SECOND - 1),
        0..=longest,
    ];
    let amount = prop_oneof![4 => Just(1_u64), 1 => 0..20_u64];
    let clears = prop::bool::weighted(0.05);
    let step = (wait, amount, clears).prop_map(|(wait_micros, amount, clears)| Step {
        wait_micros,
        amount,
        clears,
    });
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn sliding(seconds in 1..=20_u32, hard in 1..=30_u64, steps in steps(7 * SECOND)) {
        run(Window::Sliding { seconds }, hard, &steps)?;
    }

    #[test]
    fn sliding_in_minutes(minutes in 11..=15_u32, hard in 1..=30_u64, steps in steps(200 * SECOND)) {
        run(Window::Sliding { seconds: 60 * minutes }, hard, &steps)?;
    }

    #[test]
    fn bucket(amount in 1..=7_u64, seconds in 1..=9_u32, burst in 1..=30_u64, steps in steps(7 * SECOND)) {
        run(Window::Bucket { amount, seconds, burst }, burst, &steps)?;
    }

    #[test]
    fn calendar(
        period in prop_oneof![Just(Period::Day), Just(Period::Week), Just(Period::WeekFromSunday), Just(Period::Month)],
        hard in 1..=30_u64,
        steps in steps(3 * 86_400 * SECOND),
    ) {
        run(Window::Calendar(period), hard, &steps)?;
    }
}
