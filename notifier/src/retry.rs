//! When a delivery that failed is tried again: exponential back-off with full jitter. Pure.

use std::time::Duration;

use chrono::DateTime;
use schemas::time::Timestamp;

/// The longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// Upper bound of the wait after the first failure; it doubles with each further one.
    pub(crate) base: Duration,
    /// Where doubling ends.
    pub(crate) max: Duration,
    /// Time from queueing to giving up.
    pub(crate) give_up_after: Duration,
}

/// A delivery that failed just now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// Tries so far, this one included.
    pub(crate) attempts: u32,
    pub(crate) queued_at: Timestamp,
    pub(crate) now: Timestamp,
    /// What the receiver asked for.
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    At(Timestamp),
    GiveUp,
}

impl Backoff {
    /// `random` lies in `0.0..1.0` and spreads the tries of many messages evenly over the wait.
    pub(crate) fn after(&self, failure: Failure, random: f64) -> Next {
        debug_assert!((0.0..1.0).contains(&random), "not in 0..1: {random}");
        let doublings = failure.attempts.saturating_sub(1).min(31);
        let bound = self.base.saturating_mul(1 << doublings).min(self.max);
        let asked = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let next = failure.now.plus(bound.mul_f64(random).max(asked));
        if failure.queued_at.plus(self.give_up_after) < next {
            return Next::GiveUp;
        }
        Next::At(next)
    }
}

/// Reads a `Retry-After` header: whole seconds, or an HTTP date. `None` when it is neither.
pub(crate) fn parse_retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(header.trim()).ok()?;
    Some(Timestamp::from_micros(at.timestamp_micros()).since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_secs(1),
        max: Duration::from_secs(300),
        give_up_after: Duration::from_secs(259_200),
    };

    /// `seconds`: from now, which is `age` seconds after queueing; `None`: given up.
    #[track_caller]
    fn check(attempts: u32, age: i64, retry_after: Option<u64>, seconds: Option<i64>) {
        let failure = Failure {
            attempts,
            queued_at: Timestamp::from_seconds(0),
            now: Timestamp::from_seconds(age),
            retry_after: retry_after.map(Duration::from_secs),
        };
        let expected = seconds.map_or(Next::GiveUp, |s| Next::At(Timestamp::from_seconds(age + s)));
        assert_eq!(BACKOFF.after(failure, 0.5), expected);
    }

    #[test]
    fn waits_longer_after_each_failure() {
        check(2, 0, None, Some(1));
        check(3, 0, None, Some(2));
        check(7, 0, None, Some(32));
        check(10, 0, None, Some(150));
        check(11, 0, None, Some(150));
        check(u32::MAX, 0, None, Some(150));
    }

    #[test]
    fn does_as_the_receiver_asks() {
        check(2, 0, Some(120), Some(120));
        check(10, 0, Some(120), Some(150));
        check(2, 0, Some(u64::MAX), Some(86_400));
    }

    #[test]
    fn gives_up_after_three_days() {
        check(10, 259_200 - 150, None, Some(150));
        check(10, 259_200 - 149, None, None);
        check(2, 250_000, Some(86_400), None);
    }

    #[test]
    fn reads_both_forms_of_retry_after() {
        let now = Timestamp::parse("1994-11-06T08:49:00Z").unwrap();
        for (header, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(parse_retry_after(header, now), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn never_waits_longer_than_its_bounds(attempts: u32, random in 0.0..1.0_f64, asked in 0..200_000_u64) {
            let now = Timestamp::from_seconds(1_000);
            let retry_after = Some(Duration::from_secs(asked));
            let failure = Failure { attempts, queued_at: now, now, retry_after };
            let Next::At(next) = BACKOFF.after(failure, random) else {
                return Err(TestCaseError::fail("gave up at once"));
            };
            prop_assert!(Duration::from_secs(asked.min(86_400)) <= next.since(now));
            prop_assert!(next.since(now) <= Duration::from_secs(asked.clamp(300, 86_400)));
        }
    }
}
