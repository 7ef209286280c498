//! Deciding without a log or a clock, for those who try a policy out: signals and commands in, decisions, orders and
//! alerts out.

use std::time::Duration;

use schemas::orders::Order;
use schemas::policy::Policy;
use schemas::record;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use schemas::topic::COMMANDS;
use serde_json::Value;

use crate::command::{Command, Drafted, read};
use crate::decide::{Decider, Output};
use crate::decision::Origin;
use crate::wire;

/// Decisions of a dry run need not be said again for a gateway to trust them.
const TTL: Duration = Duration::from_secs(u32::MAX as u64);

/// What is said, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Stands for its subject from here on.
    Put(Box<record::Decision>),
    /// Nothing stands for the subject any more.
    Lift(Subject),
    Alert(Box<record::Alert>),
    /// Holds from here on.
    Order(Box<Order>),
}

/// An enforcer that is handed each signal, and the time.
pub struct DryRun {
    policy: Policy,
    decider: Decider,
    out: Vec<Output>,
}

impl DryRun {
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            decider: Decider::new(policy.clone(), TTL),
            policy,
            out: Vec::new(),
        }
    }

    /// Takes one signal, in the order in which the aggregator says them.
    ///
    /// # Errors
    /// What is wrong with the signal.
    pub fn hear(
        &mut self,
        signal: record::Signal,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) -> Result<(), String> {
        let signal = wire::signal_of(signal)?;
        self.decider.hear(&signal, now, &mut self.out);
        self.tell(said);
        Ok(())
    }

    /// Obeys a command, as `POST /v1/commands` takes it, the `number`th of a run. It has no end.
    ///
    /// # Errors
    /// What is wrong with the command. One that undoes another cannot be given.
    pub fn order(
        &mut self,
        (body, number): (&Value, u64),
        now: Timestamp,
        said: &mut Vec<Said>,
    ) -> Result<(), String> {
        let draft = read(body, &self.policy, now).map_err(|wrong| {
            let wrong = wrong.iter();
            let lines = wrong.map(|field| format!("`{}` {}", field.pointer, field.detail));
            lines.collect::<Vec<_>>().join("; ")
        })?;
        let Drafted::On { subject, action } = draft.order else {
            return Err("nothing can be undone here".to_owned());
        };
        let command = Command {
            id: number.to_string(),
            subject,
            at: now,
            actor: String::new(),
            reason: draft.reason,
            until: None,
            action,
        };
        let origin = Origin {
            topic: COMMANDS.name().to_owned(),
            partition: 0,
            offset: i64::try_from(number).unwrap_or(i64::MAX),
        };
        self.decider.command(&command, &origin, now, &mut self.out);
        self.tell(said);
        Ok(())
    }

    /// Does what is due at `now`: what ended by itself is lifted.
    pub fn advance(&mut self, now: Timestamp, said: &mut Vec<Said>) {
        self.decider.advance(now, &mut self.out);
        self.tell(said);
    }

    fn tell(&mut self, said: &mut Vec<Said>) {
        said.extend(self.out.drain(..).filter_map(|output| match output {
            Output::Put(decision, _) => Some(Said::Put(Box::new(wire::decision_record(&decision)))),
            Output::Lift(subject, _) => Some(Said::Lift(subject)),
            Output::Alert(alert) => Some(Said::Alert(Box::new(wire::alert_record(&alert)))),
            Output::Order(order) => Some(Said::Order(order)),
            // What has no end does not end.
            Output::OrderEnded(..) => None,
        }));
    }
}
