//! `[set.NAME]`: ids of one dimension that limits count together. And what a limit's subject says of sets.

use std::collections::BTreeSet;

use schemas::subject::{Dimension, IdSet, Pattern, Sets, SubjectError};

use super::fields::SET;
use super::nearest::{did_you_mean, meant_dimension};
use super::reader::{Reader, Table};
use super::{check_name, named_tables};

/// The most ids that one set may hold.
const IDS_MAX: usize = 1_000;

const NO_TENANTS: &str = "a set cannot be of tenants: what each does is counted in a place of its own. Give them a tier, \
                          or count all of them";

/// The sets of a policy, and the names of those that cannot be read: a limit on one of these is not to blame.
#[derive(Default)]
pub(super) struct Read {
    pub(super) sets: Sets,
    broken: BTreeSet<String>,
}

pub(super) fn read(reader: &mut Reader<'_>, top: &Table<'_>) -> Read {
    let mut read = Read::default();
    for (name, table) in named_tables(reader, top, "set") {
        check_name(reader, name, table.at, "set");
        reader.refuse_unknown(&table, &SET.names(), SET.what);
        let dimension = dimension(reader, &table);
        match ids(reader, &table, dimension) {
            Some(set) => drop(read.sets.add(name.to_owned(), set)),
            None => drop(read.broken.insert(name.to_owned())),
        }
    }
    read
}

fn dimension(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Dimension> {
    let example = "dimension = \"model\"";
    let (name, at) = reader.required(table, "set", ("dimension", example))?;
    let with_sets = || Dimension::ALL.into_iter().filter(|own| own.has_sets());
    match Dimension::named(name) {
        Some(dimension) if dimension.has_sets() => Some(dimension),
        Some(_) => {
            reader.say(at, NO_TENANTS);
            None
        }
        None => {
            let hint = did_you_mean(name, with_sets().map(Dimension::name));
            let names: Vec<&str> = with_sets().map(Dimension::name).collect();
            let names = names.join(", ");
            reader.say(
                at,
                format!("`{name}` is no dimension: use one of {names}{hint}"),
            );
            None
        }
    }
}

/// All ids of a set. Without a dimension nobody knows how they are written, so little is said of them then.
fn ids(reader: &mut Reader<'_>, table: &Table<'_>, dimension: Option<Dimension>) -> Option<IdSet> {
    let example = "ids = [\"slow-*\", \"opus\"]";
    let Some(value) = table.get("ids") else {
        let text = format!("this set has no `ids`: write `{example}`");
        reader.say(table.at, text);
        return None;
    };
    let Some(list) = value.list() else {
        reader.say(value.at, format!("`ids` is a list: write `{example}`"));
        return None;
    };
    if list.is_empty() {
        let text = format!("a set without ids counts nothing: write `{example}`");
        reader.say(value.at, text);
        return None;
    }
    if let Some(first) = list.get(IDS_MAX) {
        let text = format!("this is id {}; a set holds {IDS_MAX}", IDS_MAX + 1);
        reader.say(first.at, text);
        return None;
    }
    let mut good = true;
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut set = dimension.map(IdSet::new);
    for value in list {
        let wrong = match value.text() {
            None => Some(format!(
                "an id must be text in quotes, not {}",
                value.kind()
            )),
            Some(id) if !taken.insert(id) => Some(format!("`{id}` is in this set already")),
            Some(id) => match set.as_mut().map(|set| set.add(id)) {
                Some(Err(error)) => Some(format!("id `{id}`: {error}{}", encoded(id))),
                _ => None,
            },
        };
        if let Some(text) = wrong {
            reader.say(value.at, text);
            good = false;
        }
    }
    set.filter(|_| good)
}

/// How an id is written that reads like a set.
fn encoded(id: &str) -> String {
    match id.strip_prefix('{') {
        Some(rest) => format!("; an id that is called so is written `%7B{rest}`"),
        None => String::new(),
    }
}

/// The pattern in `text`, a limit's subject, which stands at `at`. `None`: it is none, or is on a set that is wrong
/// itself.
pub(super) fn pattern(
    reader: &mut Reader<'_>,
    (text, at): (&str, usize),
    read: &Read,
) -> Option<Pattern> {
    let pattern = Pattern::parse_with(text, &read.sets);
    let wrong = match &pattern {
        Ok(pattern) => slip(pattern),
        Err(SubjectError::UnknownSet(name)) if read.broken.contains(name) => return None,
        Err(error) => Some(format!("{error}{}", meant_set(error, &read.sets))),
    };
    match wrong {
        Some(wrong) => {
            reader.say(at, format!("subject `{text}`: {wrong}"));
            None
        }
        None => pattern.ok(),
    }
}

/// What may have been meant by a subject, or a pattern of some, that cannot be.
pub(crate) fn meant_set(error: &SubjectError, sets: &Sets) -> String {
    match error {
        SubjectError::UnknownSet(name) => {
            let hint = did_you_mean(name, sets.iter().map(|(name, _)| name));
            match hint.is_empty() {
                true => format!("; declare it by `[set.{name}]`"),
                false => hint,
            }
        }
        error => meant_dimension(error),
    }
}

/// A brace that begins no set, in a pattern that is one otherwise: it would count nothing, silently.
fn slip(pattern: &Pattern) -> Option<String> {
    let dimension = pattern.stray_brace()?;
    Some(match dimension.has_sets() {
        true => "what begins with `{` is a set, whose name stands in braces: `{slow}`".to_owned(),
        false => NO_TENANTS.to_owned(),
    })
}
