//! How many reports a second each tenant's browsers may send. Pure: time is an argument.
//!
//! A page with a broken policy makes every visitor's browser report it, and the token in the address is public; neither
//! may fill the log.

use std::collections::HashMap;
use std::time::Duration;

use schemas::time::Timestamp;

/// Tenants that are told apart at most; beyond, those that have been quiet are forgotten, which only favours them.
const TENANTS_MAX: usize = 10_000;
/// How many seconds' worth a tenant may send at once.
const BURST_SECONDS: u32 = 10;

/// A bucket for each tenant, which fills at the allowed rate.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// From one report to the next at the allowed rate.
    pace: Duration,
    burst: Duration,
    /// When each tenant's bucket will be full again.
    full_at: HashMap<String, Timestamp>,
}

impl Throttle {
    pub(crate) fn new(per_second_max: u32) -> Self {
        let pace = Duration::from_secs(1) / per_second_max.max(1);
        Self {
            pace,
            burst: Duration::from_secs(BURST_SECONDS.into()),
            full_at: HashMap::new(),
        }
    }

    /// Takes `reports` at `now`; or says how long until that many may be taken.
    pub(crate) fn take(
        &mut self,
        tenant: &str,
        reports: u32,
        now: Timestamp,
    ) -> Result<(), Duration> {
        if self.full_at.len() >= TENANTS_MAX && !self.full_at.contains_key(tenant) {
            self.full_at.retain(|_, full_at| now < *full_at);
            if self.full_at.len() >= TENANTS_MAX {
                return Err(self.burst);
            }
        }
        let full_at = self.full_at.get(tenant).map_or(now, |at| now.max(*at));
        let after = full_at.plus(self.pace * reports);
        let wait = after.since(now.plus(self.burst));
        if wait.is_zero() {
            self.full_at.insert(tenant.to_owned(), after);
            Ok(())
        } else {
            Err(wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `script`: `reports@seconds`; `expected`: `ok`, or the seconds to wait.
    #[track_caller]
    fn check(script: &str, expected: &str) {
        let mut throttle = Throttle::new(2);
        let told: Vec<_> = script
            .split_whitespace()
            .map(|step| {
                let (reports, seconds) = step.split_once('@').unwrap();
                let now = Timestamp::from_seconds(seconds.parse().unwrap());
                match throttle.take("acme", reports.parse().unwrap(), now) {
                    Ok(()) => "ok".to_owned(),
                    Err(wait) => wait.as_secs_f64().to_string(),
                }
            })
            .collect();
        assert_eq!(told.join(" "), expected);
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        check("20@0 1@0 1@1 1@1 1@1", "ok 0.5 ok ok 0.5");
        check("21@0 20@0", "0.5 ok");
        check("20@0 20@10 1@10", "ok ok 0.5");
        check("20@0 1@100 19@100 1@100", "ok ok ok 0.5");
    }

    #[test]
    fn tenants_do_not_share() {
        let mut throttle = Throttle::new(1);
        let now = Timestamp::from_seconds(0);
        assert!(throttle.take("a", 10, now).is_ok());
        assert!(throttle.take("a", 1, now).is_err());
        assert!(throttle.take("b", 10, now).is_ok());
    }

    #[test]
    fn made_up_tenants_take_a_bounded_amount() {
        let mut throttle = Throttle::new(1);
        let now = Timestamp::from_seconds(0);
        let taken = (0..2 * TENANTS_MAX).filter(|n| throttle.take(&n.to_string(), 1, now).is_ok());
        assert_eq!(taken.count(), TENANTS_MAX);
        assert!(
            throttle
                .take("later", 1, Timestamp::from_seconds(60))
                .is_ok()
        );
        assert_eq!(throttle.full_at.len(), 1);
    }
}
