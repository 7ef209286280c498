//! `weir log replay`.
//!
//! One replay at a time works on a log: all of them join one group, which gives the one partition of `weir.dead.v1` to
//! one of them. What was put back is told by notes in that topic, see [`ledger`].

mod claim;
mod job;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use bus::inspect::{Appender, Slice};
use bus::{Headers, RawRecord, SendError};
use clap::Args;
use schemas::record::{Dead, Origin};
use schemas::topic::{self, Cleanup, DEAD};
use serde_json::json;

use super::dead::ledger::{self, Ledger};
use super::dead::{Choice, Dump, Entry};
use super::place::{Home, Place};
use crate::cli::say;
use claim::{claim, taken};
use job::Job;

/// What a replay that was killed had on its way has arrived after so long.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);
/// Records between one set of notes and the next.
const CHUNK_RECORDS_MAX: usize = 500;
const CHUNK_BYTES_MAX: usize = 8 << 20;
/// What the aggregator says of a record that was too large to be written down.
const LEFT_BEHIND: &str = "left where it was)";

#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    choice: Choice,
    /// Only count what would be put back
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What became of the dead records that were chosen.
#[derive(Debug, Default)]
struct Counts {
    put_back: usize,
    before: usize,
    /// By offset: why not.
    refused: BTreeMap<i64, String>,
}

pub(super) async fn replay(args: ReplayArgs) -> anyhow::Result<()> {
    args.place.visit(async |home| run(&args, home).await).await
}

async fn run(args: &ReplayArgs, home: &Home) -> anyhow::Result<()> {
    if args.dry_run {
        let counts = Replay::new(args, home).await?.work().await?;
        return tell(args, &counts);
    }
    let mut claim = claim(home).await?;
    let mut replay = Replay::new(args, home).await?;
    let outcome = tokio::select! {
        outcome = replay.work() => outcome,
        taken = taken(&mut claim) => {
            // Answered once the work is dropped.
            let _revoked = taken?;
            bail!("another replay took over and goes on with the rest");
        }
    };
    claim.close().await;
    tell(args, &outcome?)
}

struct Replay<'a> {
    args: &'a ReplayArgs,
    home: &'a Home,
    /// Partitions by topic.
    topics: BTreeMap<String, usize>,
    appender: Appender,
    ledger: Ledger,
    counts: Counts,
    chunk: Vec<Job>,
}

impl<'a> Replay<'a> {
    async fn new(args: &'a ReplayArgs, home: &'a Home) -> anyhow::Result<Self> {
        Ok(Self {
            args,
            home,
            topics: home.log.names().await?,
            appender: home.log.appender()?,
            ledger: Ledger::default(),
            counts: Counts::default(),
            chunk: Vec::new(),
        })
    }

    async fn work(&mut self) -> anyhow::Result<Counts> {
        let mut dump = Dump::new(self.home).await?;
        self.ledger = dump.ledger().await?;
        if self.ledger.has_unfinished() {
            self.find_unfinished(&mut dump).await?;
        }
        dump.each(async |record| {
            let offset = record.offset;
            match Entry::read(&record) {
                Entry::Dead(dead) if self.args.choice.takes(offset, &dead) => {
                    self.take(offset, *dead).await
                }
                Entry::Dead(_) | Entry::Other => Ok(()),
            }
        })
        .await?;
        self.put_back().await?;
        Ok(std::mem::take(&mut self.counts))
    }

    /// Notes what a replay that was cut off had put back already.
    async fn find_unfinished(&mut self, dump: &mut Dump) -> anyhow::Result<()> {
        tokio::time::sleep(SETTLES_WITHIN).await;
        let mut places: BTreeMap<(String, i32), Vec<(i64, i64)>> = BTreeMap::new();
        dump.each(async |record| {
            let after = self.ledger.unfinished(record.offset);
            if let (Some(after), Entry::Dead(dead)) = (after, Entry::read(&record)) {
                let place = (dead.origin.topic, dead.origin.partition);
                places
                    .entry(place)
                    .or_default()
                    .push((record.offset, after));
            }
            Ok(())
        })
        .await?;
        for ((topic, partition), unfinished) in places {
            self.find_in(&topic, partition, &unfinished).await?;
        }
        Ok(())
    }

