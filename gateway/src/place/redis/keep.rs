//! Keeps the ledger in Redis one that can be relied on: connected, with all of the past counted.

use std::convert::Infallible;
use std::time::Duration;

use ::redis::{AsyncConnectionConfig, RedisError};
use futures_util::future::BoxFuture;
use schemas::time::Timestamp;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use super::{Live, RedisLedger, Step, step};
use crate::ledger::Id;
use crate::place::{Accounts, Clearing};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A request waits no longer for its ledger.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(200);
/// Between looking whether all of the past still is counted.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What gateways were admitted is in the log after so long.
const LOGGED_WITHIN: Duration = Duration::from_secs(2);
/// Longer than any clock differs from another.
const MARKED_FOR: Duration = Duration::from_secs(3_600);
/// One gateway counts the past at a time; when it dies at that, another does after so long.
const LOCK_MS: u64 = 30_000;

/// What was spent once, by whom, and when.
pub(crate) struct Past {
    pub(crate) id: Id,
    pub(crate) at: Timestamp,
    pub(crate) accounts: Accounts,
}

/// Reads back what was spent, in the order of time.
pub(crate) type ReadBack<'a> =
    dyn Fn() -> BoxFuture<'a, Result<Vec<Past>, bus::BusError>> + Send + Sync + 'a;

/// What is known of the past.
pub(crate) struct Known<'a> {
    pub(crate) past: &'a ReadBack<'a>,
    /// The orders that clear, and stand.
    pub(crate) clearing: &'a (dyn Fn() -> Vec<Clearing> + Send + Sync + 'a),
}

#[derive(Debug, Error)]
enum KeepError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("what was spent cannot be read back: {0}")]
    Past(#[from] bus::BusError),
    #[error("redis does not say which run of it this is")]
    NoRun,
    #[error("a call failed")]
    Failed,
}

impl RedisLedger {
    /// Never returns: what fails is tried again.
    pub(crate) async fn keep(&self, known: &Known<'_>) -> Infallible {
        loop {
            let Err(error) = self.keep_up(known).await;
            self.live.store(None);
            tracing::warn!(%error, "the ledger in redis cannot be relied on; trying again");
            sleep(PAUSE).await;
        }
    }

    async fn keep_up(&self, known: &Known<'_>) -> Result<Infallible, KeepError> {
        let live = self.connect().await?;
        loop {
            let is_complete = exists(&live).await?;
            if !is_complete {
                self.live.store(None);
            }
            if self.live.load().is_none() {
                *self.clearing.lock() = (known.clearing)().into();
            }
            // Before the past is counted: what was cleared is left out of it.
            self.tell_clearing(&live).await?;
            if !is_complete {
                self.recount(&live, known.past).await?;
            }
            self.tell_untold(&live).await?;
            if self.live.load().is_none() {
                tracing::info!("the ledger in redis can be relied on");
                self.live.store(Some(live.clone().into()));
            }
            let looks = async {
                let _ = timeout(LOOK_EVERY, self.clears.notified()).await;
            };
            tokio::select! {
                () = self.failed.notified() => return Err(KeepError::Failed),
                () = looks => {}
            }
        }
    }

    async fn connect(&self) -> Result<Live, KeepError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut connection = connecting.await?;
        let mut info = ::redis::cmd("INFO");
        let info: String = info.arg("server").query_async(&mut connection).await?;
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run = run.ok_or(KeepError::NoRun)?.trim();
        // In braces, so that all keys are in one slot of a cluster.
        let prefix = format!("weir:{{strict}}:{run}:").into();
        Ok(Live { connection, prefix })
    }

    /// Counts the past, unless another gateway does: then waits until it has.
    async fn recount(&self, live: &Live, past: &ReadBack<'_>) -> Result<(), KeepError> {
        let mut connection = live.connection.clone();
        let mut lock = ::redis::cmd("SET");
        lock.arg(format!("{}lock", live.prefix)).arg(1);
        lock.arg("NX").arg("PX").arg(LOCK_MS);
        while lock
            .query_async::<Option<String>>(&mut connection)
            .await?
            .is_none()
        {
            if exists(live).await? {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        sleep(LOGGED_WITHIN).await;
        let past = past().await?;
        let count = past.len();
        for past in past {
            self.restore(live, past).await?;
        }
        let mut mark = ::redis::cmd("SET");
        mark.arg(live.mark()).arg(1);
        mark.exec_async(&mut connection).await?;
        tracing::info!(
            count,
            "what was spent under strict limits is counted in redis"
        );
        Ok(())
    }

    async fn restore(&self, live: &Live, mut past: Past) -> Result<(), RedisError> {
        let step = Step {
            now: Some(past.at),
            ..step("restore", past.id)
        };
        self.take(live, step, &mut past.accounts).await.map(drop)
    }

    async fn tell_clearing(&self, live: &Live) -> Result<(), RedisError> {
        loop {
            let next = self.clearing.lock().front().cloned();
            let Some(Clearing { mark, mut accounts }) = next else {
                return Ok(());
            };
            let step = Step {
                ttl: mark.until.since(accounts.at).saturating_add(MARKED_FOR),
                mark: Some(mark),
                ..step("clear", 0)
            };
            self.take(live, step, &mut accounts).await?;
            self.clearing.lock().pop_front();
        }
    }

    async fn tell_untold(&self, live: &Live) -> Result<(), RedisError> {
        loop {
            let next = self.untold.lock().front().cloned();
            let Some((id, mut accounts)) = next else {
                return Ok(());
            };
            self.take(live, step("commit", id), &mut accounts).await?;
            self.untold.lock().pop_front();
        }
    }
}

async fn exists(live: &Live) -> Result<bool, RedisError> {
    let mut exists = ::redis::cmd("EXISTS");
    let mut connection = live.connection.clone();
    exists.arg(live.mark()).query_async(&mut connection).await
}
