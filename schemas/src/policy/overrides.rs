//! Overrides: other numbers of a limit for single subjects, as a version of the policy has them.

use std::collections::BTreeMap;

use super::{Limit, Policy, Window};
use crate::orders::Numbers;
use crate::subject::Subject;

/// Other numbers of one limit for one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    pub numbers: Numbers,
    /// Why, where the policy says it.
    pub reason: Option<String>,
}

/// The overrides of a policy: of one subject and limit at most one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<Subject, BTreeMap<String, Override>>);

impl Overrides {
    /// False where the subject has one of this limit already, which stays.
    pub fn add(&mut self, subject: Subject, limit: String, overridden: Override) -> bool {
        let on_subject = self.0.entry(subject).or_default();
        let is_first = !on_subject.contains_key(&limit);
        on_subject.entry(limit).or_insert(overridden);
        is_first
    }

    #[must_use]
    pub fn get(&self, subject: &Subject, limit: &str) -> Option<&Override> {
        self.0.get(subject)?.get(limit)
    }

    #[must_use]
    pub fn has_any_on(&self, subject: &Subject) -> bool {
        self.0.contains_key(subject)
    }

    /// The subjects that have any, each once, by their paths.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.0.keys()
    }

    /// By subject and limit.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &str, &Override)> {
        self.0.iter().flat_map(|(subject, limits)| {
            let limits = limits.iter();
            limits.map(move |(limit, overridden)| (subject, limit.as_str(), overridden))
        })
    }
}

impl Policy {
    /// The override by which `limit` has other numbers where it is counted for `subject`. A wallet has none: what is
    /// paid into one are entries of the log.
    #[must_use]
    pub fn overridden(&self, limit: &Limit, subject: &Subject) -> Option<&Override> {
        let found = self.overrides.get(subject, &limit.name)?;
        let is_counted = limit.window != Window::Wallet && limit.pattern.accepts(subject);
        is_counted.then_some(found)
    }
}
