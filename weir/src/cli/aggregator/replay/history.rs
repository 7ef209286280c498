//! Past events in a log, in the order in which it took them, over all partitions.
//!
//! They are read in rounds, each a span of append time that holds few enough records to be put in order in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use aggregator::EVENT_TOPICS;
use anyhow::bail;
use bus::inspect::{RawReader, Slice, TopicState};
use bus::{Partition, Record};
use schemas::codec::Wire as _;
use schemas::record::{Layout, PolicyRecord};
use schemas::time::Timestamp;
use schemas::topic::POLICIES;

use super::{DryRun, Past};
use crate::cli::log::place::Home;

/// Records of the first round, whose size nobody knows. Each round costs the time in which a reader begins anew.
const FIRST_RECORDS_MAX: i64 = 20_000;
/// What a round may take in memory, by the size of the records of the one before, unless so many were appended within a
/// millisecond.
const ROUND_BYTES_MAX: usize = 64 << 20;
/// What a record takes besides its key and value, about.
const RECORD_BYTES: usize = size_of::<(Partition, Record)>() + 64;
const ROUND_MIN: Duration = Duration::from_millis(1);
const FIRST_ROUND: Duration = Duration::from_secs(60);

pub(super) struct History<'a> {
    home: &'a Home,
    topics: Vec<Topic>,
    /// By how many partitions topics are placed, as was written down when they were made.
    layout: Layout,
}

/// A topic, and what is left to be read of it.
struct Topic {
    name: &'static str,
    state: TopicState,
    reader: RawReader,
    /// By partition.
    next: Vec<i64>,
    end: Vec<i64>,
}

impl<'a> History<'a> {
    pub(super) async fn open(home: &'a Home, past: &Past) -> anyhow::Result<Self> {
        let names = EVENT_TOPICS.map(|spec| spec.name);
        let states = home.log.topics(&names).await?;
        if states.is_empty() {
            bail!("this log has none of Weir's topics of events");
        }
        let mut topics = Vec::new();
        for state in states {
            let found = names.into_iter().find(|name| *name == state.name);
            let Some(name) = found else { continue };
            let mut next: Vec<i64> = state.spans.iter().map(|span| span.start).collect();
            let mut end: Vec<i64> = state.spans.iter().map(|span| span.end).collect();
            if let Some(until) = past.until {
                bound(
                    &mut end,
                    home.log.offsets_at(&state, until).await?,
                    i64::min,
                );
            }
            if let Some(since) = past.since {
                bound(
                    &mut next,
                    home.log.offsets_at(&state, since).await?,
                    i64::max,
                );
            }
            topics.push(Topic {
                name,
                reader: home.log.reader()?,
                next,
                end,
                state,
            });
        }
        let layout = layout(home).await?;
        Ok(Self {
            home,
            topics,
            layout,
        })
    }

    /// By how many partitions the records of a topic are placed.
    pub(super) fn partitions(&self, name: &str) -> i32 {
        let made_with = self.layout.partitions.get(name).copied();
        let found = self.topics.iter().find(|topic| topic.name == name);
        let found = found.map_or(0, |topic| topic.state.spans.len());
        made_with.unwrap_or_else(|| i32::try_from(found).unwrap_or(i32::MAX))
    }

    /// Hands every record to the dry run.
    pub(super) async fn fold(mut self, run: &mut DryRun) -> anyhow::Result<()> {
        for topic in &mut self.topics {
            // What lies in partitions that were added later is counted by nobody.
            let placed = self.layout.partitions.get(topic.name).copied();
            let placed = placed.and_then(|placed| usize::try_from(placed).ok());
            if let Some(placed) = placed.filter(|placed| *placed < topic.next.len()) {
                topic.next.truncate(placed);
                topic.end.truncate(placed);
            }
        }
        let Some(mut at) = self.first_time().await? else {
            return Ok(());
        };
        let (mut span, mut records_max) = (FIRST_ROUND, FIRST_RECORDS_MAX);
        while self.topics.iter().any(Topic::has_more) {
            let until = at.plus(span);
            let ends = self.ends(until).await?;
            let records: i64 = self
                .topics
                .iter()
                .zip(&ends)
                .map(|(t, e)| t.records(e))
                .sum();
            if records_max < records && ROUND_MIN < span {
                span = (span / 2).max(ROUND_MIN);
                continue;
            }
            if 0 < records {
                records_max = self.round(&ends, run).await?;
            }
            at = until;
            if records < records_max / 2 {
                span = span.saturating_mul(2);
            }
        }
        Ok(())
    }

