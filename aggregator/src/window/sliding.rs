//! Sliding windows, made of slices that begin at whole multiples of their width.
//!
//! With a window of n slices, the slices head-n..=head count: n + 1 of them, the oldest in full although a part of it
//! lies more than the window's length back. So no span of the window's length ever holds more than the sum tells.
//!
//! Windows that take the same amounts share their [`Slices`], which go as far back as the longest of them needs. Each
//! has a [`View`] of them: its sum, and where its oldest slice lies.
//!
//! The newest slice that holds something is *open*: what comes in order goes there. The others are closed and packed.

use schemas::policy::Window;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Resized;
use super::packed::{Closed, Packed};
use super::sum::Sum;

/// Which slices there are: they are of one width, and numbered from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Width(u16);

impl Width {
    /// That of the slices of a sliding window; `None` for other windows.
    pub(super) fn of(window: Window) -> Option<Self> {
        let seconds = window.slice_seconds()?;
        Some(Self(
            u16::try_from(seconds).expect("a slice is at most an hour"),
        ))
    }

    /// Three of them are all there are, and dividing by a number that is known beforehand takes a fraction of the time.
    pub(super) fn index(self, at: Timestamp) -> i64 {
        let second = at.second();
        match self.0 {
            1 => second,
            60 => second.div_euclid(60),
            3_600 => second.div_euclid(3_600),
            other => second.div_euclid(other.into()),
        }
    }

    pub(super) fn start(self, index: i64) -> Timestamp {
        Timestamp::from_seconds(index.saturating_mul(self.0.into()))
    }
}

/// How far apart two slices of one window are.
fn apart(later: i64, earlier: i64) -> u16 {
    u16::try_from(later - earlier).expect("slices of one window are at most 720 apart")
}

/// What sliding windows look at. None of it is older than what one of them holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slices {
    open_index: i64,
    /// Nothing while no window holds anything.
    open: Sum,
    closed: Packed,
}

/// One window on slices that it may share with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// What its slices hold together. When that is nothing, none of them holds anything; else the open one does.
    sum: Sum,
    /// How many slices the window's length is.
    count: u16,
    /// By how much its head, the newest slice to which it has come, lies behind the open slice.
    ahead: u16,
    /// By how much its oldest slice lies before the open one, and where that one's bytes are. Of a window that holds
    /// nothing it is the open one.
    oldest_back: u16,
    oldest_at: u16,
}

impl View {
    /// An empty one whose head is at the open slice.
    pub(super) fn new(window: Window) -> Self {
        let count = match (window, window.slice_seconds()) {
            (Window::Sliding { seconds }, Some(width)) => seconds / width,
            _ => unreachable!("a sliding window made of {window}"),
        };
        Self {
            sum: Sum::default(),
            count: u16::try_from(count).expect("a window has at most 720 slices"),
            ahead: 0,
            oldest_back: 0,
            oldest_at: 0,
        }
    }

    pub(super) fn sum(&self) -> i128 {
        self.sum.get()
    }

    fn is_empty(&self) -> bool {
        self.sum() == 0
    }

    /// The slice whose start is the moment at which slice `index` no longer counts.
    fn leaves(&self, index: i64) -> i64 {
        index.saturating_add(i64::from(self.count) + 1)
    }

    /// Makes it hold nothing, or only what the open slice is about to get, where the closed ones take so many bytes.
    fn clear(&mut self, closed_bytes: u16) {
        self.sum = Sum::default();
        (self.oldest_back, self.oldest_at) = (0, closed_bytes);
    }
}

