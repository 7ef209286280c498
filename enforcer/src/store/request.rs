//! Requests of tenants, each with its answer: commands of the trail that belong together.

use schemas::time::Timestamp;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::command::{asked_with, given};
use super::{Given, GivenBody, GivenFilter, Store, StoreError, tenant_path};
use crate::command::State;

/// A request, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) request: Given,
    pub(crate) answer: Option<Answered>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) state: State,
    pub(crate) at: Timestamp,
    pub(crate) reason: String,
    pub(crate) until: Option<Timestamp>,
}

impl Store {
    /// One page, newest first; those in `state`, or all.
    pub(crate) async fn requests(
        &self,
        filter: &GivenFilter,
        state: Option<State>,
    ) -> Result<Vec<Asked>, StoreError> {
        let rows = asked_with(
            filter,
            state.map_or("", State::kind),
            "SELECT asked.id, asked.kind, asked.subject, asked.at_us, asked.actor, asked.reason, asked.body,
                    answer.kind AS answer_kind, answer.at_us AS answer_at_us, answer.reason AS answer_reason,
                    answer.body AS answer_body
             FROM enforcer_commands asked LEFT JOIN enforcer_commands answer ON answer.id = 'answer-' || asked.id
             WHERE asked.kind = 'ask'
               AND ($1 = '' OR asked.subject = $1 OR substr(asked.subject, 1, CAST($2 AS INTEGER)) = $3)
               AND ($4 = '' OR asked.tenant = $4)
               AND ($5 = '' OR COALESCE(answer.kind, 'open') = $5)
               AND (asked.at_us < $6 OR (asked.at_us = $6 AND asked.id < $7))
             ORDER BY asked.at_us DESC, asked.id DESC LIMIT $8",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(asked).collect()
    }

    /// When this tenant asked last, as far as the history knows.
    pub(crate) async fn asked_last(&self, tenant: &str) -> Result<Timestamp, StoreError> {
        let row = sqlx::query(
            "SELECT COALESCE(MAX(at_us), 0) AS at_us FROM enforcer_commands WHERE kind = 'ask' AND tenant = $1",
        )
        .bind(tenant_path(Some(tenant)))
        .fetch_one(&self.pool)
        .await?;
        Ok(Timestamp::from_micros(row.try_get("at_us")?))
    }
}

fn asked(row: &AnyRow) -> Result<Asked, StoreError> {
    let request = given(row)?;
    let kind: Option<String> = row.try_get("answer_kind")?;
    let state = kind.as_deref().and_then(State::of_kind);
    let Some(state) = state else {
        let answer = None;
        return Ok(Asked { request, answer });
    };
    let body: String = row.try_get("answer_body")?;
    let body: GivenBody = serde_json::from_str(&body)?;
    let answer = Some(Answered {
        state,
        at: Timestamp::from_micros(row.try_get("answer_at_us")?),
        reason: row.try_get("answer_reason")?,
        until: body.until,
    });
    Ok(Asked { request, answer })
}
