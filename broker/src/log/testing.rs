//! Batches for tests, made by `kafka_protocol`'s encoder, which shares no code with this log.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use parking_lot::Mutex;

use super::batch::Header;
use super::handles::Handles;
use super::recover::Cut;
use super::{LogSettings, PartitionLog, Shared};
use crate::error::OpenError;

pub(crate) const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

/// Settings that keep everything in one segment.
pub(crate) fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 1 << 30,
        segment_ms: i64::MAX,
        retention_ms: -1,
        retention_bytes: -1,
        batch_bytes_max: 1 << 20,
        compact: false,
        delete: true,
        delete_retention_ms: 1_000,
        dirty_ratio_min: 0.0,
        compaction_lag_min_ms: 0,
        compaction_lag_max_ms: i64::MAX,
        stamp_on_append: false,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        show_synced_only: false,
    }
}

/// Opens on a machine that has not restarted, with room for three open files.
pub(crate) fn try_open(
    folder: &Path,
    settings: LogSettings,
) -> Result<(PartitionLog, Vec<Cut>), OpenError> {
    let shared = Shared {
        handles: Arc::new(Handles::new(3)),
        kept_running: true,
    };
    PartitionLog::open(folder.to_owned(), settings, &shared)
}

/// The same after a power cut.
pub(crate) fn open_after_restart(
    folder: &Path,
    settings: LogSettings,
) -> Result<(PartitionLog, Vec<Cut>), OpenError> {
    let shared = Shared {
        handles: Arc::new(Handles::new(3)),
        kept_running: false,
    };
    PartitionLog::open(folder.to_owned(), settings, &shared)
}

/// A log that had nothing to cut off.
pub(crate) fn open(folder: &Path, settings: LogSettings) -> Mutex<PartitionLog> {
    let (log, cuts) = try_open(folder, settings).unwrap();
    assert_eq!(cuts, []);
    Mutex::new(log)
}

/// Small enough that every few records start a new segment.
pub(crate) fn small_segments() -> LogSettings {
    LogSettings {
        segment_bytes: 300,
        ..settings()
    }
}

/// Appends records with keys and values of these numbers, and tells how [`contents`] shows them.
pub(crate) fn many(log: &Mutex<PartitionLog>, range: std::ops::Range<i64>) -> Vec<String> {
    let put_one = |i: i64| {
        assert_eq!(
            put(
                log,
                &format!("k{i}"),
                Some(&format!("v{i}")),
                BASE_TIMESTAMP
            ),
            i
        );
        format!("{i}:k{i}=v{i}")
    };
    range.map(put_one).collect()
}

/// Appends one record of no producer; its timestamp is [`BASE_TIMESTAMP`].
pub(crate) fn put(log: &Mutex<PartitionLog>, key: &str, value: Option<&str>, now_ms: i64) -> i64 {
    let batch = batch_of(&[(key, value)], -1).into();
    log.lock().append(&batch, now_ms).unwrap().base_offset
}

/// The first offset that can be read, and the one after the last.
pub(crate) fn bounds(log: &Mutex<PartitionLog>) -> (i64, i64) {
    let log = log.lock();
    (log.start(), log.visible_end())
}

/// Everything that can be read, as `offset:key=value`; a tombstone has no value.
pub(crate) fn contents(log: &Mutex<PartitionLog>) -> Vec<String> {
    let (mut from, end) = bounds(log);
    let mut all = vec![];
    loop {
        let bytes = super::read::read(log, from, end, 100).unwrap();
        if bytes.is_empty() {
            return all;
        }
        let sets = RecordBatchDecoder::decode_all(&mut bytes.clone()).unwrap();
        let records = sets.into_iter().flat_map(|set| set.records);
        all.extend(records.filter(|r| r.offset >= from).map(|r| show(&r)));
        // Compaction may have dropped the last record of a batch, so its header says where to go on.
        let mut at = 0;
        while let Some(header) = Header::parse(&bytes[at..]) {
            at += header.bytes;
            from = header.next_offset();
        }
    }
}

fn show(record: &Record) -> String {
    let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
    let key = record.key.as_ref().map(text).unwrap_or_default();
    let value = record
        .value
        .as_ref()
        .map(|v| format!("={}", text(v)))
        .unwrap_or_default();
    format!("{}:{key}{value}", record.offset)
}

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
