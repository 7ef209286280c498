//! The short way for most events: structured, of type `usage`, written as programs write JSON. One pass, and nothing is
//! allocated but for units.
//!
//! It knows no errors. Whatever is not plainly good is left to the full reader, which says what is wrong with it or
//! finds that it is good after all: escapes, a member twice, a name nearly that of a field, a number beyond its bound.
//! What is read here is what the full reader reads; tests hold the one against the other.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv4Addr;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fields::{is_good_id, is_secret, millis, pico_usd};
use super::json::MEMBERS_MAX;
use super::{COUNT_MAX, Rules, UNIT_MAX, envelope, names};
use crate::address::parse_source;
use crate::policy::is_unit_name;
use crate::record::UsageRef;
use crate::time::Timestamp;

pub(super) fn read<'a>(text: &'a str, rules: &Rules) -> Option<UsageRef<'a>> {
    let mut usage = UsageRef {
        at: rules.received_at,
        received_at: rules.received_at,
        ..UsageRef::default()
    };
    let event = EventInto {
        usage: &mut usage,
        rules,
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(event).ok()?;
    deserializer.end().ok()?;
    Some(usage)
}

/// Goes on while everything is plainly good.
fn plain<E: Error>(is_plain: bool) -> Result<(), E> {
    if is_plain {
        Ok(())
    } else {
        Err(E::custom("not plainly good"))
    }
}

/// The object of an event.
struct EventInto<'u, 'a, 'r> {
    usage: &'u mut UsageRef<'a>,
    rules: &'r Rules,
}

/// What was there and is kept nowhere else.
#[derive(Default)]
struct Seen {
    version: bool,
    kind: bool,
    time: bool,
    content_type: bool,
    data: bool,
}

