//! What is wrong with a body, and where.

use std::fmt;

use super::BadEvents;
use crate::problem::FieldError;

/// A place in a body: a JSON pointer that is only written out when an error needs it.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Root,
    /// An element of the body's array, or a line.
    Index(usize),
    Member(&'a At<'a>, &'a str),
    /// An attribute that came as a header.
    Header(&'a str),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Index(index) => write!(f, "/{index}"),
            At::Member(parent, name) if name.contains(['~', '/']) => {
                write!(f, "{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
            }
            At::Member(parent, name) => write!(f, "{parent}/{name}"),
            At::Header(name) => write!(f, "ce-{name}"),
        }
    }
}

/// All errors of a body: the first ones in full, the rest by number.
pub(super) struct Findings {
    errors: Vec<FieldError>,
    errors_max: usize,
    found: usize,
}

impl Findings {
    pub(super) fn new(errors_max: usize) -> Self {
        Self {
            errors: Vec::new(),
            errors_max,
            found: 0,
        }
    }

    pub(super) fn add(&mut self, at: &At<'_>, detail: impl Into<String>) {
        self.found += 1;
        if self.errors.len() < self.errors_max {
            self.errors.push(FieldError {
                pointer: at.to_string(),
                detail: detail.into(),
            });
        }
    }

    pub(super) fn found(&self) -> usize {
        self.found
    }

    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    pub(super) fn into_bad(self, events: usize) -> BadEvents {
        BadEvents {
            events,
            found: self.found,
            errors: self.errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_json_pointers() {
        let event = At::Index(3);
        let data = At::Member(&event, "data");
        assert_eq!(At::Root.to_string(), "");
        assert_eq!(At::Member(&data, "a/b~c").to_string(), "/3/data/a~1b~0c");
        assert_eq!(At::Header("id").to_string(), "ce-id");
    }
}
