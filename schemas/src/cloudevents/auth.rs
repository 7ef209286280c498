//! The data of `auth`.

use serde_json::value::RawValue;

use super::envelope::Head;
use super::fields::Field;
use super::findings::{At, Findings};
use super::{Rules, json};
use crate::record::{Auth, Outcome};

/// Reads the data; what is wrong goes to `findings`.
pub(super) fn read(
    findings: &mut Findings,
    head: Head,
    rules: &Rules,
    data: Option<&RawValue>,
    at: &At<'_>,
) -> Auth {
    let mut auth = Auth {
        event_source: head.event_source,
        event_id: head.event_id,
        tenant: head.tenant,
        at: head.at,
        received_at: head.received_at,
        account: None,
        source: None,
        outcome: Outcome::Success,
        surface: None,
        reason: None,
    };
    let members = match data.map(json::members) {
        Some(Ok(members)) => members,
        Some(Err(detail)) => {
            findings.add(at, detail);
            return auth;
        }
        None => Vec::new(),
    };
    let mut outcome = None;
    for (name, raw) in members {
        let at = &At::Member(at, &name);
        let field = Field { at, raw };
        match &*name {
            "account" => findings.id(&mut auth.account, field),
            "source" => findings.address(&mut auth.source, field),
            "outcome" => match outcome.replace(read_outcome(raw)) {
                None => {}
                Some(_) => findings.add(at, "is there twice"),
            },
            "surface" => findings.id(&mut auth.surface, field),
            "reason" => findings.words(&mut auth.reason, rules.attribute_bytes_max, field),
            _ => {}
        }
    }
    let required = || Err("is required: success or failure".to_owned());
    match outcome.unwrap_or_else(required) {
        Ok(outcome) => auth.outcome = outcome,
        Err(detail) => findings.add(&At::Member(at, "outcome"), detail),
    }
    auth
}

fn read_outcome(raw: &RawValue) -> Result<Outcome, String> {
    match &*json::text(raw)? {
        "success" => Ok(Outcome::Success),
        "failure" => Ok(Outcome::Failure),
        other => Err(format!(
            "`{}` is no outcome: success or failure",
            json::cut(other)
        )),
    }
}
