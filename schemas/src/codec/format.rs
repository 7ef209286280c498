//! How one record is written today, and was before.

use std::io::BufRead as _;

use apache_avro::rabin::Rabin;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_avro_fast::de::DeserializerState;
use serde_avro_fast::ser::SerializerConfig;

use super::{DecodeError, EncodeError};

const MARKER: [u8; 2] = [0xc3, 0x01];
const HEADER_BYTES: usize = MARKER.len() + size_of::<Fingerprint>();

/// CRC-64-AVRO of a schema's canonical form, little endian, as it stands in a record's header.
pub(super) type Fingerprint = [u8; 8];

/// All schemas of one record, the one that writes first.
pub struct Format {
    record: &'static str,
    versions: Vec<Version>,
}

/// One schema, as both libraries hold it.
pub(super) struct Version {
    pub(super) fingerprint: Fingerprint,
    pub(super) authority: apache_avro::Schema,
    fast: serde_avro_fast::Schema,
}

impl Format {
    /// # Panics
    /// When a schema is none: they are files of this crate, and a test reads each of them.
    pub(super) fn new(record: &'static str, current: &str, former: &[&str]) -> Self {
        let texts = [current].into_iter().chain(former.iter().copied());
        Self {
            record,
            versions: texts.map(Version::new).collect(),
        }
    }

    /// The schema that writes.
    pub(super) fn current(&self) -> &Version {
        &self.versions[0]
    }

    pub(super) fn record(&self) -> &'static str {
        self.record
    }

    pub(super) fn version(&self, fingerprint: Fingerprint) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.fingerprint == fingerprint)
    }

    pub(super) fn encode<R: Serialize>(
        &self,
        record: &R,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let version = self.current();
        let start = out.len();
        out.extend_from_slice(&MARKER);
        out.extend_from_slice(&version.fingerprint);
        // Holds buffers for fields that come in another order than the schema's. Ours do not, so it never allocates.
        let mut config = SerializerConfig::new(&version.fast);
        match serde_avro_fast::to_datum(record, &mut *out, &mut config) {
            Ok(_) => Ok(()),
            Err(e) => {
                out.truncate(start);
                Err(EncodeError::Schema {
                    record: self.record,
                    reason: e.to_string(),
                })
            }
        }
    }

    pub(super) fn decode<R: DeserializeOwned>(&self, bytes: &[u8]) -> Result<R, DecodeError> {
        let (fingerprint, datum) = split(bytes)?;
        let version = self
            .version(fingerprint)
            .ok_or_else(|| unknown(fingerprint))?;
        let mut state = DeserializerState::from_slice(datum, &version.fast);
        let record = R::deserialize(state.deserializer()).map_err(|e| self.corrupt(&e))?;
        let mut rest = state.into_reader();
        match rest.fill_buf() {
            Ok([]) => Ok(record),
            Ok(rest) => Err(self.corrupt(&format_args!("{} bytes after its end", rest.len()))),
            Err(e) => Err(self.corrupt(&e)),
        }
    }

    pub(super) fn corrupt(&self, reason: &dyn std::fmt::Display) -> DecodeError {
        DecodeError::Corrupt {
            record: self.record,
            reason: reason.to_string(),
        }
    }
}

impl Version {
    pub(super) fn new(text: &str) -> Self {
        let read =
            |text: &str| apache_avro::Schema::parse_str(text).expect("a schema of ours is valid");
        let authority = read(text);
        // A canonical form is its own canonical form. That of apache-avro 0.22 is only when taken twice: once leaves
        // `{"type":"long"}` where a logical type was, and with it a fingerprint that no other language computes.
        let canonical = read(&authority.canonical_form());
        let fingerprint = canonical.fingerprint::<Rabin>().bytes;
        Self {
            fingerprint: fingerprint.try_into().expect("CRC-64 has 8 bytes"),
            authority,
            fast: text.parse().expect("a schema of ours is valid"),
        }
    }

    #[cfg(test)]
    pub(super) fn fast_fingerprint(&self) -> &Fingerprint {
        self.fast.rabin_fingerprint()
    }
}

/// The fingerprint and the datum of a record in single-object encoding.
pub(super) fn split(bytes: &[u8]) -> Result<(Fingerprint, &[u8]), DecodeError> {
    let (header, datum) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(DecodeError::NotAvro)?;
    match header.strip_prefix(&MARKER).map(Fingerprint::try_from) {
        Some(Ok(fingerprint)) => Ok((fingerprint, datum)),
        _ => Err(DecodeError::NotAvro),
    }
}

pub(super) fn unknown(fingerprint: Fingerprint) -> DecodeError {
    DecodeError::UnknownSchema(u64::from_le_bytes(fingerprint))
}
