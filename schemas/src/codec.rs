//! Records to bytes and back: Avro's single-object encoding, which is two marker bytes (C3 01), the fingerprint
//! (CRC-64-AVRO, little endian) of the schema that wrote the record, and the datum.
//!
//! `apache-avro` is the authority: it reads the schemas of `avro/` and computes their fingerprints. The datum itself
//! goes through `serde_avro_fast`, which is several times faster; tests hold that both write the same bytes and
//! read each other's. Usage, which there is most of, is read by hand where it is as it should be ([`decode_usage`]).
//!
//! A record is read with the schema that wrote it, whose fields are matched to Rust's by name. To change a record:
//! keep its old schema under `avro/former/` and name it in `records.rs`, give each new field a default in the schema
//! and (unless it is an `Option`) `#[serde(default)]` in Rust, never rename or retype one, and append a line to
//! `samples/`. The `compat` tests hold that every sample ever written can still be read. Usage's fields are named in
//! `usage.rs` as well.

mod format;
mod json;
mod records;
mod usage;

#[cfg(test)]
mod agree;
#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod compat;

use thiserror::Error;

pub use format::Format;
pub use json::to_json;
pub use records::{Record, schemas};
pub use usage::decode_usage;

#[derive(Debug, Error)]
pub enum EncodeError {
    #[error("{record} does not fit its own schema: {reason}")]
    Schema {
        record: &'static str,
        reason: String,
    },
}

#[derive(Debug, Error)]
pub enum DecodeError {
    #[error(
        "not Avro single-object encoding: it must begin with the bytes C3 01 and a schema's fingerprint"
    )]
    NotAvro,
    #[error("schema fingerprint {0:016x} is none that belongs on this topic")]
    UnknownSchema(u64),
    #[error("{record}: {reason}")]
    Corrupt {
        record: &'static str,
        reason: String,
    },
    #[error("`{0}` is no topic of Weir's")]
    UnknownTopic(String),
}

/// A value that a topic carries.
pub trait Wire: Sized + Send + 'static {
    /// Appends the encoded value to `out`. On an error `out` is as it was.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads one whole value; bytes left over are an error.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}
