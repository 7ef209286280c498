//! Columns for people.

use std::fmt::Write as _;

/// Rows of one width each, in columns as wide as their widest cell.
pub(in crate::cli) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which are set flush right.
    right: Vec<bool>,
}

impl Table {
    /// A table with these headings; one that begins with `>` is over a column of numbers.
    pub(in crate::cli) fn new(headings: &[&str]) -> Self {
        let bare = |heading: &&str| heading.trim_start_matches('>').to_owned();
        Self {
            rows: vec![headings.iter().map(bare).collect()],
            right: headings.iter().map(|h| h.starts_with('>')).collect(),
        }
    }

    pub(in crate::cli) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, headings first.
    pub(in crate::cli) fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        self.rows
            .iter()
            .map(|row| {
                let mut line = String::new();
                for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                    let gap = if line.is_empty() { "" } else { "  " };
                    let written = match right {
                        true => write!(line, "{gap}{cell:>width$}"),
                        false => write!(line, "{gap}{cell:<width$}"),
                    };
                    debug_assert!(written.is_ok(), "a string takes anything");
                }
                line.trim_end().to_owned()
            })
            .collect()
    }

    pub(in crate::cli) fn print(&self) -> anyhow::Result<()> {
        self.lines()
            .iter()
            .try_for_each(|line| super::super::say(line))
    }
}

/// A number with its thousands apart.
pub(in crate::cli) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place != 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// A number of bytes as people say it.
pub(in crate::cli) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    match unit {
        "B" => format!("{number} B"),
        unit => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&["TOPIC", ">RECORDS", "CLEANUP"]);
        table.row(["usage".to_owned(), "1,200".to_owned(), "keep".to_owned()]);
        table.row(["a".to_owned(), "7".to_owned(), String::new()]);
        let expected = [
            "TOPIC  RECORDS  CLEANUP",
            "usage    1,200  keep",
            "a            7",
        ];
        assert_eq!(table.lines(), expected);
    }

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (-1_234_567, "-1,234,567"),
            (i64::MAX, "9,223,372,036,854,775,807"),
        ] {
            assert_eq!(grouped(number), text);
        }
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
