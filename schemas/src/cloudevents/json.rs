//! JSON as text with known bounds: values stay as they were written until a field is read from them.

use std::borrow::Cow;

use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::NotJson;

/// The most members that one object may have.
pub(super) const MEMBERS_MAX: usize = 256;
/// How much of a bad value an error shows, in characters.
const SHOWN_CHARS: usize = 40;

pub(super) fn utf8(body: &[u8]) -> Result<&str, NotJson> {
    std::str::from_utf8(body).map_err(|e| {
        let byte = e.valid_up_to();
        let before = &body[..byte];
        let line_start = before
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        NotJson {
            line: before.iter().filter(|b| **b == b'\n').count() + 1,
            column: byte - line_start + 1,
            byte,
            reason: "not UTF-8".to_owned(),
        }
    })
}

pub(super) fn parse(body: &[u8]) -> Result<&RawValue, NotJson> {
    parse_text(utf8(body)?)
}

/// The one value that `text` is, checked to be JSON throughout.
pub(super) fn parse_text(text: &str) -> Result<&RawValue, NotJson> {
    serde_json::from_str(text).map_err(|e| {
        let lines_before = text.split_inclusive('\n').take(e.line().saturating_sub(1));
        let line_start: usize = lines_before.map(str::len).sum();
        let column = e.column().max(1);
        let reason = e.to_string();
        let reason = reason.rsplit_once(" at line ").map_or(&*reason, |(r, _)| r);
        NotJson {
            line: e.line().max(1),
            column,
            byte: line_start + column - 1,
            reason: reason.to_owned(),
        }
    })
}

impl NotJson {
    /// The same error in a text that has so many lines and bytes more before it.
    pub(super) fn moved(self, lines: usize, bytes: usize) -> Self {
        Self {
            line: self.line + lines,
            byte: self.byte + bytes,
            ..self
        }
    }
}

/// The beginning of a value as it was written.
pub(super) fn shown(raw: &RawValue) -> Cow<'_, str> {
    cut(raw.get())
}

/// As much of `text` as an error shows: a small error about a huge value stays small.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A string's characters. An error tells what is there instead.
pub(super) fn text(raw: &RawValue) -> Result<Cow<'_, str>, String> {
    let written = raw.get();
    let quoted = written.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    match quoted {
        None => Err(format!("must be a string, not {}", shown(raw))),
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        Some(_) => match serde_json::from_str(written) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => Err(format!("has a broken escape: {}", shown(raw))),
        },
    }
}

/// An array's values, as many as are allowed.
pub(super) struct Items<'a> {
    pub(super) values: Vec<&'a RawValue>,
    /// Whether the array has more.
    pub(super) more: bool,
}

impl<'a> Items<'a> {
    /// `None` when `raw` is no array.
    pub(super) fn read(raw: &'a RawValue, values_max: usize) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        deserializer.deserialize_seq(ItemsOf { values_max }).ok()
    }
}

struct ItemsOf {
    values_max: usize,
}

impl<'de> Visitor<'de> for ItemsOf {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
        let mut values = Vec::new();
        while values.len() < self.values_max {
            match seq.next_element()? {
                Some(value) => values.push(value),
                None => {
                    return Ok(Items {
                        values,
                        more: false,
                    });
                }
            }
        }
        let mut more = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok(Items { values, more })
    }
}

/// An object's members in order, without those that are null. An error tells what is wrong with it.
pub(super) fn members(raw: &RawValue) -> Result<Vec<(Cow<'_, str>, &RawValue)>, String> {
    if !raw.get().starts_with('{') {
        return Err(format!("must be an object, not {}", shown(raw)));
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.deserialize_map(MembersOf).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.rsplit_once(" at line ").map_or(&*reason, |(r, _)| r);
        format!("cannot be read: {reason}")
    })
}

/// The members of the one object that `text` is, in one go; `None` where it is anything else, which [`parse_text`] and
/// [`members`] put into words.
pub(super) fn members_of(text: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_map(MembersOf).ok()?;
    deserializer.end().ok()?;
    Some(members)
}

struct MembersOf;

impl<'de> Visitor<'de> for MembersOf {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
            if members.len() == MEMBERS_MAX {
                return Err(A::Error::custom(format_args!(
                    "an object has more than {MEMBERS_MAX} members"
                )));
            }
            if value.get() != "null" {
                members.push((name, value));
            }
        }
        Ok(members)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
