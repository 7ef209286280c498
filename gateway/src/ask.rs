//! Reads what is asked, from a check's JSON or from the headers that a proxy sets.
//!
//! Everything that is wrong is told, each with where it stands. A field that nobody knows is an error: a limit that
//! does not apply because of a spelling would be found out too late. An empty id is none.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use schemas::address::parse_source;
use schemas::cloudevents::{COST_USD_MAX, COUNT_MAX, KEY_BYTES_MAX, UNIT_MAX};
use schemas::money::{PICO_PER_USD, parse_usd};
use schemas::policy::is_unit_name;
use schemas::problem::FieldError;
use schemas::subject::{Dimension, ID_BYTES_MAX};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::request::{Ask, Consume};

/// Units of a user's own that one request may use.
const UNITS_MAX: usize = 16;

/// How long a reservation holds, unless it says so.
const TTL_SECONDS: u64 = 60;
/// The longest that one may hold: what nobody commits is not there for others for so long.
pub const TTL_SECONDS_MAX: u64 = 3_600;

const COUNT: u64 = COUNT_MAX as u64;
const COST: i128 = COST_USD_MAX as i128 * PICO_PER_USD;

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadAsk {
    #[error("the body is not a JSON object: {0}")]
    NotJson(String),
    #[error("{} of the request's fields cannot be used", .0.len())]
    Fields(Vec<FieldError>),
}

/// Reads the body of `POST /v1/check`.
pub fn from_json(body: &[u8]) -> Result<Ask, BadAsk> {
    read(body, Reader::default()).map(|reader| reader.ask)
}

/// Reads the body of `POST /v1/reservations`: a check with an `estimate` of what it will consume, which is one request
/// (of its route's weight) unless it says otherwise, and for how long to hold it.
pub fn reservation_from_json(body: &[u8]) -> Result<(Ask, Duration), BadAsk> {
    let reader = Reader {
        amounts: "estimate",
        ..Reader::default()
    };
    let mut reader = read(body, reader)?;
    if reader.ask.id(Dimension::Tenant).is_none() {
        reader.wrong("/tenant", "is missing: what is reserved is a tenant's");
        return Err(BadAsk::Fields(reader.errors));
    }
    reader.ask.or_one_request();
    let ttl = reader.ttl_s.unwrap_or(TTL_SECONDS);
    Ok((reader.ask, Duration::from_secs(ttl)))
}

/// Reads the body of a commit: under `actual` what was consumed, as far as it is not as estimated. Empty: all of it is.
pub fn actual_from_json(body: &[u8]) -> Result<Consume, BadAsk> {
    if body.is_empty() {
        return Ok(Consume::default());
    }
    let mut reader = Reader {
        amounts: "actual",
        ..Reader::default()
    };
    reader.ask.set_consume(Consume::default());
    for (name, raw) in &members(body)?.0 {
        match name.as_ref() {
            "actual" => reader.consume(raw),
            _ => reader.wrong(
                &format!("/{}", escape(name)),
                "is no field of a commit: use actual",
            ),
        }
    }
    if reader.errors.is_empty() {
        Ok(reader.ask.consume)
    } else {
        Err(BadAsk::Fields(reader.errors))
    }
}

fn members(body: &[u8]) -> Result<Members<'_>, BadAsk> {
    serde_json::from_slice(body).map_err(|error| BadAsk::NotJson(error.to_string()))
}

fn read(body: &[u8], mut reader: Reader) -> Result<Reader, BadAsk> {
    for (name, raw) in &members(body)?.0 {
        let pointer = format!("/{}", escape(name));
        match name.as_ref() {
            name if name == reader.amounts => reader.consume(raw),
            "ttl_s" if reader.amounts == "estimate" => reader.ttl(raw),
            name => match reader.text(&pointer, raw) {
                Some(text) => reader.field(name, &pointer, &text),
                None => reader.check_name(name, &pointer),
            },
        }
    }
    reader.finish("")
}

