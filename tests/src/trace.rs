//! The bundled LLM trace and the recount that Weir must agree with (`tests/data/llm-trace`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use crate::installed::project;

/// The limit that the recount's crossings are about.
pub const LIMIT: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 60s"
hard = 60000
mode = "block"
"#;

/// Query parameters for a span that holds the whole trace.
pub const FROM: (&str, &str) = ("from", "2023-11-16T18:00:00Z");
pub const TO: (&str, &str) = ("to", "2023-11-16T20:00:00Z");

/// `expected.json`.
#[derive(Debug, Deserialize)]
pub struct Expected {
    pub events: usize,
    /// By `platform`, `TENANT`, `TENANT/KEY` and `TENANT/USER`.
    pub totals: BTreeMap<String, Totals>,
    /// By tenant.
    pub windows: BTreeMap<String, Windows>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Totals {
    pub requests: i128,
    pub input_tokens: i128,
    pub output_tokens: i128,
    pub cost_pico_usd: i128,
}

/// What a tenant's tokens did in 60 seconds. Seconds are of the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Windows {
    pub peak_tokens_60s: i128,
    pub upward_crossings: usize,
    pub first_crossing_s: Option<i64>,
    pub last_crossing_s: Option<i64>,
}

fn folder() -> PathBuf {
    project().join("tests/data/llm-trace")
}

/// The events, one JSON text each, in the order of their times.
///
/// # Panics
/// When the file is not there.
#[must_use]
pub fn events() -> Vec<String> {
    let text = fs::read_to_string(folder().join("events.ndjson")).expect("the trace");
    text.lines().map(str::to_owned).collect()
}

/// The recount.
///
/// # Panics
/// When the file is not there, or is none.
#[must_use]
pub fn expected() -> Expected {
    let text = fs::read_to_string(folder().join("expected.json")).expect("the recount");
    serde_json::from_str(&text).expect("the recount as JSON")
}

/// The subject's path of a name in the recount: `acme/key-1` is `tenant/acme/key/key-1`.
#[must_use]
pub fn subject(name: &str) -> String {
    match name.split_once('/') {
        None if name == "platform" => name.to_owned(),
        None => format!("tenant/{name}"),
        Some((tenant, part)) => {
            let dimension = part.split('-').next().unwrap_or_default();
            format!("tenant/{tenant}/{dimension}/{part}")
        }
    }
}
