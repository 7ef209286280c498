//! `weir log dead`, and what it shares with `weir log replay`.

pub(super) mod ledger;

use anyhow::Context;
use bus::Record;
use bus::inspect::{RawReader, Slice};
use clap::Args;
use schemas::codec::Wire;
use schemas::record::Dead;
use schemas::topic::DEAD;
use serde_json::{Value, json};

use super::place::{Home, Place};
use super::table::Table;
use super::{decode, list};
use crate::cli::say;
use ledger::Ledger;

/// As much of a reason as a line shows.
const REASON_CHARS_MAX: usize = 80;

/// Which dead records.
#[derive(Debug, Args)]
pub(super) struct Choice {
    /// Only those that came from this topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only those whose reason has this in it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only the one at this offset of `weir.dead.v1`, as `weir log dead` shows it; may be given again
    #[arg(long = "offset", value_name = "N")]
    offsets: Vec<i64>,
}

impl Choice {
    pub(super) fn takes(&self, offset: i64, dead: &Dead) -> bool {
        let topic = self.topic.as_ref();
        let reason = self.reason.as_ref();
        topic.is_none_or(|topic| dead.origin.topic == *topic)
            && reason.is_none_or(|part| dead.reason.contains(part))
            && (self.offsets.is_empty() || self.offsets.contains(&offset))
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeadArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    choice: Choice,
    /// Also those that were put back
    #[arg(long)]
    all: bool,
    /// One JSON object a record, decoded as far as that goes
    #[arg(long)]
    json: bool,
}

/// A record of `weir.dead.v1`.
pub(super) enum Entry {
    /// Somebody could not read a record.
    Dead(Box<Dead>),
    /// What `weir log replay` notes, or something that is not ours.
    Other,
}

impl Entry {
    pub(super) fn read(record: &Record) -> Self {
        match record.value.as_deref().map(Dead::decode) {
            Some(Ok(dead)) => Self::Dead(Box::new(dead)),
            Some(Err(_)) | None => Self::Other,
        }
    }
}

/// All of `weir.dead.v1`, from its start to the end it has now.
pub(super) struct Dump {
    reader: RawReader,
    slices: Vec<Slice>,
}

impl Dump {
    pub(super) async fn new(home: &Home) -> anyhow::Result<Self> {
        let found = list::find(home, &[DEAD.name().to_owned()]).await?;
        let topic = found.first().context("weir.dead.v1 went away meanwhile")?;
        let slice = |(partition, span): (i32, &bus::inspect::Span)| Slice {
            partition,
            from: span.start,
            to: span.end,
        };
        Ok(Self {
            reader: home.log.reader()?,
            slices: (0..).zip(&topic.spans).map(slice).collect(),
        })
    }

    /// The end of the topic's one partition.
    pub(super) fn end(&self) -> i64 {
        self.slices.first().map_or(0, |slice| slice.to)
    }

    /// What was noted of records that were put back.
    pub(super) async fn ledger(&mut self) -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        self.each(async |record| {
            ledger.take(&record);
            Ok(())
        })
        .await?;
        Ok(ledger)
    }

    /// Hands every record to `work`, in order.
    pub(super) async fn each(
        &mut self,
        mut work: impl AsyncFnMut(Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.reader.start(DEAD.name(), &self.slices).await?;
        loop {
            let records = self.reader.next().await?;
            if records.is_empty() {
                return Ok(());
            }
            for (_, record) in records {
                work(record).await?;
            }
        }
    }
}

pub(super) async fn list(args: DeadArgs) -> anyhow::Result<()> {
    args.place.visit(async |home| show(&args, home).await).await
}

async fn show(args: &DeadArgs, home: &Home) -> anyhow::Result<()> {
    let mut dump = Dump::new(home).await?;
    let ledger = dump.ledger().await?;
    let mut table = Table::new(&[">OFFSET", "SINCE", "FROM", "STATE", "REASON"]);
    dump.each(async |record| {
        let offset = record.offset;
        let is_done = ledger.is_done(offset);
        match Entry::read(&record) {
            Entry::Dead(dead) if args.choice.takes(offset, &dead) && (args.all || !is_done) => {
                match args.json {
                    true => return say(&as_json(offset, &dead, is_done).to_string()),
                    false => table.row(cells(offset, &dead, is_done)),
                }
            }
            Entry::Dead(_) | Entry::Other => {}
        }
        Ok(())
    })
    .await?;
    if args.json { Ok(()) } else { table.print() }
}

const fn state(is_done: bool) -> &'static str {
    if is_done { "put back" } else { "waiting" }
}

fn cells(offset: i64, dead: &Dead, is_done: bool) -> [String; 5] {
    let origin = &dead.origin;
    let mut reason: String = dead.reason.chars().take(REASON_CHARS_MAX).collect();
    if reason.len() < dead.reason.len() {
        reason.push('…');
    }
    [
        offset.to_string(),
        dead.at.to_string(),
        format!("{}/{}/{}", origin.topic, origin.partition, origin.offset),
        state(is_done).to_owned(),
        reason.replace(['\n', '\r'], " "),
    ]
}

fn as_json(offset: i64, dead: &Dead, is_done: bool) -> Value {
    let headers = dead.headers.iter();
    let headers =
        headers.map(|header| json!([header.name, decode::optional(header.value.as_deref())]));
    let mut shown = json!({
        "offset": offset,
        "at": dead.at.to_string(),
        "from": {
            "topic": dead.origin.topic,
            "partition": dead.origin.partition,
            "offset": dead.origin.offset,
        },
        "state": state(is_done),
        "reason": dead.reason,
        "key": decode::optional(dead.key.as_deref()),
        "headers": headers.collect::<Vec<_>>(),
    });
    let value = decode::value(&dead.origin.topic, dead.value.as_deref(), false);
    if let Value::Object(shown) = &mut shown {
        shown.extend(value);
    }
    shown
}
