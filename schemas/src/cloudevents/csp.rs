//! Reports of content security policy violations: as an event's data, and as browsers send them by themselves.
//!
//! Browsers differ in names and shapes, and anybody can send a report. So both spellings are taken
//! (`blocked-uri`, `blockedURL`), what is odd is dropped rather than refused, and what is kept is cut: no query, no
//! fragment, no user or password of any address, no control characters, a bounded length.

mod address;

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::envelope::Head;
use super::findings::{At, Findings};
use super::json::{Items, members, parse, text};
use super::{ReadError, Rules};
use crate::problem::FieldError;
use crate::record::Csp;
use address::{blocked, page};

/// The longest directive that is kept, in bytes.
const DIRECTIVE_BYTES_MAX: usize = 64;
/// What browsers send of an offending script, in characters. Others are cut to that.
const SAMPLE_CHARS_MAX: usize = 40;
/// The `event_source` of reports that browsers sent by themselves.
const BROWSER: &str = "browser";
/// The type of a violation's report among those of the Reporting API.
const VIOLATION: &str = "csp-violation";
/// What `application/csp-report` has around a report's fields.
const WRAPPER: &str = "csp-report";

/// What a browser sent, sorted: what is bad or of another type does not spoil the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CspReports {
    pub reports: Vec<Csp>,
    /// Reports of other types, such as `deprecation`: browsers send those to the same address.
    pub others: usize,
    pub bad: usize,
    /// What is wrong with the bad ones, the first errors only.
    pub errors: Vec<FieldError>,
}

/// Reads what browsers send: `application/csp-report` (one object, with or without `csp-report` around it) and
/// `application/reports+json` (an array), told apart by their shape. Browsers give no ids, so a report's is a hash of
/// its bytes, its place and the time.
pub fn read_csp_reports(body: &[u8], tenant: &str, rules: &Rules) -> Result<CspReports, ReadError> {
    let raw = parse(body)?;
    let mut sorter = Sorter {
        tenant,
        rules,
        findings: Findings::new(rules.errors_max),
        sorted: CspReports::default(),
    };
    match Items::read(raw, rules.events_max) {
        Some(items) if items.more => {
            return Err(ReadError::TooMany {
                events_max: rules.events_max,
            });
        }
        Some(items) => {
            for (index, raw) in items.values.into_iter().enumerate() {
                sorter.take(raw, index, &At::Index(index));
            }
        }
        None => sorter.take(raw, 0, &At::Root),
    }
    Ok(CspReports {
        errors: sorter.findings.into_errors(),
        ..sorter.sorted
    })
}

struct Sorter<'r> {
    tenant: &'r str,
    rules: &'r Rules,
    findings: Findings,
    sorted: CspReports,
}

impl Sorter<'_> {
    fn take(&mut self, raw: &RawValue, index: usize, at: &At<'_>) {
        if self.sort(raw, index, at).is_none() {
            self.sorted.bad += 1;
        }
    }

    /// `None` when the report is bad.
    fn sort(&mut self, raw: &RawValue, index: usize, at: &At<'_>) -> Option<()> {
        let members = told(members(raw), &mut self.findings, at)?;
        let member = |name| members.iter().find(|(n, _)| n == name).map(|(_, raw)| *raw);
        let word = |name| member(name).and_then(|raw| text(raw).ok());
        let head = Head {
            event_source: BROWSER.to_owned(),
            event_id: self.id(raw, index),
            tenant: self.tenant.to_owned(),
            at: self.rules.received_at,
            received_at: self.rules.received_at,
        };
        let (Some(kind), Some(body)) = (word("type"), member("body")) else {
            let csp = violation(&mut self.findings, head, raw, at)?;
            self.sorted.reports.push(csp);
            return Some(());
        };
        if kind != VIOLATION {
            self.sorted.others += 1;
            return Some(());
        }
        let age = member("age").and_then(|age| age.get().parse().ok());
        let age = Duration::from_millis(age.unwrap_or(0)).min(self.rules.past_max);
        let head = Head {
            at: self.rules.received_at.minus(age),
            ..head
        };
        let mut csp = violation(&mut self.findings, head, body, &At::Member(at, "body"))?;
        if csp.document_uri.is_empty() {
            csp.document_uri = page(&word("url").unwrap_or_default());
        }
        self.sorted.reports.push(csp);
        Some(())
    }

    fn id(&self, raw: &RawValue, index: usize) -> String {
        let mut hash = Sha256::new();
        hash.update(raw.get());
        hash.update(self.rules.received_at.as_micros().to_le_bytes());
        hash.update((index as u64).to_le_bytes());
        let hash = hash.finalize();
        hash[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Reads an event's data: a report's own fields, with or without `csp-report` around them.
pub(super) fn read(
    findings: &mut Findings,
    head: Head,
    data: Option<&RawValue>,
    at: &At<'_>,
) -> Option<Csp> {
    match data {
        Some(data) => violation(findings, head, data, at),
        None => {
            findings.add(at, "is required: the report's own fields");
            None
        }
    }
}

/// A report's fields by what they mean.
#[derive(Default)]
struct Report<'a> {
    document: Option<Cow<'a, str>>,
    effective: Option<Cow<'a, str>>,
    violated: Option<Cow<'a, str>>,
    blocked: Option<Cow<'a, str>>,
    disposition: Option<Cow<'a, str>>,
    source_file: Option<Cow<'a, str>>,
    line: Option<Cow<'a, str>>,
    sample: Option<Cow<'a, str>>,
}

impl<'a> Report<'a> {
    /// Where the field of this name is kept, in any browser's spelling.
    fn field(&mut self, name: &str) -> Option<&mut Option<Cow<'a, str>>> {
        let plain: String = name
            .chars()
            .filter(|c| !matches!(c, '-' | '_'))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        Some(match &*plain {
            "documenturi" | "documenturl" => &mut self.document,
            "effectivedirective" => &mut self.effective,
            "violateddirective" => &mut self.violated,
            "blockeduri" | "blockedurl" => &mut self.blocked,
            "disposition" => &mut self.disposition,
            "sourcefile" => &mut self.source_file,
            "linenumber" => &mut self.line,
            "sample" | "scriptsample" | "scriptsource" => &mut self.sample,
            _ => return None,
        })
    }
}