    /// `unfinished`: dead records, each with the offset from which on it may lie here.
    async fn find_in(
        &mut self,
        topic: &str,
        partition: i32,
        unfinished: &[(i64, i64)],
    ) -> anyhow::Result<()> {
        let Some(span) = self.span(topic, partition).await? else {
            return Ok(());
        };
        for (dead, after) in unfinished.iter().filter(|(_, after)| *after < span.start) {
            let reason = format!(
                "a replay was cut off at it, and {topic} no longer holds the offsets from {after} on that would tell \
                 whether it was put back"
            );
            self.counts.refused.insert(*dead, reason);
        }
        let from = unfinished.iter().map(|(_, after)| *after).min();
        let slice = Slice {
            partition,
            from: from.unwrap_or(span.end).clamp(span.start, span.end),
            to: span.end,
        };
        let mut reader = self.home.log.reader()?;
        reader.start(topic, &[slice]).await?;
        loop {
            let records = reader.next().await?;
            if records.is_empty() {
                return Ok(());
            }
            for (_, record) in records {
                let Some(dead) = ledger::replayed_from(&record) else {
                    continue;
                };
                if self.ledger.unfinished(dead).is_some() {
                    self.counts.refused.remove(&dead);
                    self.ledger.set_done(dead);
                    if !self.args.dry_run {
                        self.note(topic, &ledger::done(dead)).await?;
                    }
                }
            }
        }
    }

    async fn span(
        &self,
        topic: &str,
        partition: i32,
    ) -> anyhow::Result<Option<bus::inspect::Span>> {
        let Some(partitions) = self.topics.get(topic) else {
            return Ok(None);
        };
        let spans = self.home.log.spans(topic, *partitions).await?;
        let index = usize::try_from(partition).ok();
        Ok(index.and_then(|index| spans.get(index).copied()))
    }

    /// Takes a dead record that was chosen.
    async fn take(&mut self, offset: i64, dead: Dead) -> anyhow::Result<()> {
        if self.ledger.is_done(offset) {
            self.counts.before += 1;
            return Ok(());
        }
        if self.counts.refused.contains_key(&offset) {
            return Ok(());
        }
        if let Err(reason) = self.check(&dead.origin) {
            self.counts.refused.insert(offset, reason);
            return Ok(());
        }
        let is_left_behind = dead.value.is_none() && dead.reason.ends_with(LEFT_BEHIND);
        let mut job = Job::new(offset, dead);
        if is_left_behind && !self.fetch_original(&mut job).await? {
            let reason = "it was too large to be kept here, and its topic no longer holds it";
            self.counts.refused.insert(offset, reason.to_owned());
            return Ok(());
        }
        self.chunk.push(job);
        let bytes: usize = self.chunk.iter().map(Job::bytes).sum();
        if self.chunk.len() < CHUNK_RECORDS_MAX && bytes < CHUNK_BYTES_MAX {
            return Ok(());
        }
        self.put_back().await
    }

    /// Whether a record may go back there.
    fn check(&self, origin: &Origin) -> Result<(), String> {
        let name = &origin.topic;
        let spec = topic::ALL.iter().find(|spec| spec.name == name);
        let partitions = self.topics.get(name).copied().unwrap_or(0);
        match spec {
            None => Err(format!("{name} is no topic of Weir's")),
            Some(spec) if spec.cleanup == Cleanup::Compact => Err(format!(
                "{name} keeps the newest value of each key, and a newer one may stand there by now"
            )),
            Some(_) if usize::try_from(origin.partition).is_ok_and(|p| p < partitions) => Ok(()),
            Some(_) => Err(format!("{name} has no partition {}", origin.partition)),
        }
    }

