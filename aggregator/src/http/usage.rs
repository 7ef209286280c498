//! `GET /v1/usage`: sums of a meter for a subject, by steps of time and by groups, as JSON or CSV.

use std::fmt::Write as _;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use schemas::access::Caller;
use schemas::money::format_usd;
use schemas::policy::Meter;
use schemas::record::Amount;
use schemas::subject::{Dimension, Subject};
use schemas::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{App, Refusal, ask};
use crate::store::{Filter, Grouped, Span};

const MINUTE_SECONDS: i64 = 60;
/// Points of one answer, over all groups.
const POINTS_MAX: usize = 100_000;
/// The end of an open span: beyond every event that is taken, and a whole number of minutes.
const FOREVER_SECONDS: i64 = 32_503_680_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    #[serde(default = "platform")]
    subject: String,
    meter: String,
    from: Option<String>,
    to: Option<String>,
    /// A span such as `60s`, `5m`, `1h`, `1d`.
    step: Option<String>,
    /// Dimensions, separated by commas.
    group_by: Option<String>,
}

fn platform() -> String {
    Subject::platform().to_string()
}

/// A checked query.
struct Asked {
    subject: String,
    meter: Meter,
    group_by: Vec<Dimension>,
    span: Span,
    is_whole: bool,
}

pub(super) async fn usage(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(params) = params.map_err(|error| Refusal::Query(error.body_text()))?;
    let asked = check(&params)?;
    let grouped = match ask::subject(&params.subject, &caller)? {
        Some(subject) => {
            let sets = app.rules.read().policy.sets.clone();
            let known = sets.check(&subject);
            known.map_err(|error| Refusal::Bad {
                parameter: "subject",
                detail: error.to_string(),
            })?;
            let filter = Filter::of(&subject, asked.meter.clone(), &asked.group_by, &sets);
            let filter = filter.ok_or_else(|| Refusal::Bad {
                parameter: "subject",
                detail: "usage is not kept by fingerprint or action".to_owned(),
            })?;
            app.store.usage(&filter, asked.span).await?
        }
        None => Grouped::new(),
    };
    if POINTS_MAX < grouped.values().map(std::collections::BTreeMap::len).sum() {
        let detail = format!("makes more than {POINTS_MAX} points; take a larger one");
        return Err(Refusal::Bad {
            parameter: "step",
            detail,
        });
    }
    let accepts = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    Ok(if accepts.contains("text/csv") {
        csv(&asked, &grouped)
    } else {
        answer(&asked, grouped)
    })
}

fn check(params: &Params) -> Result<Asked, Refusal> {
    let meter = ask::meter(&params.meter)?;
    let mut group_by = Vec::new();
    for name in params.group_by.iter().flat_map(|names| names.split(',')) {
        let dimension = Dimension::named(name.trim()).ok_or_else(|| Refusal::Bad {
            parameter: "group_by",
            detail: format!("`{name}` is no dimension"),
        })?;
        group_by.push(dimension);
    }
    let from = params
        .from
        .as_deref()
        .map(|text| ask::time("from", text))
        .transpose()?;
    let to = params
        .to
        .as_deref()
        .map(|text| ask::time("to", text))
        .transpose()?;
    let from = from.map_or(0, Timestamp::second);
    let to = to.map_or(FOREVER_SECONDS, Timestamp::second);
    if to <= from {
        let detail = "must be later than `from`".to_owned();
        return Err(Refusal::Bad {
            parameter: "to",
            detail,
        });
    }
    let step = params.step.as_deref().map(step).transpose()?;
    // Without a step the points are those of the finest that the database sums.
    let span = Span {
        from,
        to,
        step: step.unwrap_or(MINUTE_SECONDS),
    };
    Ok(Asked {
        subject: params.subject.clone(),
        meter,
        group_by,
        span,
        is_whole: params.from.is_none(),
    })
}

fn step(text: &str) -> Result<i64, Refusal> {
    let bad = || Refusal::Bad {
        parameter: "step",
        detail: format!("`{text}` is no step such as 1s, 60s, 1h or 1d"),
    };
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(bad)?;
    let number: i64 = number.parse().map_err(|_| bad())?;
    let scale = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    number
        .checked_mul(scale)
        .filter(|step| (1..=31 * 86_400).contains(step))
        .ok_or_else(bad)
}

fn answer(asked: &Asked, mut grouped: Grouped) -> Response {
    if asked.group_by.is_empty() {
        // One series always: nothing used is an answer, too.
        grouped.entry(Vec::new()).or_default();
    }
    let series: Vec<Value> = grouped
        .iter()
        .map(|(ids, points)| {
            let total = points.values().sum();
            let names = asked
                .group_by
                .iter()
                .map(|dimension| dimension.name().to_owned());
            let group: Map<String, Value> = names.zip(ids.iter().map(|id| json!(id))).collect();
            let points: Vec<Value> = points
                .iter()
                .map(|(at, sum)| json!([shown(*at), amount(asked, *sum)]))
                .collect();
            let mut series =
                json!({ "group": group, "total": amount(asked, total), "points": points });
            if asked.meter == Meter::Cost {
                series["cost_usd"] = json!(format_usd(total));
            }
            series
        })
        .collect();
    let bound = |open: bool, at: i64| if open { Value::Null } else { json!(shown(at)) };
    Json(json!({
        "subject": asked.subject,
        "meter": asked.meter.name(),
        "from": bound(asked.is_whole, asked.span.from),
        "to": bound(asked.span.to == FOREVER_SECONDS, asked.span.to),
        "step": format!("{}s", asked.span.step),
        "series": series,
    }))
    .into_response()
}

fn amount(asked: &Asked, sum: i128) -> Value {
    Amount(sum).to_json_of(&asked.meter)
}

fn shown(second: i64) -> String {
    Timestamp::from_seconds(second).to_string()
}

/// One line a point, after RFC 4180: the groups, the time, the sum.
fn csv(asked: &Asked, grouped: &Grouped) -> Response {
    let mut text = String::new();
    for dimension in &asked.group_by {
        text.push_str(dimension.name());
        text.push(',');
    }
    text.push_str("time,");
    text.push_str(asked.meter.name());
    text.push_str("\r\n");
    for (ids, points) in grouped {
        for (at, sum) in points {
            for id in ids {
                text.push_str(&quoted(id));
                text.push(',');
            }
            let written = write!(text, "{},{sum}\r\n", shown(*at));
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        }
    }
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("text/csv; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn quoted(field: &str) -> String {
    match field.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_steps() {
        let check = |text, seconds| assert_eq!(step(text).ok(), seconds, "{text}");
        check("1s", Some(1));
        check("90s", Some(90));
        check("1d", Some(86_400));
        for text in [
            "",
            "s",
            "0s",
            "-1s",
            "1w",
            "99999999999999999d",
            "1.5h",
            "32d",
            "é",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn quotes_what_csv_would_misread() {
        let check = |field: &str, shown: &str| assert_eq!(quoted(field), shown);
        check("plain", "plain");
        check("a,b", "\"a,b\"");
        check("say \"hi\"", "\"say \"\"hi\"\"\"");
    }
}
