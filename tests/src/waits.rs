//! How long something took, many times.

use std::time::Duration;

/// In order, shortest first; one at least.
pub struct Waits(Vec<Duration>);

impl Waits {
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new(mut all: Vec<Duration>) -> Self {
        assert!(!all.is_empty(), "nothing was measured");
        all.sort_unstable();
        Self(all)
    }

    /// The shortest of them that so many percent of them do not exceed.
    #[must_use]
    pub fn quantile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0[rank.saturating_sub(1)]
    }

    #[must_use]
    pub fn longest(&self) -> Duration {
        self.quantile(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(waits: &[u64], quantiles: [u64; 4]) {
        let waits = Waits::new(waits.iter().copied().map(Duration::from_secs).collect());
        let found = [0, 50, 99, 100].map(|percent| waits.quantile(percent).as_secs());
        assert_eq!(found, quantiles);
    }

    #[test]
    fn a_quantile_is_one_of_them() {
        check(&[7], [7, 7, 7, 7]);
        check(&[2, 1], [1, 1, 2, 2]);
        check(&[3, 1, 2], [1, 2, 3, 3]);
        let hundred: Vec<u64> = (1..=100).rev().collect();
        check(&hundred, [1, 50, 99, 100]);
    }
}
