//! JSON CloudEvents 1.0 from outside, read into records.
//!
//! Over HTTP and on Kafka alike: [`read_event`] (structured), [`read_batch`], [`read_ndjson`], [`read_binary`]
//! (attributes in headers, the data as the body), and [`read_csp_reports`] for what browsers send by themselves.
//! The attribute `subject` is the tenant. [`read_plain_usage`] is the short way for those that read the log.
//!
//! What is read is checked: an [`Event`] can be written to its topic as it is. Numbers are read from their text,
//! never through a float. Fields that nobody knows are ignored, as consumers of CloudEvents do, but for names that
//! are nearly those of a field: tokens or money must not get lost over a spelling.

mod auth;
mod csp;
mod envelope;
mod fields;
mod findings;
mod json;
mod names;
mod plain;
mod usage;

#[cfg(test)]
mod agree;
#[cfg(test)]
mod any;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tables;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use thiserror::Error;

pub use csp::{CspReports, read_csp_reports};

use crate::problem::FieldError;
use crate::record::{Auth, Csp, Usage, UsageRef};
use crate::time::Timestamp;
use envelope::Reader;
use findings::At;
use json::Items;

/// What one count may be at most.
pub const COUNT_MAX: i64 = 1_000_000_000_000;
/// What one amount of a user's own unit may be at most.
pub const UNIT_MAX: i64 = 1_000_000_000_000_000;
/// What one event may cost at most, in US dollars.
pub const COST_USD_MAX: i64 = 1_000_000;
/// The longest public id of a key, in bytes. What is longer is a secret.
pub const KEY_BYTES_MAX: usize = 200;

/// One event of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Usage(Usage),
    Auth(Auth),
    Csp(Csp),
}

impl Event {
    #[must_use]
    pub fn tenant(&self) -> &str {
        match self {
            Event::Usage(usage) => &usage.tenant,
            Event::Auth(auth) => &auth.tenant,
            Event::Csp(csp) => &csp.tenant,
        }
    }

    /// When it happened.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Event::Usage(usage) => usage.at,
            Event::Auth(auth) => auth.at,
            Event::Csp(csp) => csp.at,
        }
    }

    /// What tells it from any other event of its tenant.
    #[must_use]
    pub fn source_and_id(&self) -> (&str, &str) {
        match self {
            Event::Usage(usage) => (&usage.event_source, &usage.event_id),
            Event::Auth(auth) => (&auth.event_source, &auth.event_id),
            Event::Csp(csp) => (&csp.event_source, &csp.event_id),
        }
    }
}

/// What events must keep to.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Now, by the clock of whoever takes the events: the time of events that tell none.
    pub received_at: Timestamp,
    /// How far an event's time may be ahead.
    pub future_max: Duration,
    /// How far an event's time may be behind. Clocks that were never set say 1970.
    pub past_max: Duration,
    /// The longest attribute other than `subject`, and the longest free text in data.
    pub attribute_bytes_max: usize,
    /// The most events in one body.
    pub events_max: usize,
    /// The most errors that are told in full; the rest are counted.
    pub errors_max: usize,
    /// Types of events beside usage, auth and csp that count 1 (or their data's `value`) of the unit of that name.
    pub meter_types: Arc<BTreeSet<String>>,
}

/// Rules are made anew for each record of the log; none of them needs a set of its own.
static NO_METER_TYPES: LazyLock<Arc<BTreeSet<String>>> = LazyLock::new(Arc::default);

impl Default for Rules {
    fn default() -> Self {
        Self {
            received_at: Timestamp::default(),
            future_max: Duration::from_secs(5 * 60),
            past_max: Duration::from_secs(10 * 365 * 86_400),
            attribute_bytes_max: 1_024,
            events_max: 10_000,
            errors_max: 100,
            meter_types: Arc::clone(&NO_METER_TYPES),
        }
    }
}

impl Rules {
    /// The usual rules at `received_at`.
    #[must_use]
    pub fn at(received_at: Timestamp) -> Self {
        Self {
            received_at,
            ..Self::default()
        }
    }

    /// Whether an event may have happened then.
    fn allow(&self, time: Timestamp) -> bool {
        time.since(self.received_at) <= self.future_max
            && self.received_at.since(time) <= self.past_max
    }

    /// Whether `text` can be an event's id or source.
    fn is_good_name(&self, text: &str) -> bool {
        text.len() <= self.attribute_bytes_max && !holds_control(text)
    }
}

/// Whether there is a control character in `text`.
#[must_use]
pub fn holds_control(text: &str) -> bool {
    // Nearly all are plain ASCII, which bytes tell at once.
    let odd = |is_odd, byte: &u8| is_odd | !(b' '..=b'~').contains(byte);
    text.as_bytes().iter().fold(false, odd) && text.contains(char::is_control)
}

