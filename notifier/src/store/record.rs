//! Placing alerts in the outbox.

use std::time::Duration;

use schemas::time::Timestamp;
use sqlx::{Any, Row as _, Transaction};

use super::row::time;
use super::{Recorded, Store, StoreError};
use crate::alert::Alert;
use crate::route::{Listener, Plan, Rules, Standing};

impl Store {
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
