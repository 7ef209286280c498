//! Past events in a file: one CloudEvent a line, in the order in which a log would have taken them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use bus::{Partition, Record};
use schemas::cloudevents::{self, Event, Rules};
use schemas::codec::{EncodeError, Wire as _};
use schemas::record::Recorded;
use schemas::time::Timestamp;
use schemas::topic::{AUTH, CSP, USAGE};

use super::{DryRun, Past};

/// No time in a file is too far ahead of anything.
const ANY_TIME: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// Lines that are handed over at once, and how many times so many may wait to be counted.
const BATCH_LINES: usize = 1_000;
const BATCHES_MAX: usize = 8;

/// What a line of the file is to the log.
enum Line {
    Event(Partition, Record),
    Unreadable(i64, String),
}

/// Reads on a thread of its own, since it takes as long as counting does.
pub(super) fn fold(path: &Path, past: &Past, run: &mut DryRun) -> anyhow::Result<()> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(BATCHES_MAX);
        let reader = scope.spawn(move || read(BufReader::new(file), past, &sender));
        for batch in batches {
            for line in batch {
                count(line, run)?;
            }
        }
        let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        read.with_context(|| format!("cannot read {shown}"))
    })
}

fn count(line: Line, run: &mut DryRun) -> anyhow::Result<()> {
    match line {
        Line::Event(partition, record) => run.take(partition, &record),
        Line::Unreadable(number, reason) => {
            let (topic, index) = (USAGE.name(), 0);
            run.take_unreadable((Partition { topic, index }, number), reason)
        }
    }
}

/// Hands over every line that is wanted, until the file ends or nobody listens any more.
fn read(
    mut file: impl BufRead,
    past: &Past,
    sender: &mpsc::SyncSender<Vec<Line>>,
) -> anyhow::Result<()> {
    let mut newest = Timestamp::default();
    let mut text = Vec::new();
    let mut batch = Vec::new();
    for number in 1.. {
        text.clear();
        if file.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        batch.extend(read_line(&text, number, past, &mut newest)?);
        if BATCH_LINES <= batch.len() && sender.send(std::mem::take(&mut batch)).is_err() {
            return Ok(());
        }
    }
    // Whoever no longer listens has told why.
    let _ = sender.send(batch);
    Ok(())
}

/// The line of this number, if it holds anything that is wanted. `newest` is the newest event's time so far.
fn read_line(
    text: &[u8],
    number: i64,
    past: &Past,
    newest: &mut Timestamp,
) -> anyhow::Result<Option<Line>> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Ok(None);
    }
    // An event without a time happened when it came: right after the ones before it.
    let rules = Rules {
        received_at: *newest,
        future_max: ANY_TIME,
        ..Rules::default()
    };
    let event = match cloudevents::read_event(text, &rules) {
        Ok(event) if !wants(past, event.at()) => return Ok(None),
        Ok(event) => event,
        Err(error) => return Ok(Some(Line::Unreadable(number, error.to_string()))),
    };
    *newest = (*newest).max(event.at());
    let (topic, value) = encode(event)?;
    let record = Record {
        offset: number,
        appended_at: *newest,
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
    };
    Ok(Some(Line::Event(Partition { topic, index: 0 }, record)))
}

fn wants(past: &Past, at: Timestamp) -> bool {
    past.since.is_none_or(|since| since <= at) && past.until.is_none_or(|until| at < until)
}

/// The record that intake would have made of it, and its topic.
pub(in crate::cli) fn encode(event: Event) -> Result<(&'static str, Vec<u8>), EncodeError> {
    let mut value = Vec::new();
    let topic = match event {
        Event::Usage(usage) => {
            Recorded::Event(usage).encode(&mut value)?;
            USAGE.name()
        }
        Event::Auth(auth) => {
            Recorded::Event(auth).encode(&mut value)?;
            AUTH.name()
        }
        Event::Csp(csp) => {
            Recorded::Event(csp).encode(&mut value)?;
            CSP.name()
        }
    };
    Ok((topic, value))
}
