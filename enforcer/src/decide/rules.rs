//! The policy in force, asked about one crossing at a time.

use std::collections::HashMap;

use schemas::policy::{Limit, Mode, Policy};
use schemas::subject::Subject;

use crate::decision::Cause;

/// The status of a refusal whose limit names none.
const TOO_MANY_REQUESTS: u16 = 429;

/// What the policy in force makes of a crossing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) mode: Mode,
    pub(super) status: u16,
}

/// A policy with its limits by name.
pub(super) struct Rules {
    policy: Policy,
    by_name: HashMap<String, Vec<usize>>,
}

impl Rules {
    pub(super) fn new(policy: Policy) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, limit) in policy.limits.iter().enumerate() {
            by_name.entry(limit.name.clone()).or_default().push(index);
        }
        Self { policy, by_name }
    }

    /// What becomes of `evidence` for `subject`; `None` where the policy no longer gives it weight: the limit is gone
    /// for this subject, counts something else now, or has a number that the evidence does not reach. A crossing of
    /// a version that is still on its way here speaks for itself.
    pub(super) fn judge(&self, subject: &Subject, evidence: &Cause) -> Option<Judgement> {
        if self.policy.version < evidence.policy_version {
            return Some(Judgement {
                mode: evidence.mode,
                status: TOO_MANY_REQUESTS,
            });
        }
        let limit = self.limit(subject, &evidence.limit)?;
        let same = limit.meter == evidence.meter && limit.window == evidence.window;
        (same && limit.hard() <= evidence.used).then_some(Judgement {
            mode: limit.mode,
            status: limit.status.unwrap_or(TOO_MANY_REQUESTS),
        })
    }

    /// The limit of this name that `subject` falls under.
    fn limit(&self, subject: &Subject, name: &str) -> Option<&Limit> {
        let tenant = subject.tenant_id();
        let named = self.by_name.get(name).into_iter().flatten();
        named
            .map(|index| &self.policy.limits[*index])
            .find(|limit| {
                limit.pattern.accepts(subject) && self.policy.tier_allows(limit, tenant.as_deref())
            })
    }
}
