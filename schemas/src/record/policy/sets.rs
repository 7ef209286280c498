//! Sets of ids, as a version of the policy has them.

use serde::{Deserialize, Serialize};

use super::PolicyError;
use crate::subject::{Dimension, IdSet, Sets, is_set_name};

/// Ids of one dimension that limits count together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    pub name: String,
    pub dimension: String,
    /// Ids, or the starts of some with `*` after them.
    pub ids: Vec<String>,
}

impl SetRecord {
    /// All sets of a policy.
    #[must_use]
    pub fn all(sets: &Sets) -> Vec<Self> {
        let record = |(name, set): (&str, &std::sync::Arc<IdSet>)| Self {
            name: name.to_owned(),
            dimension: set.dimension().name().to_owned(),
            ids: set.ids().to_vec(),
        };
        sets.iter().map(record).collect()
    }
}

pub(super) fn read(records: &[SetRecord]) -> Result<Sets, PolicyError> {
    let mut sets = Sets::default();
    for record in records {
        let error = |what| PolicyError::Set {
            set: record.name.clone(),
            what,
        };
        if !is_set_name(&record.name) {
            return Err(error("has a name that no set can have"));
        }
        let dimension = Dimension::named(&record.dimension).filter(|own| own.has_sets());
        let mut set = IdSet::new(dimension.ok_or_else(|| error("is of nothing that has sets"))?);
        for id in &record.ids {
            set.add(id).map_err(|source| PolicyError::Ids {
                set: record.name.clone(),
                source,
            })?;
        }
        if !sets.add(record.name.clone(), set) {
            return Err(error("is there twice"));
        }
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sets: &[(&str, &str, &[&str])], told: &str) {
        let record = |(name, dimension, ids): &(&str, &str, &[&str])| SetRecord {
            name: (*name).to_owned(),
            dimension: (*dimension).to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let records: Vec<SetRecord> = sets.iter().map(record).collect();
        match read(&records) {
            Ok(sets) => assert_eq!((SetRecord::all(&sets), ""), (records, told)),
            Err(error) => assert_eq!(error.to_string(), told),
        }
    }

    #[test]
    fn a_set_is_read_as_it_was_written() {
        check(&[], "");
        check(
            &[
                ("bulk", "route", &["POST /v1/bulk/*", "GET /50%25"]),
                ("none", "user", &[]),
                ("slow", "model", &["slow-*", "opus", "meta/llama"]),
            ],
            "",
        );
        check(
            &[("a", "user", &["u"]), ("a", "key", &["k"])],
            "set `a` is there twice",
        );
        check(
            &[("a b", "user", &["u"])],
            "set `a b` has a name that no set can have",
        );
        check(
            &[("a", "tenant", &["acme"])],
            "set `a` is of nothing that has sets",
        );
        check(
            &[("a", "models", &["m"])],
            "set `a` is of nothing that has sets",
        );
        check(
            &[("a", "user", &["u/1"])],
            "set `a`: the id of `user` holds a character that must be percent-encoded, or a broken encoding",
        );
    }
}
