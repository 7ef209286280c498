//! How old the gateway's view may be.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use schemas::time::Timestamp;

/// What a gateway follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    Decisions,
    Policies,
}

/// Follows along.
const FRESH: i64 = i64::MAX;
/// Was never read to its end.
const UNREAD: i64 = i64::MIN;

/// Since when each feed has been silent.
#[derive(Debug)]
pub struct Freshness {
    started_at: Timestamp,
    stale_after: Duration,
    lost_at: [AtomicI64; 2],
    /// Whether any of these is not fresh, so that a check reads one word.
    any: AtomicBool,
}

impl Freshness {
    /// A view is stale until both feeds were read to their ends, and when one has been lost for `stale_after`.
    #[must_use]
    pub fn new(started_at: Timestamp, stale_after: Duration) -> Self {
        Self {
            started_at,
            stale_after,
            lost_at: [AtomicI64::new(UNREAD), AtomicI64::new(UNREAD)],
            any: AtomicBool::new(true),
        }
    }

    pub fn caught_up(&self, feed: Feed) {
        self.lost_at[feed as usize].store(FRESH, Ordering::Release);
        self.sum_up();
    }

    /// Does nothing for a feed that was not read to its end: that says more already.
    pub fn lost(&self, feed: Feed, now: Timestamp) {
        self.change(feed, FRESH, now.as_micros());
    }

    pub fn back(&self, feed: Feed) {
        let lost_at = self.lost_at[feed as usize].load(Ordering::Acquire);
        if lost_at != UNREAD {
            self.change(feed, lost_at, FRESH);
        }
    }

    /// Whether `feed` was once read to its end.
    #[must_use]
    pub fn was_read(&self, feed: Feed) -> bool {
        self.lost_at[feed as usize].load(Ordering::Acquire) != UNREAD
    }

    /// Whether both feeds were once read to their ends.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.was_read(Feed::Decisions) && self.was_read(Feed::Policies)
    }

    /// For how long the view has been out of date, if it is.
    #[inline]
    #[must_use]
    pub fn stale_for(&self, now: Timestamp) -> Option<Duration> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let feeds = self.lost_at.iter();
        let ages = feeds.filter_map(|lost_at| match lost_at.load(Ordering::Acquire) {
            FRESH => None,
            UNREAD => Some(now.since(self.started_at)),
            micros => {
                let age = now.since(Timestamp::from_micros(micros));
                (self.stale_after < age).then_some(age)
            }
        });
        ages.max()
    }

    fn change(&self, feed: Feed, from: i64, to: i64) {
        let cell = &self.lost_at[feed as usize];
        // One thread follows both feeds, so nobody else changes this in between.
        let _ = cell.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        self.sum_up();
    }

    fn sum_up(&self) {
        let mut feeds = self.lost_at.iter();
        let any = feeds.any(|lost_at| lost_at.load(Ordering::Acquire) != FRESH);
        self.any.store(any, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `c`aught up, `l`ost, `b`ack, one a second; upper case for policies. Expected: seconds stale at 100.
    #[track_caller]
    fn check(script: &str, ready: bool, expected: Option<u64>) {
        let freshness = Freshness::new(Timestamp::from_seconds(0), Duration::from_secs(30));
        for (second, step) in script.chars().enumerate() {
            let feed = match step.is_ascii_uppercase() {
                true => Feed::Policies,
                false => Feed::Decisions,
            };
            match step.to_ascii_lowercase() {
                'c' => freshness.caught_up(feed),
                'l' => freshness.lost(feed, Timestamp::from_seconds(second as i64)),
                _ => freshness.back(feed),
            }
        }
        assert_eq!(freshness.is_ready(), ready, "{script}");
        let stale = freshness.stale_for(Timestamp::from_seconds(100));
        assert_eq!(stale.map(|age| age.as_secs()), expected, "{script}");
    }

    #[test]
    fn is_fresh_only_when_both_feeds_are() {
        check("", false, Some(100));
        check("c", false, Some(100));
        check("cC", true, None);
        check("cCl", true, Some(98));
        check("cClL", true, Some(98));
        check("cClb", true, None);
        check("cCLlB", true, Some(97));
        check("lb", false, Some(100));
        // Told twice: since the first time.
        check("cCll", true, Some(98));
    }

    #[test]
    fn a_short_silence_is_not_stale() {
        let freshness = Freshness::new(Timestamp::from_seconds(0), Duration::from_secs(30));
        freshness.caught_up(Feed::Decisions);
        freshness.caught_up(Feed::Policies);
        freshness.lost(Feed::Decisions, Timestamp::from_seconds(10));
        let at = |seconds| freshness.stale_for(Timestamp::from_seconds(seconds));
        assert_eq!(at(40), None);
        assert_eq!(at(41), Some(Duration::from_secs(31)));
    }
}
