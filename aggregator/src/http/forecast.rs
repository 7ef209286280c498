//! When a limit is reached if use goes on as it does: pure arithmetic on what was used in the last hour.
//!
//! Only sums that nothing but their period's end takes from have one, calendars' and wallets'. A sliding sum or a bucket
//! that is fed evenly stays where it is.

use schemas::policy::{Limit, Window};
use schemas::time::Timestamp;
use serde_json::{Value, json};

use crate::store::Span;

/// The rate is that of so much time before now.
const RATE_SECONDS: i64 = 3_600;

/// What the rate is taken of; `None` for a limit that has no forecast.
pub(super) fn span(window: Window, now: Timestamp) -> Option<Span> {
    let to = now.second() + 1;
    matches!(window, Window::Calendar(_) | Window::Wallet).then_some(Span {
        from: to - RATE_SECONDS,
        to,
        step: i64::from(u32::MAX),
    })
}

/// When `limit`, of which `used` is used, is reached at the rate of `lately` in [`span`]. `None` where it is reached
/// already, or not before `reset_at`.
pub(super) fn reached_at(
    limit: &Limit,
    (used, lately): (i128, i128),
    reset_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let left = limit.hard().saturating_sub(used);
    if left <= 0 || lately <= 0 {
        return None;
    }
    let wait = left.checked_mul(i128::from(RATE_SECONDS))? / lately;
    let reached_at = Timestamp::from_seconds(now.second().checked_add(i64::try_from(wait).ok()?)?);
    reset_at
        .is_none_or(|reset_at| reached_at < reset_at)
        .then_some(reached_at)
}

/// What is told of it.
pub(super) fn show(reached_at: Option<Timestamp>) -> Value {
    json!({
        "reached_at": reached_at.map(|at| at.to_string()),
        "rate_of_s": RATE_SECONDS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy;

    const NOW: i64 = 1_000_000;

    /// `hard`, what is used, and what was used in the last hour.
    #[track_caller]
    fn check(hard: i128, used: (i128, i128), reset_in: Option<i64>, expected: Option<i64>) {
        let policy = policy(1, &format!("a tenant/* tokens hard={hard} : calendar day"));
        let after = |seconds: i64| Timestamp::from_seconds(NOW + seconds);
        let now = Timestamp::from_seconds(NOW);
        let found = reached_at(&policy.limits[0], used, reset_in.map(after), now);
        assert_eq!(found, expected.map(after));
    }

    #[test]
    fn what_goes_on_reaches_the_limit() {
        check(100, (50, 50), None, Some(3_600));
        check(100, (50, 100), Some(1_801), Some(1_800));
        check(100, (99, 1_000_000), None, Some(0));
    }

    #[test]
    fn what_is_reached_or_never_is_has_no_forecast() {
        check(100, (100, 100), None, None);
        check(100, (150, 100), None, None);
        check(100, (50, 0), None, None);
        // The period ends first.
        check(100, (50, 50), Some(3_600), None);
        // After the end of all times.
        check(i128::MAX, (0, 1), None, None);
        check(i128::MAX / 10_000, (0, 1), None, None);
    }

    #[test]
    fn only_what_adds_up_has_a_forecast() {
        let now = Timestamp::from_seconds(NOW);
        for (window, expected) in [
            ("calendar month", true),
            ("wallet", true),
            ("sliding 60s", false),
            ("bucket 1/s burst 5", false),
        ] {
            let span = span(window.parse().unwrap(), now);
            assert_eq!(span.is_some(), expected, "{window}");
        }
    }
}
