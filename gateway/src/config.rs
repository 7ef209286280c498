//! What a gateway can be told.

use serde::Deserialize;
use thiserror::Error;

/// `[gateway]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What its reports call this gateway. Gateways with one name count a request that reaches several of them under
    /// one id once.
    pub name: String,
    /// The view is stale when the log has not answered for so long.
    pub stale_after_seconds: u64,
    /// Memory for the gateway's own windows.
    pub windows_bytes_max: usize,
    /// For how long an admission is remembered by its request id.
    pub remember_seconds: u64,
    /// How many admissions are remembered by their request ids.
    pub remember_requests_max: usize,
    /// Reports that may wait for the log; beyond that the oldest are dropped and counted.
    pub reports_queued_max: usize,
    /// Reports that may be on their way to the log at a time.
    pub reports_in_flight_max: usize,
    /// The largest body of a check.
    pub body_bytes_max: usize,
    /// Accounts of strict limits, one for each limit and subject, that may hold something at a time; beyond that
    /// nothing is admitted under new ones.
    pub strict_accounts_max: usize,
    /// Reservations that may be outstanding, or remembered after they have ended; the oldest of these are forgotten
    /// first, and with none left nothing new is reserved.
    pub reservations_max: usize,
    /// Where the ledger of strict limits lives that several gateways share: `redis://host:6379/0`. Absent: in the
    /// process, for a gateway that is alone.
    pub ledger_url: Option<String>,
    /// Whether limits that each gateway counts itself are shared with the others on the same log, so that all together
    /// admit no more than one would. Absent: on a Kafka cluster they are, and on the embedded log there is one gateway.
    pub share: Option<bool>,
    /// Where standing decisions are mirrored for gateways that read Redis: `redis://host:6379/0`. Absent: nowhere.
    pub redis_url: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "gateway".to_owned(),
            stale_after_seconds: 30,
            windows_bytes_max: 256 << 20,
            remember_seconds: 300,
            remember_requests_max: 65_536,
            reports_queued_max: 65_536,
            reports_in_flight_max: 4_096,
            body_bytes_max: 64 << 10,
            strict_accounts_max: 1 << 20,
            reservations_max: 1 << 20,
            ledger_url: None,
            share: None,
            redis_url: None,
        }
    }
}

/// What a gateway cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("[gateway] {0} must be above zero")]
    Zero(&'static str),
    #[error("[gateway] windows_bytes_max must be at least {WINDOWS_BYTES_MIN}")]
    Windows,
    #[error("[gateway] name must have 1 to 64 of a-z, A-Z, 0-9, `.`, `_` and `-`")]
    Name,
}

/// Room for the largest sliding window in every part of the table.
const WINDOWS_BYTES_MIN: usize = 2 << 20;

const NAME_BYTES_MAX: usize = 64;

impl Config {
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("reports_queued_max", self.reports_queued_max),
            ("reports_in_flight_max", self.reports_in_flight_max),
            ("body_bytes_max", self.body_bytes_max),
            ("strict_accounts_max", self.strict_accounts_max),
            ("reservations_max", self.reservations_max),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(name));
        }
        if self.windows_bytes_max < WINDOWS_BYTES_MIN {
            return Err(ConfigError::Windows);
        }
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let name = self.name.as_bytes();
        if name.is_empty() || NAME_BYTES_MAX < name.len() || !name.iter().copied().all(is_name) {
            return Err(ConfigError::Name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Config), expected: Result<(), ConfigError>) {
        let mut config = Config::default();
        change(&mut config);
        assert_eq!(config.check(), expected);
    }

    #[test]
    fn knows_what_it_can_work_with() {
        check(|_| {}, Ok(()));
        check(|c| c.name = "eu-1.edge_2".to_owned(), Ok(()));
        check(|c| c.name = String::new(), Err(ConfigError::Name));
        check(|c| c.name = "a b".to_owned(), Err(ConfigError::Name));
        check(|c| c.windows_bytes_max = 1 << 20, Err(ConfigError::Windows));
        check(
            |c| c.reports_queued_max = 0,
            Err(ConfigError::Zero("reports_queued_max")),
        );
        check(
            |c| c.body_bytes_max = 0,
            Err(ConfigError::Zero("body_bytes_max")),
        );
        // Nothing is remembered then, and nothing is stale at once.
        check(|c| c.remember_requests_max = 0, Ok(()));
        check(|c| c.stale_after_seconds = 0, Ok(()));
    }
}