/// Why a body was not taken. It is taken whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error(transparent)]
    NotJson(#[from] NotJson),
    #[error("more than {events_max} events in one body; send fewer at a time")]
    TooMany { events_max: usize },
    #[error(transparent)]
    Bad(BadEvents),
}

/// A body (or a line of one) that is no JSON.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not JSON: {reason} at line {line}, column {column} (byte {byte})")]
pub struct NotJson {
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    /// From 0.
    pub byte: usize,
    pub reason: String,
}

/// JSON, but not the events that it should hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{events} bad event(s): {}", self.summary())]
pub struct BadEvents {
    /// How many events are bad.
    pub events: usize,
    /// How many errors were found, told in full or not.
    pub found: usize,
    /// The first of them.
    pub errors: Vec<FieldError>,
}

impl BadEvents {
    /// The first few errors in one line.
    fn summary(&self) -> String {
        const SHOWN: usize = 5;
        let shown = self.errors.iter().take(SHOWN);
        let mut parts: Vec<String> = shown
            .map(|error| match error.pointer.as_str() {
                "" => error.detail.clone(),
                pointer => format!("{pointer}: {}", error.detail),
            })
            .collect();
        if self.found > SHOWN {
            parts.push(format!("and {} more", self.found - SHOWN));
        }
        parts.join("; ")
    }
}

/// Reads one structured event (`application/cloudevents+json`). Pointers begin at the event: `/data/input_tokens`.
pub fn read_event(body: &[u8], rules: &Rules) -> Result<Event, ReadError> {
    let text = json::utf8(body)?;
    let mut reader = Reader::new(rules);
    let event = match json::members_of(text) {
        Some(members) => reader.of_members(members, At::Root),
        None => reader.structured(json::parse_text(text)?, At::Root),
    };
    reader.one(event)
}

/// What [`read_event`] reads of a usage event as programs write them, with its text left where it is. `None` for any
/// other body, good or bad: [`read_event`] tells.
#[must_use]
pub fn read_plain_usage<'a>(body: &'a [u8], rules: &Rules) -> Option<UsageRef<'a>> {
    plain::read(std::str::from_utf8(body).ok()?, rules)
}

/// Reads an array of events (`application/cloudevents-batch+json`). Pointers begin with the event's index:
/// `/3/data/cost_usd`.
pub fn read_batch(body: &[u8], rules: &Rules) -> Result<Vec<Event>, ReadError> {
    let raw = json::parse(body)?;
    let mut reader = Reader::new(rules);
    let Some(items) = Items::read(raw, rules.events_max) else {
        reader.bad("a batch is an array of events", raw);
        return reader.all(Vec::new());
    };
    if items.more {
        return Err(too_many(rules));
    }
    let mut events = Vec::with_capacity(items.values.len());
    for (index, raw) in items.values.into_iter().enumerate() {
        events.extend(reader.structured(raw, At::Index(index)));
    }
    reader.all(events)
}

/// Reads one event a line (`application/x-ndjson`); empty lines are nothing. Pointers begin with the line's index
/// from 0: `/3/data/cost_usd` is in line 4.
pub fn read_ndjson(body: &[u8], rules: &Rules) -> Result<Vec<Event>, ReadError> {
    let text = json::utf8(body)?;
    let mut reader = Reader::new(rules);
    let mut events = Vec::new();
    let (mut taken, mut next_byte) = (0, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let byte = next_byte;
        next_byte += line.len();
        let line = line.trim_ascii_end();
        if line.is_empty() {
            continue;
        }
        if taken == rules.events_max {
            return Err(too_many(rules));
        }
        taken += 1;
        let raw = json::parse_text(line).map_err(|e| e.moved(index, byte))?;
        events.extend(reader.structured(raw, At::Index(index)));
    }
    reader.all(events)
}

/// Reads one event whose attributes came as headers. `attributes` are their names in lower case without the `ce-` or
/// `ce_` before them, and their values, already decoded. Errors of attributes point to `ce-NAME`, those of the data
/// into the body: `/input_tokens`.
pub fn read_binary<'a>(
    attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
    data: &'a [u8],
    rules: &Rules,
) -> Result<Event, ReadError> {
    let data = match data.trim_ascii() {
        [] => None,
        _ => Some(json::parse(data)?),
    };
    let mut reader = Reader::new(rules);
    let event = reader.binary(attributes, data);
    reader.one(event)
}

fn too_many(rules: &Rules) -> ReadError {
    ReadError::TooMany {
        events_max: rules.events_max,
    }
}
