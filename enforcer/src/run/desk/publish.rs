//! How a checked policy becomes the version in force.

use schemas::policy::Policy;

use super::Desk;
use crate::policy::Version;
use crate::proposal::{Answer, Proposal};
use crate::service::RunError;
use crate::tell::Told;

/// A checked policy that becomes the next version.
pub(super) struct Draft {
    pub(super) policy: Policy,
    pub(super) author: String,
    pub(super) reason: String,
    pub(super) source: String,
}

impl Desk<'_> {
    /// Answers somebody who wants another policy to hold: nothing is published for what holds already, or where
    /// another version came in between.
    pub(in crate::run) async fn judge(&mut self, proposal: Proposal) -> Result<Told, RunError> {
        let Proposal {
            policy,
            source,
            author,
            reason,
            based_on,
            answer,
        } = proposal;
        let held = self.parts.board.read().in_force.clone();
        let number = held.policy.version;
        let mut told = Told::All;
        let outcome = if held.is_of(&source, &policy) {
            Answer::InForce(Box::new(held))
        } else if based_on.is_some_and(|versions| !versions.contains(&number)) {
            Answer::MovedOn(number)
        } else {
            let draft = Draft {
                policy,
                author,
                reason,
                source,
            };
            told = self.publish(draft).await?;
            Answer::InForce(Box::new(self.parts.board.read().in_force.clone()))
        };
        if told == Told::All {
            // Whoever asked may have gone; what holds is told by the log.
            let _ = answer.send(outcome);
        }
        Ok(told)
    }

    /// Makes a policy the next version, and obeys it.
    pub(super) async fn publish(&mut self, draft: Draft) -> Result<Told, RunError> {
        self.last_version += 1;
        let version = Version {
            policy: Policy {
                version: self.last_version,
                ..draft.policy
            },
            at: self.parts.clock.now(),
            author: draft.author,
            reason: draft.reason,
            source: draft.source,
        };
        if self.teller.version(&version).await? == Told::Stopped
            || self.teller.markers(&version).await? == Told::Stopped
        {
            return Ok(Told::Stopped);
        }
        let (number, limits) = (self.last_version, version.policy.limits.len());
        let author = &version.author;
        tracing::info!(
            version = number,
            limits,
            author,
            "another policy is in force"
        );
        self.obey(version).await
    }
}
