//! Sums over time, as pure values: windows that slide, buckets that drain, calendars' periods, wallets. They know no
//! limits and read no clock; time comes with each call.
//!
//! Each has a *head*: how far it has come. It never goes back. An amount at or behind the head is added where it
//! belongs, or not at all when the window has left that place.
//!
//! Windows that were made together take the same amounts ever after, and so share what they can: see [`Windows`].

mod bucket;
mod calendar;
mod group;
mod packed;
mod sliding;
mod sum;
mod wallet;

use chrono_tz::Tz;
use schemas::policy::Window;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use bucket::Bucket;
use calendar::Calendar;
use group::Group;
use sliding::{Slices, View, Width};
use wallet::Wallet;

/// What a window's state is read with; the state itself does not repeat it. Every call for one window takes the same
/// [`Window`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) window: Window,
    /// Where a calendar's days begin.
    pub(crate) zone: Tz,
}

/// The order in which windows that are made together are named: those that share slices one after the other.
pub(crate) fn rank(window: Window) -> u32 {
    window.slice_seconds().unwrap_or(u32::MAX)
}

/// An amount, when it happened, and before when nothing happens that may still come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) amount: i128,
    pub(crate) at: Timestamp,
    pub(crate) floor: Timestamp,
}

/// What something took in bytes beside itself, and what it takes now, as far as that is not the same. What made no
/// difference before counts for nothing, whether it was dropped or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resized {
    pub(crate) before: usize,
    pub(crate) after: usize,
}

/// One or more windows that were made together. Each has an id, and a number: its place among them.
///
/// Those that slide over slices of one width share these: one write for each amount, and a running sum for each window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Windows {
    /// What most have: it takes no memory beside itself.
    One {
        id: u32,
        window: Single,
    },
    Many(Box<Group>),
}

/// A window by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Single {
    Sliding { slices: Slices, view: View },
    Other(Other),
}

/// A window that has no slices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Other {
    Bucket(Bucket),
    Calendar(Calendar),
    Wallet(Wallet),
}

/// One window, as it is read.
enum Seen<'a> {
    Sliding(&'a Slices, &'a View),
    Other(&'a Other),
}

impl Windows {
    /// Empty windows of these ids, one at least, in the order of their [`rank`], whose heads are at `at`.
    pub(crate) fn new(windows: impl Iterator<Item = (u32, Terms)> + Clone, at: Timestamp) -> Self {
        let mut first = windows.clone();
        match (first.next(), first.next()) {
            (Some((id, terms)), None) => Self::One {
                id,
                window: Single::new(terms, at),
            },
            _ => Self::Many(Box::new(Group::new(windows, at))),
        }
    }

    /// The ids by number.
    pub(crate) fn ids(&self) -> &[u32] {
        match self {
            Self::One { id, .. } => std::slice::from_ref(id),
            Self::Many(group) => group.ids(),
        }
    }

