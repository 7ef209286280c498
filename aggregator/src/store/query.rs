//! Sums of usage over any span, by any step and grouping. Whole minutes are summed by the database; finer ones from
//! the seconds that each row keeps, here.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::money::PICO_PER_USD;
use schemas::policy::{Meter, Stream};
use schemas::subject::{Dimension, IdSet, Named, Sets, Subject};
use schemas::topic::{AUTH, CSP, USAGE};
use serde::Deserialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError};

const MINUTE_SECONDS: i64 = 60;

/// Whose usage, and of what.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) meter: Meter,
    /// Column and what it must hold.
    pub(crate) ids: Vec<(&'static str, Held)>,
    /// Columns by which sums are told apart.
    pub(crate) group_by: Vec<&'static str>,
}

/// What a column must hold.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Id(String),
    /// Any id of a set.
    OneOf(Arc<IdSet>),
}

/// From when to when, in steps: seconds since 1970, `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) step: i64,
}

/// By the ids of its group: sums by the start of their step. Steps without anything are left out.
pub(crate) type Grouped = BTreeMap<Vec<String>, BTreeMap<i64, i128>>;

impl Filter {
    /// The usage of `subject`, with the ids that its sets have now. `None` when it has a dimension that usage is not kept
    /// by, or a set that is none of `sets`.
    pub(crate) fn of(
        subject: &Subject,
        meter: Meter,
        group_by: &[Dimension],
        sets: &Sets,
    ) -> Option<Self> {
        let ids = subject.parts().into_iter().map(|(dimension, named)| {
            let held = match named {
                Named::Id(id) => Held::Id(id),
                Named::Set(name) => Held::OneOf(Arc::clone(sets.of(&name, dimension).ok()?)),
            };
            Some((column(dimension)?, held))
        });
        let group_by = group_by.iter().map(|dimension| column(*dimension));
        Some(Self {
            ids: ids.collect::<Option<_>>()?,
            group_by: group_by.collect::<Option<_>>()?,
            meter,
        })
    }
}

/// Where a dimension is kept.
fn column(dimension: Dimension) -> Option<&'static str> {
    Some(match dimension {
        Dimension::Tenant => "tenant",
        Dimension::Key => "key_id",
        Dimension::User => "user_id",
        Dimension::Account => "account",
        Dimension::Source => "source",
        Dimension::Provider => "provider",
        Dimension::Model => "model",
        Dimension::Route => "route",
        Dimension::Fingerprint | Dimension::Action => return None,
    })
}

fn stream(meter: &Meter) -> &'static str {
    match meter.stream() {
        Stream::Usage => USAGE.name(),
        Stream::Auth => AUTH.name(),
        Stream::Csp => CSP.name(),
    }
}

/// The sums of `meter` as two columns of SQL, the second of them what is left over of the first's unit; `None` for
/// a unit of the user's own, which has no column.
fn sums(meter: &Meter) -> Option<(&'static str, &'static str)> {
    Some(match meter {
        Meter::Requests => ("SUM(requests)", "SUM(0)"),
        Meter::InputTokens => ("SUM(input_tokens)", "SUM(0)"),
        Meter::OutputTokens => ("SUM(output_tokens)", "SUM(0)"),
        Meter::Tokens => ("SUM(input_tokens + output_tokens)", "SUM(0)"),
        Meter::Cost => ("SUM(cost_hi)", "SUM(cost_lo)"),
        Meter::Failures => ("SUM(failures)", "SUM(0)"),
        Meter::Violations => ("SUM(violations)", "SUM(0)"),
        Meter::Unit(_) => return None,
    })
}

impl Store {
    pub(crate) async fn usage(&self, filter: &Filter, span: Span) -> Result<Grouped, StoreError> {
        let whole_minutes = [span.from, span.to, span.step]
            .iter()
            .all(|s| s.rem_euclid(MINUTE_SECONDS) == 0);
        match sums(&filter.meter) {
            Some(sums) if whole_minutes => self.by_minutes(filter, span, sums).await,
            _ => self.by_seconds(filter, span).await,
        }
    }

    async fn by_minutes(
        &self,
        filter: &Filter,
        span: Span,
        (hi, lo): (&str, &str),
    ) -> Result<Grouped, StoreError> {
        let sql = format!(
            "SELECT {columns}(minute_s - $1) / $3 AS step, CAST({hi} AS BIGINT) AS hi, \
             CAST({lo} AS BIGINT) AS lo FROM aggregator_rollups \
             WHERE minute_s >= $1 AND minute_s < $2 AND stream = $4{ids} GROUP BY {columns}step",
            columns = columns(filter),
            ids = conditions(filter, 5),
        );
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(span.from)
            .bind(span.to)
            .bind(span.step);
        query = query.bind(stream(&filter.meter));
        for id in bound(filter) {
            query = query.bind(id.to_owned());
        }
        let mut grouped = Grouped::new();
        for row in query.fetch_all(&self.pool).await? {
            let (hi, lo): (i64, i64) = (row.try_get("hi")?, row.try_get("lo")?);
            let sum = match filter.meter {
                Meter::Cost => i128::from(hi) * PICO_PER_USD + i128::from(lo),
                _ => i128::from(hi),
            };
            let at = span.from + row.try_get::<i64, _>("step")? * span.step;
            add(&mut grouped, group(filter, &row)?, at, sum);
        }
        Ok(grouped)
    }

