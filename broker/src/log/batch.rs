//! The fixed header of a v2 record batch, the unit that is produced, stored and fetched unchanged.
//!
//! | at | field | | at | field |
//! | --- | --- | --- | --- | --- |
//! | 0 | base offset (i64) | | 27 | base timestamp (i64) |
//! | 8 | length from byte 12 on (i32) | | 35 | max timestamp (i64) |
//! | 12 | leader epoch (i32) | | 43 | producer id (i64) |
//! | 16 | magic, always 2 (i8) | | 51 | producer epoch (i16) |
//! | 17 | CRC-32C of everything from byte 21 (u32) | | 53 | base sequence (i32) |
//! | 21 | attributes (i16) | | 57 | record count (i32) |
//! | 23 | last offset delta (i32) | | 61 | records, perhaps compressed |
//!
//! Base offset and leader epoch lie outside the CRC, so the log can set them without touching the rest.

use bytes::Buf;

pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before the length field starts to count.
const LENGTH_FROM: usize = 12;
pub(crate) const CRC_FROM: usize = 21;

const CODEC_BITS: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// What the first 61 bytes of a batch say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    /// The whole batch, this header included.
    pub(crate) bytes: usize,
    pub(crate) magic: i8,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

/// Why bytes are not a batch that this log would have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchError {
    #[error("the batch is cut off")]
    Truncated,
    #[error("message format {0} is not supported, only 2")]
    Magic(i8),
    #[error("the checksum does not match")]
    Crc,
    #[error("unknown compression")]
    Codec,
}

impl Header {
    /// Reads the header; `None` if there are too few bytes, or lengths and offsets make no sense.
    pub(crate) fn parse(mut from: &[u8]) -> Option<Header> {
        if from.len() < HEADER_BYTES {
            return None;
        }
        let base_offset = from.get_i64();
        let length = usize::try_from(from.get_i32()).ok()?;
        from.advance(4);
        let header = Header {
            base_offset,
            bytes: length + LENGTH_FROM,
            magic: from.get_i8(),
            crc: from.get_u32(),
            attributes: from.get_i16(),
            last_delta: from.get_i32(),
            base_timestamp: from.get_i64(),
            max_timestamp: from.get_i64(),
            producer_id: from.get_i64(),
            producer_epoch: from.get_i16(),
            base_sequence: from.get_i32(),
            count: from.get_i32(),
        };
        let next_offset = base_offset.checked_add(i64::from(header.last_delta) + 1);
        let sensible = header.bytes >= HEADER_BYTES
            && header.last_delta >= 0
            && header.count >= 0
            && next_offset.is_some();
        sensible.then_some(header)
    }

    /// The header of the batch that starts `from`, which must be there whole and intact.
    pub(crate) fn checked(from: &[u8]) -> Result<Header, BatchError> {
        let header = Header::parse(from).ok_or(BatchError::Truncated)?;
        if header.magic != 2 {
            return Err(BatchError::Magic(header.magic));
        }
        let batch = from.get(..header.bytes).ok_or(BatchError::Truncated)?;
        if crc32c::crc32c(&batch[CRC_FROM..]) != header.crc {
            return Err(BatchError::Crc);
        }
        header.codec().ok_or(BatchError::Codec)?;
        Ok(header)
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_delta)
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// `None` for a number that no known codec has.
    pub(crate) fn codec(&self) -> Option<Codec> {
        Some(match self.attributes & CODEC_BITS {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            _ => return None,
        })
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// All records carry the time of the append, which is `max_timestamp`.
    pub(crate) fn is_stamped_on_append(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// When the tombstones of this batch may go; compaction keeps it in place of the base timestamp.
    pub(crate) fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }
}

/// Gives a produced batch its place in the log. Leaves the CRC valid.
pub(crate) fn place(batch: &mut [u8], base_offset: i64) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&0i32.to_be_bytes());
}

