//! What a dry run finds, for people and for their programs.

use std::time::Duration;

use aggregator::{Found, LevelSummary, Summary};
use schemas::record::{Crossing, Direction};
use serde_json::json;

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
}

impl Show {
    /// A line about one thing.
    pub(super) fn found(&self, found: &Found) -> String {
        match found {
            Found::Crossing(crossing) if self.json => crossing_json(crossing),
            Found::Crossing(crossing) => crossing_text(crossing),
            Found::Dead {
                partition,
                offset,
                reason,
            } => match (self.places, self.json) {
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
            },
        }
    }

    /// The lines that end it all.
    pub(super) fn summary(&self, summary: &Summary) -> Vec<String> {
        if self.json {
            let levels = summary.levels.iter().map(level_json);
            return levels.chain([ledger_json(summary)]).collect();
        }
        let headings = [
            "LIMIT",
            "LEVEL",
            ">CROSSINGS",
            ">SUBJECTS",
            ">TIME OVER",
            ">STILL OVER",
        ];
        let mut table = Table::new(&headings);
        for level in &summary.levels {
            table.row([
                level.limit.clone(),
                level.level.clone(),
                level.crossings.to_string(),
                level.subjects.to_string(),
                span(level.over),
                level.standing.to_string(),
            ]);
        }
        let ledger = &summary.ledger;
        let total = format!(
            "{} accepted = {} counted + {} late + {} duplicate + {} dead",
            ledger.accepted, ledger.counted, ledger.late, ledger.duplicate, ledger.dead
        );
        let mut lines = vec![String::new()];
        lines.extend(table.lines());
        lines.extend([String::new(), total]);
        lines
    }
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
