//! `weir log offsets`.

use std::collections::BTreeMap;

use anyhow::bail;
use bus::inspect::{GroupState, TopicState};
use clap::Args;
use serde_json::json;

use super::list;
use super::place::{Home, Place};
use super::table::{Table, grouped};
use crate::cli::say;

/// How the counters' snapshots are shown among the groups.
const SNAPSHOTS: &str = "(snapshots)";

#[derive(Debug, Args)]
pub(in crate::cli) struct OffsetsArgs {
    #[command(flatten)]
    place: Place,
    /// Groups whose partitions are to be listed; without: each group's topics, one a line
    groups: Vec<String>,
    /// One JSON object a partition
    #[arg(long)]
    json: bool,
}

/// How far a group is in one partition.
struct Line {
    group: String,
    state: String,
    members: usize,
    topic: String,
    partition: i32,
    next: i64,
    end: i64,
}

impl Line {
    fn lag(&self) -> i64 {
        (self.end - self.next).max(0)
    }
}

pub(super) async fn offsets(args: OffsetsArgs) -> anyhow::Result<()> {
    args.place.visit(async |home| show(&args, home).await).await
}

async fn show(args: &OffsetsArgs, home: &Home) -> anyhow::Result<()> {
    let topics = list::find(home, &[]).await?;
    let mut lines = committed(&home.log.groups(&topics).await?, &topics);
    lines.extend(snapshots(home, &topics).await?);
    if let Some(unknown) = args
        .groups
        .iter()
        .find(|name| !lines.iter().any(|line| line.group == **name))
    {
        bail!(
            "no group {unknown} has committed anything; `weir log offsets` lists those that have"
        );
    }
    lines.retain(|line| args.groups.is_empty() || args.groups.contains(&line.group));
    if args.json {
        return lines.iter().try_for_each(say_json);
    }
    match args.groups.is_empty() {
        true => by_topic(&lines).print(),
        false => by_partition(&lines).print(),
    }
}

fn end(topics: &[TopicState], topic: &str, partition: i32) -> Option<i64> {
    let found = topics.iter().find(|state| state.name == topic)?;
    let span = found.spans.get(usize::try_from(partition).ok()?)?;
    Some(span.end)
}

fn committed(groups: &[GroupState], topics: &[TopicState]) -> Vec<Line> {
    let of_group = |group: &GroupState| {
        let line = |one: &bus::inspect::Committed| {
            Some(Line {
                group: group.name.clone(),
                state: group.state.to_lowercase(),
                members: group.members,
                topic: one.topic.clone(),
                partition: one.partition,
                next: one.next,
                end: end(topics, &one.topic, one.partition)?,
            })
        };
        group.committed.iter().filter_map(line).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_group).collect()
}

/// What is counted is known up to here without the log before it.
async fn snapshots(home: &Home, topics: &[TopicState]) -> anyhow::Result<Vec<Line>> {
    let Some(place) = &home.snapshots else {
        return Ok(Vec::new());
    };
    let held = aggregator::snapshot_offsets(place, &home.s3).await?;
    let line = |(topic, partition, next): (String, i32, i64)| {
        Some(Line {
            group: SNAPSHOTS.to_owned(),
            state: "-".to_owned(),
            members: 0,
            end: end(topics, &topic, partition)?,
            topic,
            partition,
            next,
        })
    };
    Ok(held.into_iter().filter_map(line).collect())
}

fn by_topic(lines: &[Line]) -> Table {
    let mut sums: BTreeMap<(&str, &str), (&Line, usize, i64)> = BTreeMap::new();
    for line in lines {
        let key = (line.group.as_str(), line.topic.as_str());
        let sum = sums.entry(key).or_insert((line, 0, 0));
        (sum.1, sum.2) = (sum.1 + 1, sum.2 + line.lag());
    }
    let headings = ["GROUP", "STATE", ">MEMBERS", "TOPIC", ">PARTITIONS", ">LAG"];
    let mut table = Table::new(&headings);
    for (line, partitions, lag) in sums.into_values() {
        table.row([
            line.group.clone(),
            line.state.clone(),
            line.members.to_string(),
            line.topic.clone(),
            partitions.to_string(),
            grouped(lag),
        ]);
    }
    table
}

fn by_partition(lines: &[Line]) -> Table {
    let headings = ["GROUP", "TOPIC", ">PARTITION", ">NEXT", ">END", ">LAG"];
    let mut table = Table::new(&headings);
    for line in lines {
        table.row([
            line.group.clone(),
            line.topic.clone(),
            line.partition.to_string(),
            grouped(line.next),
            grouped(line.end),
            grouped(line.lag()),
        ]);
    }
    table
}

fn say_json(line: &Line) -> anyhow::Result<()> {
    let shown = json!({
        "group": line.group,
        "state": line.state,
        "members": line.members,
        "topic": line.topic,
        "partition": line.partition,
        "next": line.next,
        "end": line.end,
        "lag": line.lag(),
    });
    say(&shown.to_string())
}
