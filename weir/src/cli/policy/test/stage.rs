//! The cores of the services one after the other, in one process, with no log between them and no clock: what one says
//! the next one hears at once. Time is told.

use aggregator::{EVENT_TOPICS, Found, Replay};
use anyhow::anyhow;
use bus::{Partition, Record};
use enforcer::Said;
use gateway::reply::Reply;
use gateway::request::Ask;
use schemas::cloudevents::Event;
use schemas::codec::Wire as _;
use schemas::policy::Policy;
use schemas::record::{self, Alert, Crossing, Marker, Signal};
use schemas::time::Timestamp;
use schemas::topic::USAGE;
use serde_json::Value;

use crate::cli::aggregator::replay::encode;

/// The whole of Weir under one policy, with one gateway.
pub(super) struct Stage {
    aggregator: Replay,
    enforcer: enforcer::DryRun,
    gateway: gateway::DryRun,
    /// Records so far.
    records: i64,
    found: Vec<Found>,
    said: Vec<Said>,
    /// What people were told since this was taken last.
    alerts: Vec<Alert>,
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
        if let Some(usage) = usage {
            let mut value = Vec::new();
            usage.encode(&mut value)?;
            self.take(USAGE.name(), value, now)?;
        }
        Ok(reply)
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
