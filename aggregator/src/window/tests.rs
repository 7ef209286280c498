//! What windows say of themselves, alone and together. What they add up to is held against naive ones in
//! [`crate::counter`].

use proptest::prelude::*;

use super::*;
use crate::model::{cases, policy};

pub(super) const ALL: [&str; 6] = [
    "sliding 10s",
    "sliding 11m",
    "sliding 11h",
    "bucket 1200000/60s burst 30",
    "calendar day",
    "wallet",
];
/// A slice of it takes bytes enough that a few have no room without memory of their own.
const AMOUNT: i128 = 1_200_000;
/// Noon of 1970-01-02 in Berlin.
const NOON: i64 = 86_400 + 11 * 3_600;

/// Windows of numbers that are their ids, and what they are read with.
pub(super) struct Scene {
    terms: Vec<Terms>,
    pub(super) windows: Windows,
}

impl Scene {
    /// Whose heads are at noon.
    pub(super) fn new(windows: &[&str]) -> Self {
        let limits = windows.iter().enumerate();
        let limits = limits.map(|(n, window)| format!("l{n} tenant/* tokens hard=5 : {window}"));
        let policy = policy(1, &limits.collect::<Vec<_>>().join("\n"));
        let zone = chrono_tz::Europe::Berlin;
        let terms = policy.limits.iter().map(|limit| Terms {
            window: limit.window,
            zone,
        });
        let terms: Vec<Terms> = terms.collect();
        let windows = Windows::new((0..).zip(terms.iter().copied()), second(NOON));
        Self { terms, windows }
    }

    /// Of each window by itself, and of all together.
    fn all() -> impl Iterator<Item = (Self, Vec<&'static str>)> {
        let alone = ALL.iter().map(|window| vec![*window]);
        let lists = alone.chain([ALL.to_vec()]);
        lists.map(|windows| (Self::new(&windows), windows))
    }

    fn add(&mut self, at: i64) -> Resized {
        self.add_above(Timestamp::MIN, at)
    }

    /// Where nothing from before `floor` comes.
    fn add_above(&mut self, floor: Timestamp, at: i64) -> Resized {
        let (amount, at) = (AMOUNT, second(at));
        let terms = &self.terms;
        let amount = Amount { amount, at, floor };
        self.windows.add(|number, _| terms[number], amount)
    }

    /// The windows of which `holds` is so.
    fn which(&self, holds: impl Fn(usize, Terms) -> bool) -> Vec<usize> {
        let numbers = 0..self.terms.len();
        let so = numbers.filter(|number| holds(*number, self.terms[*number]));
        so.collect()
    }
}

