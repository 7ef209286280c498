//! When a watched text has changed. Pure: it is shown what a look at the file gave.

/// What a look gave: the text, or why there is none.
pub(crate) type Seen = Result<String, String>;

/// What to do after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Same,
    /// Something else than before, seen once: an editor may be in the middle of writing it. Look again soon.
    Unsettled,
    /// Something else than before, seen twice.
    Changed(Seen),
}

/// Compares what is seen with what was acted on last.
#[derive(Debug)]
pub(crate) struct Watch {
    acted_on: Seen,
    unsettled: Option<Seen>,
}

impl Watch {
    pub(crate) fn new(text: String) -> Self {
        Self {
            acted_on: Ok(text),
            unsettled: None,
        }
    }

    pub(crate) fn look(&mut self, seen: Seen) -> Look {
        if seen == self.acted_on {
            self.unsettled = None;
            return Look::Same;
        }
        if self.unsettled.as_ref() != Some(&seen) {
            self.unsettled = Some(seen);
            return Look::Unsettled;
        }
        self.unsettled = None;
        self.acted_on.clone_from(&seen);
        Look::Changed(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a text that was `a`: `!` is a file that cannot be read.
    #[track_caller]
    fn check(looks: &[&str], expected: &[&str]) {
        let mut watch = Watch::new("a".to_owned());
        let seen = looks.iter().map(|text| match *text {
            "!" => Err("gone".to_owned()),
            text => Ok(text.to_owned()),
        });
        let told = seen.map(|seen| match watch.look(seen) {
            Look::Same => "same".to_owned(),
            Look::Unsettled => "unsettled".to_owned(),
            Look::Changed(Ok(text)) => format!("changed to {text}"),
            Look::Changed(Err(reason)) => reason,
        });
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_change_counts_once_it_has_settled() {
        check(&["a", "a"], &["same", "same"]);
        check(&["b", "b", "b"], &["unsettled", "changed to b", "same"]);
        check(
            &["", "half", "whole", "whole"],
            &["unsettled", "unsettled", "unsettled", "changed to whole"],
        );
        check(&["b", "a", "a"], &["unsettled", "same", "same"]);
        check(&["!", "a"], &["unsettled", "same"]);
        check(
            &["!", "!", "!", "a", "a"],
            &["unsettled", "gone", "same", "unsettled", "changed to a"],
        );
    }
}
