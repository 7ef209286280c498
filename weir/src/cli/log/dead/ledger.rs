//! Which dead records were put back, by what lies in `weir.dead.v1` itself.
//!
//! A replay writes a note before it puts a record back, and another once the log has acknowledged it. Notes are records
//! of `weir.dead.v1` without a value, so they last as long as what they speak of; what they say is in their headers. A
//! replay that is cut off between the two leaves a note from which on the record may lie in its topic: the next one
//! looks there, for the header that every record that is put back carries.

use std::collections::{BTreeMap, BTreeSet};

use bus::{Headers, Record};

/// On a record that was put back: the offset in `weir.dead.v1` of the dead record that it was.
const REPLAYED_FROM: &str = "weir-replayed-from";
/// On a note: the offset of a dead record that is about to be put back.
const BEGUN: &str = "weir-replay-begun";
/// Beside [`BEGUN`]: the record comes to lie at this offset of its partition, or after it.
const AFTER: &str = "weir-replay-after";
/// On a note: the offset of a dead record that lies in its topic again.
const DONE: &str = "weir-replay-done";

/// What was noted, by the dead record's offset.
#[derive(Debug, Default)]
pub(in crate::cli::log) struct Ledger {
    /// Begun, and where to look: the first note counts, since a later replay begins anew only what is not there.
    begun: BTreeMap<i64, i64>,
    done: BTreeSet<i64>,
}

impl Ledger {
    /// Takes note of a record of `weir.dead.v1`, if it is a note.
    pub(in crate::cli::log) fn take(&mut self, record: &Record) {
        if record.value.is_some() {
            return;
        }
        if let Some(dead) = number(record, DONE) {
            self.done.insert(dead);
        } else if let (Some(dead), Some(after)) = (number(record, BEGUN), number(record, AFTER)) {
            self.begun.entry(dead).or_insert(after);
        }
    }

    pub(in crate::cli::log) fn is_done(&self, dead: i64) -> bool {
        self.done.contains(&dead)
    }

    pub(in crate::cli::log) fn set_done(&mut self, dead: i64) {
        self.done.insert(dead);
    }

    /// From which offset of its partition on a dead record may lie there again, though nobody has noted that it does.
    pub(in crate::cli::log) fn unfinished(&self, dead: i64) -> Option<i64> {
        let after = self.begun.get(&dead).copied();
        after.filter(|_| !self.is_done(dead))
    }

    pub(in crate::cli::log) fn has_unfinished(&self) -> bool {
        self.begun.keys().any(|dead| !self.is_done(*dead))
    }
}

fn number(record: &Record, name: &str) -> Option<i64> {
    let (_, value) = record.headers.iter().find(|(header, _)| header == name)?;
    std::str::from_utf8(value.as_deref()?).ok()?.parse().ok()
}

fn header(name: &str, value: i64) -> Headers {
    vec![(name.to_owned(), Some(value.to_string().into()))]
}

/// The note before.
pub(in crate::cli::log) fn begun(dead: i64, after: i64) -> Headers {
    [header(BEGUN, dead), header(AFTER, after)].concat()
}

/// The note after.
pub(in crate::cli::log) fn done(dead: i64) -> Headers {
    header(DONE, dead)
}

/// The dead record that a record was put back from.
pub(in crate::cli::log) fn replayed_from(record: &Record) -> Option<i64> {
    number(record, REPLAYED_FROM)
}

/// The headers of a dead record, marked with where it is put back from.
pub(in crate::cli::log) fn marked(mut headers: Headers, dead: i64) -> Headers {
    headers.retain(|(name, _)| name != REPLAYED_FROM);
    headers.extend(header(REPLAYED_FROM, dead));
    headers
}

#[cfg(test)]
mod tests {
    use schemas::time::Timestamp;

    use super::*;

    fn note(headers: Headers) -> Record {
        Record {
            offset: 0,
            appended_at: Timestamp::default(),
            key: None,
            value: None,
            headers,
        }
    }

    #[track_caller]
    fn check(notes: Vec<Headers>, is_done: bool, unfinished: Option<i64>) {
        let mut ledger = Ledger::default();
        for headers in notes {
            ledger.take(&note(headers));
        }
        assert_eq!(ledger.is_done(7), is_done);
        assert_eq!(ledger.unfinished(7), unfinished);
        assert_eq!(ledger.has_unfinished(), unfinished.is_some());
    }

    #[test]
    fn a_record_is_done_once_that_is_noted() {
        check(vec![], false, None);
        check(vec![begun(7, 40)], false, Some(40));
        check(vec![begun(7, 40), done(7)], true, None);
        check(vec![begun(7, 40), begun(7, 90)], false, Some(40));
        check(vec![done(8)], false, None);
        check(vec![marked(vec![], 7)], false, None);
        let mut ledger = Ledger::default();
        let with_value = Record {
            value: Some("x".into()),
            ..note(done(7))
        };
        ledger.take(&with_value);
        assert!(!ledger.is_done(7));
    }

    #[test]
    fn a_record_carries_one_mark() {
        let own = ("own".to_owned(), None);
        let once = marked(vec![own.clone()], 7);
        assert_eq!(replayed_from(&note(once.clone())), Some(7));
        let twice = marked(once, 9);
        assert_eq!(twice.len(), 2);
        assert_eq!(twice[0], own);
        assert_eq!(replayed_from(&note(twice)), Some(9));
        assert_eq!(replayed_from(&note(vec![])), None);
    }
}
