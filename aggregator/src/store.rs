//! Rows for queries, in SQLite or PostgreSQL: usage per minute, sketches per hour, crossings, groups of violations,
//! refusals.
//!
//! Every write is an upsert of absolute values in which the newest origin wins (or the largest count), so that writing a
//! record twice, or an old one late, changes nothing. One SQL text serves both databases.

mod list;
mod query;
mod sketches;
mod write;

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, SqlStr};
use thiserror::Error;

pub(crate) use list::{Listing, Page};
pub(crate) use query::{Filter, Grouped, Span};
pub(crate) use sketches::SketchQuery;
pub(crate) use write::Rows;

#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("the tables of usage cannot be made or brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the store of usage does not answer as it should: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("the store of usage holds in {column} what no recorder wrote: {reason}")]
    Corrupt {
        column: &'static str,
        reason: String,
    },
}

#[derive(Clone)]
pub(crate) struct Store {
    pool: AnyPool,
}

impl Store {
    /// Brings the tables up to date.
    pub(crate) async fn open(pool: AnyPool) -> Result<Self, StoreError> {
        let rows = include_str!("../migrations/1001_rows.sql");
        let sketches = include_str!("../migrations/1002_sketches.sql");
        let migrations = [(1001, "rows", rows), (1002, "sketches", sketches)];
        let migrations = migrations.map(|(version, name, sql)| {
            let (name, sql) = (Cow::Borrowed(name), SqlStr::from_static(sql));
            Migration::new(version, name, MigrationType::Simple, sql, false)
        });
        let mut migrator = Migrator::with_migrations(migrations.into());
        // Other services keep their tables in the same database.
        migrator.set_ignore_missing(true);
        migrator.run(&pool).await?;
        Ok(Self { pool })
    }
}

/// `$1, $2, …`: `count` placeholders from `first` on, which both databases take.
fn placeholders(first: usize, count: usize) -> String {
    let numbers: Vec<_> = (first..first + count).map(|n| format!("${n}")).collect();
    numbers.join(", ")
}
