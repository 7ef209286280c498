//! A real trace against a recount that shares no code with this one: totals, peaks and crossings, difference 0.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use schemas::money::parse_usd;
use schemas::subject::Identity;
use serde_json::Value;

use super::*;
use crate::counter::Direction;
use crate::event::Amounts;
use crate::model::{policy, reborn, settings, usage_engine};
use crate::rollup::Sums;
use crate::seen::SeenBounds;

fn file(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../tests/data/llm-trace").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap()
}

fn event(event: &Value) -> Event<'_> {
    let (tenant, data) = (text(event, "subject"), &event["data"]);
    Event {
        source: text(event, "source"),
        id: text(event, "id"),
        tenant,
        identity: Identity {
            tenant: Some(tenant),
            key: Some(text(data, "key")),
            user: Some(text(data, "user")),
            route: Some(text(data, "route")),
            provider: Some(text(data, "provider")),
            model: Some(text(data, "model")),
            ..Identity::default()
        },
        at: Timestamp::parse(text(event, "time")).unwrap(),
        amounts: Amounts {
            requests: 1,
            input_tokens: data["input_tokens"].as_i64().unwrap(),
            output_tokens: data["output_tokens"].as_i64().unwrap(),
            cost: parse_usd(text(data, "cost_usd")).unwrap(),
            ..Amounts::default()
        },
        report: None,
    }
}

/// What a whole run said.
#[derive(Debug, Default, PartialEq)]
struct Run {
    crossings: Vec<Output>,
    /// The last value told of each cell.
    cells: BTreeMap<String, crate::event::Rollup>,
    /// The last of each sketch.
    sketches: BTreeMap<String, Output>,
    ledger: Ledger,
}

/// Plays the trace, each event `times` times, in batches of `batch_events`, restarting the engine after every
/// `restart_batches` of them.
fn play(times: usize, batch_events: usize, restart_batches: usize) -> Run {
    let mut settings = settings();
    settings.seen = SeenBounds {
        entries_max: 100_000,
        ..settings.seen
    };
    let mut engine = Engine::new(usage_engine(0, 1).shard(), settings);
    let (mut out, mut run) = (Vec::new(), Run::default());
    let appended_at = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
    let mut place = Place {
        offset: 0,
        appended_at,
    };
    let policy = Box::new(policy(1, "tokens tenant/* tokens hard=60000 : sliding 60s"));
    let marker = Input::Policy {
        policy,
        at: appended_at,
    };
    engine.step(place, marker, &mut out).unwrap();
    let events = file("events.ndjson");
    let lines: Vec<&str> = events
        .lines()
        .flat_map(|l| std::iter::repeat_n(l, times))
        .collect();
    for (number, batch) in lines.chunks(batch_events).enumerate() {
        for line in batch {
            place.offset += 1;
            let value: Value = serde_json::from_str(line).unwrap();
            engine
                .step(place, Input::Event(event(&value)), &mut out)
                .unwrap();
        }
        engine.flush(&mut out);
        engine.forget();
        if number % restart_batches == 0 {
            engine = reborn(engine);
        }
    }
    for output in out {
        match output {
            Output::Rollup(rollup) => {
                let cell = format!("{:?} {}", rollup.dims, rollup.minute);
                run.cells.insert(cell, rollup);
            }
            Output::Spread(ref s) => {
                let about = format!("{} {:?} {} {}", s.tenant, s.per, s.id, s.hour);
                run.sketches.insert(about, output);
            }
            Output::Ranking(ref r) => {
                let about = format!("{} {:?} {:?} {}", r.tenant, r.by, r.meter, r.hour);
                run.sketches.insert(about, output);
            }
            other => run.crossings.push(other),
        }
    }
    run.ledger = engine.ledger();
    run
}

