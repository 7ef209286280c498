//! `weir log ls`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use bus::inspect::{Setting, Span, TopicState};
use clap::Args;
use serde_json::{Value, json};

use super::place::{Home, Place};
use super::table::{Table, bytes, grouped};
use crate::cli::say;

#[derive(Debug, Args)]
pub(in crate::cli) struct LsArgs {
    #[command(flatten)]
    place: Place,
    /// Topics whose partitions are to be listed; without: all topics, one a line
    topics: Vec<String>,
    /// One JSON object a topic, with partitions and settings
    #[arg(long)]
    json: bool,
}

pub(super) async fn ls(args: LsArgs) -> anyhow::Result<()> {
    args.place.visit(async |home| show(&args, home).await).await
}

async fn show(args: &LsArgs, home: &Home) -> anyhow::Result<()> {
    let topics = find(home, &args.topics).await?;
    if args.json {
        for topic in &topics {
            say(&as_json(home, topic).to_string())?;
        }
        return Ok(());
    }
    if args.topics.is_empty() {
        overview(home, &topics).print()
    } else {
        partitions(home, &topics).print()
    }
}

/// The topics of these names, or all.
pub(super) async fn find(home: &Home, names: &[String]) -> anyhow::Result<Vec<TopicState>> {
    let all = home.log.names().await?;
    if let Some(unknown) = names.iter().find(|name| !all.contains_key(*name)) {
        bail!("there is no topic {unknown}; `weir log ls` lists them");
    }
    // What begins so is the cluster's own.
    let is_wanted = |name: &&str| match names {
        [] => !name.starts_with("__"),
        names => names.iter().any(|wanted| wanted == name),
    };
    let wanted: Vec<&str> = all.keys().map(String::as_str).filter(is_wanted).collect();
    Ok(home.log.topics(&wanted).await?)
}

fn overview(home: &Home, topics: &[TopicState]) -> Table {
    let mut table = Table::new(&["TOPIC", ">PARTITIONS", ">RECORDS", ">BYTES", "CLEANUP"]);
    for topic in topics {
        let records: i64 = topic.spans.iter().map(Span::records_max).sum();
        table.row([
            topic.name.clone(),
            topic.spans.len().to_string(),
            at_most(topic, records),
            size(home.topic_folder(&topic.name).as_deref()),
            cleanup(&topic.settings),
        ]);
    }
    table
}

fn partitions(home: &Home, topics: &[TopicState]) -> Table {
    let headings = [
        "TOPIC",
        ">PARTITION",
        ">FIRST",
        ">NEXT",
        ">RECORDS",
        ">BYTES",
    ];
    let mut table = Table::new(&headings);
    for topic in topics {
        let folder = home.topic_folder(&topic.name);
        for (index, span) in topic.spans.iter().enumerate() {
            let folder = folder.as_ref().map(|f| f.join(index.to_string()));
            table.row([
                topic.name.clone(),
                index.to_string(),
                grouped(span.start),
                grouped(span.end),
                at_most(topic, span.records_max()),
                size(folder.as_deref()),
            ]);
        }
    }
    table
}

/// Compaction leaves gaps, so that offsets tell only how many records there are at the most.
fn at_most(topic: &TopicState, records: i64) -> String {
    let sign = if is_compacted(topic) && records != 0 {
        "<= "
    } else {
        ""
    };
    format!("{sign}{}", grouped(records))
}

pub(super) fn is_compacted(topic: &TopicState) -> bool {
    let policy = topic.settings.get("cleanup.policy");
    policy.is_some_and(|policy| policy.value.contains("compact"))
}

fn size(folder: Option<&Path>) -> String {
    folder
        .and_then(bytes_in)
        .map_or_else(|| "-".to_owned(), bytes)
}

/// All files in a folder and those in it. `None` when it cannot be read; a file that goes meanwhile counts nothing.
fn bytes_in(folder: &Path) -> Option<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        sum += match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_in(&entry.path()).unwrap_or(0),
            Ok(found) => found.len(),
            Err(_) => 0,
        };
    }
    Some(sum)
}

/// What the log throws away, in a few words.
fn cleanup(settings: &BTreeMap<String, Setting>) -> String {
    let value = |name: &str| settings.get(name).map(|setting| setting.value.as_str());
    let policy = value("cleanup.policy").unwrap_or("delete");
    if !policy.contains("delete") {
        return policy.to_owned();
    }
    let after = match value("retention.ms").map(str::parse::<i64>) {
        Some(Ok(millis)) if millis < 0 => return "keep".to_owned(),
        Some(Ok(millis)) => span(Duration::from_millis(millis.unsigned_abs())),
        // Kafka's own default.
        _ => "7 d".to_owned(),
    };
    format!("{policy} after {after}")
}

fn span(span: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
    ];
    let millis = span.as_millis();
    let whole = |(unit, _): &&(u128, &str)| millis != 0 && millis.is_multiple_of(*unit);
    match UNITS.iter().find(whole) {
        Some((unit, name)) => format!("{} {name}", millis / unit),
        None => format!("{millis} ms"),
    }
}

fn as_json(home: &Home, topic: &TopicState) -> Value {
    let folder = home.topic_folder(&topic.name);
    let partition = |(index, span): (usize, &Span)| {
        let folder = folder.as_ref().map(|f| f.join(index.to_string()));
        json!({
            "partition": index,
            "first": span.start,
            "next": span.end,
            "bytes": folder.as_deref().and_then(bytes_in),
        })
    };
    let partitions: Vec<Value> = topic.spans.iter().enumerate().map(partition).collect();
    let settings = topic.settings.iter();
    let settings: BTreeMap<_, _> = settings.map(|(name, set)| (name, &set.value)).collect();
    json!({
        "topic": topic.name,
        "partitions": partitions,
        "records_max": topic.spans.iter().map(Span::records_max).sum::<i64>(),
        "bytes": folder.as_deref().and_then(bytes_in),
        "cleanup": cleanup(&topic.settings),
        "settings": settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(settings: &[(&str, &str)], expected: &str) {
        let set = |(name, value): &(&str, &str)| {
            let value = (*value).to_owned();
            ((*name).to_owned(), Setting { value, own: true })
        };
        assert_eq!(cleanup(&settings.iter().map(set).collect()), expected);
    }

    #[test]
    fn says_what_is_thrown_away() {
        check(&[], "delete after 7 d");
        check(&[("retention.ms", "604800000")], "delete after 7 d");
        check(&[("retention.ms", "5400000")], "delete after 90 min");
        check(&[("retention.ms", "1500")], "delete after 1500 ms");
        check(&[("retention.ms", "0")], "delete after 0 ms");
        check(&[("retention.ms", "-1")], "keep");
        check(&[("cleanup.policy", "compact")], "compact");
        check(
            &[
                ("cleanup.policy", "compact,delete"),
                ("retention.ms", "60000"),
            ],
            "compact,delete after 1 min",
        );
    }
}
