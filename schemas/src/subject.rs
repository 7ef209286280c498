//! Subjects: what a limit or a decision is about. A subject is a path of dimension and id pairs, such as
//! `tenant/acme/user/u_9`; the empty path is `platform`. A [`Pattern`] is a path in which an id may be `*`.
//!
//! Dimensions stand in the order of [`Dimension`], so that one thing has one path. In an id, `/`, `%`, `*` and
//! control characters are percent-encoded; a model's and a route's id, which are full of slashes, keep theirs and
//! therefore end the path.
//!
//! In place of an id a subject may name a set of the policy, in braces: `model/{slow}` is all of its ids together. An
//! id that reads like one has its brace encoded: a model that is called `{slow}` is `model/%7Bslow}`. No other id is
//! written otherwise for the sake of sets, so that what the log and snapshots hold of them reads as it did.

mod pattern;
mod set;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use pattern::Pattern;
pub use set::{IdSet, Sets, is_set_name};

/// The longest id that is taken, in bytes, before encoding.
pub const ID_BYTES_MAX: usize = 256;

const PLATFORM: &str = "platform";

/// One kind of thing that usage can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    Tenant,
    Key,
    User,
    Account,
    Source,
    Fingerprint,
    Action,
    Provider,
    Model,
    Route,
}

impl Dimension {
    pub const ALL: [Dimension; 10] = [
        Dimension::Tenant,
        Dimension::Key,
        Dimension::User,
        Dimension::Account,
        Dimension::Source,
        Dimension::Fingerprint,
        Dimension::Action,
        Dimension::Provider,
        Dimension::Model,
        Dimension::Route,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dimension::Tenant => "tenant",
            Dimension::Key => "key",
            Dimension::User => "user",
            Dimension::Account => "account",
            Dimension::Source => "source",
            Dimension::Fingerprint => "fingerprint",
            Dimension::Action => "action",
            Dimension::Provider => "provider",
            Dimension::Model => "model",
            Dimension::Route => "route",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|dimension| dimension.name() == name)
    }

    /// Whether ids keep their slashes, so that nothing can follow them in a path.
    const fn ends_path(self) -> bool {
        matches!(self, Dimension::Model | Dimension::Route)
    }

    /// Whether its ids can be put together in sets: what is counted for a tenant lies in the tenant's own partition, so
    /// several of them have no place together.
    #[must_use]
    pub const fn has_sets(self) -> bool {
        !matches!(self, Dimension::Tenant)
    }
}

/// What a subject names of one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// One thing, by its decoded id.
    Id(String),
    /// All ids of a set of the policy together, by the set's name.
    Set(String),
}

/// Who and what one event or request is about. Ids are as they came, not encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    pub tenant: Option<&'a str>,
    pub key: Option<&'a str>,
    pub user: Option<&'a str>,
    pub account: Option<&'a str>,
    pub source: Option<&'a str>,
    pub fingerprint: Option<&'a str>,
    pub action: Option<&'a str>,
    pub provider: Option<&'a str>,
    pub model: Option<&'a str>,
    pub route: Option<&'a str>,
}