impl<'de> Visitor<'de> for EventInto<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { usage, rules } = self;
        let mut seen = Seen::default();
        let mut members = 0;
        while let Some(name) = map.next_key::<&str>()? {
            members += 1;
            match name {
                "specversion" => attribute(&mut map, &mut seen.version, |text| text == "1.0")?,
                "type" => attribute(&mut map, &mut seen.kind, |text| text == "usage")?,
                "datacontenttype" => {
                    attribute(&mut map, &mut seen.content_type, envelope::is_json)?;
                }
                "time" => attribute(&mut map, &mut seen.time, |text| {
                    let time = Timestamp::parse(text).filter(|time| rules.allow(*time));
                    usage.at = time.unwrap_or(usage.at);
                    time.is_some()
                })?,
                "id" => required(&mut map, &mut usage.event_id, |text| {
                    rules.is_good_name(text)
                })?,
                "source" => {
                    required(&mut map, &mut usage.event_source, |text| {
                        rules.is_good_name(text)
                    })?;
                }
                "subject" => required(&mut map, &mut usage.tenant, is_good_id)?,
                "data" => {
                    plain(!seen.data)?;
                    map.next_value_seed(DataInto { usage })?;
                    seen.data = true;
                }
                other => {
                    plain(other != "data_base64" && !names::counts(other))?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let has_names = [&usage.event_id, &usage.event_source, &usage.tenant];
        plain(has_names.into_iter().all(|name| !name.is_empty()))?;
        plain(seen.version && seen.kind && seen.data && members <= MEMBERS_MAX)
    }
}

/// An attribute that is there once at most, and is good.
fn attribute<'de, A: MapAccess<'de>>(
    map: &mut A,
    seen: &mut bool,
    is_good: impl FnOnce(&'de str) -> bool,
) -> Result<(), A::Error> {
    let Some(text) = map.next_value::<Option<&str>>()? else {
        return Ok(());
    };
    plain(!std::mem::replace(seen, true) && is_good(text))
}

/// A text that must be there; until it is, `slot` is empty.
fn required<'de, A: MapAccess<'de>>(
    map: &mut A,
    slot: &mut Cow<'de, str>,
    is_good: impl FnOnce(&'de str) -> bool,
) -> Result<(), A::Error> {
    let Some(text) = map.next_value::<Option<&str>>()? else {
        return Ok(());
    };
    plain(slot.is_empty() && !text.is_empty() && is_good(text))?;
    *slot = Cow::Borrowed(text);
    Ok(())
}

/// The object of an event's data.
struct DataInto<'u, 'a> {
    usage: &'u mut UsageRef<'a>,
}

impl<'de> DeserializeSeed<'de> for DataInto<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DataInto<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { usage } = self;
        let (mut requests, mut input, mut output, mut cost) = (None, None, None, None);
        let mut status = None;
        let mut has_units = false;
        let mut members = 0;
        while let Some(name) = map.next_key::<&str>()? {
            members += 1;
            let map = &mut map;
            match name {
                "key" => id(map, &mut usage.key, |key| {
                    is_good_id(key) && !is_secret(key)
                })?,
                "user" => id(map, &mut usage.user, is_good_id)?,
                "route" => id(map, &mut usage.route, is_good_id)?,
                "provider" => id(map, &mut usage.provider, is_good_id)?,
                "model" => id(map, &mut usage.model, is_good_id)?,
                "source" => source(map, &mut usage.source)?,
                "fingerprint" => id(map, &mut usage.fingerprint, is_good_id)?,
                "action" => id(map, &mut usage.action, is_good_id)?,
                "request_id" => id(map, &mut usage.request_id, is_good_id)?,
                "reservation" => id(map, &mut usage.reservation, is_good_id)?,
                "status" => whole(map, &mut status, 999)?,
                "latency_ms" => written(map, &mut usage.latency_ms, millis)?,
                "requests" => whole(map, &mut requests, COUNT_MAX)?,
                "input_tokens" => whole(map, &mut input, COUNT_MAX)?,
                "output_tokens" => whole(map, &mut output, COUNT_MAX)?,
                "cost_usd" => written(map, &mut cost, plain_usd)?,
                "units" => {
                    plain(!has_units)?;
                    map.next_value_seed(UnitsInto { usage })?;
                    has_units = true;
                }
                other => {
                    plain(names::meant(other).is_none())?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        usage.status = status.and_then(|status| i32::try_from(status).ok());
        usage.requests = requests.unwrap_or(1);
        usage.input_tokens = input.unwrap_or_default();
        usage.output_tokens = output.unwrap_or_default();
        usage.cost = cost.unwrap_or_default();
        plain(members <= MEMBERS_MAX)
    }
}

/// An id; one that is empty is none.
fn id<'de, A: MapAccess<'de>>(
    map: &mut A,
    slot: &mut Option<Cow<'de, str>>,
    is_good: impl FnOnce(&str) -> bool,
) -> Result<(), A::Error> {
    let text: Option<&str> = map.next_value()?;
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    plain(slot.is_none() && is_good(text))?;
    *slot = Some(Cow::Borrowed(text));
    Ok(())
}

/// A client's address in its one form. An IPv4 address has no other.
fn source<'de, A: MapAccess<'de>>(
    map: &mut A,
    slot: &mut Option<Cow<'de, str>>,
) -> Result<(), A::Error> {
    let mut text = None;
    id(map, &mut text, |_| true)?;
    let Some(text) = text else {
        return Ok(());
    };
    plain(slot.is_none())?;
    *slot = match text.parse::<Ipv4Addr>() {
        Ok(_) => Some(text),
        Err(_) => parse_source(&text).map(Cow::Owned),
    };
    plain(slot.is_some())
}

/// A whole number from 0 to `max`, in digits alone.
fn whole<'de, A: MapAccess<'de>>(
    map: &mut A,
    slot: &mut Option<i64>,
    max: i64,
) -> Result<(), A::Error> {
    let Some(number) = map.next_value::<Option<u64>>()? else {
        return Ok(());
    };
    let number = i64::try_from(number).ok().filter(|number| *number <= max);
    plain(slot.is_none() && number.is_some())?;
    *slot = number;
    Ok(())
}

/// A number that is read from how it is written.
fn written<'de, A: MapAccess<'de>>(
    map: &mut A,
    slot: &mut Option<i64>,
    read: impl FnOnce(&str) -> Option<i64>,
) -> Result<(), A::Error> {
    let Some(raw) = map.next_value::<Option<&RawValue>>()? else {
        return Ok(());
    };
    let number = read(raw.get());
    plain(slot.is_none() && number.is_some())?;
    *slot = number;
    Ok(())
}

/// US dollars as pico-dollars, written as a number or as a string.
fn plain_usd(written: &str) -> Option<i64> {
    let quoted = written
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    pico_usd(quoted.unwrap_or(written))
}

/// The object of amounts of the user's own units.
struct UnitsInto<'u, 'a> {
    usage: &'u mut UsageRef<'a>,
}

impl<'de> DeserializeSeed<'de> for UnitsInto<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for UnitsInto<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut members = 0;
        while let Some(name) = map.next_key::<&str>()? {
            members += 1;
            let mut amount = None;
            whole(&mut map, &mut amount, UNIT_MAX)?;
            let Some(amount) = amount else {
                continue;
            };
            plain(is_unit_name(name))?;
            let before = self.usage.units.insert(name.to_owned(), amount);
            plain(before.is_none())?;
        }
        plain(members <= MEMBERS_MAX)
    }
}
