//! What the engine says, as records. Ids are made of what a record says and where it comes from: every run of one log
//! makes the same.

use bus::Partition;
use schemas::record::{
    Amount, Cleared, Crossing, CspGroup, Direction, Origin, Partial, PartialRecord, Ranking,
    RankingEntry, Recorded, Rollup, SecondSums, Signal, Sketch, Spread,
};
use uuid::Uuid;

use crate::counter;
use crate::event::{self, Output};
use crate::rollup::Sums;

/// Makes the ids of signals unlike those of anything else.
const SIGNALS: Uuid = Uuid::from_u128(0x7765_6972_2e73_6967_6e61_6c73_2e76_3100);

/// A record to be written, and under which key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outgoing {
    Signal {
        key: String,
        signal: Box<Signal>,
    },
    Rollup(Box<Rollup>),
    Sketch {
        key: String,
        sketch: Box<Sketch>,
    },
    Partial {
        key: String,
        partial: Box<PartialRecord>,
    },
}

impl Outgoing {
    /// For metrics.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Signal { .. } => "signal",
            Self::Rollup(_) => "rollup",
            Self::Sketch { .. } => "sketch",
            Self::Partial { .. } => "partial",
        }
    }
}

pub(super) fn origin(partition: Partition, offset: i64) -> Origin {
    Origin {
        topic: partition.topic.to_owned(),
        partition: partition.index,
        offset,
    }
}

/// The record of one output of the shard of `partition`.
pub(crate) fn outgoing(partition: Partition, output: Output) -> Outgoing {
    match output {
        Output::Crossing(crossing) => {
            let crossed_by = crossing.offset;
            crossing_signal(crossing_record(partition, *crossing, crossed_by))
        }
        Output::Prolonged(prolonged) => {
            let crossed_by = prolonged.crossed_by;
            crossing_signal(crossing_record(partition, *prolonged.crossing, crossed_by))
        }
        Output::Group(group) => Outgoing::Signal {
            key: group.tenant.clone(),
            signal: Box::new(Signal::CspGroup(group_record(partition, group))),
        },
        Output::Cleared(cleared) => Outgoing::Signal {
            key: cleared.subject.partition_key(),
            signal: Box::new(Signal::Cleared(cleared_record(partition, *cleared))),
        },
        Output::Rollup(rollup) => Outgoing::Rollup(Box::new(rollup_record(partition, rollup))),
        Output::Spread(spread) => Outgoing::Sketch {
            key: spread.tenant.clone(),
            sketch: Box::new(Sketch::Spread(spread_record(partition, spread))),
        },
        Output::Ranking(ranking) => Outgoing::Sketch {
            key: ranking.tenant.clone(),
            sketch: Box::new(Sketch::Ranking(ranking_record(partition, ranking))),
        },
        Output::Partial(sum) => Outgoing::Partial {
            key: sum.scope.partition_key(),
            partial: Box::new(Recorded::Event(Partial {
                scope: sum.scope,
                meter: sum.meter,
                slice: sum.slice,
                slice_seconds: sum.slice_seconds.cast_signed(),
                sum: Amount(sum.sum),
                origin: origin(partition, sum.offset),
            })),
        },
    }
}

fn crossing_signal(crossing: Crossing) -> Outgoing {
    Outgoing::Signal {
        key: crossing.subject.partition_key(),
        signal: Box::new(Signal::Crossing(crossing)),
    }
}

/// The record of a crossing, with the id that the record at `crossed_by` gave it.
fn crossing_record(partition: Partition, crossing: event::Crossing, crossed_by: i64) -> Crossing {
    let direction = match crossing.direction {
        counter::Direction::Up => Direction::Up,
        counter::Direction::Down => Direction::Down,
    };
    let (event_source, event_id) = crossing.event.unzip();
    let at_us = crossing.at.as_micros().to_string();
    let way = format!("{direction:?}");
    let parts = [
        crossing.subject.as_str(),
        &crossing.limit,
        &crossing.level,
        &way,
        &at_us,
    ];
    Crossing {
        id: signal_id(partition, crossed_by, &parts),
        subject: crossing.subject,
        limit: crossing.limit,
        policy_version: i64::try_from(crossing.policy_version).unwrap_or(i64::MAX),
        meter: crossing.meter,
        window: crossing.window,
        mode: crossing.mode,
        level: crossing.level,
        threshold: Amount(crossing.threshold),
        direction,
        at: crossing.at,
        sum: Amount(crossing.sum),
        max: Amount(crossing.max),
        falls_at: crossing.falls_at,
        event_source,
        event_id,
        origin: origin(partition, crossing.offset),
    }
}

