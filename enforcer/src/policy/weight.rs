//! `[[weight]]`: how many requests one request counts as, by its route.

use schemas::policy::{WEIGHT_MAX, Weight};
use schemas::subject::SubjectError;

use super::fields::WEIGHT;
use super::reader::{Reader, Table};

/// The most weights that one policy may hold.
const WEIGHTS_MAX: usize = 1_000;

/// All weights of the policy, as written. Each takes the routes that none before it does.
pub(super) fn read(reader: &mut Reader<'_>, top: &Table<'_>) -> Vec<Weight> {
    let mut weights = Vec::new();
    let mut taken: Vec<(&str, usize)> = Vec::new();
    for (place, table) in reader.tables(top, "weight").into_iter().enumerate() {
        if place == WEIGHTS_MAX {
            reader.say(
                table.at,
                format!("this is weight {}; a policy holds {WEIGHTS_MAX}", place + 1),
            );
            break;
        }
        reader.refuse_unknown(&table, &WEIGHT.names(), WEIGHT.what);
        let route = route(reader, &table);
        let requests = requests(reader, &table);
        if let Some((route, at)) = route {
            refuse_unreached(reader, (route, at), &taken);
            taken.push((route, at));
        }
        if let (Some((route, at)), Some(requests)) = (route, requests) {
            match Weight::new(route, requests) {
                Ok(weight) => weights.push(weight),
                Err(SubjectError::UnknownSet(_)) => {
                    reader.say(at, format!("route `{route}`: a weight is for a route, or for those that begin alike, and not for a set"));
                }
                Err(error) => reader.say(at, format!("route `{route}`: {error}")),
            }
        }
    }
    weights
}

fn route<'t>(reader: &mut Reader<'_>, table: &Table<'t>) -> Option<(&'t str, usize)> {
    let example = "route = \"POST /v1/bulk/*\"";
    let (route, at) = reader.required(table, "weight", ("route", example))?;
    if route.is_empty() {
        reader.say(at, "`route` is empty: write `*` for every route");
        return None;
    }
    Some((route, at))
}

fn requests(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<u32> {
    let Some(value) = table.get("requests") else {
        reader.say(
            table.at,
            "this weight has no `requests`, what one request counts as: write `requests = 20`",
        );
        return None;
    };
    let requests = value.integer().and_then(|count| u32::try_from(count).ok());
    let requests = requests.filter(|count| *count <= WEIGHT_MAX);
    if requests.is_none() {
        let text = format!(
            "`requests` is what one request counts as: a whole number from 0 to {WEIGHT_MAX}"
        );
        reader.say(value.at, text);
    }
    requests
}

/// A weight all of whose routes others before it take would never rule, silently.
fn refuse_unreached(reader: &mut Reader<'_>, (route, at): (&str, usize), taken: &[(&str, usize)]) {
    let Some((first, first_at)) = taken.iter().find(|(first, _)| takes_all(first, route)) else {
        return;
    };
    let line = reader.line(*first_at);
    let text = if *first == route {
        format!("another weight is for `{route}` already, on line {line}")
    } else {
        format!(
            "no request has this weight: `{first}` on line {line} takes `{route}` before it; the first that takes a \
             route rules, so write the narrower one first"
        )
    };
    reader.say(at, text);
}

/// Whether `first` takes every route that `route` takes.
fn takes_all(first: &str, route: &str) -> bool {
    match first.strip_suffix('*') {
        Some(start) => route.strip_suffix('*').unwrap_or(route).starts_with(start),
        None => first == route,
    }
}
