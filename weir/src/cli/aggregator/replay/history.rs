//! Past events in a log, in the order in which it took them, over all partitions.

use std::collections::BTreeMap;
use std::ops::Range;

use aggregator::EVENT_TOPICS;
use anyhow::bail;
use bus::Partition;
use bus::inspect::{Slice, TopicState};
use schemas::codec::Wire as _;
use schemas::record::{Layout, PolicyRecord};
use schemas::topic::POLICIES;

use super::{DryRun, Past};
use crate::cli::log::place::Home;

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
        let stretches = self.topics.iter().flat_map(Topic::stretches);
        let stretches: Vec<_> = stretches.collect();
        let mut reader = self.home.log.merged(&stretches)?;
        loop {
            let records = reader.next().await?;
            if records.is_empty() {
                return Ok(());
            }
            for (partition, record) in &records {
                if !record.is_filler() {
                    run.take(*partition, record)?;
                }
            }
        }
    }
}

impl Topic {
    fn stretches(&self) -> impl Iterator<Item = (Partition, Range<i64>)> {
        let topic = self.name;
        let offsets = self.next.iter().zip(&self.end);
        (0..)
            .zip(offsets)
            .map(move |(index, (next, end))| (Partition { topic, index }, *next..*end))
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
