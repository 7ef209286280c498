//! How runs went, side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Outcome, Report};

/// A row for each case with a column for each home, why cases failed, and why some were left out.
#[must_use]
pub fn table(title: &str, columns: &[(&str, &Report)]) -> String {
    let Some((_, first)) = columns.first() else {
        return String::new();
    };
    let width = first.0.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or_default().max(title.len());
    let mut text = format!("\n{title:width$}");
    for (home, _) in columns {
        let _ = write!(text, "  {home:8}");
    }
    text.push('\n');
    for (row, (name, _)) in first.0.iter().enumerate() {
        let _ = write!(text, "{name:width$}");
        for (_, report) in columns {
            let _ = write!(text, "  {:8}", word(&report.0[row].1));
        }
        text.push('\n');
    }
    for (home, report) in columns {
        let passed = report.passed();
        let _ = writeln!(
            text,
            "{home}: {passed} passed, {} failed",
            report.failed().count()
        );
    }
    let reasons: BTreeSet<&str> = columns
        .iter()
        .flat_map(|(_, report)| report.left_out())
        .collect();
    for reason in reasons {
        let _ = writeln!(text, "-: {reason}");
    }
    for (home, report) in columns {
        for (name, why) in report.failed() {
            let _ = writeln!(text, "failed on {home}: {name}: {why}");
        }
    }
    text
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "ok",
        Outcome::Failed(_) => "FAILED",
        Outcome::LeftOut(_) => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_stand_side_by_side() {
        let embedded = Report(vec![
            ("one case", Outcome::Passed),
            ("another", Outcome::Failed("it rained".to_owned())),
            ("a third", Outcome::LeftOut("nobody wants it")),
        ]);
        let kafka = Report(vec![
            ("one case", Outcome::Passed),
            ("another", Outcome::Passed),
            ("a third", Outcome::Passed),
        ]);
        let expected = [
            "",
            "case      embedded  Kafka   ",
            "one case  ok        ok      ",
            "another   FAILED    ok      ",
            "a third   -         ok      ",
            "embedded: 1 passed, 1 failed",
            "Kafka: 3 passed, 0 failed",
            "-: nobody wants it",
            "failed on embedded: another: it rained",
            "",
        ];
        let table = table("case", &[("embedded", &embedded), ("Kafka", &kafka)]);
        assert_eq!(table, expected.join("\n"));
    }
}
