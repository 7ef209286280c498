//! Records of the log to the notifier's own types and back: the only file that knows them.

use bus::consumer::{Partition, Record};
use schemas::codec::Wire as _;
use schemas::record;
use schemas::time::Timestamp;

use crate::alert::{Alert, Kind};

pub(crate) use schemas::record::Dead;

/// A record that nobody can read, with the reason.
pub(crate) struct Unreadable {
    pub(crate) dead: record::Dead,
}

/// Reads one record of `weir.alerts.v1`.
pub(crate) fn read(
    record: &Record,
    partition: Partition,
    now: Timestamp,
) -> Result<Alert, Box<Unreadable>> {
    let Some(value) = &record.value else {
        return Err(unreadable(
            record,
            partition,
            now,
            "an alert without a value".to_owned(),
        ));
    };
    record::Alert::decode(value)
        .map(alert)
        .map_err(|error| unreadable(record, partition, now, error.to_string()))
}

fn alert(wire: record::Alert) -> Alert {
    Alert {
        id: storable(wire.id),
        kind: match wire.kind {
            record::AlertKind::Soft => Kind::Soft,
            record::AlertKind::Hard => Kind::Hard,
            record::AlertKind::Lifted => Kind::Lifted,
            record::AlertKind::CspGroup => Kind::CspGroup,
            record::AlertKind::Asked => Kind::Asked,
            record::AlertKind::Answered => Kind::Answered,
            record::AlertKind::Cleared => Kind::Cleared,
        },
        tenant: wire.tenant.map(storable),
        subject: wire.subject,
        title: storable(wire.title),
        body: storable(wire.body),
        at: wire.at,
        limit: wire.limit.map(storable),
        level: wire.level.map(storable),
        used: wire.used.map(|amount| amount.0),
        max: wire.max.map(|amount| amount.0),
        decision: wire.decision.map(storable),
        until: wire.until,
    }
}

/// PostgreSQL refuses the character NUL in a text, and an alert that no store takes would hold up all behind it.
fn storable(text: String) -> String {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    }
}

fn unreadable(
    record: &Record,
    partition: Partition,
    now: Timestamp,
    reason: String,
) -> Box<Unreadable> {
    Box::new(Unreadable {
        dead: record.to_dead(partition, reason, now),
    })
}
