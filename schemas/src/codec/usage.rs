//! The short way for usage as it is written today: nearly every record that is counted. Fields are read in the order
//! of `avro/usage.avsc`, and their text is left where it is.
//!
//! It knows no errors: whatever it does not read is left to the reader that goes by the schema. Tests hold the one
//! against the other.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::format::{Fingerprint, split};
use super::records::Record;
use super::{DecodeError, Wire};
use crate::record::{Recorded, Usage, UsageRecord, UsageRef};
use crate::time::Timestamp;

/// What [`UsageRecord::decode`] reads, with its text left where it is.
pub fn decode_usage(bytes: &[u8]) -> Result<Recorded<UsageRef<'_>>, DecodeError> {
    let (fingerprint, datum) = split(bytes)?;
    if let Some(usage) = read(fingerprint, datum) {
        return Ok(Recorded::Event(usage));
    }
    Ok(match UsageRecord::decode(bytes)? {
        Recorded::Event(usage) => Recorded::Event(usage.into()),
        Recorded::Marker(marker) => Recorded::Marker(marker),
    })
}

/// `None` for what was written by another schema, and for what is odd.
pub(super) fn read(fingerprint: Fingerprint, datum: &[u8]) -> Option<UsageRef<'_>> {
    if fingerprint != Usage::format().current().fingerprint {
        return None;
    }
    let mut datum = Datum(datum);
    let usage = UsageRef {
        event_source: datum.text()?,
        event_id: datum.text()?,
        tenant: datum.text()?,
        at: datum.time()?,
        received_at: datum.time()?,
        key: datum.option(Datum::text)?,
        user: datum.option(Datum::text)?,
        route: datum.option(Datum::text)?,
        provider: datum.option(Datum::text)?,
        model: datum.option(Datum::text)?,
        source: datum.option(Datum::text)?,
        fingerprint: datum.option(Datum::text)?,
        action: datum.option(Datum::text)?,
        request_id: datum.option(Datum::text)?,
        reservation: datum.option(Datum::text)?,
        status: datum.option(Datum::int)?,
        latency_ms: datum.option(Datum::long)?,
        requests: datum.long()?,
        input_tokens: datum.long()?,
        output_tokens: datum.long()?,
        cost: datum.long()?,
        units: datum.longs()?,
    };
    datum.0.is_empty().then_some(usage)
}

/// The rest of a datum.
struct Datum<'a>(&'a [u8]);

impl<'a> Datum<'a> {
    /// Zigzag, seven bits a byte, the lowest first.
    fn long(&mut self) -> Option<i64> {
        let mut bits = 0;
        for shift in (0..i64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            bits |= u64::from(byte & 0x7f) << shift;
            // Nine bytes hold 63 bits: of a tenth only one is a number's.
            if shift == 63 && *byte > 1 {
                return None;
            }
            if byte & 0x80 == 0 {
                return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        None
    }

    /// A long that is one of an `int`.
    fn int(&mut self) -> Option<i32> {
        i32::try_from(self.long()?).ok()
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.long().map(Timestamp::from_micros)
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        let bytes = usize::try_from(self.long()?).ok()?;
        let (text, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Cow::Borrowed)
    }

    /// A union of null and something.
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.long()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }

    /// A map, in blocks whose sizes in bytes are not told.
    fn longs(&mut self) -> Option<BTreeMap<String, i64>> {
        let mut longs = BTreeMap::new();
        loop {
            let count = u64::try_from(self.long()?).ok()?;
            if count == 0 {
                return Some(longs);
            }
            for _ in 0..count {
                let name = self.text()?;
                longs.insert(name.into_owned(), self.long()?);
            }
        }
    }
}
