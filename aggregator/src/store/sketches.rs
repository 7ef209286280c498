//! Sketches by hour: as they are told, and merged over several hours.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use schemas::record::{Ranking, Sketch, Spread};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row as _};

use super::write::{Statement, VALUES_PER_STATEMENT, json_text, tuples};
use super::{Store, StoreError};
use crate::sketch::{Distinct, Ranked, RankedEntry};

const SPREAD_COLUMNS: usize = 8;
/// Rows that one question takes into memory, of a kilobyte each at most.
const ROWS_MAX: usize = 50_000;

/// Records of one batch, of which only one of each row is kept: the largest count, and the newest list.
#[derive(Debug, Default)]
pub(super) struct SketchRows {
    spreads: HashMap<[String; 4], HashMap<i64, Spread>>,
    rankings: HashMap<(String, String, String, i64), Ranking>,
}

impl SketchRows {
    pub(super) fn add(&mut self, sketch: Sketch) {
        match sketch {
            Sketch::Spread(spread) => {
                let Spread {
                    tenant,
                    of,
                    per,
                    id,
                    ..
                } = &spread;
                let key = [tenant, of, per, id].map(String::clone);
                let hours = self.spreads.entry(key).or_default();
                let hour = spread.hour.second();
                let known = hours.get(&hour);
                if known.is_none_or(|known| known.count <= spread.count) {
                    hours.insert(hour, spread);
                }
            }
            Sketch::Ranking(ranking) => {
                let meter = ranking.meter.name().to_owned();
                let hour = ranking.hour.second();
                let key = (ranking.tenant.clone(), ranking.by.clone(), meter, hour);
                let offset = ranking.origin.offset;
                let known = self.rankings.get(&key);
                if known.is_none_or(|known| known.origin.offset <= offset) {
                    self.rankings.insert(key, ranking);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spreads.is_empty() && self.rankings.is_empty()
    }

    pub(super) async fn write(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        let spreads: Vec<_> = self.spreads.values().flat_map(HashMap::values).collect();
        for chunk in spreads.chunks(VALUES_PER_STATEMENT / SPREAD_COLUMNS) {
            let mut query = sqlx::query(AssertSqlSafe(upsert_spreads(chunk.len())));
            for spread in chunk {
                query = bind_spread(query, spread);
            }
            query.execute(&mut *connection).await?;
        }
        for ranking in self.rankings.values() {
            upsert_ranking(ranking)?.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

fn upsert_spreads(rows: usize) -> String {
    format!(
        "INSERT INTO aggregator_spreads \
         (tenant, of_dimension, per_dimension, id, hour_s, count, missed_max, sketch) VALUES {} \
         ON CONFLICT (tenant, hour_s, of_dimension, per_dimension, id) DO UPDATE \
         SET count = excluded.count, missed_max = excluded.missed_max, sketch = excluded.sketch \
         WHERE aggregator_spreads.count <= excluded.count",
        tuples(rows, SPREAD_COLUMNS),
    )
}

fn bind_spread<'q>(query: Statement<'q>, spread: &Spread) -> Statement<'q> {
    query
        .bind(spread.tenant.clone())
        .bind(spread.of.clone())
        .bind(spread.per.clone())
        .bind(spread.id.clone())
        .bind(spread.hour.second())
        .bind(spread.count)
        .bind(spread.missed_max)
        .bind(BASE64_STANDARD.encode(&spread.sketch))
}

fn upsert_ranking(ranking: &Ranking) -> Result<Statement<'static>, StoreError> {
    let query = sqlx::query::<Any>(
        "INSERT INTO aggregator_rankings (tenant, by_dimension, meter, hour_s, origin_offset, record)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant, hour_s, by_dimension, meter) DO UPDATE
         SET origin_offset = excluded.origin_offset, record = excluded.record
         WHERE aggregator_rankings.origin_offset <= excluded.origin_offset",
    );
    Ok(query
        .bind(ranking.tenant.clone())
        .bind(ranking.by.clone())
        .bind(ranking.meter.name().to_owned())
        .bind(ranking.hour.second())
        .bind(ranking.origin.offset)
        .bind(json_text(ranking)?))
}

/// Which sketches: the two columns that tell lists apart, and of which hours.
#[derive(Clone, Debug)]
pub(crate) struct SketchQuery {
    /// Of one tenant, or of all.
    pub(crate) tenant: Option<String>,
    /// The counted dimension and that of the ids; or the dimension of the ids and the meter.
    pub(crate) kind: [String; 2],
    /// Seconds since 1970: `from` inclusive, `to` exclusive.
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// What came with one id over all hours that were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpreadOver {
    pub(crate) distinct: Distinct,
    pub(crate) missed_max: i64,
}

impl Store {
    /// By tenant and id, merged over the hours. `None` when there is more than one question may take.
    pub(crate) async fn spreads(
        &self,
        query: &SketchQuery,
    ) -> Result<Option<BTreeMap<(String, String), SpreadOver>>, StoreError> {
        let select = "SELECT tenant, id, missed_max, sketch FROM aggregator_spreads \
                      WHERE of_dimension = $1 AND per_dimension = $2";
        let Some(rows) = self.sketches(select, query).await? else {
            return Ok(None);
        };
        let mut spreads: BTreeMap<_, SpreadOver> = BTreeMap::new();
        for row in rows {
            let spread = spreads.entry((row.try_get("tenant")?, row.try_get("id")?));
            let spread = spread.or_default();
            spread.distinct.merge(&distinct(&row)?);
            spread.missed_max += row.try_get::<i64, _>("missed_max")?;
        }
        Ok(Some(spreads))
    }

    /// By tenant, merged over the hours. `None` when there is more than one question may take.
    pub(crate) async fn rankings(
        &self,
        query: &SketchQuery,
    ) -> Result<Option<BTreeMap<String, Ranked>>, StoreError> {
        let select = "SELECT tenant, record FROM aggregator_rankings \
                      WHERE by_dimension = $1 AND meter = $2";
        let Some(rows) = self.sketches(select, query).await? else {
            return Ok(None);
        };
        let mut rankings: BTreeMap<_, Ranked> = BTreeMap::new();
        for row in rows {
            let ranked = rankings.entry(row.try_get("tenant")?).or_default();
            ranked.merge(list(&row)?);
        }
        Ok(Some(rankings))
    }

    async fn sketches(
        &self,
        select: &str,
        query: &SketchQuery,
    ) -> Result<Option<Vec<AnyRow>>, StoreError> {
        let sql = format!(
            "{select} AND hour_s >= $3 AND hour_s < $4 AND ($5 = '' OR tenant = $5) LIMIT {}",
            ROWS_MAX + 1
        );
        let [first, second] = &query.kind;
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(first.clone())
            .bind(second.clone())
            .bind(query.from)
            .bind(query.to)
            .bind(query.tenant.clone().unwrap_or_default());
        let rows = rows.fetch_all(&self.pool).await?;
        Ok((rows.len() <= ROWS_MAX).then_some(rows))
    }
}

fn distinct(row: &AnyRow) -> Result<Distinct, StoreError> {
    let text: String = row.try_get("sketch")?;
    let corrupt = |reason: String| StoreError::Corrupt {
        column: "sketch",
        reason,
    };
    let bytes = BASE64_STANDARD.decode(text);
    let bytes = bytes.map_err(|error| corrupt(error.to_string()))?;
    Distinct::from_bytes(&bytes).map_err(|error| corrupt(error.to_string()))
}

fn list(row: &AnyRow) -> Result<Ranked, StoreError> {
    let record: Ranking = super::list::record(row)?;
    let amount = |amount: schemas::record::Amount| u128::try_from(amount.0).unwrap_or(0);
    let entries = record.entries.into_iter().map(|entry| RankedEntry {
        id: entry.id,
        count: amount(entry.count),
        error: amount(entry.error),
    });
    Ok(Ranked {
        entries: entries.collect(),
        missing_max: amount(record.missing_max),
        sum: amount(record.sum),
    })
}