    /// When the first record was appended.
    async fn first_time(&mut self) -> anyhow::Result<Option<Timestamp>> {
        let mut first = None;
        for topic in &mut self.topics {
            let ends: Vec<i64> = topic.next.iter().map(|next| next + 1).collect();
            for (_, record) in topic.read(&ends).await? {
                let at = first.unwrap_or(record.appended_at);
                first = Some(record.appended_at.min(at));
            }
        }
        Ok(first)
    }

    /// By topic and partition, where those records begin that were appended at `until` or later.
    async fn ends(&self, until: Timestamp) -> anyhow::Result<Vec<Vec<i64>>> {
        let mut ends = Vec::new();
        for topic in &self.topics {
            let mut found = self.home.log.offsets_at(&topic.state, until).await?;
            found.truncate(topic.end.len());
            bound(&mut found, topic.end.clone(), i64::min);
            bound(&mut found, topic.next.clone(), i64::max);
            ends.push(found);
        }
        Ok(ends)
    }

    /// Hands over what lies before `ends`; returns how many such records the next round may have.
    async fn round(&mut self, ends: &[Vec<i64>], run: &mut DryRun) -> anyhow::Result<i64> {
        let mut records = Vec::new();
        for (topic, ends) in self.topics.iter_mut().zip(ends) {
            let name = topic.name;
            let read = topic.read(ends).await?.into_iter();
            records.extend(read.map(|(index, record)| (Partition { topic: name, index }, record)));
            topic.next.clone_from(ends);
        }
        records.sort_by_key(|(partition, record)| (record.appended_at, *partition, record.offset));
        records
            .iter()
            .filter(|(_, record)| !record.is_filler())
            .try_for_each(|(partition, record)| run.take(*partition, record))?;
        let bytes = records.iter().map(|(_, record)| {
            let held = [&record.key, &record.value].into_iter().flatten();
            RECORD_BYTES + held.map(|bytes| bytes.len()).sum::<usize>()
        });
        let average = bytes.sum::<usize>() / records.len().max(1);
        let next = ROUND_BYTES_MAX / average.max(RECORD_BYTES);
        Ok(i64::try_from(next).unwrap_or(i64::MAX))
    }
}

impl Topic {
    fn has_more(&self) -> bool {
        self.next
            .iter()
            .zip(&self.end)
            .any(|(next, end)| next < end)
    }

    /// How many records there are before `ends`, at the most.
    fn records(&self, ends: &[i64]) -> i64 {
        self.next
            .iter()
            .zip(ends)
            .map(|(next, end)| end - next)
            .sum()
    }

    /// All that is left before `ends`.
    async fn read(&mut self, ends: &[i64]) -> anyhow::Result<Vec<(i32, Record)>> {
        let bounds = self.next.iter().zip(ends).zip(&self.end);
        let slices: Vec<Slice> = (0..)
            .zip(bounds)
            .map(|(partition, ((from, to), end))| Slice {
                partition,
                from: *from,
                to: *to.min(end),
            })
            .filter(|slice| slice.from < slice.to)
            .collect();
        let mut all = Vec::new();
        if slices.is_empty() {
            return Ok(all);
        }
        self.reader.start(self.name, &slices).await?;
        loop {
            let records = self.reader.next().await?;
            if records.is_empty() {
                return Ok(all);
            }
            all.extend(records);
        }
    }
}

/// Moves each of `offsets` to its bound, where it lies beyond.
fn bound(offsets: &mut [i64], bounds: Vec<i64>, by: fn(i64, i64) -> i64) {
    for (offset, bound) in offsets.iter_mut().zip(bounds) {
        *offset = by(*offset, bound);
    }
}

/// How the topics were laid out, where that was written down.
async fn layout(home: &Home) -> anyhow::Result<Layout> {
    let name = POLICIES.name();
    let states = home.log.topics(&[name]).await?;
    let slices = states.iter().flat_map(|state| (0..).zip(&state.spans));
    let slices: Vec<Slice> = slices
        .map(|(partition, span)| Slice {
            partition,
            from: span.start,
            to: span.end,
        })
        .collect();
    let mut found = BTreeMap::new();
    if states.is_empty() {
        return Ok(Layout { partitions: found });
    }
    let mut reader = home.log.reader()?;
    reader.start(name, &slices).await?;
    loop {
        let records = reader.next().await?;
        if records.is_empty() {
            return Ok(Layout { partitions: found });
        }
        for (_, record) in records {
            let value = record.value.as_deref().map(PolicyRecord::decode);
            if let Some(Ok(PolicyRecord::Layout(layout))) = value {
                found = layout.partitions;
            }
        }
    }
}
