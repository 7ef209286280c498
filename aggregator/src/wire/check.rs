//! What Avro cannot say of a record: events that anybody may write to the log are held to the same rules as those
//! that come over HTTP.

use schemas::cloudevents::{COST_USD_MAX, COUNT_MAX, UNIT_MAX, holds_control};
use schemas::money::PICO_PER_USD;
use schemas::policy::is_unit_name;
use schemas::record::{Auth, Csp, Partial, UsageRef};
use schemas::subject::{ID_BYTES_MAX, Identity};
use schemas::time::Timestamp;

/// The longest source or id of an event, and the longest part by which reports are grouped.
const ATTRIBUTE_BYTES_MAX: usize = 1_024;
/// The most units of the user's own that one event carries.
const UNITS_MAX: usize = 100;

const COST_MAX: i128 = COST_USD_MAX as i128 * PICO_PER_USD;

type Checked = Result<(), String>;

pub(super) fn usage(usage: &UsageRef<'_>) -> Checked {
    head(&usage.event_source, &usage.event_id, usage.at)?;
    ids(&usage.identity())?;
    let counts = [
        ("requests", usage.requests),
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
    ];
    for (name, count) in counts {
        amount(name, count, COUNT_MAX.into())?;
    }
    amount("cost", usage.cost, COST_MAX)?;
    if UNITS_MAX < usage.units.len() {
        return Err(format!(
            "units: {} of them, more than {UNITS_MAX}",
            usage.units.len()
        ));
    }
    for (name, sum) in &usage.units {
        if !is_unit_name(name) {
            return Err(format!("units: `{name}` is no name of a unit"));
        }
        amount(name, *sum, UNIT_MAX.into())?;
    }
    Ok(())
}

pub(super) fn auth(auth: &Auth) -> Checked {
    head(&auth.event_source, &auth.event_id, auth.at)?;
    ids(&auth.identity())
}

pub(super) fn csp(csp: &Csp) -> Checked {
    head(&csp.event_source, &csp.event_id, csp.at)?;
    let tenant = Some(csp.tenant.as_str());
    ids(&Identity {
        tenant,
        ..Identity::default()
    })?;
    let parts = [
        ("directive", &csp.directive),
        ("blocked_host", &csp.blocked_host),
    ];
    parts
        .into_iter()
        .try_for_each(|(name, part)| text(name, part, ATTRIBUTE_BYTES_MAX))
}

pub(super) fn partial(partial: &Partial) -> Checked {
    if partial.scope.tenant_id().is_some() {
        return Err(format!("{} is no scope wider than a tenant", partial.scope));
    }
    if ![1, 60, 3_600].contains(&partial.slice_seconds) {
        return Err(format!(
            "slices of {} s are none that sums travel in",
            partial.slice_seconds
        ));
    }
    if partial.sum.0 < 0 {
        return Err(format!("the sum {} is below zero", partial.sum));
    }
    time(partial.slice)
}

fn head(source: &str, id: &str, at: Timestamp) -> Checked {
    text("event_source", source, ATTRIBUTE_BYTES_MAX)?;
    text("event_id", id, ATTRIBUTE_BYTES_MAX)?;
    time(at)
}

fn time(at: Timestamp) -> Checked {
    if at < Timestamp::default() {
        return Err(format!("its time {at} is before 1970"));
    }
    Ok(())
}

fn ids(identity: &Identity<'_>) -> Checked {
    for dimension in schemas::subject::Dimension::ALL {
        if let Some(id) = identity.get(dimension) {
            text(dimension.name(), id, ID_BYTES_MAX)?;
        }
    }
    Ok(())
}

fn text(name: &str, text: &str, bytes_max: usize) -> Checked {
    if text.is_empty() {
        return Err(format!("{name} is empty"));
    }
    if bytes_max < text.len() {
        return Err(format!("{name} is longer than {bytes_max} bytes"));
    }
    if holds_control(text) {
        return Err(format!("{name} holds a control character"));
    }
    Ok(())
}

fn amount(name: &str, amount: i64, max: i128) -> Checked {
    if !(0..=max).contains(&i128::from(amount)) {
        return Err(format!("{name}: {amount} is not from 0 to {max}"));
    }
    Ok(())
}
