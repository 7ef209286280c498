//! The outbox: alerts and what became of them per channel, in SQLite or PostgreSQL.
//!
//! Each function is one transaction or one statement. A transaction begins with a write, so that on SQLite it holds
//! the writer's lock before it reads.

mod list;
mod record;
mod row;

use std::borrow::Cow;
use std::time::Duration;

use schemas::time::Timestamp;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, Row as _, SqlStr};
use thiserror::Error;

use crate::alert::Alert;
use crate::message::LISTED_MAX;
use crate::route::Plan;

use row::{alert_of, form_named, time};

pub(crate) use list::{Cursor, Delivery, Filter, Listed};

#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("the notifier's tables cannot be made or brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the store of alerts does not answer as it should: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("the store of alerts holds `{value}` as {what}, which was not written by a notifier")]
    Corrupt { what: &'static str, value: String },
}

/// What became of one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Known already: nothing changed.
    Repeated,
    /// Stored, with one plan per channel that hears it, by the channel's name.
    New(Vec<(String, Plan)>),
}

/// Whether a row of the outbox is one alert or a digest of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Alert,
    Digest,
}

/// A delivery that this notifier holds until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) message: String,
    pub(crate) channel: String,
    pub(crate) form: Form,
    /// Tries that were settled before this one.
    pub(crate) attempts: u32,
    pub(crate) queued_at: Timestamp,
    leased_until: Timestamp,
}

/// How one try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Sent,
    Again { at: Timestamp, error: String },
    Failed { error: String },
}

#[derive(Clone)]
pub(crate) struct Store {
    pool: AnyPool,
}

impl Store {
    /// Brings the tables up to date.
    pub(crate) async fn open(pool: AnyPool) -> Result<Self, StoreError> {
        let outbox = Migration::new(
            3001,
            Cow::Borrowed("outbox"),
            MigrationType::Simple,
            SqlStr::from_static(include_str!("../migrations/3001_outbox.sql")),
            false,
        );
        let mut migrator = Migrator::with_migrations(vec![outbox]);
        // Other services keep their tables in the same database.
        migrator.set_ignore_missing(true);
        migrator.run(&pool).await?;
        Ok(Self { pool })
    }

    /// Leases up to `limit` messages of `channel` that are due, the longest due first. Of two notifiers that ask at
    /// once each row goes to one.
    pub(crate) async fn claim(
        &self,
        channel: &str,
        lease: Duration,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Job>, StoreError> {
        let due = sqlx::query(
            "SELECT message, form, attempts, queued_us FROM notifier_outbox
             WHERE channel = $1 AND state = 'pending' AND next_us <= $2 AND leased_until_us <= $2
             ORDER BY next_us, message LIMIT $3",
        )
        .bind(channel)
        .bind(now.as_micros())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        let leased_until = now.plus(lease);
        let mut jobs = Vec::with_capacity(due.len());
        for row in due {
            let message: String = row.try_get("message")?;
            let taken = sqlx::query(
                "UPDATE notifier_outbox SET leased_until_us = $1
                 WHERE message = $2 AND channel = $3 AND state = 'pending'
                   AND next_us <= $4 AND leased_until_us <= $4",
            )
            .bind(leased_until.as_micros())
            .bind(&message)
            .bind(channel)
            .bind(now.as_micros())
            .execute(&self.pool)
            .await?;
            if taken.rows_affected() == 1 {
                jobs.push(Job {
                    message,
                    channel: channel.to_owned(),
                    form: form_named(row.try_get("form")?)?,
                    attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
                    queued_at: time(&row, "queued_us")?,
                    leased_until,
                });
            }
        }
        Ok(jobs)
    }

    /// Notes how a try ended. `false` when the lease had ended and somebody else holds or settled the row.
    pub(crate) async fn settle(
        &self,
        job: &Job,
        ending: &Ending,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (state, next_at, error) = match ending {
            Ending::Sent => ("sent", now, None),
            Ending::Again { at, error } => ("pending", *at, Some(error)),
            Ending::Failed { error } => ("failed", now, Some(error)),
        };
        let done = (state != "pending").then(|| now.as_micros());
        let settled = sqlx::query(
            "UPDATE notifier_outbox
             SET state = $1, attempts = attempts + 1, next_us = $2, leased_until_us = 0, last_error = $3, done_us = $4
             WHERE message = $5 AND channel = $6 AND state = 'pending' AND leased_until_us = $7",
        )
        .bind(state)
        .bind(next_at.as_micros())
        .bind(error.cloned())
        .bind(done)
        .bind(&job.message)
        .bind(&job.channel)
        .bind(job.leased_until.as_micros())
        .execute(&self.pool)
        .await?;
        Ok(settled.rows_affected() == 1)
    }

    /// The alert of a message in form [`Form::Alert`]; `None` when it is no longer kept.
    pub(crate) async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        let row = sqlx::query("SELECT * FROM notifier_alerts WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(alert_of).transpose()
    }

    /// The oldest [`LISTED_MAX`] alerts that were folded into a digest, and how many there are in all.
    pub(crate) async fn folded(
        &self,
        digest: &str,
        channel: &str,
    ) -> Result<(Vec<Alert>, usize), StoreError> {
        let rows = sqlx::query(
            "SELECT a.* FROM notifier_outbox o JOIN notifier_alerts a ON a.id = o.message
             WHERE o.channel = $1 AND o.folded_into = $2 ORDER BY a.at_us, a.id LIMIT $3",
        )
        .bind(channel)
        .bind(digest)
        .bind(LISTED_MAX as i64)
        .fetch_all(&self.pool)
        .await?;
        let count: i64 = sqlx::query(
            "SELECT COUNT(*) AS n FROM notifier_outbox WHERE channel = $1 AND folded_into = $2",
        )
        .bind(channel)
        .bind(digest)
        .fetch_one(&self.pool)
        .await?
        .try_get("n")?;
        let alerts = rows.iter().map(alert_of).collect::<Result<Vec<_>, _>>()?;
        Ok((alerts, usize::try_from(count).unwrap_or_default()))
    }

    /// Fails what waits for channels that are not among `channels`: nobody would ever send it. Says how many.
    pub(crate) async fn fail_strays(
        &self,
        channels: &[&str],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let waiting =
            sqlx::query("SELECT DISTINCT channel FROM notifier_outbox WHERE state = 'pending'")
                .fetch_all(&self.pool)
                .await?;
        let mut failed = 0;
        for row in waiting {
            let channel: String = row.try_get("channel")?;
            if channels.contains(&channel.as_str()) {
                continue;
            }
            let done = sqlx::query(
                "UPDATE notifier_outbox
                 SET state = 'failed', last_error = 'this channel is no longer configured', done_us = $1
                 WHERE channel = $2 AND state = 'pending'",
            )
            .bind(now.as_micros())
            .bind(channel)
            .execute(&self.pool)
            .await?;
            failed += done.rows_affected();
        }
        Ok(failed)
    }

    /// Messages that wait for their first or next try.
    pub(crate) async fn pending(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM notifier_outbox WHERE state = 'pending'")
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get("n")?)
    }

    /// Forgets what was stored before `before` and waits for nothing.
    pub(crate) async fn forget(&self, before: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("DELETE FROM notifier_outbox WHERE queued_us < $1 AND state <> 'pending'")
            .bind(before.as_micros())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "DELETE FROM notifier_alerts WHERE seen_us < $1 AND NOT EXISTS
               (SELECT 1 FROM notifier_outbox o WHERE o.message = notifier_alerts.id)",
        )
        .bind(before.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
