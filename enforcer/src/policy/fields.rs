//! The fields of a policy: what the reader takes, what the reference tells, and what the schema for editors holds are
//! one table.

mod tables;

use serde_json::{Map, Value, json};

pub(super) use tables::{LIMIT, OVERRIDE, POLICY, SET, TENANT, TIER, WEIGHT};

const NAME: &str = "^[A-Za-z0-9._-]{1,64}$";
const MONEY: &str = "^\\s*\\S+\\s+USD\\s*$";
const SOFT: &str = "^\\s*[0-9]+\\s*%$|USD\\s*$";

/// One field of a table.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// What it is, for people.
    what: &'static str,
    /// Which values it takes, for people.
    values: &'static str,
    /// A line, or a few, that a policy can have.
    example: &'static str,
    kind: Kind,
}

/// What values a field takes.
enum Kind {
    Text,
    /// The name of a limit or tier.
    Name,
    /// As text of this form.
    Pattern(&'static str),
    Choice(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A whole number from one to another.
    Whole(u32, u32),
    /// A whole number, or an amount of money.
    Amount,
    /// Percentages and amounts.
    SoftLevels,
    /// `["…", "…"]`.
    Texts,
    /// `[[field]]`, each a table of these fields.
    List(&'static Reference),
    /// `[field.NAME]`, each a table of these fields.
    Named(&'static Reference),
}

/// A table and its fields.
pub(super) struct Reference {
    /// What it is, with its article: `a limit`.
    pub(super) what: &'static str,
    heading: &'static str,
    pub(super) fields: &'static [Field],
    /// Those that it cannot be without.
    required: &'static [&'static str],
}

impl Reference {
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.fields.iter().map(|field| field.name).collect()
    }
}

/// The tables, in the order in which people read of them.
static TABLES: [&Reference; 7] = [&LIMIT, &TIER, &TENANT, &OVERRIDE, &SET, &WEIGHT, &POLICY];

// === For people ===

/// The reference of all fields, as Markdown: what each is, what it takes, and an example that can be read.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for table in TABLES {
        text.push_str(&format!("## {}\n\n", table.heading));
        text.push_str("| field | what | values | example |\n| --- | --- | --- | --- |\n");
        for field in table.fields {
            let Field {
                name, what, values, ..
            } = field;
            let example = field.example.lines().collect::<Vec<_>>().join("`<br>`");
            text.push_str(&format!("| `{name}` | {what} | {values} | `{example}` |\n"));
        }
        text.push('\n');
    }
    text
}

// === For editors ===

/// The JSON Schema of a policy, which editors take for TOML as well.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = table_schema(&POLICY);
    let tables: [(&str, &Reference); 6] = [
        ("limit", &LIMIT),
        ("tier", &TIER),
        ("tenant", &TENANT),
        ("set", &SET),
        ("weight", &WEIGHT),
        ("override", &OVERRIDE),
    ];
    let tables = tables.map(|(name, table)| (name.to_owned(), table_schema(table)));
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Weir policy".into();
    schema["$defs"] = Value::Object(Map::from_iter(tables));
    schema
}

fn table_schema(table: &Reference) -> Value {
    let properties = table.fields.iter().map(|field| {
        let mut schema = kind_schema(&field.kind);
        let (what, values) = (field.what, field.values.replace('`', ""));
        schema["description"] = format!("{what}: {values}").into();
        (field.name.to_owned(), schema)
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": Map::from_iter(properties),
        "required": table.required,
    })
}

fn kind_schema(kind: &Kind) -> Value {
    let money = json!({"type": "string", "pattern": MONEY});
    let count = json!({"type": "integer", "minimum": 1, "maximum": i64::MAX});
    match kind {
        Kind::Text => json!({"type": "string", "minLength": 1}),
        Kind::Name => json!({"type": "string", "pattern": NAME}),
        Kind::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
        Kind::Choice(choices) => json!({"enum": choices}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Kind::Amount => json!({"anyOf": [count, money]}),
        Kind::SoftLevels => {
            let level = json!({"type": "string", "pattern": SOFT});
            json!({"type": "array", "items": {"anyOf": [count, level]}})
        }
        Kind::Texts => json!({
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "uniqueItems": true,
        }),
        Kind::List(table) => json!({"type": "array", "items": {"$ref": def(table)}}),
        Kind::Named(table) => json!({
            "type": "object",
            "additionalProperties": {"$ref": def(table)},
        }),
    }
}

fn def(table: &Reference) -> String {
    let (_, name) = table.what.split_once(' ').unwrap_or_default();
    format!("#/$defs/{name}")
}

#[cfg(test)]
mod tests {
    use super::tables::{MODES, STALES};
    use super::*;
    use crate::policy::{Problem, read};

    /// A policy in which every example may stand.
    fn around(table: &Reference, field: &Field) -> String {
        let example = field.example;
        let limit = [
            "name = \"tokens-a-minute\"",
            "subject = \"tenant/*\"",
            "meter = \"tokens\"",
            "window = \"sliding 60s\"",
            "hard = 60000",
        ];
        let name = |line: &'static str| line.split(' ').next();
        let others = limit
            .into_iter()
            .filter(|line| example.lines().all(|own| name(own) != name(line)));
        let others = others.collect::<Vec<_>>().join("\n");
        match table.what {
            "a limit" => format!("[[limit]]\n{others}\n{example}\n[tier.pro]\n"),
            "an override" => {
                let own = [
                    "subject = \"tenant/acme\"",
                    "limit = \"tokens-a-minute\"",
                    "hard = 90000",
                ];
                let own = own.into_iter().filter(|line| name(line) != name(example));
                let own = own.collect::<Vec<_>>().join("\n");
                format!(
                    "[[limit]]\n{}\n[[override]]\n{own}\n{example}\n",
                    limit.join("\n")
                )
            }
            "a tenant" => format!("[tier.pro]\n[tenant.acme]\n{example}\n"),
            "a set" => match field.name {
                "ids" => format!("[set.slow]\ndimension = \"model\"\n{example}\n"),
                _ => format!("[set.slow]\nids = [\"opus\"]\n{example}\n"),
            },
            "a weight" => match field.name {
                "route" => format!("[[weight]]\n{example}\nrequests = 1\n"),
                _ => format!("[[weight]]\nroute = \"*\"\n{example}\n"),
            },
            "a policy" if !example.starts_with('[') => format!("{example}\n[tier.pro]\n"),
            _ => format!("{example}\n"),
        }
    }

    #[test]
    fn every_example_is_read() {
        for table in TABLES {
            for field in table.fields {
                let text = around(table, field);
                let problems = read(&text).err().unwrap_or_default();
                let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
                assert!(problems.is_empty(), "{problems:?} in\n{text}");
            }
        }
    }

    #[test]
    fn every_choice_is_read() {
        for (field, choices) in [("mode", &MODES[..]), ("stale", &STALES[..])] {
            for choice in choices {
                let text = around(&LIMIT, &LIMIT.fields[0]) + "\n";
                let text =
                    text.replace("[tier.pro]", &format!("{field} = \"{choice}\"\n[tier.pro]"));
                assert!(read(&text).is_ok(), "{text}");
            }
        }
    }
}
