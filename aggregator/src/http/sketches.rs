//! `GET /v1/spread`, `/v1/top`: what is counted with a stated error, merged over whole hours, the most first.

use std::cmp::Reverse;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemas::access::Caller;
use schemas::money::format_usd;
use schemas::page;
use schemas::policy::Meter;
use schemas::record::Amount;
use schemas::subject::Dimension;
use schemas::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, Refusal, ask};
use crate::sketch::{FEW_MAX, HOUR_SECONDS, STANDARD_ERROR, is_measured, is_paired};
use crate::store::{Page, SketchQuery};

const LIST_MAX: i64 = 1_000;
/// Between the amount, the tenant and the id in a cursor: none holds a control character.
const CURSOR_SEPARATOR: &str = "\u{1f}";

/// What both lists are asked with.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    of: Option<String>,
    per: Option<String>,
    by: Option<String>,
    meter: Option<String>,
    subject: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<i64>,
    after: Option<String>,
}

/// An entry's place in a list: its amount, tenant and id.
type Place = (u128, String, String);

pub(super) async fn spread(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(params) = params.map_err(|error| Refusal::Query(error.body_text()))?;
    refuse(&params.by, "by")?;
    refuse(&params.meter, "meter")?;
    let of = dimension("of", params.of.as_deref())?;
    let per = dimension("per", params.per.as_deref())?;
    if !is_paired(of, per) {
        let detail =
            "what is counted: of=source&per=account, of=account&per=source, of=user&per=key";
        return Err(bad("per", detail.to_owned()));
    }
    let kind = [of, per].map(|dimension| dimension.name().to_owned());
    let asked = Asked::new(&app, &caller, &params, kind)?;
    let spreads = match &asked.query {
        Some(query) => app.store.spreads(query).await?.ok_or_else(too_much)?,
        None => Default::default(),
    };
    let entries = spreads.into_iter().map(|((tenant, id), spread)| {
        let count = spread.distinct.count();
        let shown = json!({
            "tenant": tenant,
            "id": id,
            "count": count,
            "error": spread.distinct.standard_error(),
            "missed_max": spread.missed_max,
        });
        ((u128::from(count), tenant, id), shown)
    });
    let entries = entries.collect();
    let head = json!({
        "of": of.name(),
        "per": per.name(),
        "error": { "relative": STANDARD_ERROR, "exact_up_to": FEW_MAX },
    });
    Ok(asked.answer("/v1/spread", &params, head, entries))
}

pub(super) async fn top(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(params) = params.map_err(|error| Refusal::Query(error.body_text()))?;
    refuse(&params.of, "of")?;
    refuse(&params.per, "per")?;
    let by = dimension("by", params.by.as_deref())?;
    let meter = ask::meter(params.meter.as_deref().unwrap_or_default())?;
    if !is_measured(by, &meter) {
        let detail =
            "what is ranked: by=user&meter=requests, by=user&meter=cost, by=source&meter=requests";
        return Err(bad("meter", detail.to_owned()));
    }
    let kind = [by.name().to_owned(), meter.name().to_owned()];
    let asked = Asked::new(&app, &caller, &params, kind)?;
    let rankings = match &asked.query {
        Some(query) => app.store.rankings(query).await?.ok_or_else(too_much)?,
        None => Default::default(),
    };
    let (mut entries, mut sum, mut missing_max) = (Vec::new(), 0, 0);
    for (tenant, ranked) in rankings {
        sum += ranked.sum;
        missing_max = missing_max.max(ranked.missing_max);
        for entry in ranked.entries {
            let mut shown = json!({
                "tenant": tenant,
                "id": entry.id,
                "amount": amount(entry.count, &meter),
                "error": amount(entry.error, &meter),
            });
            if meter == Meter::Cost {
                shown["cost_usd"] = format_usd(signed(entry.count)).into();
            }
            entries.push(((entry.count, tenant.clone(), entry.id), shown));
        }
    }
    let head = json!({
        "by": by.name(),
        "meter": meter.name(),
        "sum": amount(sum, &meter),
        "missing_max": amount(missing_max, &meter),
    });
    Ok(asked.answer("/v1/top", &params, head, entries))
}

/// A checked query.
struct Asked {
    /// `None` when the caller may see nothing of what it asks for.
    query: Option<SketchQuery>,
    from: Timestamp,
    to: Option<Timestamp>,
    page: Page,
    /// The last entry of the page before.
    after: Option<Place>,
}