    async fn by_seconds(&self, filter: &Filter, span: Span) -> Result<Grouped, StoreError> {
        let sql = format!(
            "SELECT {columns}minute_s, seconds FROM aggregator_rollups \
             WHERE minute_s >= $1 AND minute_s < $2 AND stream = $3{ids}",
            columns = columns(filter),
            ids = conditions(filter, 4),
        );
        let first_minute = span.from - span.from.rem_euclid(MINUTE_SECONDS);
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(first_minute)
            .bind(span.to);
        query = query.bind(stream(&filter.meter));
        for id in bound(filter) {
            query = query.bind(id.to_owned());
        }
        let mut grouped = Grouped::new();
        for row in query.fetch_all(&self.pool).await? {
            let minute: i64 = row.try_get("minute_s")?;
            let text: String = row.try_get("seconds")?;
            let seconds: Vec<Second> =
                serde_json::from_str(&text).map_err(|error| StoreError::Corrupt {
                    column: "seconds",
                    reason: error.to_string(),
                })?;
            let ids = group(filter, &row)?;
            for second in seconds {
                let at = minute + second.0;
                if (span.from..span.to).contains(&at) {
                    let step = span.from + (at - span.from) / span.step * span.step;
                    add(
                        &mut grouped,
                        ids.clone(),
                        step,
                        second.amount(&filter.meter),
                    );
                }
            }
        }
        Ok(grouped)
    }
}

fn add(grouped: &mut Grouped, ids: Vec<String>, at: i64, sum: i128) {
    if sum != 0 {
        *grouped.entry(ids).or_default().entry(at).or_default() += sum;
    }
}

/// One second as a row keeps it.
#[derive(Deserialize)]
struct Second(
    i64,
    i128,
    i128,
    i128,
    schemas::record::Amount,
    i128,
    i128,
    BTreeMap<String, i64>,
);

impl Second {
    fn amount(&self, meter: &Meter) -> i128 {
        match meter {
            Meter::Requests => self.1,
            Meter::InputTokens => self.2,
            Meter::OutputTokens => self.3,
            Meter::Tokens => self.2 + self.3,
            Meter::Cost => self.4.0,
            Meter::Failures => self.5,
            Meter::Violations => self.6,
            Meter::Unit(name) => self.7.get(name).copied().unwrap_or(0).into(),
        }
    }
}

/// The grouping's columns, each with a comma behind it.
fn columns(filter: &Filter) -> String {
    filter
        .group_by
        .iter()
        .map(|column| format!("{column}, "))
        .collect()
}

/// What the columns must hold, each condition with an `AND` before it; [`bound`] are its parameters, from `first` on.
fn conditions(filter: &Filter, first: usize) -> String {
    let mut next = first..;
    let mut parameter = || format!("${}", next.next().unwrap_or_default());
    let mut sql = String::new();
    for (column, held) in &filter.ids {
        let any = match held {
            Held::Id(_) => format!("{column} = {}", parameter()),
            Held::OneOf(set) => {
                let ids: Vec<String> = set.exact().iter().map(|_| parameter()).collect();
                let starts = set.starts().iter().map(|start| {
                    let length = start.chars().count();
                    format!(
                        "(substr({column}, 1, {length}) = {} AND {column} <> '')",
                        parameter()
                    )
                });
                let is_one = format!("{column} IN ({})", ids.join(", "));
                let is_one = (!ids.is_empty()).then_some(is_one);
                let any: Vec<String> = is_one.into_iter().chain(starts).collect();
                match any.is_empty() {
                    true => "1 = 0".to_owned(),
                    false => format!("({})", any.join(" OR ")),
                }
            }
        };
        sql.push_str(" AND ");
        sql.push_str(&any);
    }
    sql
}

fn bound(filter: &Filter) -> impl Iterator<Item = &str> {
    filter.ids.iter().flat_map(|(_, held)| {
        let ids: Vec<&str> = match held {
            Held::Id(id) => vec![id],
            Held::OneOf(set) => {
                let ids = set.exact().iter().chain(set.starts());
                ids.map(String::as_str).collect()
            }
        };
        ids
    })
}

fn group(filter: &Filter, row: &AnyRow) -> Result<Vec<String>, StoreError> {
    filter
        .group_by
        .iter()
        .map(|column| Ok(row.try_get(*column)?))
        .collect()
}
