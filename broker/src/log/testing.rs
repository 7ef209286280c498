//! Batches for tests, made by `kafka_protocol`'s encoder, which shares no code with this log.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};

pub(crate) const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

/// An uncompressed batch of (key, value) records a millisecond apart; `None` is a tombstone.
pub(crate) fn batch_of(records: &[(&str, Option<&str>)], producer_id: i64) -> Vec<u8> {
    let owned: Vec<_> = records
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)))
        .collect();
    batch_with(&owned, producer_id, Compression::None)
}

pub(crate) fn batch_with(
    records: &[(String, Option<String>)],
    producer_id: i64,
    compression: Compression,
) -> Vec<u8> {
    sequenced(records, producer_id, 0, compression)
}

/// The same with a base sequence, in epoch 0 (or none for the producer id -1).
pub(crate) fn sequenced(
    records: &[(String, Option<String>)],
    producer_id: i64,
    base_sequence: i32,
    compression: Compression,
) -> Vec<u8> {
    let records: Vec<Record> = records
        .iter()
        .zip(0i32..)
        .map(|((key, value), i)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 0 },
            timestamp_type: TimestampType::Creation,
            offset: i64::from(i),
            sequence: base_sequence + i,
            timestamp: BASE_TIMESTAMP + i64::from(i),
            key: Some(Bytes::from(key.clone())),
            value: value.clone().map(Bytes::from),
            headers: Default::default(),
        })
        .collect();
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
    batch[12..16].copy_from_slice(&[0; 4]);
    batch.to_vec()
}