    /// Gets what was left where it was; false when it is gone.
    async fn fetch_original(&self, job: &mut Job) -> anyhow::Result<bool> {
        let Origin {
            topic,
            partition,
            offset,
        } = &job.origin;
        let span = self.span(topic, *partition).await?;
        if span.is_none_or(|span| *offset < span.start || span.end <= *offset) {
            return Ok(false);
        }
        let slice = Slice {
            partition: *partition,
            from: *offset,
            to: *offset + 1,
        };
        let mut reader = self.home.log.reader()?;
        reader.start(topic, &[slice]).await?;
        let Some((_, original)) = reader.next().await?.pop() else {
            return Ok(false);
        };
        job.key = original.key.map(Vec::from);
        job.value = original.value.map(Vec::from);
        job.headers = ledger::marked(original.headers, job.dead);
        Ok(true)
    }

    /// Puts back what has been gathered: notes, records, notes, each awaited before the next.
    async fn put_back(&mut self) -> anyhow::Result<()> {
        let jobs = std::mem::take(&mut self.chunk);
        if self.args.dry_run {
            self.counts.put_back += jobs.len();
            return Ok(());
        }
        let mut ends = BTreeMap::new();
        for job in &jobs {
            let topic = &job.origin.topic;
            if !ends.contains_key(topic) {
                let partitions = self.topics.get(topic).copied().unwrap_or(0);
                ends.insert(topic, self.home.log.spans(topic, partitions).await?);
            }
        }
        let mut noted = Vec::new();
        for job in &jobs {
            let index = usize::try_from(job.origin.partition).unwrap_or(usize::MAX);
            let span = ends
                .get(&job.origin.topic)
                .and_then(|spans| spans.get(index));
            let after = span.map_or(0, |span| span.end);
            noted.push(self.send_note(&job.origin.topic, &ledger::begun(job.dead, after))?);
        }
        for delivery in noted {
            delivery.await.context("cannot note what is put back")?;
        }
        let sent: Vec<_> = jobs
            .iter()
            .map(|job| self.appender.append(job.record()))
            .collect();
        let mut done = Vec::new();
        for (job, sent) in jobs.iter().zip(sent) {
            let acknowledged = match sent {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(_) => {
                    self.counts.put_back += 1;
                    done.push(self.send_note(&job.origin.topic, &ledger::done(job.dead))?);
                }
                Err(error @ SendError::TooLarge { .. }) => {
                    self.counts.refused.insert(job.dead, error.to_string());
                }
                Err(error) => return Err(error).context("stopped; run it again to go on"),
            }
        }
        for delivery in done {
            delivery.await.context("cannot note what was put back")?;
        }
        Ok(())
    }

    async fn note(&self, topic: &str, headers: &Headers) -> anyhow::Result<()> {
        let noted = self.send_note(topic, headers)?.await;
        noted.context("cannot note what was put back")?;
        Ok(())
    }

    fn send_note(&self, topic: &str, headers: &Headers) -> anyhow::Result<bus::Delivery> {
        let note = RawRecord {
            topic: DEAD.name(),
            partition: 0,
            key: Some(topic.as_bytes()),
            value: None,
            headers,
        };
        Ok(self.appender.append(note)?)
    }
}

fn tell(args: &ReplayArgs, counts: &Counts) -> anyhow::Result<()> {
    if args.json {
        let refused = counts.refused.iter();
        let refused = refused.map(|(offset, why)| json!({ "offset": offset, "reason": why }));
        let shown = json!({
            "dry_run": args.dry_run,
            "put_back": counts.put_back,
            "put_back_before": counts.before,
            "refused": refused.collect::<Vec<_>>(),
        });
        return say(&shown.to_string());
    }
    for (offset, reason) in &counts.refused {
        say(&format!("{offset} is not put back: {reason}"))?;
    }
    let verb = if args.dry_run {
        "would be put back"
    } else {
        "put back"
    };
    say(&format!(
        "{} {verb}, {} were before, {} cannot be",
        counts.put_back,
        counts.before,
        counts.refused.len()
    ))
}
