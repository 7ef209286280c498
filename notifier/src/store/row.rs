//! Rows as the notifier's own types.

use schemas::subject::Subject;
use schemas::time::Timestamp;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Form, StoreError};
use crate::alert::{Alert, Kind};

pub(super) fn form_named(name: &str) -> Result<Form, StoreError> {
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

pub(super) fn time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

fn amount(row: &AnyRow, column: &str) -> Result<Option<i128>, StoreError> {
    let text: Option<String> = row.try_get(column)?;
    let parse = |text: String| text.parse().map_err(|_| corrupt("an amount", &text));
    text.map(parse).transpose()
}

pub(super) fn alert_of(row: &AnyRow) -> Result<Alert, StoreError> {
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
