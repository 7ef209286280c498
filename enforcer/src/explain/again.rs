use std::collections::VecDeque;

use schemas::policy::Policy;
use schemas::time::Timestamp;

use super::{Placed, TTL};
use crate::decide::{Decider, Output, Reason};
use crate::decision::{Decision, Signal};
use crate::policy::Version;

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) at: Timestamp,
    /// `None`: the log no longer says.
    pub(crate) why: Option<Reason>,
}

/// What was decided on the subjects of one partition, decided again: the same signals, commands and versions of the
/// policy in the same order make decisions of the same ids.
pub(crate) struct Again<'l> {
    /// The decision that is looked for.
    id: &'l str,
    decider: Decider,
    versions: VecDeque<&'l Version>,
    commands: VecDeque<&'l Placed>,
    found: Option<Decision>,
    ended: Option<Ended>,
    out: Vec<Output>,
}

impl<'l> Again<'l> {
    /// `versions` and the partition's `commands` are in the order of their time.
    pub(crate) fn new(
        id: &'l str,
        versions: impl Iterator<Item = &'l Version>,
        commands: &'l [Placed],
    ) -> Self {
        Self {
            id,
            decider: Decider::new(Policy::default(), TTL),
            versions: versions.collect(),
            commands: commands.iter().collect(),
            found: None,
            ended: None,
            out: Vec::new(),
        }
    }

    /// Takes a signal that the log took at `at`.
    pub(crate) fn hear(&mut self, signal: &Signal, at: Timestamp) {
        self.pass_time(at);
        self.decider.hear(signal, at, &mut self.out);
        self.note(at);
    }

    /// What was found when all signals are heard, and how it ended by `now`.
    pub(crate) fn finish(mut self, now: Timestamp) -> Option<(Decision, Option<Ended>)> {
        self.pass_time(now);
        Some((self.found?, self.ended))
    }

    /// Obeys what was ordered and applied until `now`, in the order of time, and lets end what has ended.
    fn pass_time(&mut self, now: Timestamp) {
        loop {
            let version = self.versions.front().filter(|version| version.at <= now);
            let command = self.commands.front().filter(|c| c.appended_at <= now);
            let at = match (version, command) {
                (Some(version), Some(command)) if version.at <= command.appended_at => version.at,
                (_, Some(command)) => {
                    let (command, at) = (*command, command.appended_at);
                    self.commands.pop_front();
                    self.end(at);
                    self.order(command, at);
                    continue;
                }
                (Some(version), None) => version.at,
                (None, None) => break,
            };
            if let Some(version) = self.versions.pop_front() {
                self.end(at);
                let policy = version.policy.clone();
                self.decider.obey(policy, at, &mut self.out);
                self.note(at);
            }
        }
        self.end(now);
    }

    fn order(&mut self, placed: &Placed, at: Timestamp) {
        self.decider
            .command(&placed.command, &placed.origin(), at, &mut self.out);
        self.note(at);
    }

    fn end(&mut self, now: Timestamp) {
        self.decider.end_orders(now, |_| true, &mut self.out);
        self.decider.advance(now, &mut self.out);
        self.note(now);
    }

    /// Looks whether what was said at `at` is about the decision.
    fn note(&mut self, at: Timestamp) {
        for output in self.out.drain(..) {
            match output {
                Output::Put(decision, _) if decision.id == self.id => {
                    self.found = Some(decision);
                    self.ended = None;
                }
                Output::Put(Decision { subject, .. }, why) | Output::Lift(subject, why)
                    if self.ended.is_none()
                        && self.found.as_ref().is_some_and(|f| f.subject == subject) =>
                {
                    let until = self.found.as_ref().and_then(|found| found.until);
                    let at = until.filter(|_| why == Reason::Expiry).unwrap_or(at);
                    self.ended = Some(Ended { at, why: Some(why) });
                }
                _ => {}
            }
        }
    }
}