/// Marks every record as appended at `now_ms`.
pub(crate) fn stamp(batch: &mut [u8], attributes: i16, now_ms: i64) {
    batch[21..23].copy_from_slice(&(attributes | LOG_APPEND_TIME).to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    seal(batch);
}

/// A copy of `header` for another set of its records, with a delete horizon if one is given.
/// Offsets, producer and sequence stay; `body` is compressed as the header's codec says.
pub(crate) fn rebuild(header: &Header, count: i32, horizon: Option<i64>, body: &[u8]) -> Vec<u8> {
    let mut batch = Vec::with_capacity(HEADER_BYTES + body.len());
    let marked = if horizon.is_some() { DELETE_HORIZON } else { 0 };
    let attributes = header.attributes & !DELETE_HORIZON | marked;
    batch.extend_from_slice(&header.base_offset.to_be_bytes());
    batch.extend_from_slice(&[0; 8]);
    batch.push(2);
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&attributes.to_be_bytes());
    batch.extend_from_slice(&header.last_delta.to_be_bytes());
    batch.extend_from_slice(&horizon.unwrap_or(header.base_timestamp).to_be_bytes());
    batch.extend_from_slice(&header.max_timestamp.to_be_bytes());
    batch.extend_from_slice(&header.producer_id.to_be_bytes());
    batch.extend_from_slice(&header.producer_epoch.to_be_bytes());
    batch.extend_from_slice(&header.base_sequence.to_be_bytes());
    batch.extend_from_slice(&count.to_be_bytes());
    debug_assert_eq!(batch.len(), HEADER_BYTES);
    batch.extend_from_slice(body);
    let length = (batch.len() - LENGTH_FROM) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    seal(&mut batch);
    batch
}

/// Gives a batch the checksum of what is in it.
pub(crate) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::batch_of;

    #[test]
    fn the_header_reads_what_an_independent_encoder_wrote() {
        let batch = batch_of(&[("k", Some("v")), ("k2", None)], 7);
        let header = Header::checked(&batch).unwrap();
        assert_eq!(
            (header.base_offset, header.last_offset(), header.count),
            (0, 1, 2)
        );
        assert_eq!((header.producer_id, header.base_sequence), (7, 0));
        assert_eq!(header.bytes, batch.len());
        assert_eq!(header.codec(), Some(Codec::None));
        assert!(!header.is_control() && !header.is_transactional());
    }

    #[test]
    fn a_cut_or_changed_batch_is_refused_at_every_byte() {
        let batch = batch_of(&[("key", Some("value"))], 7);
        for cut in 0..batch.len() {
            assert_eq!(
                Header::checked(&batch[..cut]),
                Err(BatchError::Truncated),
                "cut at {cut}"
            );
        }
        let outside_crc = |at: usize| at < 8 || (12..16).contains(&at);
        for at in (0..batch.len()).filter(|at| !outside_crc(*at)) {
            let mut bad = batch.clone();
            bad[at] ^= 0x40;
            assert!(Header::checked(&bad).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn placing_and_stamping_keep_a_batch_valid() {
        let mut batch = batch_of(&[("k", Some("v"))], 7);
        let attributes = Header::parse(&batch).unwrap().attributes;
        place(&mut batch, 42);
        assert_eq!(Header::checked(&batch).unwrap().base_offset, 42);
        stamp(&mut batch, attributes, 1_000);
        let header = Header::checked(&batch).unwrap();
        assert!(header.is_stamped_on_append());
        assert_eq!(header.max_timestamp, 1_000);
    }

    #[test]
    fn a_rebuilt_batch_keeps_its_place_and_producer() {
        let batch = batch_of(&[("a", Some("1")), ("b", Some("2"))], 7);
        let old = Header::parse(&batch).unwrap();
        let new = rebuild(&old, old.count, None, &batch[HEADER_BYTES..]);
        assert_eq!(new, batch);
        let marked = Header::checked(&rebuild(&old, 1, Some(5), b"x")).unwrap();
        assert_eq!(marked.delete_horizon(), Some(5));
        assert_eq!(marked.last_offset(), old.last_offset());
        assert_eq!(marked.count, 1);
    }
}