#[test]
fn the_trace_gives_the_recounts_figures() {
    let expected: Value = serde_json::from_str(&file("expected.json")).unwrap();
    let run = play(1, 100, 7);
    assert_eq!(run.ledger.counted, expected["events"].as_u64().unwrap());
    check_totals(&run, &expected["totals"]);
    for (tenant, figures) in expected["windows"].as_object().unwrap() {
        let ups: Vec<i64> = upward_crossings(&run, tenant);
        assert_eq!(
            ups.len() as u64,
            figures["upward_crossings"].as_u64().unwrap(),
            "{tenant}"
        );
        assert_eq!(
            ups.first().copied(),
            figures["first_crossing_s"].as_i64(),
            "{tenant}"
        );
        assert_eq!(
            ups.last().copied(),
            figures["last_crossing_s"].as_i64(),
            "{tenant}"
        );
        let peak = peak_tokens(&run, tenant);
        assert_eq!(
            peak,
            figures["peak_tokens_60s"].as_i64().unwrap().into(),
            "{tenant}"
        );
    }
}

fn check_totals(run: &Run, expected: &Value) {
    let mut totals: BTreeMap<String, [i128; 4]> = BTreeMap::new();
    for rollup in run.cells.values() {
        let tenant = rollup.dims.tenant().to_owned();
        let [key, user, ..] = rollup.dims.ids();
        let under = |id: Option<&str>| format!("{tenant}/{}", id.unwrap());
        let subjects = [
            under(key),
            under(user),
            tenant.clone(),
            "platform".to_owned(),
        ];
        for (subject, (_, sums)) in subjects
            .iter()
            .flat_map(|s| rollup.seconds.iter().map(move |second| (s, second)))
        {
            let total = totals.entry(subject.clone()).or_default();
            let amounts = [
                sums.requests,
                sums.input_tokens,
                sums.output_tokens,
                sums.cost,
            ];
            for (total, amount) in total.iter_mut().zip(amounts) {
                *total += amount;
            }
        }
    }
    let figures = |value: &Value| {
        ["requests", "input_tokens", "output_tokens", "cost_pico_usd"]
            .map(|name| i128::from(value[name].as_i64().unwrap()))
    };
    let expected = expected.as_object().unwrap();
    let expected = expected
        .iter()
        .map(|(subject, value)| (subject.clone(), figures(value)));
    assert_eq!(totals, expected.collect());
}

/// The seconds of a tenant's upward crossings, in order.
fn upward_crossings(run: &Run, tenant: &str) -> Vec<i64> {
    let subject = format!("tenant/{tenant}");
    let ups = run.crossings.iter().filter_map(|output| match output {
        Output::Crossing(c) if c.subject.as_str() == subject && c.direction == Direction::Up => {
            Some(c.at.second())
        }
        _ => None,
    });
    ups.collect()
}

/// The largest sum of 60 whole seconds.
fn peak_tokens(run: &Run, tenant: &str) -> i128 {
    let mut by_second: BTreeMap<i64, i128> = BTreeMap::new();
    for rollup in run.cells.values().filter(|r| r.dims.tenant() == tenant) {
        for (
            second,
            Sums {
                input_tokens,
                output_tokens,
                ..
            },
        ) in &rollup.seconds
        {
            let second = rollup.minute.second() + i64::from(*second);
            *by_second.entry(second).or_default() += input_tokens + output_tokens;
        }
    }
    let window = |end: i64| by_second.range(end - 59..=end).map(|(_, sum)| sum).sum();
    by_second.keys().map(|end| window(*end)).max().unwrap_or(0)
}

#[test]
fn batches_and_restarts_change_nothing() {
    let (whole, parts) = (play(1, 10_000, 1), play(1, 37, 3));
    assert!(!whole.sketches.is_empty());
    assert_eq!(whole, parts);
}

#[test]
fn events_sent_twice_change_nothing() {
    let (once, twice) = (play(1, 100, 100), play(2, 100, 100));
    assert_eq!(twice.ledger.duplicate, once.ledger.counted);
    assert_eq!(twice.ledger.counted, once.ledger.counted);
    let without_offsets = |run: &Run| {
        let crossings = run.crossings.iter().cloned().map(|mut output| {
            match &mut output {
                Output::Crossing(crossing) => crossing.offset = 0,
                Output::Prolonged(prolonged) => {
                    (prolonged.crossing.offset, prolonged.crossed_by) = (0, 0);
                }
                other => panic!("{other:?} is no crossing"),
            }
            output
        });
        let cells = run.cells.values().map(|rollup| rollup.seconds.clone());
        (crossings.collect::<Vec<_>>(), cells.collect::<Vec<_>>())
    };
    assert_eq!(without_offsets(&once), without_offsets(&twice));
}
