//! What a dry run finds, for people and for their programs.

use std::time::Duration;

use aggregator::{Found, LevelSummary, RefusedSummary, Summary};
use bus::Partition;
use schemas::record::{Crossing, Direction};
use serde_json::json;

use super::Shows;
use crate::cli::log::table::Table;

/// What offsets are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Places {
    /// Numbers of lines in a file.
    Lines,
    Offsets,
}

pub(super) struct Show {
    pub(super) json: bool,
    pub(super) places: Places,
    pub(super) shows: Shows,
}

/// Subjects that people are shown.
const REFUSED_SHOWN: usize = 100;

impl Show {
    /// A line about one thing, if it is to be shown.
    pub(super) fn found(&self, found: &Found) -> Option<String> {
        match (found, self.shows) {
            (Found::Prolonged(_), _) | (Found::Crossing(_), Shows::Refused) => None,
            (Found::Crossing(crossing), _) if self.json => Some(crossing_json(crossing)),
            (Found::Crossing(crossing), _) => Some(crossing_text(crossing)),
            (
                Found::Dead {
                    partition,
                    offset,
                    reason,
                },
                _,
            ) => Some(self.dead((*partition, *offset), reason)),
        }
    }

    fn dead(&self, (partition, offset): (Partition, i64), reason: &str) -> String {
        match (self.places, self.json) {
            (Places::Lines, true) => {
                json!({ "kind": "dead", "line": offset, "reason": reason }).to_string()
            }
            (Places::Offsets, true) => json!({
                "kind": "dead",
                "topic": partition.topic,
                "partition": partition.index,
                "offset": offset,
                "reason": reason,
            })
            .to_string(),
            (Places::Lines, false) => format!("line {offset} is dead: {reason}"),
            (Places::Offsets, false) => format!("{partition}/{offset} is dead: {reason}"),
        }
    }

    /// The lines that end it all.
    pub(super) fn lines(&self, summary: &Summary) -> Vec<String> {
        let mut lines = match (self.shows, self.json) {
            (Shows::Crossings, true) => summary.levels.iter().map(level_json).collect(),
            (Shows::Crossings, false) => levels_text(&summary.levels),
            (Shows::Refused, true) => summary.refused.iter().map(refused_json).collect(),
            (Shows::Refused, false) => refused_text(&summary.refused),
        };
        if self.json {
            let untold = summary.untold.iter();
            lines.extend(
                untold.map(|limit| json!({ "kind": "untold", "limit": limit }).to_string()),
            );
            lines.push(ledger_json(summary));
            return lines;
        }
        let untold = summary.untold.iter();
        lines.extend(untold.map(|limit| {
            format!("limit {limit} is left out: events do not tell what is in flight")
        }));
        let ledger = &summary.ledger;
        let total = format!(
            "{} accepted = {} counted + {} late + {} duplicate + {} dead",
            ledger.accepted, ledger.counted, ledger.late, ledger.duplicate, ledger.dead
        );
        lines.extend([String::new(), total]);
        lines
    }
}

fn levels_text(levels: &[LevelSummary]) -> Vec<String> {
    let headings = [
        "LIMIT",
        "LEVEL",
        ">CROSSINGS",
        ">SUBJECTS",
        ">TIME OVER",
        ">STILL OVER",
    ];
    let mut table = Table::new(&headings);
    for level in levels {
        table.row([
            level.limit.clone(),
            level.level.clone(),
            level.crossings.to_string(),
            level.subjects.to_string(),
            span(level.over),
            level.standing.to_string(),
        ]);
    }
    let mut lines = vec![String::new()];
    lines.extend(table.lines());
    lines
}

fn refused_text(refused: &[RefusedSummary]) -> Vec<String> {
    if refused.is_empty() {
        return vec!["nobody would have been refused".to_owned()];
    }
    let headings = [
        "SUBJECT",
        "LIMIT",
        "FIRST REFUSED",
        ">TIMES",
        ">FOR",
        "AT THE END",
    ];
    let mut table = Table::new(&headings);
    for one in refused.iter().take(REFUSED_SHOWN) {
        let standing = if one.standing { "refused" } else { "" };
        table.row([
            one.subject.to_string(),
            one.limit.clone(),
            one.first.to_string(),
            one.times.to_string(),
            span(one.over),
            standing.to_owned(),
        ]);
    }
    let mut lines = table.lines();
    let more = refused.len().saturating_sub(REFUSED_SHOWN);
    if more != 0 {
        lines.push(format!("and {more} more, which --json tells"));
    }
    lines
}

fn refused_json(refused: &RefusedSummary) -> String {
    json!({
        "kind": "refused",
        "subject": refused.subject,
        "limit": refused.limit,
        "first": refused.first.to_string(),
        "times": refused.times,
        "refused_s": refused.over.as_secs_f64(),
        "still_refused": refused.standing,
    })
    .to_string()
}

fn crossing_json(crossing: &Crossing) -> String {
    let mut shown = crossing.to_json();
    shown["kind"] = "crossing".into();
    shown.to_string()
}

fn crossing_text(crossing: &Crossing) -> String {
    let meter = &crossing.meter;
    let number = |json: serde_json::Value| match json {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let sum = number(crossing.sum.to_json_of(meter));
    let threshold = number(crossing.threshold.to_json_of(meter));
    let (at, subject) = (crossing.at, &crossing.subject);
    let (limit, level) = (&crossing.limit, &crossing.level);
    match crossing.direction {
        Direction::Up => {
            let until = crossing.falls_at;
            let until = until.map_or_else(String::new, |at| format!(", falls at {at}"));
            format!("{at}  {subject}  {limit} {level} up: {sum} of {threshold}{until}")
        }
        Direction::Down => {
            format!("{at}  {subject}  {limit} {level} down: {sum} of {threshold}")
        }
    }
}

fn level_json(level: &LevelSummary) -> String {
    json!({
        "kind": "limit",
        "limit": level.limit,
        "level": level.level,
        "crossings": level.crossings,
        "subjects": level.subjects,
        "over_s": level.over.as_secs_f64(),
        "still_over": level.standing,
    })
    .to_string()
}

fn ledger_json(summary: &Summary) -> String {
    let ledger = &summary.ledger;
    json!({
        "kind": "ledger",
        "accepted": ledger.accepted,
        "counted": ledger.counted,
        "late": ledger.late,
        "duplicate": ledger.duplicate,
        "dead": ledger.dead,
        "moved": ledger.moved,
    })
    .to_string()
}

/// A span of time as people say it, to the second.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_readable() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