fn second(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// The numbers of `windows` that are none of `but`.
fn others(windows: &[&str], but: &[&str]) -> Vec<usize> {
    let numbers = (0..windows.len()).filter(|number| !but.contains(&windows[*number]));
    numbers.collect()
}

#[test]
fn windows_that_share_slices_lie_together() {
    let ranks = Scene::new(&ALL).terms;
    let ranks: Vec<u32> = ranks.iter().map(|terms| rank(terms.window)).collect();
    assert_eq!(ranks, [1, 60, 3_600, u32::MAX, u32::MAX, u32::MAX]);
}

#[test]
fn what_happened_before_a_window_is_not_in_it() {
    for (mut scene, windows) in Scene::all() {
        scene.add(NOON);
        let hold = |scene: &Scene, at: i64| {
            scene.which(|number, terms| scene.windows.holds(number, terms, second(at)))
        };
        assert_eq!(hold(&scene, NOON), others(&windows, &[]));
        assert_eq!(hold(&scene, NOON - 10), others(&windows, &[]));
        assert_eq!(hold(&scene, NOON - 11), others(&windows, &ALL[..1]));
        assert_eq!(hold(&scene, NOON - 12 * 60), others(&windows, &ALL[..2]));
        let never_ends = [ALL[3], ALL[5]];
        let end: Vec<&str> = ALL
            .into_iter()
            .filter(|w| !never_ends.contains(w))
            .collect();
        assert_eq!(hold(&scene, NOON - 86_400), others(&windows, &end));
    }
}

#[test]
fn what_makes_no_difference_any_more_is_let_go_of() {
    for (mut scene, windows) in Scene::all() {
        let hold = |scene: &Scene| scene.windows.holding();
        assert_eq!(hold(&scene), 0);
        scene.add(NOON);
        assert_eq!(hold(&scene), windows.len());
        // By itself a window is dropped as a whole instead.
        let shares = windows.len() != 1;
        let terms = scene.terms.clone();
        for (seconds, gone) in [
            (10, &[][..]),
            (11, &ALL[..1]),
            (60, &[ALL[0], ALL[3]]),
            (12 * 60, &[ALL[0], ALL[3], ALL[1]]),
            (86_400, &ALL[..5]),
        ] {
            let floor = second(NOON + seconds);
            scene.windows.forget(|number, _| terms[number], floor);
            let forgettable = |number, terms| scene.windows.is_forgettable(number, terms, floor);
            let kept = others(&windows, gone);
            if shares {
                assert_eq!(hold(&scene), kept.len(), "{seconds}");
            } else {
                assert_eq!(scene.which(forgettable).is_empty(), !kept.is_empty());
                assert_eq!(hold(&scene), 1, "{seconds}");
            }
        }
    }
}

#[test]
fn a_day_ends_elsewhere_in_another_zone() {
    for (mut scene, windows) in Scene::all() {
        let mut changed_to = |zone: Tz| {
            let numbers = 0..windows.len();
            let changed = numbers.filter(|number| {
                let terms = Terms {
                    zone,
                    ..scene.terms[*number]
                };
                scene.windows.change_zone(*number, terms)
            });
            changed.collect::<Vec<_>>()
        };
        assert!(changed_to(chrono_tz::Europe::Berlin).is_empty());
        assert_eq!(
            changed_to(Tz::UTC),
            others(&windows, &[&ALL[..4], &ALL[5..]].concat())
        );
        assert!(changed_to(Tz::UTC).is_empty());
    }
}

#[test]
fn what_joins_a_slice_takes_no_room() {
    let mut scene = Scene::new(&ALL[..1]);
    for at in 0..10 {
        scene.add(NOON + at);
    }
    let bytes = scene.windows.heap_bytes();
    assert_ne!(bytes, 0);
    for at in 0..10 {
        scene.add(NOON + at);
        assert_eq!(scene.windows.heap_bytes(), bytes, "second {at}");
    }
}

#[test]
fn a_wallet_is_kept_once_something_was_spent() {
    let mut scene = Scene::new(&["wallet"]);
    let kept = |scene: &Scene| {
        let floor = second(NOON + 10 * 365 * 86_400);
        !scene.windows.is_forgettable(0, scene.terms[0], floor)
    };
    assert!(!kept(&scene));
    scene.add(NOON);
    assert!(kept(&scene));
}

/// A window by itself takes nothing beside itself before it has closed slices; several take what they lie in.
#[test]
fn memory_is_what_slices_and_groups_take() {
    for (mut scene, windows) in Scene::all() {
        let before = scene.windows.heap_bytes();
        assert_eq!(before != 0, windows.len() != 1);
        let (mut expected, mut most, mut at) = (before, before, NOON);
        for width in [1, 60, 3_600] {
            for _ in 0..30 {
                at += width;
                for _ in 0..2 {
                    let resized = scene.add(at);
                    expected = expected + resized.after - resized.before;
                    assert_eq!(scene.windows.heap_bytes(), expected);
                }
                most = most.max(expected);
            }
        }
        let slides = windows.iter().any(|window| window.starts_with("sliding"));
        assert_eq!(before < most, slides, "{windows:?}");
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_is_charged_does_not_depend_on_when_it_was_let_go_of(
        bursts in prop::collection::vec((0..2_000_i64, 1..10_i64, 0..600_i64, any::<bool>()), 1..30),
    ) {
        let (mut one, mut other) = (Scene::new(&ALL), Scene::new(&ALL));
        let mut newest = NOON;
        for (later, amounts, behind, forgets) in bursts {
            newest += later;
            let floor = second(newest - 600);
            if forgets {
                let terms = one.terms.clone();
                one.windows.forget(|number, _| terms[number], floor);
            }
            for at in (newest..newest + amounts).chain([newest - behind]) {
                let charged = one.add_above(floor, at);
                prop_assert_eq!(charged, other.add_above(floor, at));
            }
            newest += amounts - 1;
            for (number, terms) in one.terms.iter().enumerate() {
                let sums = [&one, &other].map(|scene| scene.windows.sum(number, *terms));
                prop_assert_eq!(sums[0], sums[1]);
            }
        }
    }
}
