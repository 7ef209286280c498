//! The cores of the services one after the other, in one process, with no log between them and no clock: what one says
//! the next one hears at once. Time is told.

use std::collections::BTreeMap;

use aggregator::{EVENT_TOPICS, Found, Replay};
use anyhow::anyhow;
use bus::{Partition, Record};
use enforcer::Said;
use gateway::handle::NotHeld;
use gateway::ledger::Commit;
use gateway::reply::Reply;
use gateway::request::{Ask, Consume};
use gateway::reservation::Reservation;
use schemas::cloudevents::Event;
use schemas::codec::Wire as _;
use schemas::policy::Policy;
use schemas::record::{self, Alert, Crossing, Marker, Signal, UsageRecord};
use schemas::time::Timestamp;
use schemas::topic::USAGE;
use serde_json::Value;

use super::case::Reserve;
use crate::cli::aggregator::replay::encode;

/// What a reservation that is held is answered.
const CREATED: u16 = 201;

/// The whole of Weir under one policy, with one gateway.
pub(super) struct Stage {
    aggregator: Replay,
    enforcer: enforcer::DryRun,
    gateway: gateway::DryRun,
    /// Reservations by what the case calls them.
    held: BTreeMap<String, Named>,
    /// Records so far.
    records: i64,
    found: Vec<Found>,
    said: Vec<Said>,
    /// What people were told since this was taken last.
    alerts: Vec<Alert>,
}

/// Reservations of one name.
#[derive(Default)]
struct Named {
    /// In the order in which they were made.
    made: Vec<Reservation>,
    /// How many of them a step has ended.
    ended: usize,
}

impl Named {
    /// The first that no step has ended yet; with none left, the last one once more.
    fn next(&mut self) -> Option<Reservation> {
        let next = self.ended.min(self.made.len().checked_sub(1)?);
        self.ended += 1;
        self.made.get(next).cloned()
    }
}

impl Stage {
    pub(super) fn new(policy: &Policy) -> anyhow::Result<Self> {
        // The version before any policy is 0.
        let policy = Policy {
            version: 1,
            ..policy.clone()
        };
        let config = aggregator::Config::default();
        Ok(Self {
            aggregator: Replay::new(&config, &policy, |_| 1)?,
            enforcer: enforcer::DryRun::new(policy.clone()),
            gateway: gateway::DryRun::new(policy),
            held: BTreeMap::new(),
            records: 0,
            found: Vec::new(),
            said: Vec::new(),
            alerts: Vec::new(),
        })
    }

    /// Lets time pass until `now`: what falls on the way falls at its time.
    pub(super) fn pass(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.aggregator.pass(now, &mut self.found)?;
        self.hear(now)?;
        self.enforcer.advance(now, &mut self.said);
        self.obey(now)
    }

    /// A request comes to the gateway. What it admits, it counts and reports.
    pub(super) fn check(&mut self, ask: &Ask, now: Timestamp) -> anyhow::Result<Reply> {
        let (reply, usage) = self.gateway.check(ask, now);
        self.count(usage, now)?;
        Ok(reply)
    }

    /// A request reserves. The error says that it has done so before, and what became of that.
    pub(super) fn reserve(&mut self, step: &Reserve, now: Timestamp) -> Result<Reply, String> {
        let held = self.gateway.reserve(step.ask.clone(), step.ttl, now);
        match held {
            Ok(held) => {
                if let Some(name) = &step.name {
                    let named = self.held.entry(name.clone()).or_default();
                    named.made.push(held.reservation);
                }
                Ok(Reply {
                    status: CREATED,
                    ..Reply::clone(&held.reply)
                })
            }
            Err(NotHeld::Refused(reply)) => Ok(Reply::clone(&reply)),
            Err(ended @ NotHeld::Ended(_)) => Err(ended.to_string()),
        }
    }

