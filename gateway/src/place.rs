//! Where the ledger of strict limits lives: in the process, or in Redis where several gateways share one.

pub(crate) mod redis;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use schemas::time::Timestamp;

use crate::ledger::restore::Restoring;
use crate::ledger::{Bounds, Commit, Counts, Ending, Id, Ledger, Line, Mark, Outcome};
use redis::RedisLedger;

/// The accounts of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) lines: Vec<Line>,
    /// What each is called where processes share it, and in which units its amounts are told there.
    pub(crate) names: Vec<Name>,
    /// Now; out: when it was judged, by the ledger's clock.
    pub(crate) at: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) quantum: u64,
}

/// An order that clears accounts.
#[derive(Clone, Debug)]
pub(crate) struct Clearing {
    pub(crate) mark: Mark,
    pub(crate) accounts: Accounts,
}

/// A ledger, and whether what it says can be relied on.
pub(crate) enum Place {
    /// None of its calls waits for anything but another's few lookups.
    Process(Box<ProcessLedger>),
    Redis(Box<RedisLedger>),
}

pub(crate) struct ProcessLedger {
    ledger: Mutex<Ledger>,
    /// Everything that was spent before this process was is counted.
    complete: AtomicBool,
}

// === impl Place ===

impl Place {
    pub(crate) fn in_process(bounds: Bounds) -> Self {
        Self::Process(Box::new(ProcessLedger {
            ledger: Mutex::new(Ledger::new(bounds)),
            complete: AtomicBool::new(false),
        }))
    }

    /// Whether accounts are known by their names, too.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Place::Redis(_))
    }

    /// Whether a gateway may be asked: one whose Redis is away still answers for all other limits.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Place::Process(process) => process.is_complete(),
            Place::Redis(_) => true,
        }
    }

    /// As [`Ledger::reserve`]; `None` while it does not answer, or does not know yet what others were admitted.
    pub(crate) async fn reserve(
        &self,
        id: Id,
        accounts: &mut Accounts,
        ttl: Duration,
        now: Timestamp,
    ) -> Option<Outcome> {
        match self {
            Place::Process(process) => {
                let mut ledger = process.asked()?;
                Some(ledger.reserve(id, &mut accounts.lines, ttl, now))
            }
            Place::Redis(redis) => redis.reserve(id, accounts, ttl).await,
        }
    }

    /// As [`Ledger::spend`]; `None` as of [`Place::reserve`].
    pub(crate) async fn spend(
        &self,
        id: Id,
        remember: bool,
        accounts: &mut Accounts,
        now: Timestamp,
    ) -> Option<Outcome> {
        match self {
            Place::Process(process) => {
                let mut ledger = process.asked()?;
                Some(ledger.spend(remember.then_some(id), &mut accounts.lines, now))
            }
            Place::Redis(redis) => redis.spend(id, accounts).await,
        }
    }

    /// As [`Ledger::look`]; `None` as of [`Place::reserve`].
    pub(crate) async fn look(&self, accounts: &mut Accounts, now: Timestamp) -> Option<bool> {
        match self {
            Place::Process(process) => {
                let mut ledger = process.asked()?;
                Some(ledger.look(&mut accounts.lines, now))
            }
            Place::Redis(redis) => redis.look(accounts).await,
        }
    }

    /// As [`Ledger::commit`], complete or not: what was spent counts always. Where Redis is away it is told later.
    pub(crate) async fn commit(
        &self,
        id: Id,
        accounts: &mut Accounts,
        now: Timestamp,
    ) -> (Commit, bool) {
        match self {
            Place::Process(process) => {
                let mut ledger = process.ledger.lock();
                ledger.commit(id, &mut accounts.lines, now)
            }
            Place::Redis(redis) => redis.commit(id, accounts).await,
        }
    }

    /// As [`Ledger::release`].
    pub(crate) async fn release(&self, id: Id, now: Timestamp) -> Option<(Ending, bool)> {
        match self {
            Place::Process(process) => process.ledger.lock().release(id, now),
            Place::Redis(redis) => redis.release(id).await,
        }
    }

    /// As [`Ledger::clear`]; Redis is told once it answers.
    pub(crate) fn clear(&self, clearing: Clearing, now: Timestamp) {
        match self {
            Place::Process(process) => {
                let mut ledger = process.ledger.lock();
                for line in &clearing.accounts.lines {
                    ledger.clear(line, clearing.mark, now);
                }
            }
            Place::Redis(redis) => redis.clear(clearing),
        }
    }

    /// Of the process; Redis drops by itself what has ended.
    pub(crate) fn sweep(&self, now: Timestamp) -> Counts {
        match self {
            Place::Process(process) => {
                let mut ledger = process.ledger.lock();
                ledger.sweep(now);
                ledger.counts()
            }
            Place::Redis(_) => Counts::default(),
        }
    }
}

// === impl ProcessLedger ===

impl ProcessLedger {
    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    pub(crate) fn set_complete(&self, complete: bool) {
        self.complete.store(complete, Ordering::Release);
    }

    fn asked(&self) -> Option<MutexGuard<'_, Ledger>> {
        self.is_complete().then(|| self.ledger.lock())
    }

    /// As [`Ledger::note_cleared`].
    pub(crate) fn note_cleared(&self, clearing: &Clearing) {
        let mut ledger = self.ledger.lock();
        for line in &clearing.accounts.lines {
            ledger.note_cleared(line.key, clearing.mark);
        }
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
        self.set_complete(true);
    }
}
