use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::engine::Settings;
use crate::owner::Patience;
use crate::rollup::Breakdown;
use crate::seen::SeenBounds;
use crate::snapshot::{S3, SnapshotPlace};

/// How the aggregator counts. The first part changes what is counted: all processes of one installation need the same,
/// and one log counted with other numbers gives other results.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How far an event may lie behind its tenant's newest one, in seconds. An older one is late.
    pub lateness_s: u64,
    /// How far an event's time may lie ahead of the moment at which the log took it, in seconds.
    pub ahead_max_s: u64,
    /// For how long events are remembered, so that one that is sent again is counted once, in seconds.
    pub duplicates_span_s: u64,
    /// How many events one partition remembers at most; the oldest are forgotten first.
    pub duplicates_max: usize,
    /// How many groups of violations are told apart in one tenant.
    pub csp_groups_max: usize,
    /// After so long without an event, a tenant's newest minute is closed, in seconds.
    pub idle_s: u64,
    /// By what usage per minute is told apart, besides the tenant: a row is kept for each combination that comes in a
    /// minute. A dimension that is left out is folded: rows say nothing of it, so queries on usage and peaks find
    /// nothing for its subjects (without `user`: `tenant/acme/user/u_9`) and have one nameless group for all of it.
    /// Totals, limits and crossings are the same. Stop cleanly before changing it: events that are counted again
    /// after a crash under another setting would be told in rows of both.
    pub rollup_by: Vec<RollupDimension>,
    /// Of which events sketches are kept, by hour: of sign-ins how many sources tried an account and accounts a source;
    /// of usage how many users a key had, and which users and sources use most. Those of usage can cost as much time as
    /// all else that is done with an event. Limits and usage are the same without.
    pub sketches: Vec<Sketched>,
    /// What counters, scopes, minutes of usage and sketches of one partition may take in memory, in bytes. From a half
    /// on, sketches tell no more ids apart; from three quarters on, new minutes are told for their tenants alone; when
    /// all is taken, no counter is made for a subject that has none. The memory of duplicates is bounded by `duplicates_max`, at 26 bytes each.
    pub state_bytes_max: u64,

    /// From one telling of usage per minute to the next, in milliseconds. Where thousands of minutes change at once,
    /// each is told about every eighth time.
    pub flush_interval_ms: u64,
    /// From one telling of those who use most to the next, in seconds. It costs more the more tenants are active.
    pub ranking_interval_s: u64,
    /// From one snapshot of a partition's state to the next, in seconds.
    pub snapshot_interval_s: u64,
    /// Where snapshots are kept, if not in the data folder. Processes that share partitions need the same place.
    pub snapshots: Option<SnapshotPlace>,
    /// How a bucket of snapshots is reached.
    pub s3: S3,
    /// Records that are counted at once.
    pub batch_records_max: usize,
    /// Records of one partition's outputs that may wait for the log.
    pub unacknowledged_max: usize,
}

/// What usage per minute can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollupDimension {
    Key,
    User,
    Route,
    Provider,
    Model,
    Account,
    Source,
}

/// Events of which sketches can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sketched {
    Usage,
    Auth,
}

impl RollupDimension {
    pub const ALL: [Self; 7] = [
        Self::Key,
        Self::User,
        Self::Route,
        Self::Provider,
        Self::Model,
        Self::Account,
        Self::Source,
    ];
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lateness_s: 600,
            ahead_max_s: 300,
            duplicates_span_s: 86_400,
            duplicates_max: 1_000_000,
            csp_groups_max: 10_000,
            idle_s: 86_400,
            rollup_by: RollupDimension::ALL.to_vec(),
            sketches: vec![Sketched::Auth],
            state_bytes_max: 512 << 20,
            flush_interval_ms: 500,
            ranking_interval_s: 30,
            snapshot_interval_s: 10,
            snapshots: None,
            s3: S3::default(),
            batch_records_max: 1_000,
            unacknowledged_max: 10_000,
        }
    }
}

/// A number in the configuration that the aggregator cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("[aggregator] {field} = {value}: it must be from {least} to {most}")]
pub struct ConfigError {
    field: &'static str,
    value: u64,
    least: u64,
    most: u64,
}

impl Config {
    /// Takes what the environment says of secrets, which wins over the file.
    pub fn take_environment(&mut self, environment: impl Fn(&str) -> Option<String>) {
        self.s3.take_environment(environment);
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        const DAY: u64 = 86_400;
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let bounds = [
            ("lateness_s", self.lateness_s, 0, DAY),
            ("ahead_max_s", self.ahead_max_s, 1, DAY),
            ("duplicates_span_s", self.duplicates_span_s, 60, 30 * DAY),
            (
                "duplicates_max",
                count(self.duplicates_max),
                1_000,
                1_000_000_000,
            ),
            ("csp_groups_max", count(self.csp_groups_max), 1, 1_000_000),
            ("idle_s", self.idle_s, 3_600, 30 * DAY),
            ("state_bytes_max", self.state_bytes_max, 1 << 20, 1 << 40),
            ("flush_interval_ms", self.flush_interval_ms, 10, 60_000),
            ("ranking_interval_s", self.ranking_interval_s, 1, 3_600),
            ("snapshot_interval_s", self.snapshot_interval_s, 1, 3_600),
            (
                "batch_records_max",
                count(self.batch_records_max),
                1,
                100_000,
            ),
            (
                "unacknowledged_max",
                count(self.unacknowledged_max),
                1,
                1_000_000,
            ),
        ];
        let outside =
            |(_, value, least, most): &(&str, u64, u64, u64)| !(*least..=*most).contains(value);
        match bounds.into_iter().find(outside) {
            None => Ok(()),
            Some((field, value, least, most)) => Err(ConfigError {
                field,
                value,
                least,
                most,
            }),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            patience: Patience {
                lateness: Duration::from_secs(self.lateness_s),
                idle: Duration::from_secs(self.idle_s),
            },
            ahead_max: Duration::from_secs(self.ahead_max_s),
            seen: SeenBounds {
                span: Duration::from_secs(self.duplicates_span_s),
                entries_max: self.duplicates_max,
            },
            groups_max: self.csp_groups_max,
            rollup_by: Breakdown::new(&self.rollup_by),
            sketch_usage: self.sketches.contains(&Sketched::Usage),
            sketch_auth: self.sketches.contains(&Sketched::Auth),
            state_bytes_max: usize::try_from(self.state_bytes_max).unwrap_or(usize::MAX),
        }
    }

    pub(crate) fn flush_interval(&self) -> Duration {
        Duration::from_millis(self.flush_interval_ms)
    }

    pub(crate) fn ranking_interval(&self) -> Duration {
        Duration::from_secs(self.ranking_interval_s)
    }

    pub(crate) fn snapshot_interval(&self) -> Duration {
        Duration::from_secs(self.snapshot_interval_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(Config::default().check(), Ok(()));
        let config = Config {
            flush_interval_ms: 0,
            ..Config::default()
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "[aggregator] flush_interval_ms = 0: it must be from 10 to 60000"
        );
    }
}