impl Asked {
    fn new(
        app: &App,
        caller: &Caller,
        params: &Params,
        kind: [String; 2],
    ) -> Result<Self, Refusal> {
        let page = ask::page(params.after.as_deref(), params.limit, ("limit", LIST_MAX))?;
        let after = page.after.as_ref().map(|(_, parts)| {
            place(parts).ok_or_else(|| bad("after", "not a cursor of this list".to_owned()))
        });
        let time = |name, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| ask::time(name, text)).transpose()
        };
        // Without a beginning: this hour and the one before it.
        let before = app.clock.now().second() - HOUR_SECONDS;
        let from = time("from", &params.from)?.map_or(before, Timestamp::second);
        let from = from.div_euclid(HOUR_SECONDS) * HOUR_SECONDS;
        let to = time("to", &params.to)?.map(|to| {
            let past = to.second() + HOUR_SECONDS - 1;
            past.div_euclid(HOUR_SECONDS) * HOUR_SECONDS
        });
        if to.is_some_and(|to| to <= from) {
            return Err(bad("to", "must be later than `from`".to_owned()));
        }
        let tenant = tenant(params.subject.as_deref(), caller)?;
        let query = tenant.map(|tenant| SketchQuery {
            tenant,
            kind,
            from,
            to: to.unwrap_or(i64::MAX),
        });
        Ok(Self {
            query,
            from: Timestamp::from_seconds(from),
            to: to.map(Timestamp::from_seconds),
            page,
            after: after.transpose()?,
        })
    }

    /// One page of the entries, the largest first, with what is said of all of them.
    fn answer(
        &self,
        path: &str,
        params: &Params,
        mut head: Value,
        mut entries: Vec<(Place, Value)>,
    ) -> Response {
        entries.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
        if let Some(after) = &self.after {
            entries.retain(|(place, _)| order(after) < order(place));
        }
        let limit = usize::try_from(self.page.limit).unwrap_or(usize::MAX);
        let has_more = limit < entries.len();
        entries.truncate(limit);
        let last = entries.last().filter(|_| has_more);
        let next = last.map(|((amount, tenant, id), _)| {
            let parts = [amount.to_string().as_str(), tenant, id].join(CURSOR_SEPARATOR);
            (0, parts)
        });
        head["from"] = self.from.to_string().into();
        head["to"] = self.to.map(|to| to.to_string()).into();
        head["entries"] = entries.into_iter().map(|(_, shown)| shown).collect();
        let query = [
            ("of", params.of.as_deref()),
            ("per", params.per.as_deref()),
            ("by", params.by.as_deref()),
            ("meter", params.meter.as_deref()),
            ("subject", params.subject.as_deref()),
            ("from", params.from.as_deref()),
            ("to", params.to.as_deref()),
        ];
        let size = ("limit", self.page.limit);
        let next = next.and_then(|next| page::next(path, &query, size, &next));
        page::with_next(Json(head).into_response(), next)
    }
}

/// The place that a cursor names.
fn place(parts: &str) -> Option<Place> {
    let (amount, rest) = parts.split_once(CURSOR_SEPARATOR)?;
    let (tenant, id) = rest.split_once(CURSOR_SEPARATOR)?;
    Some((amount.parse().ok()?, tenant.to_owned(), id.to_owned()))
}

fn order((amount, tenant, id): &Place) -> (Reverse<u128>, &str, &str) {
    (Reverse(*amount), tenant, id)
}

/// The tenant that is asked for, `Some(None)` being all of them; `None` when the caller may not see it.
fn tenant(subject: Option<&str>, caller: &Caller) -> Result<Option<Option<String>>, Refusal> {
    let Some(text) = subject else {
        return Ok(Some(caller.tenant.clone()));
    };
    let Some(subject) = ask::subject(text, caller)? else {
        return Ok(None);
    };
    let tenant = subject.tenant_id();
    let parts = usize::from(tenant.is_some());
    if subject.parts().len() != parts {
        let detail = "must be `platform` or one tenant, such as tenant/acme";
        return Err(bad("subject", detail.to_owned()));
    }
    Ok(Some(tenant))
}

fn dimension(parameter: &'static str, name: Option<&str>) -> Result<Dimension, Refusal> {
    let named = Dimension::named(name.unwrap_or_default());
    named.ok_or_else(|| match name {
        Some(name) => bad(parameter, format!("`{name}` is no dimension")),
        None => bad(parameter, "is missing".to_owned()),
    })
}

/// Refuses a parameter that belongs to the other list.
fn refuse(value: &Option<String>, parameter: &'static str) -> Result<(), Refusal> {
    match value {
        Some(_) => Err(bad(parameter, "is no parameter of this list".to_owned())),
        None => Ok(()),
    }
}

fn bad(parameter: &'static str, detail: String) -> Refusal {
    Refusal::Bad { parameter, detail }
}

fn too_much() -> Refusal {
    let detail = "takes in too much for one answer; take a shorter span, or name a tenant";
    bad("from", detail.to_owned())
}

fn amount(amount: u128, meter: &Meter) -> Value {
    Amount(signed(amount)).to_json_of(meter)
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}
