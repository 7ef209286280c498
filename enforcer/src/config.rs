use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// How the enforcer works.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a gateway may rely on a decision that nobody says again, in seconds; it is said again at half of it.
    pub ttl_s: u32,
    /// How often the policy file is compared with what was read last.
    pub watch_interval_ms: u64,
    /// How often causes that have ended are cleared away. Gateways do not wait for it: they know when a block ends.
    pub expiry_interval_ms: u64,
    /// How long decisions that were lifted stay in the history, in days.
    pub keep_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl_s: 300,
            watch_interval_ms: 500,
            expiry_interval_ms: 500,
            keep_days: 90,
        }
    }
}

/// A number in the configuration that the enforcer cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("[enforcer] {field} = {value}: it must be from {least} to {most}")]
pub struct ConfigError {
    field: &'static str,
    value: u64,
    least: u64,
    most: u64,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("ttl_s", u64::from(self.ttl_s), 2, 86_400),
            ("watch_interval_ms", self.watch_interval_ms, 10, 60_000),
            ("expiry_interval_ms", self.expiry_interval_ms, 10, 60_000),
            ("keep_days", u64::from(self.keep_days), 1, 36_500),
        ];
        for (field, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(ConfigError {
                    field,
                    value,
                    least,
                    most,
                });
            }
        }
        Ok(())
    }

    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_s.into())
    }

    pub(crate) fn watch_interval(&self) -> Duration {
        Duration::from_millis(self.watch_interval_ms)
    }

    pub(crate) fn expiry_interval(&self) -> Duration {
        Duration::from_millis(self.expiry_interval_ms)
    }

    pub(crate) fn keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_days) * 86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(Config::default().check(), Ok(()));
        let error = Config {
            ttl_s: 1,
            ..Config::default()
        };
        assert_eq!(
            error.check().unwrap_err().to_string(),
            "[enforcer] ttl_s = 1: it must be from 2 to 86400"
        );
    }
}