fn cleared_record(partition: Partition, cleared: event::Cleared) -> Cleared {
    let window = cleared.window.to_string();
    let parts = [
        cleared.subject.as_str(),
        &cleared.limit,
        cleared.meter.name(),
        &window,
        "cleared",
    ];
    Cleared {
        id: signal_id(partition, cleared.offset, &parts),
        subject: cleared.subject,
        limit: cleared.limit,
        policy_version: i64::try_from(cleared.policy_version).unwrap_or(i64::MAX),
        meter: cleared.meter,
        window: cleared.window,
        at: cleared.at,
        before: Amount(cleared.before),
        after: Amount(0),
        max: Amount(cleared.max),
        command: cleared.command,
        reason: cleared.reason,
        origin: origin(partition, cleared.offset),
    }
}

fn group_record(partition: Partition, group: event::Group) -> CspGroup {
    let count = group.count.to_string();
    let parts = [
        group.tenant.as_str(),
        &group.directive,
        &group.blocked_host,
        &count,
    ];
    CspGroup {
        id: signal_id(partition, group.offset, &parts),
        origin: origin(partition, group.offset),
        tenant: group.tenant,
        directive: group.directive,
        blocked_host: group.blocked_host,
        document_uri: group.document_uri,
        at: group.first_at,
        count: group.count,
        new: group.new,
    }
}

fn signal_id(partition: Partition, offset: i64, parts: &[&str]) -> String {
    let mut name = format!("{partition}/{offset}");
    for part in parts {
        // No control character is in any of them, so no two lists of parts make one name.
        name.push('\u{0}');
        name.push_str(part);
    }
    Uuid::new_v5(&SIGNALS, name.as_bytes()).to_string()
}

fn rollup_record(partition: Partition, rollup: event::Rollup) -> Rollup {
    let [key, user, route, provider, model, account, source] =
        rollup.dims.ids().map(|id| id.map(str::to_owned));
    Rollup {
        tenant: rollup.dims.tenant().to_owned(),
        key,
        user,
        route,
        provider,
        model,
        account,
        source,
        minute: rollup.minute,
        seconds: rollup.seconds.into_iter().map(second_record).collect(),
        origin: origin(partition, rollup.offset),
    }
}

/// A second's sums. Counts that do not fit are the largest that does: with what one event may carry, that takes
/// 9,000 events of the largest size in one second of one combination of dimensions.
fn second_record((second, sums): (u8, Sums)) -> SecondSums {
    let count = |sum: i128| i64::try_from(sum).unwrap_or(i64::MAX);
    let units = sums.units.into_iter();
    SecondSums {
        second: second.into(),
        events: sums.events,
        requests: count(sums.requests),
        input_tokens: count(sums.input_tokens),
        output_tokens: count(sums.output_tokens),
        cost: Amount(sums.cost),
        failures: count(sums.failures),
        violations: count(sums.violations),
        units: units
            .map(|(name, sum)| (name.into_string(), count(sum)))
            .collect(),
    }
}

fn spread_record(partition: Partition, spread: event::Spread) -> Spread {
    Spread {
        tenant: spread.tenant,
        of: spread.of.name().to_owned(),
        per: spread.per.name().to_owned(),
        id: spread.id,
        hour: spread.hour,
        count: i64::try_from(spread.count).unwrap_or(i64::MAX),
        missed_max: i64::try_from(spread.missed_max).unwrap_or(i64::MAX),
        sketch: spread.sketch,
        origin: origin(partition, spread.offset),
    }
}

fn ranking_record(partition: Partition, ranking: event::Ranking) -> Ranking {
    let amount = |amount: u128| Amount(i128::try_from(amount).unwrap_or(i128::MAX));
    let entries = ranking
        .ranked
        .entries
        .into_iter()
        .map(|entry| RankingEntry {
            id: entry.id,
            count: amount(entry.count),
            error: amount(entry.error),
        });
    Ranking {
        tenant: ranking.tenant,
        by: ranking.by.name().to_owned(),
        meter: ranking.meter,
        hour: ranking.hour,
        entries: entries.collect(),
        missing_max: amount(ranking.ranked.missing_max),
        sum: amount(ranking.ranked.sum),
        origin: origin(partition, ranking.offset),
    }
}
