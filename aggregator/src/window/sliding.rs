//! A sliding window, made of slices that begin at whole multiples of their width.
//!
//! With a window of n slices, the slices head-n..=head count: n + 1 of them, the oldest in full although a part of it
//! lies more than the window's length back. So no span of the window's length ever holds more than the sum tells.
//!
//! The newest slice that holds something is *open*: what comes in order goes there. The others are closed and packed.

use schemas::policy::Window;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::packed::{Closed, Packed};
use super::sum::Sum;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sliding {
    /// The newest slice: its start, in slice widths since 1970.
    head: i64,
    /// What the slices hold together. When that is nothing, none of them holds anything.
    sum: Sum,
    open: Sum,
    /// By how much the open slice lies before the head.
    open_back: u16,
    /// By how much the oldest slice lies before the open one.
    oldest_back: u16,
    closed: Packed,
}

/// Width of a slice in seconds, and how many of them the window's length is.
#[derive(Clone, Copy)]
struct Geometry {
    width: i64,
    count: i64,
}

impl Geometry {
    fn of(window: Window) -> Self {
        match (window, window.slice_seconds()) {
            (Window::Sliding { seconds }, Some(width)) => Self {
                width: i64::from(width),
                count: divided(seconds.into(), width.into()),
            },
            _ => unreachable!("a sliding window's state read as {window}"),
        }
    }

    fn index(self, at: Timestamp) -> i64 {
        divided(at.second(), self.width)
    }

    /// The slice whose start is the moment at which slice `index` no longer counts.
    fn leaves(self, index: i64) -> i64 {
        index.saturating_add(self.count + 1)
    }

    fn start(self, index: i64) -> Timestamp {
        Timestamp::from_seconds(index.saturating_mul(self.width))
    }
}

/// The whole number of `width`s in `seconds`, rounded down. Three of them are all there are, and dividing by a number
/// that is known beforehand takes a fraction of the time.
fn divided(seconds: i64, width: i64) -> i64 {
    match width {
        1 => seconds,
        60 => seconds.div_euclid(60),
        3_600 => seconds.div_euclid(3_600),
        other => seconds.div_euclid(other),
    }
}

/// How far apart two slices of one window are.
fn apart(later: i64, earlier: i64) -> u16 {
    u16::try_from(later - earlier).expect("slices of one window are at most 720 apart")
}

impl Sliding {
    pub(super) fn new(window: Window, at: Timestamp) -> Self {
        Self {
            head: Geometry::of(window).index(at),
            sum: Sum::default(),
            open: Sum::default(),
            open_back: 0,
            oldest_back: 0,
            closed: Packed::new(),
        }
    }

    pub(super) fn sum(&self) -> i128 {
        self.sum.get()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.closed.heap_bytes()
    }

    fn open_index(&self) -> i64 {
        self.head - i64::from(self.open_back)
    }

    fn oldest_index(&self) -> i64 {
        self.open_index() - i64::from(self.oldest_back)
    }

    pub(super) fn advance(&mut self, window: Window, to: Timestamp) {
        let geometry = Geometry::of(window);
        let head = geometry.index(to);
        if head <= self.head {
            return;
        }
        let open = self.open_index();
        if self.sum() == 0 || geometry.leaves(open) <= head {
            *self = Self::new(window, to);
            return;
        }
        self.head = head;
        self.open_back = apart(head, open);
        let mut oldest = open - i64::from(self.oldest_back);
        let (mut sum, mut left_bytes) = (self.sum(), 0);
        for (bytes, slice) in self.closed.iter() {
            if head < geometry.leaves(oldest) {
                break;
            }
            sum -= slice.amount;
            oldest += i64::from(slice.gap);
            left_bytes = bytes.end;
        }
        debug_assert!(0 <= sum, "more left the window than was in it");
        if left_bytes != 0 {
            self.sum = sum.into();
            self.oldest_back = apart(open, oldest);
            self.closed.drop_front(left_bytes);
        }
    }

    pub(super) fn add(&mut self, window: Window, at: Timestamp, amount: i128) -> bool {
        let geometry = Geometry::of(window);
        let index = geometry.index(at);
        debug_assert!(
            index <= self.head,
            "the head moves before an amount is added"
        );
        if geometry.leaves(index) <= self.head {
            return false;
        }
        let open = self.open_index();
        if self.sum() == 0 {
            self.open = amount.into();
            self.open_back = apart(self.head, index);
        } else if index == open {
            self.open = (self.open.get() + amount).into();
        } else if open < index {
            let (gap, amount_before) = (apart(index, open), self.open.get());
            self.closed.push(Closed {
                gap,
                amount: amount_before,
            });
            self.open = amount.into();
            self.open_back = apart(self.head, index);
            self.oldest_back += gap;
        } else {
            self.add_closed(index, amount);
        }
        self.sum = (self.sum() + amount).into();
        true
    }

    /// Adds to a slice before the open one, which may be new.
    fn add_closed(&mut self, index: i64, amount: i128) {
        let mut at = self.oldest_index();
        if index < at {
            let gap = apart(at, index);
            self.closed.replace(0..0, &[Closed { gap, amount }]);
            self.oldest_back += gap;
            return;
        }
        let found = self.closed.iter().find_map(|(bytes, slice)| {
            let (here, next) = (at, at + i64::from(slice.gap));
            at = next;
            (index < next).then_some((here, next, bytes, slice))
        });
        let (here, next, bytes, mut slice) = found.expect("the slices lead to the open one");
        if here == index {
            slice.amount += amount;
            self.closed.replace(bytes, &[slice]);
        } else {
            slice.gap = apart(index, here);
            let gap = apart(next, index);
            self.closed.replace(bytes, &[slice, Closed { gap, amount }]);
        }
    }

    pub(super) fn falls_below(
        &self,
        window: Window,
        threshold: i128,
        by: Timestamp,
    ) -> Option<Timestamp> {
        let geometry = Geometry::of(window);
        let by = geometry.index(by);
        let (mut sum, mut index) = (self.sum(), self.oldest_index());
        let open = Closed {
            gap: 0,
            amount: self.open.get(),
        };
        for slice in self.closed.iter().map(|(_, slice)| slice).chain([open]) {
            let leaves = geometry.leaves(index);
            if by < leaves {
                return None;
            }
            sum -= slice.amount;
            if sum < threshold {
                return Some(geometry.start(leaves));
            }
            index += i64::from(slice.gap);
        }
        unreachable!("an empty window holds {threshold}")
    }

    pub(super) fn forgettable_from(&self, window: Window) -> Timestamp {
        let geometry = Geometry::of(window);
        geometry.start(geometry.leaves(self.head))
    }
}
