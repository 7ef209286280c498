//! Reading the log back, to tell why something was decided.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bus::consumer::{Partition, Record};
use bus::inspect::{Inspector, RawReader, Slice, TopicState};
use bus::{Bus, BusError};
use schemas::codec::Wire as _;
use schemas::record::Refusal;
use schemas::time::Timestamp;
use schemas::topic::{COMMANDS, DECISIONS, REFUSALS, SIGNALS, TopicSpec};

use crate::decision::{BLOCKED, Cause, Decision};
use crate::explain::{Again, Ended, Evidence, Placed, Seen, clears, counts_from};
use crate::policy::Version;
use crate::store::Said;
use crate::wire::{self, Sought};

/// Records of one topic that are looked at for one explanation, at most: the newest.
const RECORDS_MAX: i64 = 1_000_000;
/// How far an event's time may lie ahead of its append time, at the most that anybody sets.
const AHEAD_MAX: Duration = Duration::from_secs(86_400);

/// A look at the log, for one explanation.
pub(crate) struct LookBack {
    bus: Bus,
    inspector: Inspector,
    reader: RawReader,
}

/// A decision that was found, and how it ended if it has.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) decision: Decision,
    pub(crate) ended: Option<Ended>,
    /// The commands of its partition, oldest first.
    pub(crate) commands: Vec<Placed>,
}

/// What a cause rests on.
#[derive(Debug)]
pub(crate) struct Rests {
    /// When the record was appended that crossed; the time of the decision where that record is no more.
    pub(crate) at: Timestamp,
    pub(crate) evidence: Evidence,
    /// What the log no longer tells, in words.
    pub(crate) missing: Option<String>,
}

/// Requests that a decision refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) requests: u64,
    pub(crate) last_at: Option<Timestamp>,
}

impl LookBack {
    pub(crate) async fn start(bus: &Bus) -> Result<Self, BusError> {
        let inspector = bus.inspect().await?;
        Ok(Self {
            bus: bus.clone(),
            reader: inspector.reader()?,
            inspector,
        })
    }

    /// The decision of this id: as it stands, or else as it is decided again.
    pub(crate) async fn find(
        &mut self,
        id: &str,
        versions: &BTreeMap<u64, Version>,
        now: Timestamp,
    ) -> Result<Option<Found>, BusError> {
        if let Some((decision, ended)) = self.told(id).await? {
            let partition = self.home(&decision);
            let commands = self.commands(partition).await?;
            return Ok(Some(Found {
                decision,
                ended,
                commands,
            }));
        }
        for partition in 0..self.bus.partitions(SIGNALS.spec()) {
            let commands = self.commands(partition).await?;
            let mut again = Again::new(id, versions.values(), &commands);
            let slice = self.newest(SIGNALS.spec(), partition).await?;
            self.read(SIGNALS.spec(), slice, partition, |record| {
                if let Ok(signal) = wire::signal(record) {
                    again.hear(&signal, record.appended_at);
                }
            })
            .await?;
            if let Some((decision, ended)) = again.finish(now) {
                return Ok(Some(Found {
                    decision,
                    ended,
                    commands,
                }));
            }
        }
        Ok(None)
    }

