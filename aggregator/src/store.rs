//! Rows for queries, in SQLite or PostgreSQL: usage per minute, crossings, groups of violations, refusals.
//!
//! Every write is an upsert of absolute values in which the newest origin wins, so that writing a record twice, or
//! an old one late, changes nothing. One SQL text serves both databases.

mod list;
mod query;
mod write;

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, SqlStr};
use thiserror::Error;

pub(crate) use list::{Listing, Page};
pub(crate) use query::{Filter, Grouped, Span};
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
        let rows = Migration::new(
            1001,
            Cow::Borrowed("rows"),
            MigrationType::Simple,
            SqlStr::from_static(include_str!("../migrations/1001_rows.sql")),
            false,
        );
        let mut migrator = Migrator::with_migrations(vec![rows]);
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
