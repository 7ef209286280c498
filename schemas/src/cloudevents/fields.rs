//! How each kind of field is read. Each reader fills a slot, or says what is wrong and leaves it empty.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::findings::{At, Findings};
use super::{COST_USD_MAX, COUNT_MAX, KEY_BYTES_MAX, UNIT_MAX, holds_control, json};
use crate::address::parse_source;
use crate::money::{PICO_PER_USD, parse_usd};
use crate::policy::is_unit_name;
use crate::subject::ID_BYTES_MAX;

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) at: &'a At<'a>,
    pub(super) raw: &'a RawValue,
}

impl Findings {
    fn put<T>(&mut self, slot: &mut Option<T>, at: &At<'_>, value: T) {
        if slot.replace(value).is_some() {
            self.add(at, "is there twice");
        }
    }

    /// A string, or nothing where it is empty.
    fn some_text<'a>(&mut self, field: Field<'a>) -> Option<std::borrow::Cow<'a, str>> {
        match json::text(field.raw) {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(detail) => {
                self.add(field.at, detail);
                None
            }
        }
    }

    /// An id that can be part of a subject.
    pub(super) fn id(&mut self, slot: &mut Option<String>, field: Field<'_>) {
        if let Some(text) = self.some_text(field) {
            match check_id(&text) {
                Ok(()) => self.put(slot, field.at, text.into_owned()),
                Err(detail) => self.add(field.at, detail),
            }
        }
    }

    /// A key's public id. The value is never repeated in an error: it may be the secret.
    pub(super) fn key(&mut self, slot: &mut Option<String>, field: Field<'_>) {
        if !field.raw.get().starts_with('"') {
            self.add(field.at, "must be a string");
            return;
        }
        let Some(text) = self.some_text(field) else {
            return;
        };
        if is_secret(&text) {
            self.add(
                field.at,
                "looks like a secret: send the key's public id (at most 200 bytes)",
            );
            return;
        }
        match check_id(&text) {
            Ok(()) => self.put(slot, field.at, text.into_owned()),
            Err(detail) => self.add(field.at, detail),
        }
    }

    /// Words for people: control characters become spaces.
    pub(super) fn words(&mut self, slot: &mut Option<String>, bytes_max: usize, field: Field<'_>) {
        if let Some(text) = self.some_text(field) {
            if text.len() > bytes_max {
                self.add(field.at, longer_than(bytes_max));
            } else {
                self.put(slot, field.at, text.replace(char::is_control, " "));
            }
        }
    }

    /// A whole number from 0 to `max`.
    pub(super) fn whole(&mut self, slot: &mut Option<i64>, max: i64, field: Field<'_>) {
        match whole(field.raw, max) {
            Ok(number) => self.put(slot, field.at, number),
            Err(detail) => self.add(field.at, detail),
        }
    }

    /// An HTTP status.
    pub(super) fn status(&mut self, slot: &mut Option<i32>, field: Field<'_>) {
        match whole(field.raw, 999).map(i32::try_from) {
            Ok(Ok(number)) => self.put(slot, field.at, number),
            Ok(Err(_)) => self.add(field.at, "is no HTTP status"),
            Err(detail) => self.add(field.at, detail),
        }
    }

    /// Milliseconds; what is below one is cut.
    pub(super) fn millis(&mut self, slot: &mut Option<i64>, field: Field<'_>) {
        match millis(field.raw.get()) {
            Some(number) => self.put(slot, field.at, number),
            None => self.add(field.at, not_whole(&json::shown(field.raw), COUNT_MAX)),
        }
    }

    /// US dollars as pico-dollars, from a string or a number as it was written.
    pub(super) fn cost(&mut self, slot: &mut Option<i64>, field: Field<'_>) {
        let written = field.raw.get();
        let is_number = written.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let text = if is_number {
            Ok(written.into())
        } else {
            json::text(field.raw).map_err(|_| {
                format!(
                    "must be a number or a string, not {}",
                    json::shown(field.raw)
                )
            })
        };
        let pico = text.and_then(|text| parse_usd(&text).map_err(|e| e.to_string()));
        match pico {
            Ok(pico) if (0..=usd_max()).contains(&pico) => self.put(slot, field.at, pico),
            Ok(_) => {
                let shown = json::shown(field.raw);
                let detail = format!("{shown} is not from 0 to {COST_USD_MAX} US dollars");
                self.add(field.at, detail);
            }
            Err(detail) => self.add(field.at, format!("{}: {detail}", json::shown(field.raw))),
        }
    }

    /// Amounts of the user's own units.
    pub(super) fn units(&mut self, slot: &mut Option<BTreeMap<String, i64>>, field: Field<'_>) {
        let members = match json::members(field.raw) {
            Ok(members) => members,
            Err(detail) => return self.add(field.at, detail),
        };
        let mut units = BTreeMap::new();
        for (name, raw) in members {
            if !is_unit_name(&name) {
                let name = json::cut(&name);
                let rule = "a-z, then a-z 0-9 _, at most 64 characters";
                self.add(field.at, format!("`{name}` is no name of a unit: {rule}"));
                continue;
            }
            let at = At::Member(field.at, &name);
            let mut amount = None;
            self.whole(&mut amount, UNIT_MAX, Field { at: &at, raw });
            let amount = amount.unwrap_or_default();
            if units.insert(name.clone().into_owned(), amount).is_some() {
                self.add(&at, "is there twice");
            }
        }
        self.put(slot, field.at, units);
    }

    /// A client's address in its one form.
    pub(super) fn address(&mut self, slot: &mut Option<String>, field: Field<'_>) {
        if let Some(text) = self.some_text(field) {
            match parse_source(&text) {
                Some(source) => self.put(slot, field.at, source),
                None => {
                    let shown = json::shown(field.raw);
                    self.add(field.at, format!("{shown} is no IPv4 or IPv6 address"));
                }
            }
        }
    }
}

