//! The records inside a batch: looked into only where the log must (compaction, lookup by time,
//! keys of a compacted topic), copied verbatim otherwise.

use std::borrow::Borrow;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::compression::{Compressor, Gzip, Lz4, Snappy, Zstd};

use super::batch::{Codec, HEADER_BYTES, Header};
use super::inflate::inflate;

/// One record, as far as the log cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Bytes>,
    /// A record without a value deletes its key from a compacted topic.
    pub(crate) is_tombstone: bool,
    attributes: u8,
    /// Everything from the offset delta on, as it was written.
    tail: Bytes,
}

/// Why the inside of a batch cannot be read although its checksum is right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    #[error("unknown compression")]
    Codec,
    #[error("cannot decompress: {0}")]
    Decompress(String),
    #[error("record {index} of {count} is malformed")]
    Malformed { index: i32, count: i32 },
    #[error("{bytes} bytes follow the last record")]
    Trailing { bytes: usize },
}

/// The records of a batch, read one by one: a small batch may hold very many. An error is the last item.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    header: Header,
    body: Bytes,
    next: i32,
}

impl Records {
    /// Those of the batch whose header is `header`.
    pub(crate) fn of(header: &Header, batch: &Bytes) -> Result<Records, RecordsError> {
        let codec = header.codec().ok_or(RecordsError::Codec)?;
        let body = inflate(codec, batch.slice(HEADER_BYTES..header.bytes))
            .map_err(|e| RecordsError::Decompress(e.to_string()))?;
        Ok(Records {
            header: *header,
            body,
            next: 0,
        })
    }

    /// Reads all of them, to see whether they are whole.
    pub(crate) fn check(&self) -> Result<(), RecordsError> {
        self.clone().try_for_each(|record| record.map(drop))
    }

    fn end(&mut self, error: RecordsError) -> Option<Result<Record, RecordsError>> {
        self.body.clear();
        self.next = self.header.count;
        Some(Err(error))
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (index, count) = (self.next, self.header.count);
        if index == count {
            return match self.body.len() {
                0 => None,
                bytes => self.end(RecordsError::Trailing { bytes }),
            };
        }
        self.next += 1;
        match decode_one(&self.header, &mut self.body) {
            Some(record) => Some(Ok(record)),
            None => self.end(RecordsError::Malformed { index, count }),
        }
    }
}

fn decode_one(header: &Header, body: &mut Bytes) -> Option<Record> {
    let length = usize::try_from(varint(body)?).ok()?;
    if length == 0 || length > body.len() {
        return None;
    }
    let mut rest = body.split_to(length);
    let attributes = rest.get_u8();
    let timestamp_delta = varint(&mut rest)?;
    let tail = rest.clone();
    let offset_delta = varint(&mut rest)?;
    if !(0..=i64::from(header.last_delta)).contains(&offset_delta) {
        return None;
    }
    let key = sized(&mut rest)?;
    let value = sized(&mut rest)?;
    let timestamp = if header.is_stamped_on_append() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(timestamp_delta)
    };
    Some(Record {
        offset: header.base_offset + offset_delta,
        timestamp,
        key,
        is_tombstone: value.is_none(),
        attributes,
        tail,
    })
}

/// The body of a batch that holds `records`, whose timestamps count from `base_timestamp`.
pub(crate) fn encode(
    codec: Codec,
    base_timestamp: i64,
    records: impl Iterator<Item = impl Borrow<Record>>,
) -> Result<Bytes, RecordsError> {
    let mut body = BytesMut::new();
    let mut head = BytesMut::new();
    for record in records {
        let record = record.borrow();
        head.clear();
        head.put_u8(record.attributes);
        put_varint(&mut head, record.timestamp.wrapping_sub(base_timestamp));
        put_varint(&mut body, (head.len() + record.tail.len()) as i64);
        body.put_slice(&head);
        body.put_slice(&record.tail);
    }
    deflate(codec, body.freeze())
}

