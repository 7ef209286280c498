//! What changes of the ids that limits count together.

use std::collections::BTreeSet;
use std::fmt;

use schemas::subject::{IdSet, Sets};
use serde::Serialize;

use super::{FieldChange, Kind, changed, write_fields};

/// A set that is new, gone, or has other ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetChange {
    pub change: Kind,
    pub name: String,
    pub fields: Vec<FieldChange>,
}

/// By name.
pub(super) fn changes(from: &Sets, to: &Sets) -> Vec<SetChange> {
    let names: BTreeSet<&str> = from.iter().chain(to.iter()).map(|(name, _)| name).collect();
    let change = |name: &str| {
        let (before, after) = (from.get(name), to.get(name));
        let values = |set: Option<&IdSet>| {
            let dimension = set.map(|set| set.dimension().name().to_owned());
            (dimension, set.map(|set| set.ids().join(", ")))
        };
        let (was, is) = (
            values(before.map(AsRef::as_ref)),
            values(after.map(AsRef::as_ref)),
        );
        let fields = changed(vec![("dimension", was.0, is.0), ("ids", was.1, is.1)]);
        (!fields.is_empty()).then(|| SetChange {
            change: Kind::of(before, after),
            name: name.to_owned(),
            fields,
        })
    };
    names.into_iter().filter_map(change).collect()
}

impl fmt::Display for SetChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} set {}", self.change.sign(), self.name)?;
        write_fields(f, self.change, &self.fields)
    }
}
