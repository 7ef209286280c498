//! Reading decisions back, those that stand first, newest first.

use schemas::time::Timestamp;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Body, Store, StoreError, tenant_path};

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) ended: bool,
    pub(crate) seq: i64,
    pub(crate) subject: String,
}

/// Which decisions to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// This subject and all below it.
    pub(crate) subject: Option<String>,
    /// Only those of this tenant.
    pub(crate) tenant: Option<String>,
    /// Only those that stand, or only those that do not.
    pub(crate) standing: Option<bool>,
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: usize,
}

/// One decision of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) seq: i64,
    pub(crate) issued_at: Timestamp,
    /// When it was lifted, or another took its place.
    pub(crate) lifted_at: Option<Timestamp>,
    pub(crate) body: Body,
}

impl Listed {
    pub(crate) fn stands_at(&self, now: Timestamp) -> bool {
        self.lifted_at.is_none() && self.body.until.is_none_or(|until| now < until)
    }
}

impl Store {
    /// One page as of `now`.
    pub(crate) async fn list(
        &self,
        filter: &Filter,
        now: Timestamp,
    ) -> Result<Vec<Listed>, StoreError> {
        let subject = filter.subject.clone().unwrap_or_default();
        let below = format!("{subject}/");
        let below_chars = i64::try_from(below.chars().count()).unwrap_or(i64::MAX);
        let after = filter.after.clone().unwrap_or(Cursor {
            ended: false,
            seq: i64::MAX,
            subject: String::new(),
        });
        let (ended_from, ended_to) = match filter.standing {
            Some(true) => (0_i64, 0_i64),
            Some(false) => (1, 1),
            None => (0, 1),
        };
        // An empty text stands for "any": a parameter that may be null has no type of its own in PostgreSQL.
        let rows = sqlx::query(
            "SELECT * FROM (
               SELECT id, subject, tenant, seq, issued_us, lifted_us, body,
                 CASE WHEN lifted_us IS NULL AND (until_us IS NULL OR $1 < until_us) THEN 0 ELSE 1 END AS ended
               FROM enforcer_decisions) d
             WHERE ($2 = '' OR subject = $2 OR substr(subject, 1, CAST($3 AS INTEGER)) = $4)
               AND ($5 = '' OR tenant = $5) AND $6 <= ended AND ended <= $7
               AND ($8 < ended OR (ended = $8 AND (seq < $9 OR (seq = $9 AND $10 < subject))))
             ORDER BY ended, seq DESC, subject LIMIT $11",
        )
        .bind(now.as_micros())
        .bind(subject)
        .bind(below_chars)
        .bind(below)
        .bind(tenant_path(filter.tenant.as_deref()))
        .bind(ended_from)
        .bind(ended_to)
        .bind(i64::from(after.ended))
        .bind(after.seq)
        .bind(after.subject)
        .bind(i64::try_from(filter.limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(listed).collect()
    }

    /// The decision of this id as it was said last.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Listed>, StoreError> {
        let row = sqlx::query(
            "SELECT id, subject, seq, issued_us, lifted_us, body FROM enforcer_decisions
             WHERE id = $1 ORDER BY seq DESC LIMIT 1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(listed).transpose()
    }
}

fn listed(row: &AnyRow) -> Result<Listed, StoreError> {
    let lifted: Option<i64> = row.try_get("lifted_us")?;
    let body: String = row.try_get("body")?;
    Ok(Listed {
        id: row.try_get("id")?,
        subject: row.try_get("subject")?,
        seq: row.try_get("seq")?,
        issued_at: Timestamp::from_micros(row.try_get("issued_us")?),
        lifted_at: lifted.map(Timestamp::from_micros),
        body: serde_json::from_str(&body)?,
    })
}