fn deflate(codec: Codec, plain: Bytes) -> Result<Bytes, RecordsError> {
    let mut out = BytesMut::new();
    let all = |into: &mut BytesMut| {
        into.put_slice(&plain);
        Ok(())
    };
    match codec {
        Codec::None => return Ok(plain),
        Codec::Gzip => Gzip::compress(&mut out, all),
        Codec::Snappy => Snappy::compress(&mut out, all),
        Codec::Lz4 => Lz4::compress(&mut out, all),
        Codec::Zstd => Zstd::compress(&mut out, all),
    }
    .map_err(|e| RecordsError::Decompress(format!("{e:#}")))?;
    Ok(out.freeze())
}

/// Bytes after their zigzag length; the inner `None` is Kafka's null. The outer one is a malformed field.
fn sized(from: &mut Bytes) -> Option<Option<Bytes>> {
    match varint(from)? {
        -1 => Some(None),
        length => {
            let length = usize::try_from(length).ok()?;
            (length <= from.len()).then(|| Some(from.split_to(length)))
        }
    }
}

/// A zigzag variable-length integer of at most 64 bits.
fn varint(from: &mut Bytes) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        if from.is_empty() {
            return None;
        }
        let byte = from.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn put_varint(into: &mut BytesMut, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        into.put_u8((left as u8 & 0x7f) | 0x80);
        left >>= 7;
    }
    into.put_u8(left as u8);
}

#[cfg(test)]
mod tests {
    use super::super::batch::rebuild;
    use super::*;
    use crate::log::testing::{batch_of, batch_with};
    use kafka_protocol::records::Compression;
    use proptest::prelude::*;

    fn decode(header: &Header, batch: &Bytes) -> Result<Vec<Record>, RecordsError> {
        Records::of(header, batch)?.collect()
    }

    #[test]
    fn every_codec_is_read_and_written_back() {
        use Compression::{Gzip, Lz4, None as Plain, Snappy, Zstd};
        let records: Vec<_> = (0..50)
            .map(|i| (format!("k{i}"), Some("v".repeat(i))))
            .collect();
        for compression in [Plain, Gzip, Snappy, Lz4, Zstd] {
            let batch = Bytes::from(batch_with(&records, 7, compression));
            let header = Header::checked(&batch).unwrap();
            let read = decode(&header, &batch).unwrap();
            assert_eq!(read.len(), 50, "{compression:?}");
            assert_eq!(read[49].key.as_deref(), Some(&b"k49"[..]));
            assert!(!read[0].is_tombstone, "an empty value is not a tombstone");
            let codec = header.codec().unwrap();
            let body = encode(codec, header.base_timestamp, read.iter()).unwrap();
            let again = Bytes::from(rebuild(&header, header.count, None, &body));
            let header = Header::checked(&again).unwrap();
            assert_eq!(decode(&header, &again).unwrap(), read, "{compression:?}");
        }
    }

    #[test]
    fn a_null_value_is_a_tombstone_and_a_null_key_is_none() {
        let batch = Bytes::from(batch_of(&[("k", None)], 7));
        let read = decode(&Header::parse(&batch).unwrap(), &batch).unwrap();
        assert!(read[0].is_tombstone);
    }

    #[test]
    fn a_later_base_timestamp_leaves_the_timestamps_as_they_were() {
        let batch = Bytes::from(batch_of(&[("k", Some("v"))], 7));
        let header = Header::parse(&batch).unwrap();
        let read = decode(&header, &batch).unwrap();
        let horizon = header.base_timestamp + 86_400_000;
        let body = encode(Codec::None, horizon, read.iter()).unwrap();
        let moved = Bytes::from(rebuild(&header, 1, Some(horizon), &body));
        assert_eq!(
            decode(&Header::checked(&moved).unwrap(), &moved).unwrap()[0].timestamp,
            read[0].timestamp
        );
    }

    proptest! {
        #[test]
        fn varints_survive(value: i64) {
            let mut buffer = BytesMut::new();
            put_varint(&mut buffer, value);
            prop_assert_eq!(varint(&mut buffer.freeze()), Some(value));
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(body: Vec<u8>, codec in 0i16..5, count in 0i32..100) {
            let mut header = Header::parse(&batch_of(&[("k", None)], 7)).unwrap();
            header.attributes = codec;
            header.count = count;
            let batch = Bytes::from(rebuild(&header, count, None, &body));
            let _ = decode(&Header::parse(&batch).unwrap(), &batch);
        }
    }
}