/// Whether `id` can be part of a subject, and be kept in any store.
pub(super) fn check_id(id: &str) -> Result<(), String> {
    if id.len() > ID_BYTES_MAX {
        return Err(longer_than(ID_BYTES_MAX));
    }
    if holds_control(id) {
        return Err("holds a control character".to_owned());
    }
    Ok(())
}

/// [`check_id`] for those who do not ask why.
pub(super) fn is_good_id(id: &str) -> bool {
    id.len() <= ID_BYTES_MAX && !holds_control(id)
}

/// Whether a key is none that is public.
pub(super) fn is_secret(key: &str) -> bool {
    let start = key.get(..7);
    start.is_some_and(|start| start.eq_ignore_ascii_case("bearer ")) || KEY_BYTES_MAX < key.len()
}

/// Milliseconds as they are written, in digits with or without a fraction.
pub(super) fn millis(written: &str) -> Option<i64> {
    let digits = written.split_once('.').map_or(written, |(whole, _)| whole);
    let number = digits.parse().ok()?;
    ((0..=COUNT_MAX).contains(&number) && !written.contains(['e', 'E'])).then_some(number)
}

/// An amount of money that an event may cost.
pub(super) fn pico_usd(text: &str) -> Option<i64> {
    let pico = parse_usd(text).ok()?;
    (0..=usd_max()).contains(&pico).then_some(pico)
}

pub(super) fn longer_than(bytes_max: usize) -> String {
    format!("is longer than {bytes_max} bytes")
}

fn usd_max() -> i64 {
    const MAX: i128 = COST_USD_MAX as i128 * PICO_PER_USD;
    const { assert!(MAX <= i64::MAX as i128) };
    MAX as i64
}

fn not_whole(shown: &str, max: i64) -> String {
    format!("{shown} is not a whole number from 0 to {max}, in plain digits")
}

/// `5` and `5.0`, but neither `"5"` nor `5e0`.
fn whole(raw: &RawValue, max: i64) -> Result<i64, String> {
    let written = raw.get();
    let digits = match written.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b == b'0') => whole,
        _ => written,
    };
    match digits.parse() {
        Ok(number) if (0..=max).contains(&number) => Ok(number),
        _ => Err(not_whole(&json::shown(raw), max)),
    }
}
