//! The commands that were given: the trail of who did what, when and why.

use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Any;
use sqlx::Row as _;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

use super::{Store, StoreError, tenant_path};
use crate::command::{Action, Command, Undone};

/// A command as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) at: Timestamp,
    pub(crate) actor: String,
    pub(crate) reason: String,
    pub(crate) body: GivenBody,
}

/// What its kind takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenBody {
    pub(crate) until: Option<Timestamp>,
    pub(crate) limit: Option<String>,
    /// A whole number in decimal digits.
    pub(crate) hard: Option<String>,
    /// What was paid in, likewise.
    pub(crate) amount: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) tier: Option<String>,
    /// The command that is undone, or answered.
    pub(crate) command: Option<String>,
    /// The one that holds again by that.
    pub(crate) back: Option<String>,
}

impl Given {
    pub(crate) fn of(command: &Command) -> Self {
        let mut body = GivenBody {
            until: command.until,
            limit: command.action.limit().map(str::to_owned),
            ..GivenBody::default()
        };
        match &command.action {
            Action::Raise { numbers, .. } | Action::Ask { numbers, .. } => {
                body.hard = numbers.hard.map(|hard| hard.to_string());
                let mode = numbers
                    .mode
                    .and_then(|mode| serde_json::to_value(mode).ok());
                body.mode = mode.and_then(|mode| mode.as_str().map(str::to_owned));
            }
            Action::TopUp { amount, .. } => body.amount = Some(amount.to_string()),
            Action::SetTier { tier } => body.tier = Some(tier.clone()),
            Action::Approve {
                request, numbers, ..
            } => {
                body.hard = numbers.hard.map(|hard| hard.to_string());
                body.command = Some(request.clone());
            }
            Action::Decline { request, .. } => body.command = Some(request.clone()),
            Action::Undo { command, back, .. } => {
                body.command = Some(command.clone());
                body.back = back.as_ref().map(|back| back.command.clone());
            }
            Action::Clear { .. } | Action::Block | Action::Unblock => {}
        }
        Self {
            id: command.id.clone(),
            kind: command.action.kind().to_owned(),
            subject: command.subject.to_string(),
            at: command.at,
            actor: command.actor.clone(),
            reason: command.reason.clone(),
            body,
        }
    }

    /// What undoing it undoes; `None` where it cannot be undone.
    pub(crate) fn undone(&self) -> Option<Undone> {
        match self.kind.as_str() {
            "raise" | "approve" => Some(Undone::Raise {
                limit: self.body.limit.clone()?,
            }),
            "top_up" => Some(Undone::TopUp {
                limit: self.body.limit.clone()?,
                amount: self.body.amount.as_ref()?.parse().ok()?,
            }),
            "set_tier" => Some(Undone::SetTier),
            "block" => Some(Undone::Block),
            _ => None,
        }
    }

    /// Whether `other` orders the same. A time that was given as a span from now on is another each time, and what an
    /// undoing brings back is not its sender's choice.
    pub(crate) fn orders_the_same_as(&self, other: &Given) -> bool {
        let timeless = |given: &Given| Given {
            at: Timestamp::MIN,
            body: GivenBody {
                until: None,
                back: None,
                ..given.body.clone()
            },
            ..given.clone()
        };
        timeless(self) == timeless(other) && self.body.until.is_some() == other.body.until.is_some()
    }
}

/// Where a page of commands ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenCursor {
    pub(crate) at: Timestamp,
    pub(crate) id: String,
}

/// Which commands to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenFilter {
    /// This subject and all below it.
    pub(crate) subject: Option<String>,
    /// Only those of this tenant.
    pub(crate) tenant: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) after: Option<GivenCursor>,
    pub(crate) limit: usize,
}

impl Store {
    /// Takes commands in the order of their partition, all or none.
    pub(crate) async fn record_commands(&self, commands: &[Command]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        for command in commands {
            let given = Given::of(command);
            sqlx::query(
                "INSERT INTO enforcer_commands (id, kind, subject, tenant, at_us, actor, reason, body)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
            )
            .bind(given.id)
            .bind(given.kind)
            .bind(given.subject)
            .bind(tenant_path(command.subject.tenant_id().as_deref()))
            .bind(given.at.as_micros())
            .bind(given.actor)
            .bind(given.reason)
            .bind(serde_json::to_string(&given.body)?)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// One page, newest first.
    pub(crate) async fn commands(&self, filter: &GivenFilter) -> Result<Vec<Given>, StoreError> {
        let rows = asked_with(
            filter,
            filter.kind.as_deref().unwrap_or_default(),
            "SELECT id, kind, subject, at_us, actor, reason, body FROM enforcer_commands
             WHERE ($1 = '' OR subject = $1 OR substr(subject, 1, CAST($2 AS INTEGER)) = $3)
               AND ($4 = '' OR tenant = $4) AND ($5 = '' OR kind = $5)
               AND (at_us < $6 OR (at_us = $6 AND id < $7))
             ORDER BY at_us DESC, id DESC LIMIT $8",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(given).collect()
    }

    /// The command of this id.
    pub(crate) async fn command(&self, id: &str) -> Result<Option<Given>, StoreError> {
        let row = sqlx::query(
            "SELECT id, kind, subject, at_us, actor, reason, body FROM enforcer_commands WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(given).transpose()
    }
}

/// A query for a page: `$1` is the subject, `$2` and `$3` what the names of all below it begin with and how long that
/// is, `$4` the tenant, `$5` the `kind`, `$6` and `$7` where the page before ended, `$8` how many at most. An empty text
/// stands for "any": a parameter that may be null has no type of its own in PostgreSQL.
pub(super) fn asked_with<'q>(
    filter: &GivenFilter,
    kind: &str,
    sql: &'static str,
) -> Query<'q, Any, AnyArguments> {
    let subject = filter.subject.clone().unwrap_or_default();
    let below = format!("{subject}/");
    let below_chars = i64::try_from(below.chars().count()).unwrap_or(i64::MAX);
    let after = filter.after.clone().unwrap_or(GivenCursor {
        at: Timestamp::MAX,
        id: String::new(),
    });
    sqlx::query(sql)
        .bind(subject)
        .bind(below_chars)
        .bind(below)
        .bind(tenant_path(filter.tenant.as_deref()))
        .bind(kind.to_owned())
        .bind(after.at.as_micros())
        .bind(after.id)
        .bind(i64::try_from(filter.limit).unwrap_or(i64::MAX))
}

pub(super) fn given(row: &AnyRow) -> Result<Given, StoreError> {
    let body: String = row.try_get("body")?;
    Ok(Given {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        at: Timestamp::from_micros(row.try_get("at_us")?),
        actor: row.try_get("actor")?,
        reason: row.try_get("reason")?,
        body: serde_json::from_str(&body)?,
    })
}
