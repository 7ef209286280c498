//! Every period against a table that shares no code with this one: days, weeks and months of eight zones around every
//! change of their clocks in 2010-2030 (tests/data/calendars, made by Python's `zoneinfo`).

use std::fs;
use std::path::Path;

use super::*;

const ZONES: usize = 8;

struct Row {
    zone: Tz,
    period: Period,
    first_day: NaiveDate,
    start: Timestamp,
    end: Timestamp,
}

impl Row {
    fn read(line: &str) -> Self {
        let fields: Vec<&str> = line.split(',').collect();
        let [zone, period, first_day, start, end] = fields[..] else {
            panic!("{line} has not five fields");
        };
        let period = match period {
            "day" => Period::Day,
            "week" => Period::Week,
            "week from sunday" => Period::WeekFromSunday,
            "month" => Period::Month,
            other => panic!("{other} is no period"),
        };
        Self {
            zone: zone.parse().unwrap(),
            period,
            first_day: first_day.parse().unwrap(),
            start: Timestamp::parse(start).unwrap(),
            end: Timestamp::parse(end).unwrap(),
        }
    }
}

fn rows() -> Vec<Row> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../tests/data/calendars/boundaries.csv");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(Row::read).collect()
}

#[test]
fn periods_are_those_of_zoneinfo() {
    let rows = rows();
    let mut zones: Vec<_> = rows.iter().map(|row| row.zone).collect();
    zones.dedup();
    assert_eq!(zones.len(), ZONES);
    for row in &rows {
        let about = format!("{} {:?} {}", row.zone, row.period, row.first_day);
        if row.start == row.end {
            assert_eq!(
                about, "Pacific/Apia Day 2011-12-30",
                "no other day was left out"
            );
            continue;
        }
        let (start, end) = (row.start.as_micros(), row.end.as_micros());
        for inside in [start, start + (end - start) / 2, end - 1] {
            let found = bounds(row.period, row.zone, Timestamp::from_micros(inside));
            assert_eq!(found, (row.start, row.end), "{about}");
        }
        let before = bounds(row.period, row.zone, Timestamp::from_micros(start - 1));
        assert_eq!(before.1, row.start, "before {about}");
        let after = bounds(row.period, row.zone, row.end);
        assert_eq!(after.0, row.end, "after {about}");
    }
}

/// That the table has what it is there for.
#[test]
fn the_table_has_days_of_all_lengths() {
    let rows = rows();
    let days = rows.iter().filter(|row| row.period == Period::Day);
    let minutes = days.map(|row| (row.end.second() - row.start.second()) / 60);
    let mut lengths: Vec<i64> = minutes.collect();
    lengths.sort_unstable();
    lengths.dedup();
    // Lord Howe's clocks change by half an hour; Apia left a day out.
    assert_eq!(
        lengths,
        [0, 46, 47, 48, 49, 50].map(|half_hours| half_hours * 30)
    );
}
