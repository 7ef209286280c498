//! The data of `usage`, and of events that a configured meter counts.

use serde_json::value::RawValue;

use super::envelope::Head;
use super::fields::Field;
use super::findings::{At, Findings};
use super::{COUNT_MAX, UNIT_MAX, json, names};
use crate::record::Usage;

/// What an event of this type counts by itself.
#[derive(Clone, Copy)]
pub(super) enum Counts<'a> {
    /// One request.
    Request,
    /// One of the unit of this name.
    Unit(&'a str),
}

/// Reads the data into `usage`; what is wrong goes to `findings`.
pub(super) fn read(
    findings: &mut Findings,
    head: Head,
    counts: Counts<'_>,
    data: Option<&RawValue>,
    at: &At<'_>,
) -> Usage {
    let mut usage = Usage {
        event_source: head.event_source,
        event_id: head.event_id,
        tenant: head.tenant,
        at: head.at,
        received_at: head.received_at,
        ..Usage::default()
    };
    let members = match (data, counts) {
        (Some(data), _) => json::members(data),
        (None, Counts::Unit(_)) => Ok(Vec::new()),
        (None, Counts::Request) => {
            Err("is required: an object, where {} stands for one request".to_owned())
        }
    };
    let members = members.unwrap_or_else(|detail| {
        findings.add(at, detail);
        Vec::new()
    });
    let (mut requests, mut input, mut output) = (None, None, None);
    let (mut cost, mut units, mut value) = (None, None, None);
    for (name, raw) in members {
        let at = &At::Member(at, &name);
        let field = Field { at, raw };
        match &*name {
            "key" => findings.key(&mut usage.key, field),
            "user" => findings.id(&mut usage.user, field),
            "route" => findings.id(&mut usage.route, field),
            "provider" => findings.id(&mut usage.provider, field),
            "model" => findings.id(&mut usage.model, field),
            "source" => findings.address(&mut usage.source, field),
            "fingerprint" => findings.id(&mut usage.fingerprint, field),
            "action" => findings.id(&mut usage.action, field),
            "request_id" => findings.id(&mut usage.request_id, field),
            "reservation" => findings.id(&mut usage.reservation, field),
            "status" => findings.status(&mut usage.status, field),
            "latency_ms" => findings.millis(&mut usage.latency_ms, field),
            "requests" => findings.whole(&mut requests, COUNT_MAX, field),
            "input_tokens" => findings.whole(&mut input, COUNT_MAX, field),
            "output_tokens" => findings.whole(&mut output, COUNT_MAX, field),
            "cost_usd" => findings.cost(&mut cost, field),
            "units" => findings.units(&mut units, field),
            "value" if matches!(counts, Counts::Unit(_)) => {
                findings.whole(&mut value, UNIT_MAX, field);
            }
            other => {
                if let Some(meant) = names::meant(other) {
                    findings.add(at, format!("is no field here; write {meant}"));
                }
            }
        }
    }
    usage.input_tokens = input.unwrap_or_default();
    usage.output_tokens = output.unwrap_or_default();
    usage.cost = cost.unwrap_or_default();
    usage.units = units.unwrap_or_default();
    match counts {
        Counts::Request => usage.requests = requests.unwrap_or(1),
        Counts::Unit(name) => {
            usage.requests = requests.unwrap_or_default();
            let amount = value.unwrap_or(1);
            if usage.units.insert(name.to_owned(), amount).is_some() {
                let at = At::Member(at, "units");
                let detail = "is what the event's type counts; give its number as `value`";
                findings.add(&At::Member(&at, name), detail);
            }
        }
    }
    usage
}
