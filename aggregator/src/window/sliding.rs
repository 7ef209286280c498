//! A sliding window, made of slices that begin at whole multiples of their width.
//!
//! With a window of n slices, the slices head-n..=head count: n + 1 of them, the oldest in full although a part of it
//! lies more than the window's length back. So no span of the window's length ever holds more than the sum tells.

use std::collections::VecDeque;

use schemas::policy::Window;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sliding {
    /// The newest slice: its start, in slice widths since 1970.
    head: i64,
    /// What the slices hold together.
    sum: i128,
    /// Those that hold something, oldest first.
    slices: VecDeque<Slice>,
}

/// Packed: there may be hundreds for each of millions of counters, and a whole `i128` would take a third more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(Rust, packed(8))]
struct Slice {
    index: i64,
    amount: i128,
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
                count: i64::from(seconds / width),
            },
            _ => unreachable!("a sliding window's state read as {window}"),
        }
    }

    fn index(self, at: Timestamp) -> i64 {
        at.second().div_euclid(self.width)
    }

    /// The slice whose start is the moment at which slice `index` no longer counts.
    fn leaves(self, index: i64) -> i64 {
        index.saturating_add(self.count + 1)
    }

    fn start(self, index: i64) -> Timestamp {
        Timestamp::from_seconds(index.saturating_mul(self.width))
    }
}

impl Sliding {
    pub(super) fn new(window: Window, at: Timestamp) -> Self {
        Self {
            head: Geometry::of(window).index(at),
            sum: 0,
            slices: VecDeque::new(),
        }
    }

    pub(super) fn sum(&self) -> i128 {
        self.sum
    }

    pub(super) fn advance(&mut self, window: Window, to: Timestamp) {
        let geometry = Geometry::of(window);
        self.head = self.head.max(geometry.index(to));
        while let Some(&oldest) = self.slices.front() {
            if self.head < geometry.leaves(oldest.index) {
                break;
            }
            self.sum -= oldest.amount;
            self.slices.pop_front();
        }
        debug_assert!(0 <= self.sum, "more left the window than was in it");
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
        self.sum += amount;
        let newer = self.slices.iter().rev().take_while(|s| index < s.index);
        let place = self.slices.len() - newer.count();
        match place.checked_sub(1).and_then(|i| self.slices.get_mut(i)) {
            Some(slice) if slice.index == index => slice.amount += amount,
            _ => {
                if self.slices.is_empty() {
                    // Most subjects are quiet, and a queue that grows begins with four.
                    self.slices.reserve_exact(1);
                }
                self.slices.insert(place, Slice { index, amount });
            }
        }
        true
    }

    pub(super) fn falls_below(
        &self,
        window: Window,
        threshold: i128,
        by: Timestamp,
    ) -> Option<Timestamp> {
        let geometry = Geometry::of(window);
        let by = geometry.index(by);
        let mut sum = self.sum;
        for slice in &self.slices {
            let leaves = geometry.leaves(slice.index);
            if by < leaves {
                return None;
            }
            sum -= slice.amount;
            if sum < threshold {
                return Some(geometry.start(leaves));
            }
        }
        unreachable!("an empty window holds {threshold}")
    }

    pub(super) fn forgettable_from(&self, window: Window) -> Timestamp {
        let geometry = Geometry::of(window);
        geometry.start(geometry.leaves(self.head))
    }
}
