//! The attributes of an event, and whose data follows them.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::fields::{check_id, longer_than};
use super::findings::{At, Findings};
use super::usage::Counts;
use super::{Event, ReadError, Rules, auth, csp, holds_control, json, names, usage};
use crate::time::Timestamp;

const INTO_DATA: &str = "belongs into `data`: beside the attributes nobody counts it";

/// An attribute as it came: `None` when absent, `Some(None)` when it was no string, which has been told already.
type Attribute<'a> = Option<Option<Cow<'a, str>>>;

/// An event before it is looked at.
#[derive(Default)]
struct Parts<'a> {
    specversion: Attribute<'a>,
    id: Attribute<'a>,
    source: Attribute<'a>,
    kind: Attribute<'a>,
    subject: Attribute<'a>,
    time: Attribute<'a>,
    data_content_type: Attribute<'a>,
    data: Option<&'a RawValue>,
}

impl<'a> Parts<'a> {
    /// Where the attribute of this name is kept, if anybody wants it.
    fn attribute(&mut self, name: &str) -> Option<&mut Attribute<'a>> {
        Some(match name {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.data_content_type,
            _ => return None,
        })
    }
}

/// What every record of an event begins with, checked.
#[derive(Default)]
pub(super) struct Head {
    pub(super) event_source: String,
    pub(super) event_id: String,
    pub(super) tenant: String,
    pub(super) at: Timestamp,
    pub(super) received_at: Timestamp,
}

/// Where an event's parts stand.
#[derive(Clone, Copy)]
enum Place<'a> {
    Structured(&'a At<'a>),
    Binary,
}

impl<'a> Place<'a> {
    fn attribute(self, name: &'a str) -> At<'a> {
        match self {
            Place::Structured(event) => At::Member(event, name),
            Place::Binary => At::Header(name),
        }
    }

    fn data(self) -> At<'a> {
        match self {
            Place::Structured(event) => At::Member(event, "data"),
            Place::Binary => At::Root,
        }
    }
}

/// Reads the events of one body.
pub(super) struct Reader<'r> {
    rules: &'r Rules,
    findings: Findings,
    bad_events: usize,
}

impl<'r> Reader<'r> {
    pub(super) fn new(rules: &'r Rules) -> Self {
        Self {
            rules,
            findings: Findings::new(rules.errors_max),
            bad_events: 0,
        }
    }

    /// The one event of a body.
    pub(super) fn one(self, event: Option<Event>) -> Result<Event, ReadError> {
        event.ok_or_else(|| self.into_error())
    }

    /// All events of a body.
    pub(super) fn all(self, events: Vec<Event>) -> Result<Vec<Event>, ReadError> {
        if self.findings.found() == 0 {
            Ok(events)
        } else {
            Err(self.into_error())
        }
    }

    fn into_error(self) -> ReadError {
        ReadError::Bad(self.findings.into_bad(self.bad_events))
    }

    /// The body as a whole is not what it should be.
    pub(super) fn bad(&mut self, expected: &str, raw: &RawValue) {
        let detail = format!("{expected}, not {}", json::shown(raw));
        self.findings.add(&At::Root, detail);
    }

    /// An event with its attributes beside its data. `None` when anything is wrong with it.
    pub(super) fn structured(&mut self, raw: &RawValue, at: At<'_>) -> Option<Event> {
        self.sound(|reader| {
            let parts = reader.parts_of_object(raw, &at)?;
            reader.event(parts, Place::Structured(&at))
        })
    }

    /// [`Reader::structured`] of the object with these members.
    pub(super) fn of_members(
        &mut self,
        members: Vec<(Cow<'_, str>, &RawValue)>,
        at: At<'_>,
    ) -> Option<Event> {
        self.sound(|reader| {
            let parts = reader.parts_of_members(members, &at);
            reader.event(parts, Place::Structured(&at))
        })
    }

    /// An event with its attributes in headers. `None` when anything is wrong with it.
    pub(super) fn binary<'a>(
        &mut self,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        data: Option<&'a RawValue>,
    ) -> Option<Event> {
        self.sound(|reader| {
            let mut parts = Parts {
                data,
                ..Parts::default()
            };
            for (name, value) in headers {
                let problem = match parts.attribute(name) {
                    Some(attribute) => attribute
                        .replace(Some(Cow::Borrowed(value)))
                        .map(|_| "is there twice"),
                    None => names::counts(name).then_some(INTO_DATA),
                };
                if let Some(problem) = problem {
                    reader.findings.add(&At::Header(name), problem);
                }
            }
            reader.event(parts, Place::Binary)
        })
    }

    /// What `read` returns, if it found nothing wrong; else it was one bad event more.
    fn sound(&mut self, read: impl FnOnce(&mut Self) -> Option<Event>) -> Option<Event> {
        let before = self.findings.found();
        let event = read(self);
        if self.findings.found() == before {
            return event;
        }
        self.bad_events += 1;
        None
    }

    fn parts_of_object<'a>(&mut self, raw: &'a RawValue, event: &At<'_>) -> Option<Parts<'a>> {
        match json::members(raw) {
            Ok(members) => Some(self.parts_of_members(members, event)),
            Err(detail) => {
                self.findings.add(event, format!("an event {detail}"));
                None
            }
        }
    }

