//! Cases as people write them: a TOML file beside the policy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use gateway::ask;
use gateway::request::{Ask, Consume};
use schemas::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Spanned;

/// When a case begins unless it says so: a Monday.
const START: &str = "2026-01-05T00:00:00Z";

/// Calls and events of one case.
const MOMENTS_MAX: usize = 1_000_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    policy: Option<PathBuf>,
    #[serde(default, rename = "case")]
    cases: Vec<Spanned<RawCase>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    start: Option<toml::Value>,
    steps: Vec<Spanned<RawStep>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    at: Option<toml::Value>,
    times: Option<u32>,
    every: Option<String>,
    check: Option<toml::Table>,
    usage: Option<toml::Table>,
    auth: Option<toml::Table>,
    top_up: Option<toml::Table>,
    reserve: Option<toml::Table>,
    commit: Option<toml::Table>,
    release: Option<toml::Table>,
    verdict: Option<Verdict>,
    status: Option<u16>,
    limit: Option<String>,
    retry_after_s: Option<u64>,
    admitted: Option<u32>,
    late: Option<bool>,
    over: Option<bool>,
    alerts: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Allow,
    Throttle,
    Challenge,
    Block,
}

/// What a file of cases says.
pub(super) struct CaseFile {
    /// Beside the file, unless it names another.
    pub(super) policy: PathBuf,
    pub(super) cases: Vec<Case>,
}

pub(super) struct Case {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) steps: Vec<Step>,
}

/// One kind of call or event, once or at regular times.
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) first: Timestamp,
    pub(super) times: u32,
    every: Duration,
    pub(super) act: Act,
    pub(super) expected: Expected,
}

pub(super) enum Act {
    Check(Box<Ask>),
    Reserve(Box<Reserve>),
    /// By the name of the reservation, and what was spent under it.
    Commit(String, Box<Consume>),
    Release(String),
    /// A CloudEvent's `type`, its `subject`, and its `data`.
    Report(&'static str, String, Value),
    /// A command, as `POST /v1/commands` takes it.
    Order(Value),
    /// Nothing but the passing of time.
    Wait,
}

pub(super) struct Reserve {
    /// What later steps call it by.
    pub(super) name: Option<String>,
    pub(super) ask: Ask,
    pub(super) ttl: Duration,
}

/// What must come of a step; what is absent may be anything.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) verdict: Option<Verdict>,
    pub(super) status: Option<u16>,
    /// One of the limits that refuse.
    pub(super) limit: Option<String>,
    pub(super) retry_after_s: Option<u64>,
    /// Of the step's calls.
    pub(super) admitted: Option<u32>,
    /// Whether a commit came after its reservation had ended.
    pub(super) late: Option<bool>,
    /// Whether it spent more than was reserved.
    pub(super) over: Option<bool>,
    /// Limit and level of each, in order: `rpm hard`.
    pub(super) alerts: Option<Vec<String>>,
}

impl Step {
    /// When it happens for the `nth` time, from 0.
    pub(super) fn at(&self, nth: u32) -> Timestamp {
        self.first.plus(self.every.saturating_mul(nth))
    }
}

/// Reads a file of cases.
///
/// # Errors
/// What is wrong with it, and on which line.
pub(super) fn read(path: &Path) -> anyhow::Result<CaseFile> {
    let shown = path.display();
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {shown}"))?;
    let raw: RawFile = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        anyhow!("{shown}:{}: {}", line(&text, at), error.message())
    })?;
    let beside = raw.policy.unwrap_or_else(|| PathBuf::from("policy.toml"));
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut cases = Vec::new();
    for case in raw.cases {
        let at = line(&text, case.span().start);
        let read = read_case(&text, case.into_inner(), at);
        cases.push(read.map_err(|(line, error)| anyhow!("{shown}:{line}: {error}"))?);
    }
    if cases.is_empty() {
        return Err(anyhow!("{shown} holds no [[case]]"));
    }
    Ok(CaseFile {
        policy: folder.join(beside),
        cases,
    })
}

/// What is wrong, and on which line.
type Wrong = (usize, String);

