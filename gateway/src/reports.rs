//! What the gateway has to tell the log, waiting to be told. A check never waits for the log: it leaves its report
//! here. While the log is away reports pile up to a bound; beyond that the oldest go, and are counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use tokio::sync::Notify;

use crate::cache::Verdict;
use crate::request::Ask;

/// One request that was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub request_id: String,
    pub at: Timestamp,
    pub ask: Ask,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counted, and to be told as usage.
    Admitted,
    /// Counted under limits in mode `strict`, and to be told as usage that settles a reservation.
    Spent {
        /// The reservation's name, one for each.
        reservation: String,
        receipt: Receipt,
    },
    Refused(Refused),
}

/// Says when the log has a report. A clone waits for the same.
#[derive(Clone, Debug, Default)]
pub struct Receipt(Arc<Given>);

#[derive(Debug, Default)]
struct Given {
    given: AtomicBool,
    some: Notify,
}

impl Receipt {
    /// The log has it.
    pub(crate) fn give(&self) {
        self.0.given.store(true, Ordering::Release);
        self.0.some.notify_waiters();
    }

    /// Resolves when the log has it. May be dropped while waiting.
    pub async fn given(&self) {
        loop {
            let some = self.0.some.notified();
            if self.0.given.load(Ordering::Acquire) {
                return;
            }
            some.await;
        }
    }
}

/// Whether they are of one report.
impl PartialEq for Receipt {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Receipt {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub subject: Subject,
    pub limits: Vec<String>,
    pub verdict: Verdict,
    pub status: u16,
    pub retry_after_s: Option<u64>,
    /// The decision that it rests on; `None` where the gateway's own count refused.
    pub decision: Option<String>,
}

/// A bounded queue that drops its oldest.
pub struct Reports {
    waiting: Mutex<VecDeque<Report>>,
    waiting_max: usize,
    some: Notify,
}

impl Reports {
    /// # Panics
    /// When `waiting_max` is zero.
    #[must_use]
    pub fn new(waiting_max: usize) -> Self {
        assert!(0 < waiting_max, "a queue holds at least one");
        Self {
            waiting: Mutex::default(),
            waiting_max,
            some: Notify::new(),
        }
    }

    /// Queues a report. Returns the oldest one if it had to go for that.
    pub fn push(&self, report: Report) -> Option<Report> {
        let mut waiting = self.waiting.lock();
        let dropped = (waiting.len() == self.waiting_max).then(|| waiting.pop_front());
        waiting.push_back(report);
        if waiting.len() == 1 {
            self.some.notify_one();
        }
        dropped.flatten()
    }

    /// Queues a report that could not be sent before all others, or returns it when there is no room.
    pub fn push_back_front(&self, report: Report) -> Option<Report> {
        let mut waiting = self.waiting.lock();
        if waiting.len() == self.waiting_max {
            return Some(report);
        }
        waiting.push_front(report);
        self.some.notify_one();
        None
    }

    /// Takes at most `max` of the oldest.
    #[must_use]
    pub fn take(&self, max: usize) -> Vec<Report> {
        let mut waiting = self.waiting.lock();
        let taken = max.min(waiting.len());
        waiting.drain(..taken).collect()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves when there is something to take. For one waiter; may be dropped while waiting.
    pub async fn some(&self) {
        while self.is_empty() {
            self.some.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: usize) -> Report {
        Report {
            request_id: id.to_string(),
            at: Timestamp::from_seconds(0),
            ask: Ask::default(),
            kind: Kind::Admitted,
        }
    }

    fn ids(reports: &[Report]) -> Vec<&str> {
        reports.iter().map(|r| r.request_id.as_str()).collect()
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let reports = Reports::new(3);
        let dropped: Vec<Option<Report>> = (0..5).map(|id| reports.push(report(id))).collect();
        let dropped: Vec<Report> = dropped.into_iter().flatten().collect();
        assert_eq!(ids(&dropped), ["0", "1"]);
        assert_eq!(ids(&reports.take(2)), ["2", "3"]);
        assert_eq!(ids(&reports.take(9)), ["4"]);
    }

    #[test]
    fn what_could_not_be_sent_comes_first_again() {
        let reports = Reports::new(2);
        reports.push(report(1));
        assert_eq!(reports.push_back_front(report(0)), None);
        assert_eq!(reports.push_back_front(report(9)), Some(report(9)));
        assert_eq!(ids(&reports.take(9)), ["0", "1"]);
    }

    #[tokio::test]
    async fn wakes_who_waits() {
        let reports = Reports::new(2);
        let both = async {
            tokio::join!(reports.some(), async {
                tokio::task::yield_now().await;
                reports.push(report(1));
            })
        };
        both.await;
        reports.some().await;
        assert_eq!(reports.len(), 1);
    }
}
