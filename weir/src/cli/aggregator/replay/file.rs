//! Past events in a file: one CloudEvent a line, in the order in which a log would have taken them.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
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

pub(super) fn fold(path: &Path, past: &Past, run: &mut DryRun) -> anyhow::Result<()> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut file = BufReader::new(file);
    let mut newest = Timestamp::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = file.read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {shown}"))? == 0 {
            break;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        // An event without a time happened when it came: right after the ones before it.
        let rules = Rules {
            received_at: newest,
            future_max: ANY_TIME,
            ..Rules::default()
        };
        match cloudevents::read_event(text, &rules) {
            Ok(event) if !wants(past, event.at()) => {}
            Ok(event) => {
                newest = newest.max(event.at());
                let (topic, value) = encode(event)?;
                let record = Record {
                    offset: number,
                    appended_at: newest,
                    key: None,
                    value: Some(value.into()),
                    headers: Vec::new(),
                };
                run.take(Partition { topic, index: 0 }, &record)?;
            }
            Err(error) => {
                let (topic, index) = (USAGE.name(), 0);
                run.take_unreadable((Partition { topic, index }, number), error.to_string())?;
            }
        }
    }
    Ok(())
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