    fn seen(&self, number: usize) -> Seen<'_> {
        match self {
            Self::One { window, .. } => window.seen(),
            Self::Many(group) => group.seen(number),
        }
    }

    /// What is in the window of this number at its head.
    pub(crate) fn sum(&self, number: usize, terms: Terms) -> i128 {
        match self.seen(number) {
            Seen::Sliding(_, view) => view.sum(),
            Seen::Other(other) => other.sum(terms),
        }
    }

    /// What is in it at `by`, or at its head where that is later, if nothing more comes.
    pub(crate) fn sum_by(&self, number: usize, terms: Terms, by: Timestamp) -> i128 {
        match self.seen(number) {
            Seen::Sliding(slices, view) => slices.sum_by(view, width(terms).index(by)),
            Seen::Other(other) => {
                let mut then = other.clone();
                then.advance(terms, by);
                then.sum(terms)
            }
        }
    }

    /// Whether the window of this number holds what happened at `at`, to which or beyond which its head has come.
    pub(crate) fn holds(&self, number: usize, terms: Terms, at: Timestamp) -> bool {
        match self.seen(number) {
            Seen::Sliding(slices, view) => slices.holds(view, width(terms).index(at)),
            Seen::Other(Other::Bucket(_) | Other::Wallet(_)) => true,
            Seen::Other(Other::Calendar(calendar)) => calendar.holds(at),
        }
    }

    /// When its sum, which is at least `threshold` now, falls below it if nothing more comes; `None` when that is
    /// after `by`.
    pub(crate) fn falls_below(
        &self,
        number: usize,
        terms: Terms,
        (threshold, by): (i128, Timestamp),
    ) -> Option<Timestamp> {
        debug_assert!(0 < threshold, "nothing falls below {threshold}");
        debug_assert!(
            threshold <= self.sum(number, terms),
            "it is below {threshold} already"
        );
        match self.seen(number) {
            Seen::Sliding(slices, view) => {
                let width = width(terms);
                let falls = slices.falls_below(view, threshold, width.index(by))?;
                Some(width.start(falls))
            }
            Seen::Other(Other::Bucket(bucket)) => bucket.falls_below(terms.window, threshold, by),
            Seen::Other(Other::Calendar(calendar)) => calendar.falls_below(by),
            Seen::Other(Other::Wallet(_)) => None,
        }
    }

    /// Whether it makes no difference whether what is in the window of this number is kept, or made anew by the next
    /// amount, when nothing from before `floor` can come any more.
    pub(crate) fn is_forgettable(&self, number: usize, terms: Terms, floor: Timestamp) -> bool {
        let from = match self.seen(number) {
            Seen::Sliding(slices, view) => width(terms).start(slices.forgettable_from(view)),
            Seen::Other(other) => other.forgettable_from(terms),
        };
        from <= floor
    }

    /// Moves the head of the window of this number to `to`, when a part of what it holds leaves it, and lets go of
    /// what has left it by then.
    pub(crate) fn advance(&mut self, number: usize, terms: Terms, to: Timestamp) {
        match self {
            Self::One { window, .. } => window.advance(terms, to),
            Self::Many(group) => group.advance(number, terms, to),
        }
    }

    /// Moves all heads to where an amount happened, and adds it to every window that holds that place. `terms` are
    /// those of the window of a number, which has that id.
    pub(crate) fn add(&mut self, terms: impl Fn(usize, u32) -> Terms, amount: Amount) -> Resized {
        debug_assert!(0 < amount.amount, "{amount:?} is not above zero");
        match self {
            Self::One { id, window } => window.add(terms(0, *id), amount),
            Self::Many(group) => group.add(terms, amount),
        }
    }

    /// Empties each window in which nothing makes a difference any more, when nothing from before `floor` can come.
    pub(crate) fn forget(&mut self, terms: impl Fn(usize, u32) -> Terms, floor: Timestamp) {
        if let Self::Many(group) = self {
            group.forget(terms, floor);
        }
    }

    /// Drops the window of this number, which is not the only one, and what only it looked at.
    pub(crate) fn remove(&mut self, number: usize) {
        match self {
            Self::One { id, .. } => unreachable!("window {id} is the only one"),
            Self::Many(group) => group.remove(number),
        }
    }

    /// Takes note of the time zone, which may be another one now: a calendar's period ends where it does there. Says
    /// whether that is another moment than before.
    pub(crate) fn change_zone(&mut self, number: usize, terms: Terms) -> bool {
        let other = match self {
            Self::One { window, .. } => window.other(),
            Self::Many(group) => group.other(number),
        };
        match (other, terms.window) {
            (Some(Other::Calendar(calendar)), Window::Calendar(period)) => {
                calendar.change_zone(period, terms.zone)
            }
            _ => false,
        }
    }

    /// Bytes that it takes beside itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::One { window, .. } => window.heap_bytes(),
            Self::Many(group) => size_of::<Group>() + group.heap_bytes(),
        }
    }

    /// How many of the windows hold something.
    pub(crate) fn holding(&self) -> usize {
        let numbers = 0..self.ids().len();
        let holds = |number: &usize| match self.seen(*number) {
            Seen::Sliding(_, view) => view.sum() != 0,
            Seen::Other(other) => !other.is_empty(),
        };
        numbers.filter(holds).count()
    }
}

