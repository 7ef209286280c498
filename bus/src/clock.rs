//! The clocks, read here and nowhere else: everything else takes a [`Timestamp`] as an argument.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clocks"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schemas::time::Timestamp;

/// What time it is, in UTC.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// A clock that everything in a process shares.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's wall clock. It may jump in either direction, as the machine's does.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::from_seconds(0).plus(since),
            Err(before) => Timestamp::from_seconds(0).minus(before.duration()),
        }
    }
}

/// A clock that stands still until it is told otherwise: for tests, and for cases that have times of their own.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    #[must_use]
    pub const fn new(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.as_micros()))
    }

    /// Moves to `at`, which may lie in the past.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.as_micros(), Ordering::Release);
    }

    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::AcqRel);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Acquire))
    }
}

/// How long something takes, by the machine's monotonic clock: for metrics and time-outs, never for results.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(Timestamp::from_seconds(10));
        assert_eq!(clock.now(), Timestamp::from_seconds(10));
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now(), Timestamp::from_millis(11_500));
        clock.set(Timestamp::from_seconds(3));
        assert_eq!(clock.now(), Timestamp::from_seconds(3));
    }

    #[test]
    fn the_system_clock_is_past_2024() {
        assert!(Timestamp::parse("2024-01-01T00:00:00Z").unwrap() < SystemClock.now());
    }
}
