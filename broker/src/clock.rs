//! The one place that reads a clock. All other code takes the time as an argument.
#![expect(
    clippy::disallowed_methods,
    reason = "the only reader of the wall clock and of the monotonic clock in this crate"
)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 UTC, as Kafka stamps records. A clock set before 1970 reads as 0.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Never goes back; for timeouts.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
