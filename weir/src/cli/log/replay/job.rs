//! A dead record on its way back.

use bus::{Headers, RawRecord};
use schemas::record::{Dead, Origin};

use crate::cli::log::dead::ledger;

/// A record as it goes back.
pub(super) struct Job {
    pub(super) dead: i64,
    pub(super) origin: Origin,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Headers,
}

impl Job {
    pub(super) fn new(offset: i64, dead: Dead) -> Self {
        let headers = dead.headers.into_iter();
        let headers = headers.map(|header| (header.name, header.value.map(Into::into)));
        Self {
            dead: offset,
            origin: dead.origin,
            key: dead.key,
            value: dead.value,
            headers: ledger::marked(headers.collect(), offset),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        of(&self.key) + of(&self.value)
    }

    pub(super) fn record(&self) -> RawRecord<'_> {
        RawRecord {
            topic: &self.origin.topic,
            partition: self.origin.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
        }
    }
}