    /// What was spent under a reservation is counted and reported. The inner error says that there is none.
    pub(super) fn commit(
        &mut self,
        name: &str,
        actual: &Consume,
        now: Timestamp,
    ) -> anyhow::Result<Result<Commit, String>> {
        let reservation = match self.named(name) {
            Ok(reservation) => reservation,
            Err(error) => return Ok(Err(error)),
        };
        let (commit, usage) = self.gateway.commit(&reservation, actual, now);
        self.count(usage, now)?;
        Ok(Ok(commit))
    }

    /// A reservation is given back. The error says that there is none.
    pub(super) fn release(&mut self, name: &str, now: Timestamp) -> Result<(), String> {
        let reservation = self.named(name)?;
        let ending = self.gateway.release(&reservation, now);
        let forgotten = || format!("reservation `{name}` ended so long ago that it is forgotten");
        ending.map(drop).ok_or_else(forgotten)
    }

    fn named(&mut self, name: &str) -> Result<Reservation, String> {
        let named = self.held.get_mut(name).and_then(Named::next);
        named.ok_or_else(|| format!("no step before this one holds a reservation `{name}`"))
    }

    /// The aggregator counts what the gateway reports.
    fn count(&mut self, usage: Option<UsageRecord>, now: Timestamp) -> anyhow::Result<()> {
        let Some(usage) = usage else { return Ok(()) };
        let mut value = Vec::new();
        usage.encode(&mut value)?;
        self.take(USAGE.name(), value, now)
    }

    /// An app reports an event.
    pub(super) fn report(&mut self, event: Event, now: Timestamp) -> anyhow::Result<()> {
        let (topic, value) = encode(event)?;
        self.take(topic, value, now)
    }

    /// An operator orders something; it is the `number`th thing that happens. The inner error says what is wrong with it.
    pub(super) fn order(
        &mut self,
        command: &Value,
        number: u64,
        now: Timestamp,
    ) -> anyhow::Result<Result<(), String>> {
        let ordered = self.enforcer.order((command, number), now, &mut self.said);
        if ordered.is_ok() {
            self.obey(now)?;
        }
        Ok(ordered)
    }

    pub(super) fn take_alerts(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.alerts)
    }

    fn take(&mut self, topic: &'static str, value: Vec<u8>, now: Timestamp) -> anyhow::Result<()> {
        let record = Record {
            offset: self.records,
            appended_at: now,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        };
        self.records += 1;
        let partition = Partition { topic, index: 0 };
        self.aggregator.take(partition, &record, &mut self.found)?;
        self.hear(now)
    }

    /// The enforcer hears what the aggregator found.
    fn hear(&mut self, now: Timestamp) -> anyhow::Result<()> {
        for found in std::mem::take(&mut self.found) {
            let crossing: Crossing = match found {
                Found::Crossing(crossing) | Found::Prolonged(crossing) => *crossing,
                Found::Dead { reason, .. } => return Err(anyhow!("{reason}")),
            };
            let at = crossing.at.min(now);
            self.enforcer.advance(at, &mut self.said);
            let heard = self
                .enforcer
                .hear(Signal::Crossing(crossing), at, &mut self.said);
            heard.map_err(|error| anyhow!(error))?;
            self.obey(at)?;
        }
        Ok(())
    }

    /// The gateway obeys what the enforcer said, and the aggregator counts by it.
    fn obey(&mut self, now: Timestamp) -> anyhow::Result<()> {
        for said in std::mem::take(&mut self.said) {
            match said {
                Said::Put(decision) => {
                    let put = self.gateway.put(*decision, now);
                    put.map_err(|error| anyhow!(error))?;
                }
                Said::Lift(subject) => self.gateway.lift(&subject),
                Said::Alert(alert) => self.alerts.push(*alert),
                Said::Order(order) => {
                    let marker = Marker {
                        policy: None,
                        tick: None,
                        order: Some(Box::new(record::Order::from(&*order))),
                    };
                    let mut value = Vec::new();
                    marker.encode(&mut value)?;
                    self.gateway.put_order(*order);
                    for spec in EVENT_TOPICS {
                        self.take(spec.name, value.clone(), now)?;
                    }
                }
            }
        }
        Ok(())
    }
}
