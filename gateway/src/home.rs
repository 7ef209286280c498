//! Where the ledger of strict limits lives: in the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use schemas::time::Timestamp;

use crate::ledger::restore::Restoring;
use crate::ledger::{Bounds, Commit, Counts, Ending, Id, Ledger, Line, Outcome};

/// A ledger, and whether what it says can be relied on. None of its calls waits for anything but another's few lookups.
pub(crate) struct Home {
    ledger: Mutex<Ledger>,
    /// Everything that was spent before this process was is counted.
    complete: AtomicBool,
}

impl Home {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(bounds)),
            complete: AtomicBool::new(false),
        }
    }

    /// Whether it may admit: not before it knows what others were admitted.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    pub(crate) fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn forget(&self) {
        self.complete.store(false, Ordering::Release);
    }

    /// As [`Ledger::reserve`]; `None` while it is not complete.
    pub(crate) fn reserve(
        &self,
        id: Id,
        lines: &mut [Line],
        ttl: Duration,
        now: Timestamp,
    ) -> Option<Outcome> {
        self.is_complete()
            .then(|| self.ledger.lock().reserve(id, lines, ttl, now))
    }

    /// As [`Ledger::spend`]; `None` while it is not complete.
    pub(crate) fn spend(
        &self,
        id: Option<Id>,
        lines: &mut [Line],
        now: Timestamp,
    ) -> Option<Outcome> {
        self.is_complete()
            .then(|| self.ledger.lock().spend(id, lines, now))
    }

    /// As [`Ledger::look`]; `None` while it is not complete.
    pub(crate) fn look(&self, lines: &mut [Line], now: Timestamp) -> Option<bool> {
        self.is_complete()
            .then(|| self.ledger.lock().look(lines, now))
    }

    /// As [`Ledger::commit`], complete or not: what was spent counts always.
    pub(crate) fn commit(&self, id: Id, lines: &mut [Line], now: Timestamp) -> (Commit, bool) {
        self.ledger.lock().commit(id, lines, now)
    }

    /// As [`Ledger::release`].
    pub(crate) fn release(&self, id: Id, now: Timestamp) -> Option<(Ending, bool)> {
        self.ledger.lock().release(id, now)
    }

    /// As [`Restoring::add`].
    pub(crate) fn restore(
        &self,
        restoring: &mut Restoring,
        id: Id,
        at: Timestamp,
        lines: impl IntoIterator<Item = Line>,
    ) {
        restoring.add(&mut self.ledger.lock(), id, at, lines);
    }

    /// Counts what was restored. From here on the ledger is complete.
    pub(crate) fn finish(&self, restoring: Restoring) {
        restoring.finish(&mut self.ledger.lock());
        self.complete();
    }

    pub(crate) fn sweep(&self, now: Timestamp) {
        self.ledger.lock().sweep(now);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.ledger.lock().counts()
    }
}
