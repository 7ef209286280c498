//! From a body to events: all good, or a refusal that names each bad one. Pure: no clock, no I/O.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use percent_encoding::percent_decode_str;
use schemas::access::Caller;
use schemas::cloudevents::{Event, Rules, read_batch, read_binary, read_event, read_ndjson};
use schemas::problem::FieldError;

use crate::refusal::Refusal;

/// The most events of other tenants that are named one by one.
const ERRORS_MAX: usize = 100;

/// In which of CloudEvents' forms events come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One event as a JSON object.
    Structured,
    /// A JSON array of events.
    Batch,
    /// One event a line.
    Lines,
    /// One event: its attributes in headers (names without `ce-`), its data as the body.
    Binary(Vec<(String, String)>),
}

impl Form {
    /// What the headers say.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let value = headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], |value| value.as_bytes());
        let value = String::from_utf8_lossy(value);
        let essence = value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match essence.as_str() {
            "application/cloudevents+json" => Ok(Self::Structured),
            "application/cloudevents-batch+json" => Ok(Self::Batch),
            "application/x-ndjson" => Ok(Self::Lines),
            "application/json" if headers.contains_key("ce-specversion") => {
                Ok(Self::Binary(attributes(headers)?))
            }
            _ => Err(Refusal::EventType(value.into_owned())),
        }
    }
}

/// The attributes of an event in binary form: percent-encoded UTF-8, as CloudEvents' HTTP binding has it.
fn attributes(headers: &HeaderMap) -> Result<Vec<(String, String)>, Refusal> {
    let mut attributes = Vec::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        let bad = || Refusal::BadHeader(name.to_string());
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| bad())?;
        let value = percent_decode_str(value).decode_utf8().map_err(|_| bad())?;
        attributes.push((attribute.to_owned(), value.into_owned()));
    }
    Ok(attributes)
}

/// Reads `body` and takes it whole, or not at all.
pub(crate) fn admit(
    form: &Form,
    body: &[u8],
    caller: &Caller,
    rules: &Rules,
) -> Result<Vec<Event>, Refusal> {
    let events = match form {
        Form::Structured => vec![read_event(body, rules)?],
        Form::Batch => read_batch(body, rules)?,
        Form::Lines => read_ndjson(body, rules)?,
        Form::Binary(attributes) => {
            let attributes = attributes
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            vec![read_binary(attributes, body, rules)?]
        }
    };
    check_tenants(form, body, &events, caller)?;
    Ok(events)
}

fn check_tenants(
    form: &Form,
    body: &[u8],
    events: &[Event],
    caller: &Caller,
) -> Result<(), Refusal> {
    if events.iter().all(|event| caller.speaks_for(event.tenant())) {
        return Ok(());
    }
    let errors = events
        .iter()
        .zip(places(form, body, events.len()))
        .filter(|(event, _)| !caller.speaks_for(event.tenant()))
        .take(ERRORS_MAX)
        .map(|(event, place)| FieldError {
            pointer: match form {
                Form::Structured => "/subject".to_owned(),
                Form::Binary(_) => "ce-subject".to_owned(),
                Form::Batch | Form::Lines => format!("/{place}/subject"),
            },
            detail: format!("this key may not report for tenant `{}`", event.tenant()),
        })
        .collect();
    Err(Refusal::OtherTenant { errors })
}

/// Where in the body each event stands, from 0: its index, or its line, since empty lines hold none.
fn places(form: &Form, body: &[u8], events: usize) -> Vec<usize> {
    if *form != Form::Lines {
        return (0..events).collect();
    }
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    filled.map(|(line, _)| line).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use schemas::record::Role;
    use schemas::time::Timestamp;

    use super::*;

    #[track_caller]
    fn check_form(content_type: &str, more: &[(&'static str, &str)], expected: Option<Form>) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        for (name, value) in more {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(Form::of(&headers).ok(), expected, "{content_type}");
    }

    #[test]
    fn headers_tell_the_form() {
        check_form("application/cloudevents+json", &[], Some(Form::Structured));
        check_form(
            "Application/CloudEvents+JSON; charset=utf-8",
            &[],
            Some(Form::Structured),
        );
        check_form("application/cloudevents-batch+json", &[], Some(Form::Batch));
        check_form("application/x-ndjson", &[], Some(Form::Lines));
        let attributes = vec![
            ("specversion".to_owned(), "1.0".to_owned()),
            ("subject".to_owned(), "a/ä".to_owned()),
        ];
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-subject", "a%2F%C3%A4"),
            ("x-other", "1"),
        ];
        check_form("application/json", &headers, Some(Form::Binary(attributes)));
        check_form("application/json", &[], None);
        check_form("text/plain", &headers, None);
        check_form("", &[], None);
        let broken = [("ce-specversion", "1.0"), ("ce-id", "%FF")];
        check_form("application/json", &broken, None);
    }

    fn caller(tenant: Option<&str>) -> Caller {
        Caller {
            key_id: "k".into(),
            role: Role::Ingest,
            tenant: tenant.map(str::to_owned),
        }
    }

    fn event(tenant: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"1","source":"s","type":"usage","subject":"{tenant}","data":{{"input_tokens":1}}}}"#
        )
    }

    /// `expected`: how many events, or the pointers of what is wrong with the tenants.
    #[track_caller]
    fn check(form: Form, body: &str, tenant: Option<&str>, expected: Result<usize, &[&str]>) {
        let rules = Rules::at(Timestamp::from_seconds(1_700_000_000));
        match admit(&form, body.as_bytes(), &caller(tenant), &rules) {
            Ok(events) => assert_eq!(Ok(events.len()), expected),
            Err(Refusal::OtherTenant { errors }) => {
                let pointers: Vec<_> = errors.iter().map(|e| e.pointer.as_str()).collect();
                assert_eq!(Err(pointers.as_slice()), expected);
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_key_speaks_for_its_own_tenant_only() {
        let (acme, other) = (event("acme"), event("other"));
        let batch = format!("[{acme},{other},{acme},{other}]");
        check(Form::Batch, &batch, None, Ok(4));
        check(
            Form::Batch,
            &batch,
            Some("acme"),
            Err(&["/1/subject", "/3/subject"]),
        );
        check(
            Form::Lines,
            &format!("{acme}\n{other}\n"),
            Some("acme"),
            Err(&["/1/subject"]),
        );
        check(
            Form::Lines,
            &format!("\n\n{acme}\r\n  \r\n{other}"),
            Some("acme"),
            Err(&["/4/subject"]),
        );
        check(Form::Structured, &acme, Some("acme"), Ok(1));
        check(Form::Structured, &other, Some("acme"), Err(&["/subject"]));
        check(Form::Batch, "[]", Some("acme"), Ok(0));
    }
}
