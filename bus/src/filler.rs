//! Fillers: records that hold an offset and say nothing.
//!
//! A copy of a log keeps every record's offset (see [`inspect`](crate::inspect)). Where the original has none, because
//! compaction or retention took the record or the log used the offset for a mark of its own, the copy holds a filler. No
//! reader of the bus ever hands one to a service.

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use schemas::time::Timestamp;

use crate::record::Record;

/// A filler's one header, and its key: compaction needs one to take fillers away.
pub const FILLER: &str = "weir-filler";

impl Record {
    /// A filler for `offset`, with the time of the records around it: retention goes by it.
    #[must_use]
    pub fn filler(offset: i64, appended_at: Timestamp) -> Self {
        Self {
            offset,
            appended_at,
            key: Some(Bytes::from_static(FILLER.as_bytes())),
            value: None,
            headers: vec![(FILLER.to_owned(), None)],
        }
    }

    /// Whether this only holds an offset.
    #[must_use]
    pub fn is_filler(&self) -> bool {
        self.value.is_none() && self.headers.iter().any(|(name, _)| name == FILLER)
    }
}

/// [`Record::is_filler`] before it is a record.
pub(crate) fn is_filler(message: &BorrowedMessage<'_>) -> bool {
    let named = |headers: &rdkafka::message::BorrowedHeaders| {
        headers.iter().any(|header| header.key == FILLER)
    };
    message.payload().is_none() && message.headers().is_some_and(named)
}
