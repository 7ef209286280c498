//! Reading alerts back, newest first, for `GET /v1/alerts`.

use schemas::time::Timestamp;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::row::{alert_of, time};
use super::{Store, StoreError};
use crate::alert::Alert;

/// Where a page ended: the event time and id of its last alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) at: Timestamp,
    pub(crate) id: String,
}

/// Which alerts to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// This subject and all below it.
    pub(crate) subject: Option<String>,
    pub(crate) kind: Option<&'static str>,
    pub(crate) tenant: Option<String>,
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: usize,
}

/// An alert and what became of it, per channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) alert: Alert,
    pub(crate) deliveries: Vec<Delivery>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) channel: String,
    pub(crate) state: String,
    pub(crate) attempts: i64,
    /// When it is due, while it waits.
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) done_at: Option<Timestamp>,
    pub(crate) error: Option<String>,
    pub(crate) digest: Option<String>,
}

impl Store {
    /// One page, newest first by event time.
    pub(crate) async fn list(&self, filter: &Filter) -> Result<Vec<Listed>, StoreError> {
        let subject = filter.subject.clone().unwrap_or_default();
        let below = format!("{subject}/");
        let below_chars = i64::try_from(below.chars().count()).unwrap_or(i64::MAX);
        let after = filter.after.clone().unwrap_or(Cursor {
            at: Timestamp::MAX,
            id: String::new(),
        });
        // An empty text stands for "any": a parameter that may be null has no type of its own in PostgreSQL.
        let rows = sqlx::query(
            "SELECT a.*, o.channel, o.state, o.attempts, o.next_us, o.done_us, o.last_error, o.folded_into
             FROM (SELECT * FROM notifier_alerts
                   WHERE ($1 = '' OR subject = $1 OR substr(subject, 1, CAST($2 AS INTEGER)) = $3)
                     AND ($4 = '' OR kind = $4) AND ($5 = '' OR tenant = $5)
                     AND (at_us < $6 OR (at_us = $6 AND id < $7))
                   ORDER BY at_us DESC, id DESC LIMIT $8) a
             LEFT JOIN notifier_outbox o ON o.message = a.id
             ORDER BY a.at_us DESC, a.id DESC, o.channel",
        )
        .bind(subject)
        .bind(below_chars)
        .bind(below)
        .bind(filter.kind.unwrap_or_default())
        .bind(filter.tenant.clone().unwrap_or_default())
        .bind(after.at.as_micros())
        .bind(after.id)
        .bind(i64::try_from(filter.limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        gather(&rows)
    }
}

/// Puts the rows of one alert, which follow one another, together.
fn gather(rows: &[AnyRow]) -> Result<Vec<Listed>, StoreError> {
    let mut listed: Vec<Listed> = Vec::new();
    for row in rows {
        let id: &str = row.try_get("id")?;
        if listed.last().is_none_or(|last| last.alert.id != id) {
            listed.push(Listed {
                alert: alert_of(row)?,
                deliveries: Vec::new(),
            });
        }
        if let (Some(delivery), Some(last)) = (delivery_of(row)?, listed.last_mut()) {
            last.deliveries.push(delivery);
        }
    }
    Ok(listed)
}

/// `None` for an alert that no channel heard.
fn delivery_of(row: &AnyRow) -> Result<Option<Delivery>, StoreError> {
    let channel: Option<String> = row.try_get("channel")?;
    let Some(channel) = channel else {
        return Ok(None);
    };
    let state: String = row.try_get("state")?;
    let done: Option<i64> = row.try_get("done_us")?;
    let next_at = if state == "pending" {
        Some(time(row, "next_us")?)
    } else {
        None
    };
    Ok(Some(Delivery {
        channel,
        state,
        attempts: row.try_get("attempts")?,
        next_at,
        done_at: done.map(Timestamp::from_micros),
        error: row.try_get("last_error")?,
        digest: row.try_get("folded_into")?,
    }))
}
