//! `weir log tail`.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, bail};
use bus::Record;
use bus::inspect::{Slice, TopicState};
use clap::Args;
use schemas::time::Timestamp;

use super::place::{Home, Place};
use super::{decode, list};
use crate::cli::say;

const COUNT: usize = 10;

#[derive(Debug, Args)]
pub(in crate::cli) struct TailArgs {
    #[command(flatten)]
    place: Place,
    /// The topic, as `weir log ls` shows it
    topic: String,
    /// How many: the newest ones, or with --from the first ones (all, unless this is given)
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<usize>,
    /// Only this partition
    #[arg(long, value_name = "P")]
    partition: Option<i32>,
    /// From this offset, or this time (like 2026-11-21T10:00:00Z) on
    #[arg(long, value_name = "OFFSET|TIME")]
    from: Option<From>,
    /// Only records of this key
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// Go on with what comes, until interrupted
    #[arg(long)]
    follow: bool,
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
enum From {
    Offset(i64),
    Time(Timestamp),
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let offset = text.parse::<u32>().map(|o| Self::Offset(i64::from(o)));
        let offset = offset.or_else(|_| match text.parse::<i64>() {
            Ok(offset) if 0 <= offset => Ok(Self::Offset(offset)),
            _ => Err(()),
        });
        offset
            .or_else(|()| Timestamp::parse(text).map(Self::Time).ok_or(()))
            .map_err(|()| "neither an offset nor a time like 2026-11-21T10:00:00Z".to_owned())
    }
}

pub(super) async fn tail(args: TailArgs) -> anyhow::Result<()> {
    args.place.visit(async |home| show(&args, home).await).await
}

async fn show(args: &TailArgs, home: &Home) -> anyhow::Result<()> {
    if args.follow && home.is_ours {
        bail!("no weir runs on this data folder, so nothing will come: leave --follow out");
    }
    let found = list::find(home, std::slice::from_ref(&args.topic)).await?;
    let topic = found.first().context("the topic went away meanwhile")?;
    if let Some(partition) = args.partition
        && usize::try_from(partition).map_or(true, |index| topic.spans.len() <= index)
    {
        bail!(
            "{} has the partitions 0 to {}",
            topic.name,
            topic.spans.len() - 1
        );
    }
    let mut slices = slices(args, home, topic).await?;
    slices.retain(|slice| args.partition.is_none_or(|only| only == slice.partition));
    match args.from {
        Some(_) => first(args, home, &slices).await?,
        None => newest(args, home, &slices).await?,
    }
    if !args.follow {
        return Ok(());
    }
    for slice in &mut slices {
        (slice.from, slice.to) = (slice.to, i64::MAX);
    }
    first(args, home, &slices).await
}

/// What is read of each partition.
async fn slices(args: &TailArgs, home: &Home, topic: &TopicState) -> anyhow::Result<Vec<Slice>> {
    let starts = match args.from {
        Some(From::Time(at)) => home.log.offsets_at(topic, at).await?,
        Some(From::Offset(offset)) => vec![offset; topic.spans.len()],
        // How many records lie in a stretch is known only where nothing is compacted or passed over.
        None if args.key.is_some() || list::is_compacted(topic) => vec![0; topic.spans.len()],
        None => {
            let count = i64::try_from(args.count.unwrap_or(COUNT)).unwrap_or(i64::MAX);
            let back = |span: &bus::inspect::Span| span.end.saturating_sub(count);
            topic.spans.iter().map(back).collect()
        }
    };
    let spans = (0..).zip(topic.spans.iter().zip(starts));
    let slice = |(partition, (span, start)): (i32, (&bus::inspect::Span, i64))| Slice {
        partition,
        from: start.clamp(span.start, span.end),
        to: span.end,
    };
    Ok(spans.map(slice).collect())
}

impl TailArgs {
    fn wants(&self, record: &Record) -> bool {
        let wanted = self.key.as_ref();
        !record.is_filler()
            && wanted.is_none_or(|key| record.key.as_deref() == Some(key.as_bytes()))
    }

    fn say(&self, partition: i32, record: &Record) -> anyhow::Result<()> {
        say(&decode::record(&self.topic, partition, record).to_string())
    }
}

/// Shows records as they come, of each partition in order.
async fn first(args: &TailArgs, home: &Home, slices: &[Slice]) -> anyhow::Result<()> {
    let mut left = match args.from {
        Some(_) => args.count.unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let waits = slices.iter().any(|slice| slice.to == i64::MAX);
    let mut reader = if waits {
        home.log.watcher()?
    } else {
        home.log.reader()?
    };
    reader.start(&args.topic, slices).await?;
    loop {
        let records = reader.next().await?;
        if records.is_empty() {
            return Ok(());
        }
        for (partition, record) in records.iter().filter(|(_, record)| args.wants(record)) {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            args.say(*partition, record)?;
        }
    }
}

/// Shows the newest records of all partitions together, in the order of their times.
async fn newest(args: &TailArgs, home: &Home, slices: &[Slice]) -> anyhow::Result<()> {
    let count = args.count.unwrap_or(COUNT);
    let mut newest: BTreeMap<i32, VecDeque<Record>> = BTreeMap::new();
    let mut reader = home.log.reader()?;
    reader.start(&args.topic, slices).await?;
    loop {
        let records = reader.next().await?;
        if records.is_empty() {
            break;
        }
        for (partition, record) in records {
            if args.wants(&record) {
                let kept = newest.entry(partition).or_default();
                kept.push_back(record);
                if count < kept.len() {
                    kept.pop_front();
                }
            }
        }
    }
    let mut all: Vec<(i32, Record)> = newest
        .into_iter()
        .flat_map(|(partition, kept)| kept.into_iter().map(move |record| (partition, record)))
        .collect();
    all.sort_by_key(|(partition, record)| (record.appended_at, *partition, record.offset));
    let surplus = all.len().saturating_sub(count);
    all[surplus..]
        .iter()
        .try_for_each(|(partition, record)| args.say(*partition, record))
}
