//! The right name that somebody who mistyped may have meant.

use schemas::subject::{Dimension, SubjectError};

/// `; did you mean …?` with the nearest of `names`, or nothing when none is near.
pub(crate) fn did_you_mean<'n>(typed: &str, names: impl Iterator<Item = &'n str>) -> String {
    match nearest(typed, names) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => String::new(),
    }
}

/// The same for a subject, or a pattern of subjects, that cannot be read: which dimension may have been meant.
pub(crate) fn meant_dimension(error: &SubjectError) -> String {
    match error {
        SubjectError::UnknownDimension(name) => {
            let names = Dimension::ALL.into_iter().map(Dimension::name);
            did_you_mean(name, names.chain(["platform"]))
        }
        _ => String::new(),
    }
}

/// The name with the fewest mistakes between it and `typed`, at most a third of its letters. Case does not count.
pub(super) fn nearest<'n>(typed: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let typed = letters(typed);
    let near = names.filter_map(|name| {
        let letters = letters(name);
        let mistakes_max = (letters.len() / 3).max(1);
        let far_in_length = mistakes_max < letters.len().abs_diff(typed.len());
        let mistakes = if far_in_length {
            usize::MAX
        } else {
            distance(&typed, &letters)
        };
        (mistakes <= mistakes_max).then_some((mistakes, name))
    });
    near.min().map(|(_, name)| name)
}

fn letters(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// Letters to add, drop, replace, or swap with their neighbour until `a` is `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            let swapped = 0 < i && 0 < j && *from == b[j - 1] && a[i - 1] == *to;
            if swapped {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, expected: Option<&str>) {
        let names = ["window", "subject", "soft", "hard", "Europe/Berlin"];
        assert_eq!(nearest(typed, names.into_iter()), expected, "{typed}");
    }

    #[test]
    fn finds_what_was_meant() {
        check("windwo", Some("window"));
        check("widnow", Some("window"));
        check("subjects", Some("subject"));
        check("Hard", Some("hard"));
        check("sft", Some("soft"));
        check("europe/berln", Some("Europe/Berlin"));
    }

    #[test]
    fn guesses_nothing_wild() {
        check("", None);
        check("status", None);
        check("hrd_limit", None);
        check("sooooft", None);
    }
}
