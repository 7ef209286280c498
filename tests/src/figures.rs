//! What Weir says it has counted, read through its queries and metrics only.

use std::collections::BTreeMap;

use schemas::time::Timestamp;
use serde_json::Value;

use crate::client::Client;
use crate::metrics::Metrics;
use crate::trace::{Expected, FROM, TO, Totals, Windows, subject};

const METERS: [&str; 4] = ["requests", "input_tokens", "output_tokens", "cost"];
const WINDOW_SECONDS: i64 = 60;
/// The ways in which an accepted event can end.
const OUTCOMES: [&str; 4] = ["counted", "late", "duplicate", "dead"];

/// What [`Expected`] foretells, as Weir has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Figures {
    pub totals: BTreeMap<String, Totals>,
    pub windows: BTreeMap<String, Windows>,
}

impl Figures {
    /// Asks for everything that `expected` speaks of.
    pub async fn read(client: &Client, expected: &Expected) -> Self {
        let mut totals = BTreeMap::new();
        let mut windows = BTreeMap::new();
        read_totals(client, "platform", &mut totals).await;
        for tenant in expected.windows.keys() {
            read_totals(client, tenant, &mut totals).await;
            windows.insert(tenant.clone(), read_windows(client, tenant).await);
        }
        Self { totals, windows }
    }

    /// Where they are not as foretold; empty: nowhere.
    #[must_use]
    pub fn differences(&self, expected: &Expected) -> Vec<String> {
        let mut found = compare(&self.totals, &expected.totals);
        found.extend(compare(&self.windows, &expected.windows));
        found
    }
}

fn compare<V: std::fmt::Debug + PartialEq>(
    seen: &BTreeMap<String, V>,
    expected: &BTreeMap<String, V>,
) -> Vec<String> {
    let wrong = expected
        .iter()
        .filter(|(name, value)| seen.get(*name) != Some(value));
    let wrong = wrong.map(|(name, value)| format!("{name}: {:?}, not {value:?}", seen.get(name)));
    let unknown = seen.keys().filter(|name| !expected.contains_key(*name));
    wrong
        .chain(unknown.map(|name| format!("{name}: nobody knows it")))
        .collect()
}

/// The totals of `name` and, if it is a tenant, of its keys and users.
async fn read_totals(client: &Client, name: &str, totals: &mut BTreeMap<String, Totals>) {
    let path = subject(name);
    for meter in METERS {
        let groups = if name == "platform" {
            &[""][..]
        } else {
            &["", "key", "user"]
        };
        for by in groups {
            let mut query = vec![("subject", path.as_str()), ("meter", meter), FROM, TO];
            if !by.is_empty() {
                query.push(("group_by", by));
            }
            let usage = client.get("/v1/usage", &query).await;
            for series in usage["series"].as_array().expect("series") {
                let own = match series["group"][*by].as_str() {
                    Some(id) => format!("{name}/{id}"),
                    None => name.to_owned(),
                };
                let total = integer(&series["total"]);
                let totals = totals.entry(own).or_default();
                match meter {
                    "requests" => totals.requests = total,
                    "input_tokens" => totals.input_tokens = total,
                    "output_tokens" => totals.output_tokens = total,
                    _ => totals.cost_pico_usd = total,
                }
            }
        }
    }
}

async fn read_windows(client: &Client, tenant: &str) -> Windows {
    let path = subject(tenant);
    let crossings = client
        .list("/v1/signals", &[("subject", &path), ("limit", "tokens")])
        .await;
    let upward = crossings
        .iter()
        .filter(|c| c["direction"] == "up" && c["level"] == "hard");
    let mut seconds: Vec<i64> = upward.map(|crossing| second(&crossing["at"])).collect();
    seconds.sort_unstable();
    Windows {
        peak_tokens_60s: peak(client, &path).await,
        upward_crossings: seconds.len(),
        first_crossing_s: seconds.first().copied(),
        last_crossing_s: seconds.last().copied(),
    }
}

/// The largest sum of 60 whole seconds in a row.
async fn peak(client: &Client, path: &str) -> i128 {
    let query = [
        ("subject", path),
        ("meter", "tokens"),
        ("step", "1s"),
        FROM,
        TO,
    ];
    let usage = client.get("/v1/usage", &query).await;
    let Some(series) = usage["series"].get(0) else {
        return 0;
    };
    let points = series["points"].as_array().expect("points").iter();
    let points: Vec<(i64, i128)> = points.map(|p| (second(&p[0]), integer(&p[1]))).collect();
    let sum_until = |last: i64| -> i128 {
        let inside = points
            .iter()
            .filter(|(at, _)| last - WINDOW_SECONDS < *at && *at <= last);
        inside.map(|(_, value)| value).sum()
    };
    points
        .iter()
        .map(|(at, _)| sum_until(*at))
        .max()
        .unwrap_or(0)
}

/// A number, or the string that stands for one beyond what a double holds.
#[track_caller]
fn integer(value: &Value) -> i128 {
    match value {
        Value::Number(number) => number.as_i128().expect("an integer"),
        Value::String(text) => text.parse().expect("an integer in a string"),
        other => panic!("{other} is no integer"),
    }
}

/// The whole second of a time.
#[track_caller]
fn second(value: &Value) -> i64 {
    let text = value.as_str().expect("a time");
    Timestamp::parse(text)
        .expect("a time as RFC 3339 has it")
        .second()
}

/// Whether every accepted event of `topic` has ended in a counted way, partition by partition.
///
/// # Errors
/// Which partition does not add up.
pub fn conserved(metrics: &Metrics, topic: &str) -> Result<(), String> {
    let name = |outcome: &str| format!("weir_aggregator_events_{outcome}_total");
    let of = |outcome: &str, partition: &str| {
        metrics.sum(
            &name(outcome),
            &[("topic", topic), ("partition", partition)],
        )
    };
    for partition in metrics.by(&name("accepted"), "partition").keys() {
        let accepted = of("accepted", partition);
        let ended: Vec<f64> = OUTCOMES
            .iter()
            .map(|outcome| of(outcome, partition))
            .collect();
        if accepted != ended.iter().sum::<f64>() {
            return Err(format!(
                "{topic}/{partition}: {accepted} accepted, {OUTCOMES:?} {ended:?}"
            ));
        }
    }
    Ok(())
}

/// How many events of `topic` have ended in this way.
#[must_use]
pub fn events(metrics: &Metrics, topic: &str, outcome: &str) -> f64 {
    metrics.sum(
        &format!("weir_aggregator_events_{outcome}_total"),
        &[("topic", topic)],
    )
}