impl Slices {
    /// Empty ones, the open one of which is at `index`.
    pub(super) fn new(index: i64) -> Self {
        Self {
            open_index: index,
            open: Sum::default(),
            closed: Packed::new(),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.closed.heap_bytes()
    }

    pub(super) fn open_index(&self) -> i64 {
        self.open_index
    }

    fn head(&self, view: &View) -> i64 {
        self.open_index.saturating_add(view.ahead.into())
    }

    /// Whether the window holds the slice `index`, to which or beyond which its head has come.
    pub(super) fn holds(&self, view: &View, index: i64) -> bool {
        self.head(view) < view.leaves(index)
    }

    /// From which slice on it makes no difference whether what the window holds is kept.
    pub(super) fn forgettable_from(&self, view: &View) -> i64 {
        view.leaves(self.head(view))
    }

    fn closed_bytes(&self) -> u16 {
        self.closed
            .len()
            .try_into()
            .expect("720 slices take less than 64 KiB")
    }

    /// The view as it is with its head at `head`, or where it is if that is later.
    fn moved(&self, view: &View, head: i64) -> View {
        let mut view = view.clone();
        let mut oldest = self.open_index - i64::from(view.oldest_back);
        if head < view.leaves(oldest) || view.is_empty() {
            return view;
        }
        if view.leaves(self.open_index) <= head {
            view.clear(self.closed_bytes());
            return view;
        }
        let (mut sum, mut at) = (view.sum(), view.oldest_at);
        for (end, slice) in self.closed.iter_from(at.into()) {
            sum -= slice.amount;
            oldest += i64::from(slice.gap);
            at = end as u16;
            if head < view.leaves(oldest) {
                break;
            }
        }
        debug_assert!(0 < sum, "more left the window than was in it");
        (view.sum, view.oldest_at) = (sum.into(), at);
        view.oldest_back = apart(self.open_index, oldest);
        view
    }

    /// What the window holds when its head has come to `head`, if nothing more comes.
    pub(super) fn sum_by(&self, view: &View, head: i64) -> i128 {
        self.moved(view, head).sum()
    }

    /// Moves the head of one of the `views` to `head`, which is no further than where its open slice leaves it.
    pub(super) fn advance(&mut self, views: &mut [View], which: usize, head: i64) {
        let view = &mut views[which];
        if self.head(view) < head {
            *view = self.moved(view, head);
            view.ahead = apart(head, self.open_index);
            self.trim(views);
        }
    }

    /// Empties the windows in which nothing makes a difference any more, when nothing from before slice `floor` comes.
    pub(super) fn forget(&mut self, views: &mut [View], floor: i64) {
        let closed_bytes = self.closed_bytes();
        let mut is_any = false;
        for view in views.iter_mut() {
            if !view.is_empty() && self.forgettable_from(view) <= floor {
                view.clear(closed_bytes);
                is_any = true;
            }
        }
        if is_any {
            self.trim(views);
        }
    }

    /// Drops what none of the `views`, which are all there are, holds any more.
    pub(super) fn trim(&mut self, views: &mut [View]) {
        let holders = views.iter().filter(|view| !view.is_empty());
        let first = holders.map(|view| view.oldest_at).min();
        match first {
            Some(0) => {}
            Some(first) => {
                self.closed.drop_front(first.into());
                views.iter_mut().for_each(|view| view.oldest_at -= first);
            }
            None => {
                (self.open, self.closed) = (Sum::default(), Packed::new());
                views.iter_mut().for_each(|view| view.oldest_at = 0);
            }
        }
    }

    /// Counts `amount` in slice `index`, to which the heads of the `views` move, which are all there are.
    pub(super) fn add(&mut self, views: &mut [View], index: i64, amount: i128) -> Resized {
        if index == self.open_index {
            self.add_open(views, amount);
            return Resized::default();
        }
        let before = self.heap_bytes();
        match self.open_index < index {
            true => {
                self.open(views, index);
                self.add_open(views, amount);
            }
            false => self.add_closed(views, index, amount),
        }
        let after = self.heap_bytes();
        Resized { before, after }
    }

    fn add_open(&mut self, views: &mut [View], amount: i128) {
        let mut is_held = false;
        for view in views {
            if view.ahead <= view.count {
                view.sum = (view.sum() + amount).into();
                is_held = true;
            }
        }
        if is_held {
            self.open = (self.open.get() + amount).into();
        }
    }

    /// Makes slice `index` the open one, and lets go of what leaves the windows by then.
    fn open(&mut self, views: &mut [View], index: i64) {
        for view in views.iter_mut() {
            let head = self.head(view);
            if head < index {
                *view = self.moved(view, index);
            }
            view.ahead = u16::try_from(head - index).unwrap_or(0);
        }
        self.trim(views);
        if self.open.get() != 0 {
            let gap = apart(index, self.open_index);
            let amount = self.open.get();
            self.closed.push(Closed { gap, amount });
            let closed_bytes = self.closed_bytes();
            for view in views {
                match view.is_empty() {
                    true => view.oldest_at = closed_bytes,
                    false => view.oldest_back += gap,
                }
            }
        }
        (self.open_index, self.open) = (index, Sum::default());
    }

    /// Adds to a slice before the open one, which may be new.
    fn add_closed(&mut self, views: &mut [View], index: i64, amount: i128) {
        if !views.iter().any(|view| self.holds(view, index)) {
            return;
        }
        let back = apart(self.open_index, index);
        if self.open.get() == 0 {
            // There is nothing yet: this slice is the newest that is about to hold something.
            views.iter_mut().for_each(|view| view.ahead += back);
            self.open_index = index;
            return self.add_open(views, amount);
        }
        let before = self.closed_bytes();
        let at = self.insert(views, index, amount);
        let grown = self.closed_bytes() - before;
        for view in views {
            // Those whose oldest slice lies behind the new one, or is the one before which it was put.
            if view.is_empty() || view.oldest_back < back {
                view.oldest_at += grown;
            }
            if self.holds(view, index) {
                if view.is_empty() || view.oldest_back < back {
                    (view.oldest_back, view.oldest_at) = (back, at);
                }
                view.sum = (view.sum() + amount).into();
            }
        }
    }

    /// Puts `amount` into slice `index`, which is at or before the open one's, and returns where its bytes are.
    fn insert(&mut self, views: &[View], index: i64, amount: i128) -> u16 {
        let first_back = views.iter().map(|view| view.oldest_back).max();
        let first = self.open_index - i64::from(first_back.unwrap_or(0));
        if index < first {
            let gap = apart(first, index);
            self.closed.replace(0..0, &[Closed { gap, amount }]);
            return 0;
        }
        let mut at = first;
        let found = self.closed.iter().find_map(|(bytes, slice)| {
            let (here, next) = (at, at + i64::from(slice.gap));
            at = next;
            (index < next).then_some((here, next, bytes, slice))
        });
        let (here, next, bytes, mut slice) = found.expect("the slices lead to the open one");
        let start = bytes.start;
        let place = if here == index {
            slice.amount += amount;
            self.closed.replace(bytes, &[slice]);
            start
        } else {
            slice.gap = apart(index, here);
            let gap = apart(next, index);
            self.closed.replace(bytes, &[slice, Closed { gap, amount }]);
            start + slice.bytes()
        };
        u16::try_from(place).expect("720 slices take less than 64 KiB")
    }

    /// When what the window holds, which is at least `threshold` now, falls below it if nothing more comes: the slice
    /// at whose start it does. `None` when that is after slice `by`.
    pub(super) fn falls_below(&self, view: &View, threshold: i128, by: i64) -> Option<i64> {
        let mut sum = view.sum();
        let mut index = self.open_index - i64::from(view.oldest_back);
        let open = Closed {
            gap: 0,
            amount: self.open.get(),
        };
        let closed = self.closed.iter_from(view.oldest_at.into());
        for slice in closed.map(|(_, slice)| slice).chain([open]) {
            let leaves = view.leaves(index);
            if by < leaves {
                return None;
            }
            sum -= slice.amount;
            if sum < threshold {
                return Some(leaves);
            }
            index += i64::from(slice.gap);
        }
        unreachable!("an empty window holds {threshold}")
    }
}
