//! Tables and values of a TOML document with where they stand, and the problems found in them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::did_you_mean;
use super::problem::Problem;

/// Collects what is wrong with one text.
pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            problems: Vec::new(),
        }
    }

    /// Notes a problem at a byte of the text.
    pub(super) fn say(&mut self, at: usize, text: impl Into<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.problems.push(Problem {
            line: self.line(at),
            column: before[line_start..].chars().count() + 1,
            text: text.into(),
        });
    }

    /// The line, from 1, that a byte of the text is on.
    pub(super) fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }

    pub(super) fn found_any(&self) -> bool {
        !self.problems.is_empty()
    }

    /// The problems in the order of the text.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort();
        self.problems
    }

    /// Notes each field of `table` that is not one of `known`. `what` is what the table is: `a limit`.
    pub(super) fn refuse_unknown(&mut self, table: &Table<'_>, known: &[&str], what: &str) {
        for (name, at, _) in table.entries() {
            if !known.contains(&name) {
                let mut hint = did_you_mean(name, known.iter().copied());
                if hint.is_empty() {
                    hint = format!("; there are {}", known.join(", "));
                }
                self.say(at, format!("unknown field `{name}` of {what}{hint}"));
            }
        }
    }

    /// The tables under `[[field]]`.
    pub(super) fn tables<'v>(&mut self, table: &Table<'v>, field: &str) -> Vec<Table<'v>> {
        let Some(value) = table.get(field) else {
            return Vec::new();
        };
        let listed: Option<Vec<Table<'v>>> = value
            .list()
            .and_then(|list| list.into_iter().map(|value| value.table()).collect());
        if listed.is_none() {
            self.say(
                value.at,
                format!("`{field}` is a list of tables: write `[[{field}]]` above each"),
            );
        }
        listed.unwrap_or_default()
    }

    /// The string in `field` and where it stands. Anything else there is a problem; nothing there is none.
    pub(super) fn text<'v>(&mut self, table: &Table<'v>, field: &str) -> Option<(&'v str, usize)> {
        let value = table.get(field)?;
        match value.text() {
            Some(text) => Some((text, value.at)),
            None => {
                let kind = value.kind();
                self.say(
                    value.at,
                    format!("`{field}` must be text in quotes, not {kind}"),
                );
                None
            }
        }
    }

    /// As [`Reader::text`], of a field that this `what` cannot be without.
    pub(super) fn required<'v>(
        &mut self,
        table: &Table<'v>,
        what: &str,
        (field, example): (&str, &str),
    ) -> Option<(&'v str, usize)> {
        if table.get(field).is_none() {
            let text = format!("this {what} has no `{field}`: write `{example}`");
            self.say(table.at, text);
        }
        self.text(table, field)
    }

    /// Whether `field` says so; `default` where it says nothing, and `None` where it is neither true nor false.
    pub(super) fn flag(&mut self, table: &Table<'_>, field: &str, default: bool) -> Option<bool> {
        let Some(value) = table.get(field) else {
            return Some(default);
        };
        let flag = value.flag();
        if flag.is_none() {
            let kind = value.kind();
            self.say(
                value.at,
                format!("`{field}` must be true or false, not {kind}"),
            );
        }
        flag
    }

    /// The one of `choices` that `field` names.
    pub(super) fn choice<T: Copy>(
        &mut self,
        table: &Table<'_>,
        field: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let (name, at) = self.text(table, field)?;
        let found = choices.iter().find(|(choice, _)| *choice == name);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            let hint = did_you_mean(name, names.iter().copied());
            let names = names.join(", ");
            self.say(
                at,
                format!("`{name}` is no {field}: use one of {names}{hint}"),
            );
        }
        found.map(|(_, value)| *value)
    }
}

/// A table and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Table<'t> {
    fields: &'t DeTable<'t>,
    /// Byte of the text at which it begins.
    pub(super) at: usize,
}

impl<'t> Table<'t> {
    pub(super) fn new(fields: &'t DeTable<'t>, at: usize) -> Self {
        Self { fields, at }
    }

    pub(super) fn located_at(self, at: usize) -> Self {
        Self { at, ..self }
    }

    pub(super) fn get(&self, field: &str) -> Option<Value<'t>> {
        self.fields.get(field).map(Value::new)
    }

    /// Each field's name, where that stands, and its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'t str, usize, Value<'t>)> + 't {
        let entries = self.fields.iter();
        entries.map(|(name, value)| {
            (
                name.get_ref().as_ref(),
                name.span().start,
                Value::new(value),
            )
        })
    }
}

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Value<'t> {
    value: &'t DeValue<'t>,
    /// Byte of the text at which it begins.
    pub(super) at: usize,
}

impl<'t> Value<'t> {
    fn new(value: &'t Spanned<DeValue<'t>>) -> Self {
        let Range { start, .. } = value.span();
        Self {
            value: value.get_ref(),
            at: start,
        }
    }

    pub(super) fn text(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    pub(super) fn table(&self) -> Option<Table<'t>> {
        let at = self.at;
        self.value.as_table().map(|fields| Table { fields, at })
    }

    pub(super) fn list(&self) -> Option<Vec<Value<'t>>> {
        let list = self.value.as_array()?;
        Some(list.iter().map(Value::new).collect())
    }

    pub(super) fn flag(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// A whole number of 64 bits, in whatever base it is written.
    pub(super) fn integer(&self) -> Option<i64> {
        let integer = self.value.as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    pub(super) fn is_integer(&self) -> bool {
        self.value.is_integer()
    }

    pub(super) fn is_number(&self) -> bool {
        self.value.is_integer() || self.value.is_float()
    }

    /// What it is, with its article: `an integer`.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}
