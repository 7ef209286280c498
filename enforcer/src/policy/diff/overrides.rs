//! What changes of the numbers that single subjects have.

use std::collections::BTreeSet;
use std::fmt;

use schemas::policy::{Override, Policy};
use schemas::subject::Subject;
use serde::Serialize;

use super::{FieldChange, Kind, amount, changed, word, write_fields};

/// An override that is new, gone, or has other values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverrideChange {
    pub change: Kind,
    pub subject: Subject,
    pub limit: String,
    pub fields: Vec<FieldChange>,
}

/// By subject and limit.
pub(super) fn changes(from: &Policy, to: &Policy) -> Vec<OverrideChange> {
    let keys = |policy: &Policy| -> BTreeSet<(Subject, String)> {
        let overrides = policy.overrides.iter();
        let keys = overrides.map(|(subject, limit, _)| (subject.clone(), limit.to_owned()));
        keys.collect()
    };
    let all: BTreeSet<_> = keys(from).union(&keys(to)).cloned().collect();
    all.into_iter()
        .filter_map(|(subject, limit)| {
            let before = from.overrides.get(&subject, &limit);
            let after = to.overrides.get(&subject, &limit);
            let fields = field_changes((from, before), (to, after), (&subject, &limit));
            (!fields.is_empty()).then_some(OverrideChange {
                change: Kind::of(before, after),
                subject,
                limit,
                fields,
            })
        })
        .collect()
}

fn field_changes(
    (from, before): (&Policy, Option<&Override>),
    (to, after): (&Policy, Option<&Override>),
    on: (&Subject, &str),
) -> Vec<FieldChange> {
    let values = |policy: &Policy, overridden: Option<&Override>| {
        overridden.map_or_else(Default::default, |own| fields(policy, own, on))
    };
    let both = FIELDS.into_iter().zip(values(from, before));
    let both = both.zip(values(to, after));
    changed(both.map(|((field, from), to)| (field, from, to)).collect())
}

const FIELDS: [&str; 4] = ["hard", "soft", "mode", "reason"];

/// The values of [`FIELDS`], as a policy has them.
fn fields(
    policy: &Policy,
    overridden: &Override,
    (subject, limit): (&Subject, &str),
) -> [Option<String>; FIELDS.len()] {
    let numbers = &overridden.numbers;
    let meter = policy.limit_on(subject, limit).map(|own| &own.meter);
    let soft: Vec<&str> = numbers.soft.iter().map(|level| &*level.name).collect();
    [
        numbers
            .hard
            .zip(meter)
            .map(|(hard, meter)| amount(meter, hard)),
        (!soft.is_empty()).then(|| soft.join(", ")),
        numbers.mode.and_then(word),
        overridden.reason.clone(),
    ]
}

impl fmt::Display for OverrideChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, limit, subject) = (self.change.sign(), &self.limit, &self.subject);
        write!(f, "{sign} override of {limit} for {subject}")?;
        write_fields(f, self.change, &self.fields)
    }
}
