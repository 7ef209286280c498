//! Whether the log takes records: cheap to ask, and found out without traffic.
//!
//! Nothing is asked while records come and go. When the client library says that no server can be reached, or a
//! record was not acknowledged in time, there is a [`Doubt`]; a thread then asks the log, and only when that fails too
//! is the log *down*, until an answer or an acknowledgement says otherwise. A connection that was closed for being
//! idle therefore costs one question and is never reported.
//!
//! A server that answers need not take records: a cluster of three that has lost two goes on telling its metadata. So
//! the doubt of an unacknowledged record is lifted by an acknowledgement only, if need be that of a record which says
//! nothing and is sent for this purpose, to the same topic: this process may write there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::gauge::Gauge;

/// How long one question may take.
pub(crate) const PROBE_WITHIN: Duration = Duration::from_secs(1);

/// Between a question without an answer and the next one.
const PROBE_EVERY: Duration = Duration::from_millis(200);

/// Why the log may be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// No server can be reached: one that answers is enough.
    Unreachable,
    /// A record was not acknowledged: only an acknowledgement will do.
    Unacknowledged,
}

/// Asks the log, on a thread of its own.
pub(crate) trait Probe: Send + 'static {
    /// Whether a server answers, within [`PROBE_WITHIN`].
    fn reaches(&mut self) -> bool;

    /// Has records on their way to `topic` any of whose acknowledgements calls [`Health::answered`]; says whether the
    /// log has refused one for good, which is an answer too. Waits for [`PROBE_WITHIN`] at most, and for no
    /// acknowledgement.
    fn write(&mut self, topic: &str) -> bool;
}

/// What is known of the log.
pub(crate) struct Health {
    down: AtomicBool,
    /// Mirrors `Watch::doubt`, so that an acknowledgement on the hot path takes no lock.
    doubted: AtomicBool,
    watch: Mutex<Watch>,
    changed: Condvar,
    /// One while the log takes records.
    gauge: Gauge,
}

#[derive(Default)]
struct Watch {
    doubt: Option<Doubt>,
    /// Where the last record went that was not acknowledged.
    missed: String,
    closing: bool,
}

impl Health {
    pub(crate) fn new(gauge: Gauge) -> Arc<Self> {
        gauge.set(1);
        Arc::new(Self {
            down: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            watch: Mutex::default(),
            changed: Condvar::new(),
            gauge,
        })
    }

    pub(crate) fn available(&self) -> bool {
        !self.down.load(Ordering::Acquire)
    }

    /// No server can be reached, it seems.
    pub(crate) fn unreachable(&self) {
        self.doubt(Doubt::Unreachable, &mut self.watch.lock());
    }

    /// A record to `topic` was not acknowledged in time.
    pub(crate) fn missed(&self, topic: &str) {
        let mut watch = self.watch.lock();
        topic.clone_into(&mut watch.missed);
        self.doubt(Doubt::Unacknowledged, &mut watch);
    }

