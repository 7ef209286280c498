//! The store of rows: SQLite in the data folder, or PostgreSQL. One pool for all services of a process.

use std::time::Duration;

use anyhow::Context;
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;
use sqlx::{Executor, Row as _};

use crate::supervise::{Stage, Supervisor};

/// How long a connection may be waited for, and how long SQLite waits for another writer.
const WAIT: Duration = Duration::from_secs(10);

/// The row of a minute is written every few seconds while the minute lasts: pages that stay in memory (16 MiB a
/// connection at the most) and move into the main file only after 32 MiB of log are written fewer times.
const SQLITE_ROOM: [&str; 2] = [
    "PRAGMA cache_size = -16384",
    "PRAGMA wal_autocheckpoint = 8192",
];

/// Opens the store that `url` names (`sqlite://…` or `postgres://…`), to be closed when the services have stopped:
/// SQLite's file is whole then, without another one beside it.
pub async fn open(url: &str, supervisor: &mut Supervisor) -> anyhow::Result<AnyPool> {
    sqlx::any::install_default_drivers();
    let sqlite = url.starts_with("sqlite:");
    // SQLite has one writer at a time; more connections only serve readers.
    let options = AnyPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(WAIT);
    let options = options.after_connect(move |connection, _| {
        Box::pin(async move {
            if sqlite {
                let wait = format!("PRAGMA busy_timeout = {}", WAIT.as_millis());
                connection.execute(sqlx::AssertSqlSafe(wait)).await?;
                connection.execute("PRAGMA journal_mode = WAL").await?;
                connection.execute("PRAGMA synchronous = NORMAL").await?;
                for setting in SQLITE_ROOM {
                    connection.execute(setting).await?;
                }
            }
            Ok(())
        })
    });
    let place = without_password(url);
    let pool = options.connect(url).await.with_context(|| {
        format!("cannot open the store {place}; [store] url in the configuration names it")
    })?;
    let answer = sqlx::query("SELECT 1").fetch_one(&pool).await;
    answer
        .and_then(|row| row.try_get::<i32, _>(0))
        .with_context(|| format!("asking the store {place}"))?;
    let (opened, stop) = (pool.clone(), supervisor.token(Stage::Ground));
    supervisor.start(Stage::Ground, "rows", async move {
        stop.cancelled().await;
        opened.close().await;
        anyhow::Ok(())
    });
    Ok(pool)
}

/// The URL as it may be shown: a password's place is kept, the password is not.
fn without_password(url: &str) -> String {
    let shown = || {
        let (scheme, rest) = url.split_once("://")?;
        let (credentials, place) = rest.rsplit_once('@')?;
        let user = credentials.split(':').next()?;
        Some(format!("{scheme}://{user}@{place}"))
    };
    shown().unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let check = |url: &str, shown: &str| assert_eq!(without_password(url), shown);
        check(
            "postgres://weir:s3cret@db:5432/weir",
            "postgres://weir@db:5432/weir",
        );
        check("postgres://weir:p@ss@db/weir", "postgres://weir@db/weir");
        check(
            "sqlite://data/weir.db?mode=rwc",
            "sqlite://data/weir.db?mode=rwc",
        );
    }

    #[tokio::test]
    async fn opens_a_new_sqlite_file_in_wal_mode() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!(
            "sqlite://{}?mode=rwc",
            folder.path().join("weir.db").display()
        );
        let mut supervisor = Supervisor::default();
        let pool = open(&url, &mut supervisor).await.unwrap();
        let row = sqlx::query("PRAGMA journal_mode")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(row.get::<String, _>(0), "wal");
    }

    #[tokio::test]
    async fn a_stop_leaves_all_rows_in_the_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.db");
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let mut supervisor = Supervisor::default();
        let pool = open(&url, &mut supervisor).await.unwrap();
        pool.execute("CREATE TABLE t (n INTEGER)").await.unwrap();
        pool.execute("INSERT INTO t VALUES (7)").await.unwrap();
        supervisor.stop(WAIT).await.unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["weir.db"]);
    }

    #[tokio::test]
    async fn says_which_store_it_cannot_open() {
        let mut supervisor = Supervisor::default();
        let error = open("sqlite://nowhere/at/all.db", &mut supervisor)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot open the store sqlite://nowhere/at/all.db"),
            "{error}"
        );
    }
}
