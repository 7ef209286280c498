//! Reads what is asked, from a check's JSON or from the headers that a proxy sets.
//!
//! Everything that is wrong is told, each with where it stands. A field that nobody knows is an error: a limit that
//! does not apply because of a spelling would be found out too late. An empty id is none.

use std::borrow::Cow;
use std::fmt;

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
    let members: Members<'_> =
        serde_json::from_slice(body).map_err(|error| BadAsk::NotJson(error.to_string()))?;
    let mut reader = Reader::default();
    for (name, raw) in &members.0 {
        let pointer = format!("/{}", escape(name));
        match name.as_ref() {
            "consume" => reader.consume(raw),
            name => match reader.text(&pointer, raw) {
                Some(text) => reader.field(name, &pointer, &text),
                None => reader.check_name(name, &pointer),
            },
        }
    }
    reader.finish("")
}

/// Reads the headers of `/v1/forward-auth`: `X-Weir-Tenant`, `-Key`, `-User`, and so on. One request each.
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
    reader.finish("x-weir-tenant")
}

#[derive(Default)]
struct Reader {
    ask: Ask,
    errors: Vec<FieldError>,
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
            format!("is no field of a check: use {names}, tier, consume, request_id"),
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
                "/consume",
                "must be an object of meters, such as {\"requests\":1}",
            );
        };
        let mut consume = Consume::default();
        for (name, raw) in &members.0 {
            let pointer = format!("/consume/{}", escape(name));
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
        self.ask.consume = consume;
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
                "/consume/tokens",
                "is less than input_tokens and output_tokens together",
            );
        }
    }

    fn finish(mut self, pointer: &str) -> Result<Ask, BadAsk> {
        let known = Dimension::ALL.iter().any(|d| self.ask.id(*d).is_some());
        if self.errors.is_empty() && !known {
            self.wrong(
                pointer,
                "says of nobody: give at least one id, such as tenant",
            );
        }
        if self.errors.is_empty() {
            Ok(self.ask)
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
