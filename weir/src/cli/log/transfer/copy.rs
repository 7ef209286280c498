//! The copying itself, topic by topic.

use std::fmt;

use bus::clock::{Clock, SystemClock};
use bus::inspect::{Inspector, RawReader, RawWriter, Slice, Span};
use bus::{BusError, Record};
use schemas::time::Timestamp;

use super::plan::Plan;
use crate::cli::log::table::grouped;

/// What was done for one topic.
pub(super) struct Copied {
    topic: String,
    partitions: usize,
    records: i64,
    fillers: i64,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, fillers) = (grouped(self.records), grouped(self.fillers));
        write!(
            f,
            "{}: {records} records copied and {fillers} gaps filled in {} partitions",
            self.topic, self.partitions
        )
    }
}

/// Where one partition's copy is.
#[derive(Clone, Copy)]
struct Place {
    next: i64,
    /// The time of the newest record.
    at: Timestamp,
}

/// From where to where.
pub(super) struct Copier<'a> {
    to: &'a Inspector,
    reader: RawReader,
    writer: RawWriter,
}

impl<'a> Copier<'a> {
    pub(super) fn new(from: &Inspector, to: &'a Inspector) -> Result<Self, BusError> {
        Ok(Self {
            to,
            reader: from.reader()?,
            writer: to.copier()?,
        })
    }

    /// Copies what is missing of a topic, and deletes what the original does not have at its beginning.
    pub(super) async fn copy(&mut self, plan: &Plan) -> Result<Copied, BusError> {
        let now = SystemClock.now();
        let slice = |(partition, original, copy): (i32, Span, Span)| Slice {
            partition,
            from: original.start.max(copy.end),
            to: original.end,
        };
        let slices: Vec<Slice> = plan.spans().map(slice).collect();
        let place = |(_, _, copy): (i32, Span, Span)| Place {
            next: copy.end,
            at: now,
        };
        let mut copying = Copying {
            writer: &self.writer,
            places: plan.spans().map(place).collect(),
            copied: Copied {
                topic: plan.topic().to_owned(),
                partitions: plan.copied.len(),
                records: 0,
                fillers: 0,
            },
        };
        self.reader.start(plan.topic(), &slices).await?;
        loop {
            let records = self.reader.next().await?;
            if records.is_empty() {
                break;
            }
            for (partition, record) in &records {
                copying.take(*partition, record).await?;
            }
        }
        for (partition, original, _) in plan.spans() {
            copying.fill(partition, original.end, None).await?;
        }
        self.writer.flush().await?;
        let starts: Vec<(i32, i64)> = plan
            .spans()
            .filter(|(_, original, copy)| copy.start < original.start)
            .map(|(partition, original, _)| (partition, original.start))
            .collect();
        if !starts.is_empty() {
            self.to.delete_before(plan.topic(), &starts).await?;
        }
        Ok(copying.copied)
    }
}

struct Copying<'a> {
    writer: &'a RawWriter,
    /// By partition.
    places: Vec<Place>,
    copied: Copied,
}

impl Copying<'_> {
    async fn take(&mut self, partition: i32, record: &Record) -> Result<(), BusError> {
        self.fill(partition, record.offset, Some(record.appended_at))
            .await?;
        let topic = &self.copied.topic;
        self.writer.put(topic, partition, record).await?;
        self.copied.records += 1;
        if let Some(place) = self.place(partition) {
            place.next = record.offset + 1;
            place.at = record.appended_at;
        }
        Ok(())
    }

    /// Fills what the original lacks before `end`, with the time of the record after it, or else of the one before.
    async fn fill(
        &mut self,
        partition: i32,
        end: i64,
        at: Option<Timestamp>,
    ) -> Result<(), BusError> {
        let Some(place) = self.place(partition) else {
            return Ok(());
        };
        let (next, at) = (place.next, at.unwrap_or(place.at));
        place.next = place.next.max(end);
        for offset in next..end {
            let filler = Record::filler(offset, at);
            let topic = &self.copied.topic;
            self.writer.put(topic, partition, &filler).await?;
            self.copied.fillers += 1;
        }
        Ok(())
    }

    fn place(&mut self, partition: i32) -> Option<&mut Place> {
        self.places.get_mut(usize::try_from(partition).ok()?)
    }
}
