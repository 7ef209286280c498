//! `[[override]]`: other numbers of a limit for one subject. Read when all limits are known: it is held against them.

use std::collections::{BTreeMap, BTreeSet};

use schemas::orders::Numbers;
use schemas::policy::{Level, Limit, Mode, Override, Policy, Window};
use schemas::subject::{Pattern, Sets, Subject};

use super::amount::amount;
use super::fields::OVERRIDE;
use super::limit::{MODES, NO_SOFT, ONLY_STRICT, soft_levels};
use super::nearest::{did_you_mean, meant_dimension};
use super::reader::{Reader, Table};
use super::version::check_reason;

/// Reads all overrides into `policy`, whose limits and tenants are read.
pub(super) fn read(reader: &mut Reader<'_>, top: &Table<'_>, policy: &mut Policy) {
    let mut taken: BTreeMap<(Subject, String), usize> = BTreeMap::new();
    for table in reader.tables(top, "override") {
        reader.refuse_unknown(&table, &OVERRIDE.names(), OVERRIDE.what);
        let subject = subject(reader, &table, &policy.sets);
        let limit = subject
            .as_ref()
            .and_then(|s| limit(reader, &table, policy, s));
        let numbers = limit.and_then(|limit| numbers(reader, &table, limit));
        let reason = reason(reader, &table);
        let (Some(subject), Some(limit)) = (subject, limit) else {
            continue;
        };
        let name = limit.name.clone();
        let key = (subject, name);
        if let Some(first) = taken.get(&key) {
            let (line, (subject, name)) = (reader.line(*first), key);
            let text =
                format!("limit `{name}` is overridden for `{subject}` already, on line {line}");
            reader.say(table.at, text);
            continue;
        }
        taken.insert(key.clone(), table.at);
        if let Some(numbers) = numbers {
            let (subject, name) = key;
            policy
                .overrides
                .add(subject, name, Override { numbers, reason });
        }
    }
}

/// One subject: a pattern is a limit's.
fn subject(reader: &mut Reader<'_>, table: &Table<'_>, sets: &Sets) -> Option<Subject> {
    let (text, at) =
        reader.required(table, "override", ("subject", "subject = \"tenant/acme\""))?;
    match Subject::parse(text) {
        Ok(subject) => Some(subject),
        Err(error) => {
            let hint = match Pattern::parse_with(text, sets) {
                Ok(_) => {
                    "; an override is for one subject: for many write a `[[limit]]`".to_owned()
                }
                Err(_) => meant_dimension(&error),
            };
            reader.say(at, format!("subject `{text}`: {error}{hint}"));
            None
        }
    }
}

/// The limit of the name in `limit` that `subject` falls under.
fn limit<'p>(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    policy: &'p Policy,
    subject: &Subject,
) -> Option<&'p Limit> {
    let (name, at) =
        reader.required(table, "override", ("limit", "limit = \"tokens-a-minute\""))?;
    let named = || policy.limits.iter().filter(|limit| limit.name == name);
    if named().next().is_none() {
        let names = policy.limits.iter().map(|limit| limit.name.as_str());
        let hint = did_you_mean(name, names);
        reader.say(at, format!("the policy has no limit `{name}`{hint}"));
        return None;
    }
    let counted = || named().filter(|limit| limit.pattern.accepts(subject));
    if counted().next().is_none() {
        let patterns: BTreeSet<&str> = named().map(|limit| limit.pattern.as_str()).collect();
        let patterns = patterns.into_iter().collect::<Vec<_>>().join("`, `");
        let at = table.get("subject").map_or(table.at, |value| value.at);
        let text =
            format!("limit `{name}` is on `{patterns}`, and not counted for `{subject}` itself");
        reader.say(at, text);
        return None;
    }
    let tenant = subject.tenant_id();
    let found = counted().find(|limit| policy.tier_allows(limit, tenant.as_deref()));
    let Some(limit) = found else {
        let tenant = tenant.unwrap_or_default();
        let own = policy.tier(&tenant);
        let own = own.map_or("no tier".to_owned(), |own| format!("tier `{own}`"));
        let text = format!("tenant `{tenant}` is of {own}, which has no limit `{name}`");
        reader.say(at, text);
        return None;
    };
    if limit.window == Window::Wallet {
        let text =
            format!("limit `{name}` is a wallet: pay into it by `weir command top-up {subject}`");
        reader.say(at, text);
        return None;
    }
    Some(limit)
}

/// At least one number, or a mode.
fn numbers(reader: &mut Reader<'_>, table: &Table<'_>, limit: &Limit) -> Option<Numbers> {
    if ["hard", "soft", "mode"]
        .iter()
        .all(|field| table.get(field).is_none())
    {
        let name = &limit.name;
        let text = format!(
            "this override changes nothing of `{name}`: give it another `hard`, `soft` or `mode`"
        );
        reader.say(table.at, text);
        return None;
    }
    let hard = hard(reader, table, limit)?;
    let soft = soft(reader, table, limit, hard)?;
    let mode = mode(reader, table, limit)?;
    Some(Numbers {
        hard,
        soft,
        mode,
        ..Numbers::default()
    })
}

/// `Some(None)` where it says nothing of it.
fn hard(reader: &mut Reader<'_>, table: &Table<'_>, limit: &Limit) -> Option<Option<i128>> {
    let Some(value) = table.get("hard") else {
        return Some(None);
    };
    let read = amount(&limit.meter, "hard", &value).and_then(|hard| match limit.window {
        Window::Bucket { burst, .. } if i128::from(burst) < hard => Err(format!(
            "`hard` is above the {burst} that the limit's bucket holds"
        )),
        _ => Ok(hard),
    });
    let read = read.map_err(|error| reader.say(value.at, error));
    read.ok().map(Some)
}

/// Rising; empty where it says nothing of them.
fn soft(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    limit: &Limit,
    hard: Option<i128>,
) -> Option<Vec<Level>> {
    if limit.window == Window::Concurrent
        && let Some(value) = table.get("soft")
    {
        reader.say(value.at, NO_SOFT);
        return None;
    }
    let hard = hard.unwrap_or_else(|| limit.hard());
    soft_levels(reader, table, &limit.meter, hard)
}

/// `Some(None)` where it says nothing of it. A ledger holds what the limit makes strict, and knows nothing of what was
/// used of anything else.
fn mode(reader: &mut Reader<'_>, table: &Table<'_>, limit: &Limit) -> Option<Option<Mode>> {
    let Some(value) = table.get("mode") else {
        return Some(None);
    };
    let mode = reader.choice(table, "mode", &MODES)?;
    if mode != Mode::Strict && limit.window == Window::Concurrent {
        reader.say(value.at, ONLY_STRICT);
        return None;
    }
    if mode == Mode::Strict && limit.mode != Mode::Strict {
        let name = &limit.name;
        let text = format!(
            "`{name}` is not strict, so no ledger knows what was used of it: make the limit strict"
        );
        reader.say(value.at, text);
        return None;
    }
    Some(Some(mode))
}

fn reason(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<String> {
    let (reason, at) = reader.text(table, "reason")?;
    if let Err(error) = check_reason(reason) {
        reader.say(at, error);
    }
    Some(reason.to_owned())
}
