//! What the recorder writes: one transaction for a batch of records.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;

use schemas::money::PICO_PER_USD;
use schemas::record::{Amount, Crossing, CspGroup, Direction, Refusal, Rollup, SecondSums, Sketch};
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

use super::sketches::SketchRows;
use super::{Store, StoreError, placeholders};

const ROLLUP_KEYS: [&str; 10] = [
    "tenant", "key_id", "user_id", "route", "provider", "model", "account", "source", "stream",
    "minute_s",
];
const ROLLUP_VALUES: [&str; 11] = [
    "events",
    "requests",
    "input_tokens",
    "output_tokens",
    "cost_hi",
    "cost_lo",
    "failures",
    "violations",
    "units",
    "seconds",
    "origin_offset",
];
const ROLLUP_COLUMNS: usize = ROLLUP_KEYS.len() + ROLLUP_VALUES.len();
const SIGNAL_COLUMNS: [&str; 9] = [
    "id",
    "subject",
    "tenant",
    "limit_name",
    "level",
    "direction",
    "at_us",
    "origin_offset",
    "record",
];
const REFUSAL_COLUMNS: [&str; 6] = [
    "request_id",
    "gateway",
    "subject",
    "tenant",
    "at_us",
    "record",
];
/// Values of one statement, about. SQLite looks for the name of each value that is bound in a list of all names.
pub(super) const VALUES_PER_STATEMENT: usize = 210;

/// Records of one batch, of which only one of each row is kept, the newest where nothing else is said: one statement may
/// not write a row twice.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// What names each is taken out of it. They are written in this order, so that those of one tenant come to lie
    /// together and a query of its usage reads fewer pages.
    rollups: BTreeMap<RollupKey, Rollup>,
    /// The first of each id: what comes after it says how much longer it stands, and the row tells how it began.
    signals: Vec<Crossing>,
    signal_ids: HashSet<String>,
    groups: HashMap<(String, String, String), CspGroup>,
    refusals: Vec<Refusal>,
    sketches: SketchRows,
}

/// Its ids, the tenant's first, and its minute.
type RollupKey = ([String; 9], i64);

/// A second of a rollup as its row keeps it.
type Second<'a> = (
    i32,
    i64,
    i64,
    i64,
    Amount,
    i64,
    i64,
    &'a BTreeMap<String, i64>,
);

impl Rows {
    pub(crate) fn add_rollup(&mut self, mut rollup: Rollup) {
        let key = take_key(&mut rollup);
        let newer = |known: &Rollup| known.origin.offset <= rollup.origin.offset;
        if self.rollups.get(&key).is_none_or(newer) {
            self.rollups.insert(key, rollup);
        }
    }

    pub(crate) fn add_crossing(&mut self, crossing: Crossing) {
        if self.signal_ids.insert(crossing.id.clone()) {
            self.signals.push(crossing);
        }
    }

    pub(crate) fn add_group(&mut self, group: CspGroup) {
        let key = (
            group.tenant.clone(),
            group.directive.clone(),
            group.blocked_host.clone(),
        );
        let newer = |known: &CspGroup| known.origin.offset <= group.origin.offset;
        if self.groups.get(&key).is_none_or(newer) {
            self.groups.insert(key, group);
        }
    }

    pub(crate) fn add_refusal(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    pub(crate) fn add_sketch(&mut self, sketch: Sketch) {
        self.sketches.add(sketch);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rollups.is_empty()
            && self.signals.is_empty()
            && self.groups.is_empty()
            && self.refusals.is_empty()
            && self.sketches.is_empty()
    }
}

fn take_key(rollup: &mut Rollup) -> RollupKey {
    let or_empty = |id: &mut Option<String>| id.take().unwrap_or_default();
    let ids = [
        mem::take(&mut rollup.tenant),
        or_empty(&mut rollup.key),
        or_empty(&mut rollup.user),
        or_empty(&mut rollup.route),
        or_empty(&mut rollup.provider),
        or_empty(&mut rollup.model),
        or_empty(&mut rollup.account),
        or_empty(&mut rollup.source),
        mem::take(&mut rollup.origin.topic),
    ];
    (ids, rollup.minute.second())
}

fn second(sums: &SecondSums) -> Second<'_> {
    (
        sums.second,
        sums.requests,
        sums.input_tokens,
        sums.output_tokens,
        sums.cost,
        sums.failures,
        sums.violations,
        &sums.units,
    )
}

