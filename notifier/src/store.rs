//! The outbox: alerts and what became of them per channel, in SQLite or PostgreSQL.
//!
//! Each function is one transaction or one statement. A transaction begins with a write, so that on SQLite it holds
//! the writer's lock before it reads.

mod list;

use std::borrow::Cow;
use std::time::Duration;

use schemas::subject::Subject;
use schemas::time::Timestamp;
use sqlx::any::AnyRow;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Any, AnyPool, Row as _, SqlStr, Transaction};
use thiserror::Error;

use crate::alert::{Alert, Kind};
use crate::message::LISTED_MAX;
use crate::route::{Listener, Plan, Rules, Standing};

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

    /// Stores alerts and their places in the outbox, all or none.
    pub(crate) async fn record(
        &self,
        alerts: &[Alert],
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let mut recorded = Vec::with_capacity(alerts.len());
        for alert in alerts {
            if !insert_alert(&mut tx, alert, now).await? {
                recorded.push(Recorded::Repeated);
                continue;
            }
            let mut plans = Vec::new();
            for listener in rules.listeners.iter().filter(|l| l.hears(alert)) {
                let standing = standing(&mut tx, listener, alert, rules.flood_window, now).await?;
                let plan = rules.plan(listener, alert, &standing, now);
                insert_plan(&mut tx, listener, alert, &plan, now).await?;
                plans.push((listener.channel.clone(), plan));
            }
            recorded.push(Recorded::New(plans));
        }
        tx.commit().await?;
        Ok(recorded)
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

type Tx<'a> = Transaction<'a, Any>;

/// `false` when the alert is known.
async fn insert_alert(tx: &mut Tx<'_>, alert: &Alert, now: Timestamp) -> Result<bool, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO notifier_alerts
           (id, kind, tenant, subject, title, body, at_us, limit_name, level, used, max_amount, decision, until_us,
            seen_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (id) DO NOTHING",
    )
    .bind(&alert.id)
    .bind(alert.kind.name())
    .bind(alert.tenant_key())
    .bind(alert.subject.as_str())
    .bind(&alert.title)
    .bind(&alert.body)
    .bind(alert.at.as_micros())
    .bind(alert.limit.clone())
    .bind(alert.level.clone())
    .bind(alert.used.map(|used| used.to_string()))
    .bind(alert.max.map(|max| max.to_string()))
    .bind(alert.decision.clone())
    .bind(alert.until.map(Timestamp::as_micros))
    .bind(now.as_micros())
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// What `listener` has heard and will hear about the alert's tenant.
async fn standing(
    tx: &mut Tx<'_>,
    listener: &Listener,
    alert: &Alert,
    window: Duration,
    now: Timestamp,
) -> Result<Standing, StoreError> {
    let rows = sqlx::query(
        "SELECT slot_us FROM notifier_outbox
         WHERE channel = $1 AND tenant = $2 AND $3 < slot_us AND state IN ('pending', 'sent', 'failed')
         ORDER BY slot_us DESC LIMIT $4",
    )
    .bind(&listener.channel)
    .bind(alert.tenant_key())
    .bind(now.minus(window).as_micros())
    .bind(i64::try_from(listener.messages_max).unwrap_or(i64::MAX))
    .fetch_all(&mut **tx)
    .await?;
    let mut slots = Vec::with_capacity(rows.len());
    for row in rows.iter().rev() {
        slots.push(time(row, "slot_us")?);
    }
    let open = sqlx::query(
        "SELECT message FROM notifier_outbox
         WHERE channel = $1 AND tenant = $2 AND $3 < slot_us AND state = 'pending' AND form = 'digest'
         ORDER BY slot_us LIMIT 1",
    )
    .bind(&listener.channel)
    .bind(alert.tenant_key())
    .bind(now.as_micros())
    .fetch_optional(&mut **tx)
    .await?;
    let open_digest = open.map(|row| row.try_get("message")).transpose()?;
    Ok(Standing { slots, open_digest })
}

/// One row to be inserted.
struct NewRow<'a> {
    message: &'a str,
    form: &'static str,
    state: &'static str,
    due: Timestamp,
    error: Option<&'static str>,
    folded_into: Option<&'a str>,
}

async fn insert_plan(
    tx: &mut Tx<'_>,
    listener: &Listener,
    alert: &Alert,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), StoreError> {
    let own = NewRow {
        message: &alert.id,
        form: "alert",
        state: "pending",
        due: now,
        error: None,
        folded_into: None,
    };
    let folded = |digest| NewRow {
        state: "folded",
        folded_into: Some(digest),
        ..own
    };
    let rows = match plan {
        Plan::Send => vec![own],
        Plan::Join { digest } => vec![folded(digest)],
        Plan::Open { digest, due } => {
            let new = NewRow {
                message: digest,
                form: "digest",
                due: *due,
                ..own
            };
            vec![new, folded(digest)]
        }
        Plan::Suppress { reason } => vec![NewRow {
            state: "suppressed",
            error: Some(reason),
            ..own
        }],
    };
    for row in rows {
        insert_row(tx, listener, alert, &row, now).await?;
    }
    Ok(())
}

async fn insert_row(
    tx: &mut Tx<'_>,
    listener: &Listener,
    alert: &Alert,
    row: &NewRow<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO notifier_outbox
           (message, channel, form, tenant, state, slot_us, queued_us, attempts, next_us, leased_until_us, last_error,
            folded_into, done_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $6, 0, $8, $9, $10)",
    )
    .bind(row.message)
    .bind(&listener.channel)
    .bind(row.form)
    .bind(alert.tenant_key())
    .bind(row.state)
    .bind(row.due.as_micros())
    .bind(now.as_micros())
    .bind(row.error)
    .bind(row.folded_into)
    .bind((row.state != "pending").then(|| now.as_micros()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn form_named(name: &str) -> Result<Form, StoreError> {
    match name {
        "alert" => Ok(Form::Alert),
        "digest" => Ok(Form::Digest),
        other => Err(corrupt("the form of a message", other)),
    }
}

fn corrupt(what: &'static str, value: &str) -> StoreError {
    StoreError::Corrupt {
        what,
        value: value.to_owned(),
    }
}

fn time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

fn amount(row: &AnyRow, column: &str) -> Result<Option<i128>, StoreError> {
    let text: Option<String> = row.try_get(column)?;
    let parse = |text: String| text.parse().map_err(|_| corrupt("an amount", &text));
    text.map(parse).transpose()
}

fn alert_of(row: &AnyRow) -> Result<Alert, StoreError> {
    let kind: &str = row.try_get("kind")?;
    let subject: &str = row.try_get("subject")?;
    let tenant: String = row.try_get("tenant")?;
    let until: Option<i64> = row.try_get("until_us")?;
    Ok(Alert {
        id: row.try_get("id")?,
        kind: Kind::named(kind).ok_or_else(|| corrupt("the kind of an alert", kind))?,
        tenant: (!tenant.is_empty()).then_some(tenant),
        subject: Subject::parse(subject).map_err(|_| corrupt("a subject", subject))?,
        title: row.try_get("title")?,
        body: row.try_get("body")?,
        at: time(row, "at_us")?,
        limit: row.try_get("limit_name")?,
        level: row.try_get("level")?,
        used: amount(row, "used")?,
        max: amount(row, "max_amount")?,
        decision: row.try_get("decision")?,
        until: until.map(Timestamp::from_micros),
    })
}

#[cfg(test)]
mod tests;
