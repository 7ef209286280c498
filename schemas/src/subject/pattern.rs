//! Patterns: which subjects a limit has.

use std::fmt;
use std::sync::Arc;

use super::{
    Dimension, IdSet, Identity, Named, PLATFORM, Sets, Subject, SubjectError, decode_id, encode_id,
    named, pairs, set_in_braces,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Matcher {
    Any,
    Exact(String),
    Prefix(String),
    /// All ids of a set together, as one subject.
    Set(String, Arc<IdSet>),
}

impl Matcher {
    /// Whether something with this id is counted.
    fn takes(&self, id: &str) -> bool {
        match self {
            Matcher::Any => true,
            Matcher::Exact(expected) => expected == id,
            Matcher::Prefix(prefix) => id.starts_with(prefix.as_str()),
            Matcher::Set(_, set) => set.contains(id),
        }
    }

    /// Whether this is how its subjects name something.
    fn accepts(&self, named: &Named) -> bool {
        match (self, named) {
            (Matcher::Set(own, _), Named::Set(name)) => own == name,
            (Matcher::Set(..), Named::Id(_)) | (_, Named::Set(_)) => false,
            (_, Named::Id(id)) => self.takes(id),
        }
    }
}

/// Names many subjects: each combination of ids that it accepts is a subject of its own.
///
/// An id is `*` (any), literal, or ends in `*` (a prefix, for routes and models: `tenant/*/route/POST /v1/*`). A set in
/// braces is all of its ids together: `tenant/*/model/{slow}` names one subject of each tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    parts: Vec<(Dimension, Matcher)>,
}

impl Pattern {
    /// A pattern without sets.
    ///
    /// # Errors
    /// When `text` is none.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        Self::parse_with(text, &Sets::default())
    }

    /// A pattern that may name `sets`, whose ids it knows from then on.
    ///
    /// # Errors
    /// When `text` is none.
    pub fn parse_with(text: &str, sets: &Sets) -> Result<Self, SubjectError> {
        let mut parts = Vec::new();
        for (dimension, id) in pairs(text)? {
            let matcher = match id.strip_suffix('*') {
                Some("") => Matcher::Any,
                Some(prefix) => Matcher::Prefix(decode_id(dimension, prefix)?),
                None => match named(dimension, id)? {
                    Named::Id(id) => Matcher::Exact(id),
                    Named::Set(name) => {
                        let set = Arc::clone(sets.of(&name, dimension)?);
                        Matcher::Set(name, set)
                    }
                },
            };
            parts.push((dimension, matcher));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The dimensions that tell its subjects apart, in path order. Empty for `platform`.
    pub fn dimensions(&self) -> impl Iterator<Item = Dimension> + '_ {
        self.parts.iter().map(|(dimension, _)| *dimension)
    }

    /// Whether its subjects may be spread over several tenants, and so over several partitions.
    #[must_use]
    pub fn is_wider_than_tenant(&self) -> bool {
        self.dimensions().next() != Some(Dimension::Tenant)
    }

    /// The sets that its subjects name, with where they stand.
    pub fn sets(&self) -> impl Iterator<Item = (Dimension, &str)> {
        self.parts
            .iter()
            .filter_map(|(dimension, matcher)| match matcher {
                Matcher::Set(name, _) => Some((*dimension, name.as_str())),
                _ => None,
            })
    }

    /// What it names by an id that begins with a brace, as a set does, and is none.
    #[must_use]
    pub fn stray_brace(&self) -> Option<Dimension> {
        let pairs = pairs(&self.text).unwrap_or_default();
        let stray = |(dimension, id): &(Dimension, &str)| {
            id.starts_with('{') && set_in_braces(*dimension, id).is_none()
        };
        pairs
            .into_iter()
            .find(stray)
            .map(|(dimension, _)| dimension)
    }

    /// The one id that it takes of `dimension`, where it names one.
    #[must_use]
    pub fn named(&self, dimension: Dimension) -> Option<&str> {
        self.parts.iter().find_map(|(own, matcher)| match matcher {
            Matcher::Exact(id) if *own == dimension => Some(id.as_str()),
            _ => None,
        })
    }

    /// Whether what has `id` in `dimension` can be counted for any of its subjects.
    #[must_use]
    pub fn takes(&self, dimension: Dimension, id: &str) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|(own, matcher)| *own == dimension && matcher.takes(id))
    }

    /// How narrowly it names: the number of literal ids. Of two patterns of one shape the higher one wins.
    #[must_use]
    pub fn specificity(&self) -> usize {
        self.parts
            .iter()
            .filter(|(_, matcher)| matches!(matcher, Matcher::Exact(_)))
            .count()
    }

    /// Writes the path of the subject that `identity` falls under into `path` (cleared first), and says whether
    /// there is one. Allocates nothing once `path` is large enough.
    pub fn write_subject(&self, identity: &Identity<'_>, path: &mut String) -> bool {
        path.clear();
        for (dimension, matcher) in &self.parts {
            let Some(id) = identity.get(*dimension).filter(|id| matcher.takes(id)) else {
                return false;
            };
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(dimension.name());
            path.push('/');
            match matcher {
                Matcher::Set(name, _) => {
                    path.push('{');
                    path.push_str(name);
                    path.push('}');
                }
                _ => encode_id(path, *dimension, id),
            }
        }
        if path.is_empty() {
            path.push_str(PLATFORM);
        }
        true
    }

    /// The subject that `identity` falls under, if any.
    #[must_use]
    pub fn subject_of(&self, identity: &Identity<'_>) -> Option<Subject> {
        let mut path = String::new();
        self.write_subject(identity, &mut path)
            .then(|| Subject(Arc::from(path)))
    }

    /// Whether any of its subjects is `subject` or lies in it: whether it begins with ids that it accepts.
    #[must_use]
    pub fn is_in(&self, subject: &Subject) -> bool {
        let parts = subject.parts();
        let begins = parts.len() <= self.parts.len() && self.accepts_each(&parts);
        begins && (!parts.is_empty() || self.parts.is_empty())
    }

    /// Whether `subject` has this pattern's dimensions, and in each an id that it accepts or the set that it names.
    #[must_use]
    pub fn accepts(&self, subject: &Subject) -> bool {
        let parts = subject.parts();
        parts.len() == self.parts.len() && self.accepts_each(&parts)
    }

    /// As far as both go.
    fn accepts_each(&self, parts: &[(Dimension, Named)]) -> bool {
        let mut both = parts.iter().zip(&self.parts);
        both.all(|((dimension, named), (expected, matcher))| {
            dimension == expected && matcher.accepts(named)
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