impl Store {
    /// Writes all of `rows`, or nothing.
    pub(crate) async fn write(&self, rows: &Rows) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let rollups: Vec<_> = rows.rollups.iter().collect();
        for chunk in rollups.chunks(VALUES_PER_STATEMENT / ROLLUP_COLUMNS) {
            let sql = upsert_rollups(chunk.len());
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (key, rollup) in chunk {
                query = bind_rollup(query, key, rollup)?;
            }
            query.execute(&mut *transaction).await?;
        }
        for chunk in rows
            .signals
            .chunks(VALUES_PER_STATEMENT / SIGNAL_COLUMNS.len())
        {
            let sql = insert("aggregator_signals", &SIGNAL_COLUMNS, "id", chunk.len());
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for crossing in chunk {
                query = bind_crossing(query, crossing)?;
            }
            query.execute(&mut *transaction).await?;
        }
        for group in rows.groups.values() {
            upsert_group(group).execute(&mut *transaction).await?;
        }
        for chunk in rows
            .refusals
            .chunks(VALUES_PER_STATEMENT / REFUSAL_COLUMNS.len())
        {
            let key = "request_id, gateway";
            let sql = insert("aggregator_refusals", &REFUSAL_COLUMNS, key, chunk.len());
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for refusal in chunk {
                query = bind_refusal(query, refusal)?;
            }
            query.execute(&mut *transaction).await?;
        }
        rows.sketches.write(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Places for the values of so many rows.
pub(super) fn tuples(rows: usize, columns: usize) -> String {
    let tuple = |row| format!("({})", placeholders(1 + row * columns, columns));
    let tuples: Vec<_> = (0..rows).map(tuple).collect();
    tuples.join(", ")
}

/// Adds the rows of which there are none with the same `key`.
fn insert(table: &str, columns: &[&str], key: &str, rows: usize) -> String {
    format!(
        "INSERT INTO {table} ({}) VALUES {} ON CONFLICT ({key}) DO NOTHING",
        columns.join(", "),
        tuples(rows, columns.len()),
    )
}

fn upsert_rollups(rows: usize) -> String {
    let columns: Vec<_> = ROLLUP_KEYS.into_iter().chain(ROLLUP_VALUES).collect();
    let updates: Vec<_> = ROLLUP_VALUES
        .iter()
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    format!(
        "INSERT INTO aggregator_rollups ({}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {} \
         WHERE aggregator_rollups.origin_offset <= excluded.origin_offset",
        columns.join(", "),
        tuples(rows, ROLLUP_COLUMNS),
        ROLLUP_KEYS.join(", "),
        updates.join(", "),
    )
}

pub(super) type Statement<'q> = Query<'q, Any, AnyArguments>;

fn bind_rollup<'q>(
    mut query: Statement<'q>,
    (ids, minute): &RollupKey,
    rollup: &Rollup,
) -> Result<Statement<'q>, StoreError> {
    let sum = |of: fn(&SecondSums) -> i64| rollup.seconds.iter().map(of).sum::<i64>();
    let cost: i128 = rollup.seconds.iter().map(|second| second.cost.0).sum();
    let whole_dollars = i64::try_from(cost.div_euclid(PICO_PER_USD)).unwrap_or(i64::MAX);
    let mut units: BTreeMap<&str, i64> = BTreeMap::new();
    for (name, amount) in rollup.seconds.iter().flat_map(|second| &second.units) {
        *units.entry(name).or_default() += amount;
    }
    let seconds: Vec<_> = rollup.seconds.iter().map(second).collect();
    for id in ids {
        query = query.bind(id.clone());
    }
    Ok(query
        .bind(*minute)
        .bind(sum(|s| s.events))
        .bind(sum(|s| s.requests))
        .bind(sum(|s| s.input_tokens))
        .bind(sum(|s| s.output_tokens))
        .bind(whole_dollars)
        .bind(cost.rem_euclid(PICO_PER_USD) as i64)
        .bind(sum(|s| s.failures))
        .bind(sum(|s| s.violations))
        .bind(json_text(&units)?)
        .bind(json_text(&seconds)?)
        .bind(rollup.origin.offset))
}

fn bind_crossing<'q>(
    query: Statement<'q>,
    crossing: &Crossing,
) -> Result<Statement<'q>, StoreError> {
    let direction = match crossing.direction {
        Direction::Up => "up",
        Direction::Down => "down",
    };
    Ok(query
        .bind(crossing.id.clone())
        .bind(crossing.subject.as_str().to_owned())
        .bind(crossing.subject.tenant_id().unwrap_or_default())
        .bind(crossing.limit.clone())
        .bind(crossing.level.clone())
        .bind(direction)
        .bind(crossing.at.as_micros())
        .bind(crossing.origin.offset)
        .bind(json_text(crossing)?))
}

fn upsert_group(group: &CspGroup) -> Statement<'static> {
    let query = sqlx::query(
        "INSERT INTO aggregator_csp_groups
         (tenant, directive, blocked_host, document_uri, first_us, count, origin_offset)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (tenant, directive, blocked_host) DO UPDATE
         SET count = excluded.count, origin_offset = excluded.origin_offset
         WHERE aggregator_csp_groups.origin_offset <= excluded.origin_offset",
    );
    query
        .bind(group.tenant.clone())
        .bind(group.directive.clone())
        .bind(group.blocked_host.clone())
        .bind(group.document_uri.clone())
        .bind(group.at.as_micros())
        .bind(group.count)
        .bind(group.origin.offset)
}

fn bind_refusal<'q>(query: Statement<'q>, refusal: &Refusal) -> Result<Statement<'q>, StoreError> {
    Ok(query
        .bind(refusal.request_id.clone())
        .bind(refusal.gateway.clone())
        .bind(refusal.subject.as_str().to_owned())
        .bind(refusal.tenant.clone().unwrap_or_default())
        .bind(refusal.at.as_micros())
        .bind(json_text(refusal)?))
}

pub(super) fn json_text(record: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|error| StoreError::Corrupt {
        column: "record",
        reason: error.to_string(),
    })
}
