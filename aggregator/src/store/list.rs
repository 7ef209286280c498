//! Lists of what was recorded, page by page, in the order of time.

use schemas::record::{Crossing, CspGroup, Origin, Refusal};
use schemas::time::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError};

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Begins after the entry of this time (microseconds) and id.
    pub(crate) after: Option<(i64, String)>,
    pub(crate) limit: i64,
}

/// One page, and where the next one begins if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Listing<T> {
    pub(crate) entries: Vec<T>,
    pub(crate) next: Option<(i64, String)>,
}

impl Store {
    /// Crossings, oldest first. Each filter is a column and what it must hold.
    pub(crate) async fn crossings(
        &self,
        filters: &[(&'static str, String)],
        page: &Page,
    ) -> Result<Listing<Crossing>, StoreError> {
        let from = "SELECT at_us, id, record FROM aggregator_signals \
                    WHERE (at_us > $1 OR (at_us = $1 AND id > $2))";
        self.page(from, filters, "ORDER BY at_us, id", page).await
    }

    /// Refusals, newest first.
    pub(crate) async fn refusals(
        &self,
        filters: &[(&'static str, String)],
        page: &Page,
    ) -> Result<Listing<Refusal>, StoreError> {
        let from = "SELECT at_us, request_id AS id, record FROM aggregator_refusals \
                    WHERE (at_us < $1 OR (at_us = $1 AND request_id < $2))";
        let newest_first = "ORDER BY at_us DESC, request_id DESC";
        let page = Page {
            after: page
                .after
                .clone()
                .or_else(|| Some((i64::MAX, String::new()))),
            ..page.clone()
        };
        self.page(from, filters, newest_first, &page).await
    }

    async fn page<T: DeserializeOwned>(
        &self,
        from: &str,
        filters: &[(&'static str, String)],
        order: &str,
        page: &Page,
    ) -> Result<Listing<T>, StoreError> {
        let mut sql = from.to_owned();
        for (at, (column, _)) in filters.iter().enumerate() {
            sql.push_str(&format!(" AND {column} = ${}", at + 3));
        }
        // One more than asked tells whether there is a next page.
        sql.push_str(&format!(" {order} LIMIT {}", page.limit + 1));
        let (at, id) = page.after.clone().unwrap_or((i64::MIN, String::new()));
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(at).bind(id);
        for (_, value) in filters {
            query = query.bind(value.clone());
        }
        let rows = query.fetch_all(&self.pool).await?;
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let next = match rows.len() > limit {
            true => rows.get(limit.saturating_sub(1)).map(place).transpose()?,
            false => None,
        };
        let entries = rows
            .iter()
            .take(limit)
            .map(record)
            .collect::<Result<_, _>>()?;
        Ok(Listing { entries, next })
    }

    /// Groups of violations, the largest first; of one tenant, or of all.
    pub(crate) async fn csp_groups(
        &self,
        tenant: Option<&str>,
        limit: i64,
    ) -> Result<Vec<CspGroup>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, directive, blocked_host, document_uri, first_us, count
             FROM aggregator_csp_groups WHERE $1 = '' OR tenant = $1
             ORDER BY count DESC, tenant, directive, blocked_host LIMIT $2",
        )
        .bind(tenant.unwrap_or_default().to_owned())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(group).collect()
    }
}

fn place(row: &AnyRow) -> Result<(i64, String), StoreError> {
    Ok((row.try_get("at_us")?, row.try_get("id")?))
}

pub(super) fn record<T: DeserializeOwned>(row: &AnyRow) -> Result<T, StoreError> {
    let text: String = row.try_get("record")?;
    serde_json::from_str(&text).map_err(|error| StoreError::Corrupt {
        column: "record",
        reason: error.to_string(),
    })
}

fn group(row: &AnyRow) -> Result<CspGroup, StoreError> {
    Ok(CspGroup {
        id: String::new(),
        tenant: row.try_get("tenant")?,
        directive: row.try_get("directive")?,
        blocked_host: row.try_get("blocked_host")?,
        document_uri: row.try_get("document_uri")?,
        at: Timestamp::from_micros(row.try_get("first_us")?),
        count: row.try_get("count")?,
        new: false,
        origin: Origin::default(),
    })
}
