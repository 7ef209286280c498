//! Sets: ids of one dimension that a policy counts together, as one subject: `model/{slow}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Dimension, Named, Subject, SubjectError, decode_id, set_in_braces};

/// Whether `name` can name a set: 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`.
#[must_use]
pub fn is_set_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// Ids of one dimension. Finding one in it allocates nothing and takes the logarithm of their number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdSet {
    dimension: Dimension,
    /// As they were written, in that order.
    written: Vec<String>,
    /// The literal ones, sorted.
    exact: Vec<String>,
    /// What the others begin with, sorted. None begins with another, so the last that is not above an id is the only one
    /// that the id can begin with.
    starts: Vec<String>,
}

impl IdSet {
    #[must_use]
    pub fn new(dimension: Dimension) -> Self {
        Self {
            dimension,
            written: Vec::new(),
            exact: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Adds what `text` names, which is as in a [`super::Pattern`]: a literal id, or the start of some with `*` after it.
    ///
    /// # Errors
    /// When it is neither.
    pub fn add(&mut self, text: &str) -> Result<(), SubjectError> {
        if text.is_empty() {
            return Err(SubjectError::MissingId(self.dimension.name()));
        }
        if let Some(set) = set_in_braces(self.dimension, text) {
            return Err(SubjectError::NestedSet(set.to_owned()));
        }
        match text.strip_suffix('*') {
            Some("") => self.add_start(String::new()),
            Some(start) => self.add_start(decode_id(self.dimension, start)?),
            None => {
                let id = decode_id(self.dimension, text)?;
                if let Err(place) = self.exact.binary_search(&id) {
                    self.exact.insert(place, id);
                }
            }
        }
        self.written.push(text.to_owned());
        Ok(())
    }

    fn add_start(&mut self, start: String) {
        if self.begins(&start) {
            return;
        }
        self.starts.retain(|other| !other.starts_with(&start));
        let place = self.starts.partition_point(|other| *other < start);
        self.starts.insert(place, start);
    }

    #[must_use]
    pub fn dimension(&self) -> Dimension {
        self.dimension
    }

    /// Its ids as they were written.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        &self.written
    }

    /// What its ids begin with, where that is all that is said of them.
    #[must_use]
    pub fn starts(&self) -> &[String] {
        &self.starts
    }

    /// Its literal ids, decoded.
    #[must_use]
    pub fn exact(&self) -> &[String] {
        &self.exact
    }

    /// Whether the decoded `id` is in it.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        let is_named = self.exact.binary_search_by(|own| own.as_str().cmp(id));
        is_named.is_ok() || self.begins(id)
    }

    fn begins(&self, id: &str) -> bool {
        let after = self.starts.partition_point(|start| start.as_str() <= id);
        let last = after.checked_sub(1).map(|place| &self.starts[place]);
        last.is_some_and(|start| id.starts_with(start.as_str()))
    }
}

/// The sets of a policy, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets(BTreeMap<String, Arc<IdSet>>);

impl Sets {
    /// False where there is one of this name already, which stays.
    pub fn add(&mut self, name: String, set: IdSet) -> bool {
        let is_first = !self.0.contains_key(&name);
        self.0.entry(name).or_insert_with(|| Arc::new(set));
        is_first
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<IdSet>> {
        self.0.get(name)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<IdSet>)> {
        self.0.iter().map(|(name, set)| (name.as_str(), set))
    }

    /// The set of this name, which is to stand for a `dimension`.
    ///
    /// # Errors
    /// When there is none, or it is of another dimension.
    pub fn of(&self, name: &str, dimension: Dimension) -> Result<&Arc<IdSet>, SubjectError> {
        let set = self.get(name);
        let set = set.ok_or_else(|| SubjectError::UnknownSet(name.to_owned()))?;
        if set.dimension == dimension {
            Ok(set)
        } else {
            Err(SubjectError::SetOf {
                name: name.to_owned(),
                own: set.dimension.name(),
                place: dimension.name(),
            })
        }
    }

    /// Whether each set that `subject` names is one of these.
    ///
    /// # Errors
    /// Says of the first that is not, why.
    pub fn check(&self, subject: &Subject) -> Result<(), SubjectError> {
        for (dimension, named) in subject.parts() {
            if let Named::Set(name) = named {
                self.of(&name, dimension)?;
            }
        }
        Ok(())
    }
}
