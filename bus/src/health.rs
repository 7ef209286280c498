//! Whether the log answers: cheap to ask, and found out without traffic.
//!
//! Nothing is asked while records come and go. When the client library says that no server can be reached, or a
//! record was not acknowledged, the log is *suspected*; a thread then asks it for metadata, and only when that fails
//! too is the log *down*, until an answer or an acknowledgement says otherwise. A connection that was closed for being
//! idle therefore costs one question and is never reported.

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

/// What is known of the log.
pub(crate) struct Health {
    down: AtomicBool,
    /// Mirrors `Watch::suspected`, so that an acknowledgement on the hot path takes no lock.
    suspected: AtomicBool,
    watch: Mutex<Watch>,
    changed: Condvar,
    /// One while the log answers.
    gauge: Gauge,
}

#[derive(Default)]
struct Watch {
    suspected: bool,
    closing: bool,
}

impl Health {
    pub(crate) fn new(gauge: Gauge) -> Arc<Self> {
        gauge.set(1);
        Arc::new(Self {
            down: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            watch: Mutex::default(),
            changed: Condvar::new(),
            gauge,
        })
    }

    pub(crate) fn available(&self) -> bool {
        !self.down.load(Ordering::Acquire)
    }

    /// Something went wrong that may mean that the log is away.
    pub(crate) fn suspect(&self) {
        let mut watch = self.watch.lock();
        watch.suspected = true;
        self.suspected.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// The log answered.
    pub(crate) fn answered(&self) {
        if self.suspected.load(Ordering::Acquire) {
            let mut watch = self.watch.lock();
            watch.suspected = false;
            self.suspected.store(false, Ordering::Release);
            self.set_down(false);
        }
    }

    /// A question was not answered. An answer that came meanwhile by another way weighs more.
    fn unanswered(&self) {
        let watch = self.watch.lock();
        if watch.suspected {
            self.set_down(true);
        }
    }

    /// Called with `watch` locked, so that what is told and what is suspected never differ for long.
    fn set_down(&self, down: bool) {
        if self.down.swap(down, Ordering::AcqRel) == down {
            return;
        }
        self.gauge.set(i64::from(!down));
        if down {
            tracing::warn!("the log does not answer");
        } else {
            tracing::info!("the log answers again");
        }
    }

    fn close(&self) {
        self.watch.lock().closing = true;
        self.changed.notify_all();
    }

    /// Waits for a suspicion; `false` when it is time to end.
    fn wait_for_suspicion(&self) -> bool {
        let mut watch = self.watch.lock();
        while !watch.suspected && !watch.closing {
            self.changed.wait(&mut watch);
        }
        !watch.closing
    }

    /// Waits a while before the next question; `false` when it is time to end.
    fn pause(&self) -> bool {
        let mut watch = self.watch.lock();
        if !watch.closing {
            self.changed.wait_for(&mut watch, PROBE_EVERY);
        }
        !watch.closing
    }
}

/// The thread that asks. Dropping it ends it, within [`PROBE_WITHIN`].
pub(crate) struct Prober {
    health: Arc<Health>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// `probe` asks the log once, for at most [`PROBE_WITHIN`], and says whether it answered.
    pub(crate) fn start(
        health: Arc<Health>,
        probe: impl Fn() -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let watched = Arc::clone(&health);
        let thread = std::thread::Builder::new()
            .name("bus-health".to_owned())
            .spawn(move || {
                while watched.wait_for_suspicion() {
                    if probe() {
                        watched.answered();
                    } else {
                        watched.unanswered();
                        watched.pause();
                    }
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

    /// A prober whose answers come from the test, one by one.
    fn prober() -> (Arc<Health>, mpsc::SyncSender<bool>, Prober) {
        let health = Health::new(Gauge::default());
        let (answers, asked) = mpsc::sync_channel(0);
        let prober = Prober::start(Arc::clone(&health), move || asked.recv().unwrap_or(true));
        (health, answers, prober.unwrap())
    }

    #[test]
    fn a_suspicion_alone_changes_nothing() {
        let (health, answers, _prober) = prober();
        health.suspect();
        assert!(health.available());
        answers.send(true).unwrap();
        assert!(health.available());
    }

    #[test]
    fn is_down_from_a_failed_question_to_the_next_answer() {
        let (health, answers, _prober) = prober();
        health.suspect();
        answers.send(false).unwrap();
        // The thread takes the next answer only after it has drawn its conclusion from the last one.
        answers.send(false).unwrap();
        assert!(!health.available());
        answers.send(true).unwrap();
        while !health.available() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_acknowledgement_is_an_answer() {
        let (health, answers, _prober) = prober();
        health.suspect();
        answers.send(false).unwrap();
        answers.send(false).unwrap();
        health.answered();
        assert!(health.available());
        drop(answers);
    }
}
