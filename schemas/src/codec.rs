//! Records to bytes and back: Avro's single-object encoding (two marker bytes, the schema's fingerprint, the datum).

use thiserror::Error;

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
}

/// A value that a topic carries.
pub trait Wire: Sized + Send + 'static {
    /// Appends the encoded value to `out`.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}