    /// The decision as `weir.decisions.v1` has it, and how it ended where it is still there but stands no more.
    async fn told(&mut self, id: &str) -> Result<Option<(Decision, Option<Ended>)>, BusError> {
        let topic = DECISIONS.spec();
        let mut found: Option<(Decision, Option<Ended>)> = None;
        for partition in 0..self.bus.partitions(topic) {
            let slice = self.newest(topic, partition).await?;
            self.read(topic, slice, partition, |record| {
                let Ok(entry) = wire::entry(record) else {
                    return;
                };
                let (subject, other) = match entry.said {
                    Said::Put(decision) if decision.id == id => {
                        found = Some((decision, None));
                        return;
                    }
                    Said::Put(decision) => (decision.subject, record.appended_at),
                    Said::Lifted { subject, at } => (subject, at),
                };
                if let Some((decision, ended @ None)) = &mut found
                    && decision.subject == subject
                {
                    let until = decision.until.filter(|until| *until <= other);
                    *ended = Some(Ended {
                        at: until.unwrap_or(other),
                        why: None,
                    });
                }
            })
            .await?;
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }

    /// Where what concerns a decision's subject is, in each topic.
    fn home(&self, decision: &Decision) -> i32 {
        let key = decision.subject.partition_key();
        self.bus.partition_of(COMMANDS.spec(), &key)
    }

    async fn commands(&mut self, partition: i32) -> Result<Vec<Placed>, BusError> {
        let topic = COMMANDS.spec();
        let slice = self.newest(topic, partition).await?;
        let mut commands = Vec::new();
        self.read(topic, slice, partition, |record| {
            if let Ok(command) = wire::command(record) {
                commands.push(Placed {
                    command,
                    appended_at: record.appended_at,
                    offset: record.offset,
                });
            }
        })
        .await?;
        Ok(commands)
    }

    /// The events that took the sum of a cause over its limit, the newest `shown_max` of them as they are.
    pub(crate) async fn rests(
        &mut self,
        decision: &Decision,
        cause: &Cause,
        (version, shown_max): (&Version, usize),
    ) -> Result<Rests, BusError> {
        let topic = wire::events_of(&cause.meter);
        let crossing = self.crossing(topic, cause).await?;
        let (appended_at, at) = crossing.unwrap_or((decision.issued_at, decision.issued_at));
        let subject = &decision.subject;
        let from = counts_from(cause.window, (&version.policy, subject), (at, cause.used));
        let mut evidence = Evidence::new(from, shown_max);
        let at = appended_at;
        if cause.limit == BLOCKED {
            let missing = None;
            return Ok(Rests {
                at,
                evidence,
                missing,
            });
        }
        // By the ids that its sets had then.
        let sought = match Sought::new(subject, &cause.meter, &version.policy.sets) {
            Ok(sought) => sought,
            Err(error) => {
                let missing = Some(error.to_string());
                return Ok(Rests {
                    at,
                    evidence,
                    missing,
                });
            }
        };
        let partitions = match subject.tenant_id() {
            Some(tenant) => vec![self.bus.partition_of(topic, &tenant)],
            None => (0..self.bus.partitions(topic)).collect(),
        };
        let mut missing = None;
        for partition in partitions {
            let spans = self.span(topic, partition).await?;
            let end = match cause.origin.topic == topic.name {
                true => (cause.origin.offset + 1).min(spans.end),
                false => self.offset_after(topic, partition, appended_at).await?,
            };
            let begin = self
                .offset_after(topic, partition, from.minus(AHEAD_MAX))
                .await?;
            let begin = begin.max(end - RECORDS_MAX).max(spans.start);
            let mut oldest = None;
            self.read(topic, begin..end, partition, |record| {
                oldest.get_or_insert(record.appended_at);
                match sought.read(partition, record) {
                    Some(Seen::Happened(happened)) => evidence.take(happened),
                    Some(Seen::Cleared(order))
                        if clears(&order, cause, (&version.policy, subject)) =>
                    {
                        evidence.clear(*order);
                    }
                    _ => {}
                }
            })
            .await?;
            missing = missing.or(missing_of(
                (topic, partition, spans.start),
                (begin, end),
                (from, oldest),
            ));
        }
        Ok(Rests {
            at: appended_at,
            evidence,
            missing,
        })
    }

    /// When the record of a crossing was appended, and when what it tells of happened, if the log still has it.
    async fn crossing(
        &mut self,
        topic: TopicSpec,
        cause: &Cause,
    ) -> Result<Option<(Timestamp, Timestamp)>, BusError> {
        let origin = &cause.origin;
        if origin.topic != topic.name {
            return Ok(None);
        }
        let span = self.span(topic, origin.partition).await?;
        let slice = origin.offset.max(span.start)..(origin.offset + 1).min(span.end);
        let mut found = None;
        self.read(topic, slice, origin.partition, |record| {
            let at = wire::happened_at(&cause.meter, record);
            found = Some((record.appended_at, at.unwrap_or(record.appended_at)));
        })
        .await?;
        Ok(found)
    }

    /// The requests that a decision refused since it was said, as far as gateways have told.
    pub(crate) async fn refused(&mut self, decision: &Decision) -> Result<Refused, BusError> {
        let topic = REFUSALS.spec();
        let partitions = match decision.subject.tenant_id() {
            Some(tenant) => vec![self.bus.partition_of(topic, &tenant)],
            None => (0..self.bus.partitions(topic)).collect(),
        };
        let mut refused = Refused::default();
        for partition in partitions {
            let newest = self.newest(topic, partition).await?;
            self.read(topic, newest, partition, |record| {
                let value = record.value.as_deref().unwrap_or_default();
                let Ok(refusal) = Refusal::decode(value) else {
                    return;
                };
                if refusal.decision.as_deref() == Some(&decision.id) {
                    refused.requests += 1;
                    refused.last_at = refused.last_at.max(Some(refusal.at));
                }
            })
            .await?;
        }
        Ok(refused)
    }

    // === Stretches ===

    async fn span(&self, topic: TopicSpec, partition: i32) -> Result<bus::inspect::Span, BusError> {
        let partitions = usize::try_from(self.bus.partitions(topic)).unwrap_or_default();
        let spans = self.inspector.spans(topic.name, partitions).await?;
        let place = usize::try_from(partition).unwrap_or(usize::MAX);
        Ok(spans.get(place).copied().unwrap_or_default())
    }

    /// The newest records of a partition.
    async fn newest(&self, topic: TopicSpec, partition: i32) -> Result<Range<i64>, BusError> {
        let span = self.span(topic, partition).await?;
        Ok(span.start.max(span.end - RECORDS_MAX)..span.end)
    }

    /// The offset of the first record that was appended at `at` or later.
    async fn offset_after(
        &self,
        topic: TopicSpec,
        partition: i32,
        at: Timestamp,
    ) -> Result<i64, BusError> {
        let partitions = usize::try_from(self.bus.partitions(topic)).unwrap_or_default();
        let state = TopicState {
            name: topic.name.to_owned(),
            spans: self.inspector.spans(topic.name, partitions).await?,
            settings: BTreeMap::new(),
        };
        let at = at.max(Timestamp::from_seconds(0));
        let offsets = self.inspector.offsets_at(&state, at).await?;
        let place = usize::try_from(partition).unwrap_or(usize::MAX);
        Ok(offsets.get(place).copied().unwrap_or_default())
    }

    async fn read(
        &mut self,
        topic: TopicSpec,
        offsets: Range<i64>,
        partition: i32,
        mut take: impl FnMut(&Record),
    ) -> Result<(), BusError> {
        let slice = Slice {
            partition,
            from: offsets.start,
            to: offsets.end,
        };
        self.reader.start(topic.name, &[slice]).await?;
        loop {
            let records = self.reader.next().await?;
            if records.is_empty() {
                return Ok(());
            }
            records.iter().for_each(|(_, record)| take(record));
        }
    }
}

/// What the log no longer tells of a partition's events from `from` on: those before its first record are past
/// retention, and beyond a number of records nobody looks.
fn missing_of(
    (topic, partition, start): (TopicSpec, i32, i64),
    (begin, end): (i64, i64),
    (from, oldest): (Timestamp, Option<Timestamp>),
) -> Option<String> {
    let place = Partition {
        topic: topic.name,
        index: partition,
    };
    if end <= start {
        return Some(format!(
            "{place} holds no record before {end} any more: the events are past retention"
        ));
    }
    let oldest = oldest.filter(|oldest| from < *oldest && 0 < begin)?;
    Some(match begin == start {
        true => format!("events before {oldest} are past retention in {place}"),
        false => format!(
            "events before {oldest} were not looked at: only {RECORDS_MAX} records of {place} are"
        ),
    })
}

#[cfg(test)]
mod tests {
    use schemas::topic::USAGE;

    use super::*;

    /// Of a partition that begins at offset `start`, records from `begin` on were read, the first of them appended at
    /// second `oldest`; the window begins at second 100.
    #[track_caller]
    fn check(start: i64, (begin, end): (i64, i64), oldest: Option<i64>, expected: Option<&str>) {
        let oldest = oldest.map(Timestamp::from_seconds);
        let window = (Timestamp::from_seconds(100), oldest);
        let missing = missing_of((USAGE.spec(), 3, start), (begin, end), window);
        assert_eq!(missing.as_deref(), expected);
    }

    #[test]
    fn what_the_log_no_longer_tells_is_said() {
        check(0, (0, 50), Some(200), None);
        check(10, (20, 50), Some(90), None);
        check(
            10,
            (10, 50),
            Some(200),
            Some("events before 1970-01-01T00:03:20Z are past retention in weir.usage.v1/3"),
        );
        check(
            10,
            (20, 50),
            Some(200),
            Some(
                "events before 1970-01-01T00:03:20Z were not looked at: only 1000000 records of weir.usage.v1/3 are",
            ),
        );
        check(
            60,
            (60, 50),
            None,
            Some(
                "weir.usage.v1/3 holds no record before 50 any more: the events are past retention",
            ),
        );
    }
}