    fn doubt(&self, doubt: Doubt, watch: &mut Watch) {
        watch.doubt = watch.doubt.max(Some(doubt));
        self.doubted.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// The log has acknowledged a record, or answered what there was to ask.
    pub(crate) fn answered(&self) {
        if self.doubted.load(Ordering::Acquire) {
            let mut watch = self.watch.lock();
            watch.doubt = None;
            self.doubted.store(false, Ordering::Release);
            self.set_down(false);
            self.changed.notify_all();
        }
    }

    /// A question was not answered. An answer that came meanwhile by another way weighs more.
    fn unanswered(&self) {
        let watch = self.watch.lock();
        if watch.doubt.is_some() {
            self.set_down(true);
        }
    }

    /// Called with `watch` locked, so that what is told and what is doubted never differ for long.
    fn set_down(&self, down: bool) {
        if self.down.swap(down, Ordering::AcqRel) == down {
            return;
        }
        self.gauge.set(i64::from(!down));
        if down {
            tracing::warn!("the log takes no records");
        } else {
            tracing::info!("the log takes records again");
        }
    }

    fn close(&self) {
        self.watch.lock().closing = true;
        self.changed.notify_all();
    }

    /// Waits for a doubt; `None` when it is time to end.
    fn wait_for_doubt(&self) -> Option<Doubt> {
        let mut watch = self.watch.lock();
        loop {
            match watch.doubt {
                _ if watch.closing => return None,
                Some(doubt) => return Some(doubt),
                None => self.changed.wait(&mut watch),
            }
        }
    }

    /// Waits until there is no doubt any more, or it is time to end, but no longer than `at_most`.
    fn wait_for_answer(&self, at_most: Duration) {
        let mut watch = self.watch.lock();
        let waits = |watch: &mut Watch| watch.doubt.is_some() && !watch.closing;
        self.changed.wait_while_for(&mut watch, waits, at_most);
    }

    /// Not to be asked again and again while only some of the log does not take records.
    fn pause(&self) {
        let mut watch = self.watch.lock();
        let waits = |watch: &mut Watch| !watch.closing;
        self.changed.wait_while_for(&mut watch, waits, PROBE_EVERY);
    }

    fn ask(&self, doubt: Doubt, probe: &mut impl Probe) {
        if doubt == Doubt::Unacknowledged {
            self.ask_to_write(probe);
            self.pause();
        } else if probe.reaches() {
            self.answered();
        } else {
            self.unanswered();
            self.wait_for_answer(PROBE_EVERY);
        }
    }

    fn ask_to_write(&self, probe: &mut impl Probe) {
        let missed = self.watch.lock().missed.clone();
        if probe.write(&missed) {
            return self.answered();
        }
        self.wait_for_answer(PROBE_WITHIN);
        self.unanswered();
    }
}

/// The thread that asks. Dropping it ends it, within [`PROBE_WITHIN`].
pub(crate) struct Prober {
    health: Arc<Health>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    pub(crate) fn start(health: Arc<Health>, mut probe: impl Probe) -> std::io::Result<Self> {
        let watched = Arc::clone(&health);
        let thread = std::thread::Builder::new()
            .name("bus-health".to_owned())
            .spawn(move || {
                while let Some(doubt) = watched.wait_for_doubt() {
                    watched.ask(doubt, &mut probe);
                }
            })?;
        Ok(Self {
            health,
            thread: Some(thread),
        })
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.health.close();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread that watches the log panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A log whose answers come from the test, one by one.
    struct Answers {
        reaches: mpsc::Receiver<bool>,
        refuses: bool,
    }

    impl Probe for Answers {
        fn reaches(&mut self) -> bool {
            self.reaches.recv().unwrap_or(true)
        }

        fn write(&mut self, topic: &str) -> bool {
            assert_eq!(topic, "t");
            self.refuses
        }
    }

    fn prober(refuses: bool) -> (Arc<Health>, mpsc::SyncSender<bool>, Prober) {
        let health = Health::new(Gauge::default());
        let (answers, reaches) = mpsc::sync_channel(0);
        let prober = Prober::start(Arc::clone(&health), Answers { reaches, refuses });
        (health, answers, prober.unwrap())
    }

    fn until(health: &Health, available: bool) {
        while health.available() != available {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_doubt_alone_changes_nothing() {
        let (health, answers, _prober) = prober(false);
        health.unreachable();
        assert!(health.available());
        answers.send(true).unwrap();
        assert!(health.available());
    }

    #[test]
    fn is_down_from_a_failed_question_to_the_next_answer() {
        let (health, answers, _prober) = prober(false);
        health.unreachable();
        answers.send(false).unwrap();
        until(&health, false);
        answers.send(true).unwrap();
        until(&health, true);
    }

    #[test]
    fn an_acknowledgement_is_an_answer() {
        let (health, answers, _prober) = prober(false);
        health.unreachable();
        answers.send(false).unwrap();
        until(&health, false);
        health.answered();
        assert!(health.available());
        drop(answers);
    }

    #[test]
    fn metadata_is_no_acknowledgement() {
        let (health, answers, _prober) = prober(false);
        health.missed("t");
        health.unreachable();
        until(&health, false);
        // Nobody asks for metadata, so nobody takes this.
        assert!(answers.try_send(true).is_err());
        health.answered();
        assert!(health.available());
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let (health, _answers, _prober) = prober(true);
        health.missed("t");
        while health.doubted.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        assert!(health.available());
    }
}