/// Of a window that slides.
fn width(terms: Terms) -> Width {
    match Width::of(terms.window) {
        Some(width) => width,
        None => unreachable!("a sliding window's state read as {}", terms.window),
    }
}

impl Single {
    fn new(terms: Terms, at: Timestamp) -> Self {
        match Width::of(terms.window) {
            Some(width) => Self::Sliding {
                slices: Slices::new(width.index(at)),
                view: View::new(terms.window),
            },
            None => Self::Other(Other::new(terms, at)),
        }
    }

    fn seen(&self) -> Seen<'_> {
        match self {
            Self::Sliding { slices, view } => Seen::Sliding(slices, view),
            Self::Other(other) => Seen::Other(other),
        }
    }

    fn other(&mut self) -> Option<&mut Other> {
        match self {
            Self::Sliding { .. } => None,
            Self::Other(other) => Some(other),
        }
    }

    fn advance(&mut self, terms: Terms, to: Timestamp) {
        match self {
            Self::Sliding { slices, view } => {
                slices.advance(std::slice::from_mut(view), 0, width(terms).index(to));
            }
            Self::Other(other) => other.advance(terms, to),
        }
    }

    fn add(&mut self, terms: Terms, Amount { amount, at, .. }: Amount) -> Resized {
        match self {
            Self::Sliding { slices, view } => {
                let index = width(terms).index(at);
                slices.add(std::slice::from_mut(view), index, amount)
            }
            Self::Other(other) => {
                other.add(terms, at, amount);
                Resized::default()
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Sliding { slices, .. } => slices.heap_bytes(),
            Self::Other(_) => 0,
        }
    }
}

impl Other {
    fn new(terms: Terms, at: Timestamp) -> Self {
        match terms.window {
            Window::Sliding { .. } => unreachable!("{} has slices", terms.window),
            Window::Concurrent => unreachable!("{} is in no plan", terms.window),
            Window::Bucket { .. } => Self::Bucket(Bucket::new(at)),
            Window::Calendar(period) => Self::Calendar(Calendar::new(period, terms.zone, at)),
            Window::Wallet => Self::Wallet(Wallet::default()),
        }
    }

    fn sum(&self, terms: Terms) -> i128 {
        match self {
            Self::Bucket(bucket) => bucket.level(terms.window),
            Self::Calendar(calendar) => calendar.sum(),
            Self::Wallet(wallet) => wallet.spent(),
        }
    }

    fn advance(&mut self, terms: Terms, to: Timestamp) {
        match (self, terms.window) {
            (Self::Calendar(calendar), Window::Calendar(period)) => {
                calendar.advance(period, terms.zone, to);
            }
            (Self::Bucket(bucket), window) => bucket.advance(window, to),
            (Self::Calendar(_), window) => unreachable!("a calendar's state read as {window}"),
            (Self::Wallet(_), _) => {}
        }
    }

    fn add(&mut self, terms: Terms, at: Timestamp, amount: i128) {
        self.advance(terms, at);
        match self {
            Self::Bucket(bucket) => bucket.add(terms.window, amount),
            Self::Calendar(calendar) => calendar.add(at, amount),
            Self::Wallet(wallet) => wallet.add(amount),
        }
    }

    /// From when on it makes no difference whether this state is kept, or made anew by the next amount.
    fn forgettable_from(&self, terms: Terms) -> Timestamp {
        match self {
            Self::Bucket(bucket) => bucket.forgettable_from(terms.window),
            Self::Calendar(calendar) => calendar.ends_at(),
            Self::Wallet(wallet) => wallet.forgettable_from(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Bucket(bucket) => bucket.is_empty(),
            Self::Calendar(calendar) => calendar.sum() == 0,
            Self::Wallet(wallet) => wallet.spent() == 0,
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Bucket(bucket) => bucket.clear(),
            Self::Calendar(calendar) => calendar.clear(),
            Self::Wallet(wallet) => wallet.clear(),
        }
    }
}

#[cfg(test)]
mod tests;