/// Reads the headers of `/v1/forward-auth`: `X-Weir-Tenant`, `-Key`, `-User`, and so on. One request each, which counts
/// as the weight of its route.
pub fn from_headers(headers: &HeaderMap) -> Result<Ask, BadAsk> {
    let mut reader = Reader::default();
    let names = Dimension::ALL.map(Dimension::name);
    for name in names.into_iter().chain(["tier", "request-id"]) {
        let header = format!("x-weir-{name}");
        let mut values = headers.get_all(&header).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            reader.wrong(&header, "is there twice");
        }
        match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => reader.field(&name.replace('-', "_"), &header, text.trim()),
            Err(_) => reader.wrong(&header, "must be UTF-8"),
        }
    }
    reader.finish("x-weir-tenant").map(|reader| reader.ask)
}

struct Reader {
    ask: Ask,
    /// The member that says how much.
    amounts: &'static str,
    ttl_s: Option<u64>,
    errors: Vec<FieldError>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            ask: Ask::default(),
            amounts: "consume",
            ttl_s: None,
            errors: Vec::new(),
        }
    }
}

impl Reader {
    fn wrong(&mut self, pointer: &str, detail: impl Into<String>) {
        self.errors.push(FieldError {
            pointer: pointer.to_owned(),
            detail: detail.into(),
        });
    }

    fn check_name(&mut self, name: &str, pointer: &str) {
        if Dimension::named(name).is_none() && !matches!(name, "tier" | "request_id") {
            self.unknown(pointer);
        }
    }

    fn unknown(&mut self, pointer: &str) {
        let names = Dimension::ALL.map(Dimension::name).join(", ");
        self.wrong(
            pointer,
            format!(
                "is no field of a check: use {names}, tier, {}, request_id",
                self.amounts
            ),
        );
    }

