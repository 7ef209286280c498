//! Records and where they are.

use std::fmt;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use schemas::record::{Dead, Header, Origin};
use schemas::time::Timestamp;

/// One partition of one of Weir's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    pub topic: &'static str,
    pub index: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

/// Where the log put a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub partition: i32,
    /// Below zero when the log only said that it has the record already, after a retry.
    pub offset: i64,
}

/// A record's headers, in order; a name may come more than once.
pub type Headers = Vec<(String, Option<Bytes>)>;

/// A record as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// When the log took it; the only time on a record that its sender does not choose.
    pub appended_at: Timestamp,
    pub key: Option<Bytes>,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
    pub headers: Headers,
}

impl Record {
    /// This record for `weir.dead.v1`, byte for byte: nobody could read it, for `reason`. `at` is when that was found.
    #[must_use]
    pub fn to_dead(&self, partition: Partition, reason: String, at: Timestamp) -> Dead {
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
        let header = |(name, value): &(String, Option<Bytes>)| Header {
            name: name.clone(),
            value: bytes(value),
        };
        Dead {
            origin: Origin {
                topic: partition.topic.to_owned(),
                partition: partition.index,
                offset: self.offset,
            },
            reason,
            at,
            key: bytes(&self.key),
            value: bytes(&self.value),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

/// Copies one record out of the client library's memory.
impl From<&BorrowedMessage<'_>> for Record {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let mut copier = Copier::default();
        copier.copy(message);
        let mut copied = Vec::with_capacity(1);
        copier.finish(&mut copied);
        copied.pop().expect("it was copied")
    }
}

/// Copies records out of the client library's memory, many into one allocation.
#[derive(Default)]
pub(crate) struct Copier {
    /// Keys and values of the records of `open`, one after the other.
    bytes: Vec<u8>,
    open: Vec<Open>,
}

/// A record but for its bytes.
struct Open {
    offset: i64,
    appended_at: Timestamp,
    key_bytes: Option<usize>,
    value_bytes: Option<usize>,
    headers: Headers,
}

/// Allocations are about this large: small enough that one record that is kept keeps little more.
const COPY_BYTES: usize = 64 << 10;

impl Copier {
    pub(crate) fn copy(&mut self, message: &BorrowedMessage<'_>) {
        let (key, value) = (message.key(), message.payload());
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.open.push(Open {
            offset: message.offset(),
            appended_at: Timestamp::from_millis(message.timestamp().to_millis().unwrap_or(0)),
            key_bytes: key.map(<[u8]>::len),
            value_bytes: value.map(<[u8]>::len),
            headers: message.headers().map(copy_headers).unwrap_or_default(),
        });
    }

    pub(crate) fn is_full(&self) -> bool {
        COPY_BYTES <= self.bytes.len()
    }

    /// Appends all that was copied since the last time to `records`.
    pub(crate) fn finish(&mut self, records: &mut Vec<Record>) {
        let mut rest = Bytes::from(std::mem::take(&mut self.bytes));
        records.extend(self.open.drain(..).map(|open| Record {
            offset: open.offset,
            appended_at: open.appended_at,
            key: open.key_bytes.map(|bytes| rest.split_to(bytes)),
            value: open.value_bytes.map(|bytes| rest.split_to(bytes)),
            headers: open.headers,
        }));
    }
}

fn copy_headers(headers: &rdkafka::message::BorrowedHeaders) -> Headers {
    let copy = |header: rdkafka::message::Header<'_, &[u8]>| {
        let value = header.value.map(Bytes::copy_from_slice);
        (header.key.to_owned(), value)
    };
    headers.iter().map(copy).collect()
}

/// A record that is passed on as it is: from the wrong partition to the right one, or back from the dead.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(String, Option<Bytes>)],
}

/// Consecutive records of one partition, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub partition: Partition,
    /// At least one.
    pub records: Vec<Record>,
    /// The offset after the log's last record as last known: at most a second old, and never before the last record
    /// of this batch.
    pub end_offset: i64,
}