fn read_case(text: &str, raw: RawCase, at: usize) -> Result<Case, Wrong> {
    let start = match &raw.start {
        Some(start) => time(start).ok_or_else(|| (at, NO_TIME.to_owned()))?,
        None => Timestamp::parse(START).unwrap_or_default(),
    };
    let mut steps: Vec<Step> = Vec::new();
    let mut moments = 0;
    for raw in raw.steps {
        let at = line(text, raw.span().start);
        let before = steps.last().map_or(start, |step| step.at(step.times - 1));
        let step = read_step(raw.into_inner(), (start, before), at);
        let step = step.map_err(|error| (at, error))?;
        moments += step.times as usize;
        if MOMENTS_MAX < moments {
            return Err((
                at,
                format!("a case has at most {MOMENTS_MAX} calls and events"),
            ));
        }
        steps.push(step);
    }
    Ok(Case {
        name: raw.name,
        line: at,
        steps,
    })
}

const NO_TIME: &str =
    "write a time as `10s`, `1h30m` (since the start), or as `2026-01-31T23:59:59Z`";

/// `start` is the case's, `before` when the step before this one happened last.
fn read_step(
    mut raw: RawStep,
    (start, before): (Timestamp, Timestamp),
    line: usize,
) -> Result<Step, String> {
    let first = match &raw.at {
        None => before,
        Some(at) => at
            .as_str()
            .and_then(span)
            .map(|span| start.plus(span))
            .or_else(|| time(at))
            .ok_or(NO_TIME)?,
    };
    let every = raw.every.as_deref().map(|text| span(text).ok_or(NO_TIME));
    let times = raw.times.unwrap_or(1);
    if times == 0 {
        return Err("`times` must be at least 1".to_owned());
    }
    let act = act(&mut raw)?;
    let expected = Expected {
        verdict: raw.verdict,
        status: raw.status,
        limit: raw.limit,
        retry_after_s: raw.retry_after_s,
        admitted: raw.admitted,
        late: raw.late,
        over: raw.over,
        alerts: raw.alerts,
    };
    refuse_what_never_comes(&expected, &act)?;
    Ok(Step {
        line,
        first,
        times,
        every: every.transpose()?.unwrap_or_default(),
        act,
        expected,
    })
}

/// What no step of this kind is answered.
fn refuse_what_never_comes(expected: &Expected, act: &Act) -> Result<(), String> {
    let asks = expected.verdict.is_some()
        || expected.status.is_some()
        || expected.limit.is_some()
        || expected.retry_after_s.is_some()
        || expected.admitted.is_some();
    if asks && !matches!(act, Act::Check(_) | Act::Reserve(_)) {
        return Err("only a `check` or a `reserve` is answered: others have no verdict".to_owned());
    }
    let settles = expected.late.is_some() || expected.over.is_some();
    if settles && !matches!(act, Act::Commit(..)) {
        return Err("only a `commit` comes late, or spends more than was reserved".to_owned());
    }
    Ok(())
}

/// What a step does, of what it may do.
fn act(raw: &mut RawStep) -> Result<Act, String> {
    let acts = [
        ("check", raw.check.take()),
        ("reserve", raw.reserve.take()),
        ("commit", raw.commit.take()),
        ("release", raw.release.take()),
        ("usage", raw.usage.take()),
        ("auth", raw.auth.take()),
        ("top_up", raw.top_up.take()),
    ];
    let names = acts.each_ref().map(|(name, _)| *name);
    let mut said = acts
        .into_iter()
        .filter_map(|(name, table)| Some((name, table?)));
    match (said.next(), said.next()) {
        (None, _) => Ok(Act::Wait),
        (Some((name, table)), None) => match name {
            "check" => check(&table),
            "reserve" => reserve(table),
            "commit" => commit(table),
            "release" => release(table),
            "top_up" => top_up(table),
            kind => report(kind, table),
        },
        _ => Err(format!("a step is one of `{}`", names.join("`, `"))),
    }
}

fn check(table: &toml::Table) -> Result<Act, String> {
    let asked = ask::from_json(&body(table)?).map_err(|error| told("check", &error));
    Ok(Act::Check(Box::new(asked?)))
}

