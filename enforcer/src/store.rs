//! The history of decisions, in SQLite or PostgreSQL.
//!
//! Records may come twice: a decision is known by its number, which counts up for its subject, and a lift by its place
//! in the log. A transaction begins with a write, so that on SQLite it holds the writer's lock before it reads.

mod body;
mod command;
mod list;
mod once;
mod request;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use schemas::subject::Subject;
use schemas::time::Timestamp;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Any, AnyPool, Row as _, SqlStr, Transaction};
use thiserror::Error;

use crate::decision::Decision;

pub(crate) use body::{Body, CauseBody};
pub(crate) use command::{Given, GivenBody, GivenCursor, GivenFilter};
pub(crate) use list::{Cursor, Filter, Listed};
pub(crate) use request::Asked;

#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("the enforcer's tables cannot be made or brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the history of decisions does not answer as it should: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("the history of decisions holds a row that no enforcer wrote: {0}")]
    Corrupt(#[from] serde_json::Error),
}

/// What the log said of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) said: Said,
    pub(crate) offset: i64,
}

#[derive(Clone, Debug)]
pub(crate) enum Said {
    Put(Decision),
    Lifted { subject: Subject, at: Timestamp },
}

#[derive(Clone)]
pub(crate) struct Store {
    pool: AnyPool,
}

type Tx<'a> = Transaction<'a, Any>;

impl Store {
    /// Brings the tables up to date.
    pub(crate) async fn open(pool: AnyPool) -> Result<Self, StoreError> {
        let decisions = Migration::new(
            2001,
            Cow::Borrowed("decisions"),
            MigrationType::Simple,
            SqlStr::from_static(include_str!("../migrations/2001_decisions.sql")),
            false,
        );
        let commands = Migration::new(
            2010,
            Cow::Borrowed("commands"),
            MigrationType::Simple,
            SqlStr::from_static(include_str!("../migrations/2010_commands.sql")),
            false,
        );
        let once = Migration::new(
            2011,
            Cow::Borrowed("once"),
            MigrationType::Simple,
            SqlStr::from_static(include_str!("../migrations/2011_once.sql")),
            false,
        );
        let mut migrator = Migrator::with_migrations(vec![decisions, commands, once]);
        // Other services keep their tables in the same database.
        migrator.set_ignore_missing(true);
        migrator.run(&pool).await?;
        Ok(Self { pool })
    }

    /// Takes entries in the order of their partition, all or none.
    pub(crate) async fn record(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        for entry in entries {
            match &entry.said {
                Said::Put(decision) => put(&mut tx, decision, entry.offset).await?,
                Said::Lifted { subject, at } => lift(&mut tx, subject, *at, entry.offset).await?,
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// Forgets what was lifted before `before`.
    pub(crate) async fn forget(&self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM enforcer_decisions WHERE lifted_us < $1")
            .bind(before.as_micros())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}

async fn put(tx: &mut Tx<'_>, decision: &Decision, offset: i64) -> Result<(), StoreError> {
    let body = serde_json::to_string(&Body::of(decision))?;
    let said_again = sqlx::query(
        "UPDATE enforcer_decisions SET said_seq = $1
         WHERE subject = $2 AND lifted_us IS NULL AND said_seq < $1 AND id = $3 AND body = $4",
    )
    .bind(decision.seq)
    .bind(decision.subject.as_str())
    .bind(&decision.id)
    .bind(&body)
    .execute(&mut **tx)
    .await?;
    if said_again.rows_affected() != 0 || decision.seq <= newest(tx, &decision.subject).await? {
        return Ok(());
    }
    sqlx::query(
        "UPDATE enforcer_decisions SET lifted_us = $1 WHERE subject = $2 AND lifted_us IS NULL",
    )
    .bind(decision.issued_at.as_micros())
    .bind(decision.subject.as_str())
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO enforcer_decisions
           (subject, seq, said_seq, id, tenant, issued_us, until_us, log_offset, body)
         VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(decision.subject.as_str())
    .bind(decision.seq)
    .bind(&decision.id)
    .bind(tenant_path(decision.subject.tenant_id().as_deref()))
    .bind(decision.issued_at.as_micros())
    .bind(decision.until.map(Timestamp::as_micros))
    .bind(offset)
    .bind(body)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The highest number that a decision of `subject` was said with.
async fn newest(tx: &mut Tx<'_>, subject: &Subject) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "SELECT COALESCE(MAX(said_seq), -1) AS newest FROM enforcer_decisions WHERE subject = $1",
    )
    .bind(subject.as_str())
    .fetch_one(&mut **tx)
    .await?;
    Ok(row.try_get("newest")?)
}

async fn lift(
    tx: &mut Tx<'_>,
    subject: &Subject,
    at: Timestamp,
    offset: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE enforcer_decisions SET lifted_us = $1
         WHERE subject = $2 AND lifted_us IS NULL AND log_offset < $3",
    )
    .bind(at.as_micros())
    .bind(subject.as_str())
    .bind(offset)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How a tenant's rows are marked: by its path, in which no character is left that a store would not keep.
fn tenant_path(tenant: Option<&str>) -> String {
    tenant.map_or(String::new(), |tenant| Subject::tenant(tenant).to_string())
}
