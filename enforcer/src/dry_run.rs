//! Deciding without a log or a clock, for those who try a policy out: signals in, decisions and alerts out.

use std::time::Duration;

use schemas::policy::Policy;
use schemas::record;
use schemas::subject::Subject;
use schemas::time::Timestamp;

use crate::decide::{Decider, Output};
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
}

/// An enforcer that is handed each signal, and the time.
pub struct DryRun {
    decider: Decider,
    out: Vec<Output>,
}

impl DryRun {
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            decider: Decider::new(policy, TTL),
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
            // Nobody gives commands in a dry run.
            Output::Order(_) | Output::OrderEnded(..) => None,
        }));
    }
}