fn reserve(mut table: toml::Table) -> Result<Act, String> {
    let name = match table.contains_key("id") {
        true => Some(name("reserve", &mut table)?),
        false => None,
    };
    let asked = ask::reservation_from_json(&body(&table)?);
    let (ask, ttl) = asked.map_err(|error| told("reserve", &error))?;
    Ok(Act::Reserve(Box::new(Reserve { name, ask, ttl })))
}

fn commit(mut table: toml::Table) -> Result<Act, String> {
    let name = name("commit", &mut table)?;
    let actual = ask::actual_from_json(&body(&table)?).map_err(|error| told("commit", &error));
    Ok(Act::Commit(name, Box::new(actual?)))
}

fn release(mut table: toml::Table) -> Result<Act, String> {
    let name = name("release", &mut table)?;
    match table.keys().next() {
        Some(field) => Err(format!("release/{field} is no field of a release: use id")),
        None => Ok(Act::Release(name)),
    }
}

/// What a step calls its reservation by.
fn name(act: &str, table: &mut toml::Table) -> Result<String, String> {
    let id = table.remove("id");
    let name = id.as_ref().and_then(toml::Value::as_str);
    let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
    name.ok_or_else(|| format!("`{act}` names a reservation: write `id = \"a\"`"))
}

fn body(table: &toml::Table) -> Result<Vec<u8>, String> {
    serde_json::to_vec(table).map_err(|error| error.to_string())
}

/// All that is wrong with what is asked.
fn told(act: &str, error: &ask::BadAsk) -> String {
    match error {
        ask::BadAsk::Fields(fields) => {
            let fields = fields.iter();
            let lines = fields.map(|field| format!("{act}{} {}", field.pointer, field.detail));
            lines.collect::<Vec<_>>().join("; ")
        }
        error @ ask::BadAsk::NotJson(_) => error.to_string(),
    }
}

/// What it lacks, or has too much, is told by whoever reads commands.
fn top_up(entry: toml::Table) -> Result<Act, String> {
    let mut command = serde_json::to_value(entry).map_err(|error| error.to_string())?;
    command["kind"] = json!("top_up");
    command["reason"] = json!("a case of the policy");
    Ok(Act::Order(command))
}

fn report(kind: &'static str, data: toml::Table) -> Result<Act, String> {
    let data = serde_json::to_value(data).map_err(|error| error.to_string())?;
    let Value::Object(mut data) = data else {
        return Err(format!("`{kind}` is a table"));
    };
    let tenant = data.remove("tenant");
    let tenant = tenant.and_then(|tenant| tenant.as_str().map(str::to_owned));
    let tenant = tenant.ok_or_else(|| format!("`{kind}` names no `tenant`"))?;
    Ok(Act::Report(kind, tenant, Value::Object(data)))
}

/// The CloudEvent that tells a step's event, the `nth` of its case.
pub(super) fn event(
    (kind, tenant): (&str, &str),
    data: &Value,
    nth: u64,
    at: Timestamp,
) -> Vec<u8> {
    let event: Map<String, Value> = [
        ("specversion", json!("1.0")),
        ("id", json!(nth.to_string())),
        ("source", json!("policy-test")),
        ("type", json!(kind)),
        ("subject", json!(tenant)),
        ("time", json!(at.to_string())),
        ("data", data.clone()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    Value::Object(event).to_string().into_bytes()
}

/// A point in time, as TOML's own or as text.
fn time(value: &toml::Value) -> Option<Timestamp> {
    match value {
        toml::Value::String(text) => Timestamp::parse(text),
        toml::Value::Datetime(at) => Timestamp::parse(&at.to_string()),
        _ => None,
    }
}

/// `90s`, `1h30m`, `250ms`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        whole = whole.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after;
    }
    (!text.is_empty()).then_some(whole)
}

/// The line, from 1, that a byte of the text is on.
fn line(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("1h30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1w", None),
            ("1.5s", None),
            ("99999999999999999d", None),
        ] {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(span(text), expected, "{text}");
        }
    }
}