impl<'a> Identity<'a> {
    #[must_use]
    pub const fn get(&self, dimension: Dimension) -> Option<&'a str> {
        match dimension {
            Dimension::Tenant => self.tenant,
            Dimension::Key => self.key,
            Dimension::User => self.user,
            Dimension::Account => self.account,
            Dimension::Source => self.source,
            Dimension::Fingerprint => self.fingerprint,
            Dimension::Action => self.action,
            Dimension::Provider => self.provider,
            Dimension::Model => self.model,
            Dimension::Route => self.route,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubjectError {
    #[error("a subject is empty; write `platform` for everything")]
    Empty,
    #[error(
        "`{0}` is no dimension; use one of tenant, key, user, account, source, fingerprint, action, provider, model, route"
    )]
    UnknownDimension(String),
    #[error("`{0}` has no id after it")]
    MissingId(&'static str),
    #[error("the id of `{0}` is longer than {ID_BYTES_MAX} bytes")]
    IdTooLong(&'static str),
    #[error("the id of `{0}` holds a character that must be percent-encoded, or a broken encoding")]
    BadId(&'static str),
    #[error("`{0}` must come before `{1}` in a subject")]
    Order(&'static str, &'static str),
    #[error("the policy has no set `{0}`")]
    UnknownSet(String),
    #[error("`{name}` is a set of ids of `{own}`, and cannot stand for a `{place}`")]
    SetOf {
        name: String,
        own: &'static str,
        place: &'static str,
    },
    #[error("`{0}` is a set, and no id")]
    NestedSet(String),
}

/// What a limit or a decision is about: a checked path in its one canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Arc<str>);

impl Subject {
    /// Everything that passes through this installation.
    #[must_use]
    pub fn platform() -> Self {
        Self(Arc::from(PLATFORM))
    }

    /// A tenant by its raw (not encoded) id.
    #[must_use]
    pub fn tenant(id: &str) -> Self {
        let mut path = String::from("tenant/");
        encode_id(&mut path, Dimension::Tenant, id);
        Self(Arc::from(path))
    }

    pub fn parse(path: &str) -> Result<Self, SubjectError> {
        for (dimension, text) in pairs(path)? {
            named(dimension, text)?;
        }
        Ok(Self(Arc::from(path)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The dimensions and what it names of each, in path order. Empty for `platform`.
    #[must_use]
    pub fn parts(&self) -> Vec<(Dimension, Named)> {
        let pairs = pairs(&self.0).unwrap_or_default();
        pairs
            .into_iter()
            .filter_map(|(d, text)| Some((d, named(d, text).ok()?)))
            .collect()
    }

    /// The decoded id of one dimension; `None` also where a set stands for it.
    #[must_use]
    pub fn id(&self, dimension: Dimension) -> Option<String> {
        let found = self.parts().into_iter().find(|(d, _)| *d == dimension);
        match found {
            Some((_, Named::Id(id))) => Some(id),
            _ => None,
        }
    }

    /// The tenant's decoded id, or `None` for a scope wider than one tenant.
    #[must_use]
    pub fn tenant_id(&self) -> Option<String> {
        self.id(Dimension::Tenant)
    }

    /// Its path, and those of the subjects that it lies in, the narrowest first: `tenant/acme/user/u_9`, `tenant/acme`.
    pub fn path_and_above(&self) -> impl Iterator<Item = &str> {
        let pairs = pairs(&self.0).unwrap_or_default();
        let mut end = self.0.len();
        let mut narrower: Option<usize> = None;
        let ends = pairs.into_iter().rev().map(move |(dimension, id)| {
            // The slash between this pair and the one before, and the one between its two parts.
            end -= narrower.map_or(0, |bytes| bytes + 1);
            narrower = Some(dimension.name().len() + 1 + id.len());
            end
        });
        let platform = (self.as_str() == PLATFORM).then_some(PLATFORM.len());
        ends.chain(platform).map(|end| &self.0[..end])
    }

    /// What decides the partition: the tenant, or the whole subject for scopes wider than one tenant.
    #[must_use]
    pub fn partition_key(&self) -> String {
        self.tenant_id().unwrap_or_else(|| self.0.to_string())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Subject {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Subject {
    type Error = SubjectError;

    fn try_from(path: String) -> Result<Self, SubjectError> {
        Self::parse(&path)
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> String {
        subject.0.to_string()
    }
}

/// Splits a path into dimensions and ids as written, and checks names, order and that no id is missing.
fn pairs(path: &str) -> Result<Vec<(Dimension, &str)>, SubjectError> {
    if path == PLATFORM {
        return Ok(Vec::new());
    }
    if path.is_empty() {
        return Err(SubjectError::Empty);
    }
    let mut pairs: Vec<(Dimension, &str)> = Vec::new();
    let mut rest = Some(path);
    while let Some(here) = rest {
        let (name, after) = here
            .split_once('/')
            .map_or((here, None), |(n, a)| (n, Some(a)));
        let dimension = Dimension::named(name)
            .ok_or_else(|| SubjectError::UnknownDimension(name.to_owned()))?;
        if let Some((before, _)) = pairs.last().filter(|(before, _)| *before >= dimension) {
            return Err(SubjectError::Order(dimension.name(), before.name()));
        }
        let after = after.filter(|a| !a.is_empty() && !a.starts_with('/') || dimension.ends_path());
        let after = after.filter(|a| !a.is_empty());
        let after = after.ok_or(SubjectError::MissingId(dimension.name()))?;
        let (id, next) = match after.split_once('/') {
            Some((id, next)) if !dimension.ends_path() => (id, Some(next)),
            _ => (after, None),
        };
        pairs.push((dimension, id));
        rest = next;
    }
    Ok(pairs)
}

fn must_encode(dimension: Dimension, byte: u8) -> bool {
    let slash = byte == b'/' && !dimension.ends_path();
    slash || matches!(byte, b'%' | b'*') || byte.is_ascii_control()
}

/// How the brace of an id is written that reads like a set.
const BRACE: &str = "%7B";

fn encode_id(path: &mut String, dimension: Dimension, id: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if set_in_braces(dimension, id).is_some() {
        path.push_str(BRACE);
        path.push_str(&id[1..]);
        return;
    }
    if !id.bytes().any(|byte| must_encode(dimension, byte)) {
        path.push_str(id);
        return;
    }
    for character in id.chars() {
        match u8::try_from(character) {
            Ok(byte) if must_encode(dimension, byte) => {
                path.push('%');
                path.push(char::from(HEX[usize::from(byte >> 4)]));
                path.push(char::from(HEX[usize::from(byte & 15)]));
            }
            _ => path.push(character),
        }
    }
}

/// What `text` names in a path.
fn named(dimension: Dimension, text: &str) -> Result<Named, SubjectError> {
    match set_in_braces(dimension, text) {
        Some(name) => Ok(Named::Set(name.to_owned())),
        None => decode_id(dimension, text).map(Named::Id),
    }
}

/// The name of the set that `text` is in a path, where one can stand. It is all plain characters, so a raw id and an
/// encoded one read alike.
fn set_in_braces(dimension: Dimension, text: &str) -> Option<&str> {
    let name = text.strip_prefix('{')?.strip_suffix('}')?;
    (dimension.has_sets() && is_set_name(name)).then_some(name)
}

/// The raw id, or the start of one, if `text` is its canonical encoding. Where a set can stand, ask [`named`].
fn decode_id(dimension: Dimension, text: &str) -> Result<String, SubjectError> {
    let bad = || SubjectError::BadId(dimension.name());
    if let Some(rest) = text.strip_prefix(BRACE) {
        let id = format!("{{{rest}");
        return match set_in_braces(dimension, &id) {
            Some(_) => Ok(id),
            None => Err(bad()),
        };
    }
    let mut id = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        id.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).ok_or_else(bad)?;
        let byte = u8::from_str_radix(code, 16).map_err(|_| bad())?;
        if !must_encode(dimension, byte) || code.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(bad());
        }
        id.push(char::from(byte));
        rest = &rest[at + 3..];
    }
    id.push_str(rest);
    if rest.bytes().any(|byte| must_encode(dimension, byte)) {
        return Err(bad());
    }
    if id.len() > ID_BYTES_MAX {
        return Err(SubjectError::IdTooLong(dimension.name()));
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