    fn parts_of_members<'a>(
        &mut self,
        members: Vec<(Cow<'_, str>, &'a RawValue)>,
        event: &At<'_>,
    ) -> Parts<'a> {
        let mut parts = Parts::default();
        for (name, raw) in members {
            let at = At::Member(event, &name);
            let is_twice = match parts.attribute(&name) {
                Some(attribute) => {
                    let text = json::text(raw).map_err(|detail| self.findings.add(&at, detail));
                    attribute.replace(text.ok()).is_some()
                }
                None if name == "data" => parts.data.replace(raw).is_some(),
                None => {
                    if name == "data_base64" {
                        self.findings.add(&at, "is not read; send JSON as `data`");
                    } else if names::counts(&name) {
                        self.findings.add(&at, INTO_DATA);
                    }
                    false
                }
            };
            if is_twice {
                self.findings.add(&at, "is there twice");
            }
        }
        parts
    }

    fn event(&mut self, parts: Parts<'_>, place: Place<'_>) -> Option<Event> {
        let at = |name| place.attribute(name);
        match self
            .required(parts.specversion, &at("specversion"))
            .as_deref()
        {
            Some("1.0") | None => {}
            Some(other) => self.findings.add(
                &at("specversion"),
                format!(
                    "`{}` is not read here; send CloudEvents 1.0",
                    json::cut(other)
                ),
            ),
        }
        self.content_type(parts.data_content_type, &at("datacontenttype"));
        let head = Head {
            event_source: self.name(parts.source, &at("source")),
            event_id: self.name(parts.id, &at("id")),
            tenant: self.tenant(parts.subject, &at("subject")),
            at: self.time(parts.time, &at("time")),
            received_at: self.rules.received_at,
        };
        let kind = self.required(parts.kind, &at("type"))?;
        let (rules, data, data_at) = (self.rules, parts.data, &place.data());
        let findings = &mut self.findings;
        Some(match &*kind {
            "usage" => Event::Usage(usage::read(findings, head, Counts::Request, data, data_at)),
            "auth" => Event::Auth(auth::read(findings, head, rules, data, data_at)),
            "csp" => Event::Csp(csp::read(findings, head, data, data_at)?),
            name if rules.meter_types.contains(name) => Event::Usage(usage::read(
                findings,
                head,
                Counts::Unit(name),
                data,
                data_at,
            )),
            other => {
                findings.add(&at("type"), unknown_type(other, rules));
                return None;
            }
        })
    }

    fn required<'a>(&mut self, attribute: Attribute<'a>, at: &At<'_>) -> Option<Cow<'a, str>> {
        let problem = match attribute {
            Some(Some(text)) if !text.is_empty() => return Some(text),
            Some(Some(_)) => "must not be empty",
            Some(None) => return None,
            None => "is required",
        };
        self.findings.add(at, problem);
        None
    }

    /// `id` or `source`. Empty when anything is wrong with it.
    fn name(&mut self, attribute: Attribute<'_>, at: &At<'_>) -> String {
        let text = self.required(attribute, at).unwrap_or_default();
        if text.len() > self.rules.attribute_bytes_max {
            self.findings
                .add(at, longer_than(self.rules.attribute_bytes_max));
        } else if holds_control(&text) {
            self.findings.add(at, "holds a control character");
        }
        text.into_owned()
    }

    fn tenant(&mut self, attribute: Attribute<'_>, at: &At<'_>) -> String {
        if attribute.is_none() {
            self.findings.add(at, "is required: the tenant's id");
            return String::new();
        }
        let id = self.required(attribute, at).unwrap_or_default();
        if let Err(detail) = check_id(&id) {
            self.findings.add(at, detail);
        }
        id.into_owned()
    }

    fn content_type(&mut self, attribute: Attribute<'_>, at: &At<'_>) {
        let Some(Some(text)) = attribute else {
            return;
        };
        if !is_json(&text) {
            self.findings
                .add(at, format!("`{}` is not read; send JSON", json::cut(&text)));
        }
    }

    fn time(&mut self, attribute: Attribute<'_>, at: &At<'_>) -> Timestamp {
        let now = self.rules.received_at;
        let Some(Some(text)) = attribute else {
            return now;
        };
        let Some(time) = Timestamp::parse(&text) else {
            let text = json::cut(&text);
            let detail = format!("`{text}` is no RFC 3339 time such as 2026-01-31T12:00:00Z");
            self.findings.add(at, detail);
            return now;
        };
        let (ahead, behind) = (time.since(now), now.since(time));
        let (off, side, max) = if ahead > self.rules.future_max {
            (ahead, "ahead of", self.rules.future_max)
        } else if behind > self.rules.past_max {
            (behind, "behind", self.rules.past_max)
        } else {
            return time;
        };
        let (off, max) = (span(off), span(max));
        let detail = format!("is {off} {side} this server's clock ({now}); at most {max} is taken");
        self.findings.add(at, detail);
        now
    }
}

/// Whether a content type is JSON's, or that of something written as JSON.
pub(super) fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let suffix = kind.rsplit_once('+').map(|(_, suffix)| suffix);
    kind.eq_ignore_ascii_case("application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"))
}

fn unknown_type(kind: &str, rules: &Rules) -> String {
    const NAMED: usize = 20;
    let kind = json::cut(kind);
    let own = rules.meter_types.iter().take(NAMED).map(String::as_str);
    let known: Vec<&str> = ["usage", "auth", "csp"].into_iter().chain(own).collect();
    format!(
        "`{kind}` is no type of event here; use one of {}",
        known.join(", ")
    )
}

/// A span in its largest sensible unit.
fn span(span: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    match span.as_secs() {
        s if s >= 2 * YEAR => format!("{} years", s / YEAR),
        s if s >= 2 * DAY => format!("{} days", s / DAY),
        s if s >= 2 * HOUR => format!("{} hours", s / HOUR),
        s if s >= 2 * MINUTE => format!("{} minutes", s / MINUTE),
        s => format!("{s} seconds"),
    }
}