    /// A string, or nothing where it is empty, null, or wrong.
    fn text<'a>(&mut self, pointer: &str, raw: &'a RawValue) -> Option<Cow<'a, str>> {
        match serde_json::from_str::<Option<Text<'a>>>(raw.get()) {
            Ok(text) => text.map(|text| text.0).filter(|text| !text.is_empty()),
            Err(_) => {
                self.wrong(pointer, "must be a string");
                None
            }
        }
    }

    fn field(&mut self, name: &str, pointer: &str, text: &str) {
        let bytes_max = match name {
            "key" => KEY_BYTES_MAX,
            _ => ID_BYTES_MAX,
        };
        if text.is_empty() {
            return;
        }
        if bytes_max < text.len() {
            // Never repeated: what is too long for a public id may be a secret.
            self.wrong(pointer, format!("is longer than {bytes_max} bytes"));
            return;
        }
        let slot = match name {
            "tier" => &mut self.ask.tier,
            "request_id" => &mut self.ask.request_id,
            _ => return self.id(name, pointer, text),
        };
        if slot.replace(text.to_owned()).is_some() {
            self.wrong(pointer, "is there twice");
        }
    }

    fn id(&mut self, name: &str, pointer: &str, text: &str) {
        let Some(dimension) = Dimension::named(name) else {
            return self.unknown(pointer);
        };
        if self.ask.id(dimension).is_some() {
            return self.wrong(pointer, "is there twice");
        }
        let id = match dimension {
            Dimension::Source => match parse_source(text) {
                Some(source) => source,
                None => return self.wrong(pointer, "must be an IPv4 or IPv6 address"),
            },
            _ => text.to_owned(),
        };
        self.ask.set(dimension, Some(id));
    }

    fn consume(&mut self, raw: &RawValue) {
        let Ok(members) = serde_json::from_str::<Members<'_>>(raw.get()) else {
            return self.wrong(
                &format!("/{}", self.amounts),
                "must be an object of meters, such as {\"requests\":1}",
            );
        };
        let mut consume = Consume::default();
        for (name, raw) in &members.0 {
            let pointer = format!("/{}/{}", self.amounts, escape(name));
            let slot = match name.as_ref() {
                "requests" => &mut consume.requests,
                "input_tokens" => &mut consume.input_tokens,
                "output_tokens" => &mut consume.output_tokens,
                "tokens" => &mut consume.tokens,
                "cost_usd" => {
                    let cost = self.cost(&pointer, raw);
                    consume.cost = consume.cost.or(cost);
                    continue;
                }
                name => {
                    self.unit(&mut consume, name, &pointer, raw);
                    continue;
                }
            };
            let count = self.count(&pointer, raw, COUNT);
            if slot.is_some() {
                self.wrong(&pointer, "is there twice");
            }
            *slot = slot.or(count);
        }
        self.check_tokens(&consume);
        self.ask.set_consume(consume);
    }

    fn ttl(&mut self, raw: &RawValue) {
        let seconds = raw.get().parse().ok();
        self.ttl_s = seconds.filter(|seconds| (1..=TTL_SECONDS_MAX).contains(seconds));
        if self.ttl_s.is_none() {
            self.wrong(
                "/ttl_s",
                format!("must be a whole number from 1 to {TTL_SECONDS_MAX}"),
            );
        }
    }

    fn unit(&mut self, consume: &mut Consume, name: &str, pointer: &str, raw: &RawValue) {
        match name {
            "failures" | "violations" => {
                self.wrong(pointer, "is counted from events, not from checks");
            }
            "cost" => self.wrong(pointer, "is money: write `cost_usd`, in US dollars"),
            _ if !is_unit_name(name) => {
                self.wrong(pointer, "is no meter: a-z, 0-9 and _, at most 64 of them");
            }
            _ if UNITS_MAX <= consume.units.len() => {
                self.wrong(
                    pointer,
                    format!("is more than {UNITS_MAX} units of your own"),
                );
            }
            _ => {
                if let Some(amount) = self.count(pointer, raw, UNIT_MAX as u64) {
                    consume.units.insert(name.to_owned(), amount);
                }
            }
        }
    }

    /// A whole number from its text, never through a float.
    fn count(&mut self, pointer: &str, raw: &RawValue, max: u64) -> Option<u64> {
        let count = raw.get().parse().ok().filter(|count| *count <= max);
        if count.is_none() {
            self.wrong(pointer, format!("must be a whole number from 0 to {max}"));
        }
        count
    }

    fn cost(&mut self, pointer: &str, raw: &RawValue) -> Option<u64> {
        match parse_usd(raw.get().trim_matches('"')) {
            Ok(pico) if (0..=COST).contains(&i128::from(pico)) => Some(pico.unsigned_abs()),
            Ok(_) => {
                self.wrong(
                    pointer,
                    format!("must be from 0 to {COST_USD_MAX} US dollars"),
                );
                None
            }
            Err(error) => {
                self.wrong(pointer, error.to_string());
                None
            }
        }
    }

    /// Tokens are reported as input and output tokens, so a total must not be less than its parts.
    fn check_tokens(&mut self, consume: &Consume) {
        let parts = consume.input_tokens.unwrap_or(0) + consume.output_tokens.unwrap_or(0);
        if consume.tokens.is_some_and(|tokens| tokens < parts) {
            self.wrong(
                &format!("/{}/tokens", self.amounts),
                "is less than input_tokens and output_tokens together",
            );
        }
    }

    fn finish(mut self, pointer: &str) -> Result<Self, BadAsk> {
        let known = Dimension::ALL.iter().any(|d| self.ask.id(*d).is_some());
        if self.errors.is_empty() && !known {
            self.wrong(
                pointer,
                "says of nobody: give at least one id, such as tenant",
            );
        }
        if self.errors.is_empty() {
            Ok(self)
        } else {
            Err(BadAsk::Fields(self.errors))
        }
    }
}

/// A member's name as part of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A string that is borrowed where it can be.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object's members as they stand, those that are there twice as well.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name.0, raw));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests;
