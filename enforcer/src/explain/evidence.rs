use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use schemas::orders::Order;
use schemas::subject::Dimension;
use schemas::time::Timestamp;

/// Something that happened, with what it adds to a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) source: String,
    pub(crate) id: String,
    pub(crate) tenant: String,
    pub(crate) at: Timestamp,
    /// Above zero.
    pub(crate) amount: i128,
    /// By whom and on what, besides the tenant.
    pub(crate) by: Vec<(Dimension, String)>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// A record among events, as far as it makes a difference to a sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Happened(Happened),
    /// What came before it counts no more.
    Cleared(Box<Order>),
}

/// The events that a sum was made of, in the log's order: how many, what they come to, and the newest of them.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// The first moment that counts.
    pub(crate) from: Timestamp,
    shown_max: usize,
    /// Oldest first.
    pub(crate) newest: VecDeque<Happened>,
    pub(crate) events: u64,
    pub(crate) sum: i128,
    /// The order that cleared the limit last: what came before it is not counted.
    pub(crate) cleared: Option<Order>,
    /// Sources and ids, hashed: an event that comes again counts once.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Evidence {
    /// Of what happened from `from` on, the newest `shown_max` are kept.
    pub(crate) fn new(from: Timestamp, shown_max: usize) -> Self {
        Self {
            from,
            shown_max,
            newest: VecDeque::new(),
            events: 0,
            sum: 0,
            cleared: None,
            seen: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn take(&mut self, happened: Happened) {
        let name = (&happened.tenant, &happened.source, &happened.id);
        if happened.at < self.from || !self.seen.insert(self.hasher.hash_one(name)) {
            return;
        }
        self.events += 1;
        self.sum = self.sum.saturating_add(happened.amount);
        if self.newest.len() == self.shown_max {
            self.newest.pop_front();
        }
        if self.shown_max != 0 {
            self.newest.push_back(happened);
        }
    }

    /// Nothing that was taken counts any more. An order that comes again changes nothing.
    pub(crate) fn clear(&mut self, order: Order) {
        if self
            .cleared
            .as_ref()
            .is_some_and(|known| order.seq <= known.seq)
        {
            return;
        }
        self.newest.clear();
        (self.events, self.sum) = (0, 0);
        self.cleared = Some(order);
    }

    /// Events that are not among the newest.
    pub(crate) fn more(&self) -> u64 {
        self.events - self.newest.len() as u64
    }
}