/// A report with or without `csp-report` around it.
fn violation(findings: &mut Findings, head: Head, raw: &RawValue, at: &At<'_>) -> Option<Csp> {
    let members = told(members(raw), findings, at)?;
    match members.iter().find(|(name, _)| name == WRAPPER) {
        Some((_, inner)) => {
            let at = &At::Member(at, WRAPPER);
            let members = told(self::members(inner), findings, at)?;
            unwrapped(findings, head, &members, at)
        }
        None => unwrapped(findings, head, &members, at),
    }
}

fn told<T>(result: Result<T, String>, findings: &mut Findings, at: &At<'_>) -> Option<T> {
    result.map_err(|detail| findings.add(at, detail)).ok()
}

fn unwrapped(
    findings: &mut Findings,
    head: Head,
    members: &[(Cow<'_, str>, &RawValue)],
    at: &At<'_>,
) -> Option<Csp> {
    let mut report = Report::default();
    for (name, raw) in members {
        if let Some(field) = report.field(name) {
            // Numbers come as strings and strings as numbers.
            let value = text(raw).unwrap_or(Cow::Borrowed(raw.get()));
            field.get_or_insert(value);
        }
    }
    let Some(directive) = directive(&report) else {
        findings.add(
            at,
            "names no directive in `effective-directive` or `violated-directive`",
        );
        return None;
    };
    let (blocked_uri, blocked_host) = blocked(&report.blocked.unwrap_or_default());
    Some(Csp {
        event_source: head.event_source,
        event_id: head.event_id,
        tenant: head.tenant,
        at: head.at,
        received_at: head.received_at,
        document_uri: page(&report.document.unwrap_or_default()),
        directive,
        blocked_uri,
        blocked_host,
        disposition: disposition(report.disposition.as_deref()),
        source_file: report
            .source_file
            .map(|file| page(&file))
            .filter(|file| !file.is_empty()),
        line: report
            .line
            .and_then(|line| line.parse().ok())
            .filter(|line| *line > 0),
        sample: report
            .sample
            .map(|sample| excerpt(&sample))
            .filter(|sample| !sample.is_empty()),
    })
}

/// The effective directive; from old browsers the first word of the violated one, which holds its whole source list.
fn directive(report: &Report<'_>) -> Option<String> {
    let named = report.effective.as_deref().filter(|name| !name.is_empty());
    let violated = || report.violated.as_deref()?.split_ascii_whitespace().next();
    let name = named.or_else(violated)?.to_ascii_lowercase();
    let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    (is_name && name.len() <= DIRECTIVE_BYTES_MAX).then_some(name)
}

fn disposition(text: Option<&str>) -> Option<String> {
    match text? {
        "enforce" => Some("enforce".to_owned()),
        "report" | "reporting" => Some("report".to_owned()),
        _ => None,
    }
}

fn excerpt(sample: &str) -> String {
    let plain = sample.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(SAMPLE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
