//! The policy in force, asked about one crossing at a time.

use std::collections::HashMap;

use schemas::orders::{Held, InForce, Orders};
use schemas::policy::{Meter, Mode, Policy, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use crate::decision::{BLOCKED, Cause};

/// The status of a refusal whose limit names none.
const TOO_MANY_REQUESTS: u16 = 429;
/// The status of a refusal for want of money, whose limit names none.
const PAYMENT_REQUIRED: u16 = 402;
/// The status of a refusal that a person ordered.
const FORBIDDEN: u16 = 403;

/// What the policy in force makes of a crossing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) mode: Mode,
    pub(super) status: u16,
}

/// A policy with its limits by name, and what was ordered since.
pub(super) struct Rules {
    policy: Policy,
    pub(super) orders: Orders,
    by_name: HashMap<String, Vec<usize>>,
}

impl Rules {
    pub(super) fn new(policy: Policy) -> Self {
        let mut rules = Self {
            policy: Policy::default(),
            orders: Orders::default(),
            by_name: HashMap::new(),
        };
        rules.obey(policy);
        rules
    }

    /// What the limit of this name counts, while the policy has it.
    pub(super) fn meter(&self, limit: &str) -> Option<&Meter> {
        self.policy.limit(limit).map(|limit| &limit.meter)
    }

    /// From here on `policy` is in force. Orders stay.
    pub(super) fn obey(&mut self, policy: Policy) {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, limit) in policy.limits.iter().enumerate() {
            by_name.entry(limit.name.clone()).or_default().push(index);
        }
        (self.policy, self.by_name) = (policy, by_name);
    }

    /// What becomes of `evidence` for `subject`; `None` where the policy no longer gives it weight: the limit is gone
    /// for this subject, counts something else now, or has a number that the evidence does not reach. A crossing of
    /// a version that is still on its way here speaks for itself.
    pub(super) fn judge(
        &self,
        subject: &Subject,
        evidence: &Cause,
        now: Timestamp,
    ) -> Option<Judgement> {
        if evidence.limit == BLOCKED {
            return Some(Judgement {
                mode: Mode::Block,
                status: FORBIDDEN,
            });
        }
        if self.policy.version < evidence.policy_version {
            return Some(Judgement {
                mode: evidence.mode,
                status: usual_status(evidence.window),
            });
        }
        let limit = self.held(subject, &evidence.limit, now)?.limit;
        let same = limit.meter == evidence.meter && limit.window == evidence.window;
        (same && limit.hard() <= evidence.used).then_some(Judgement {
            mode: limit.mode,
            status: limit.status.unwrap_or_else(|| usual_status(limit.window)),
        })
    }

    /// The limit of this name that `subject` falls under, with the numbers that it has there.
    fn held(&self, subject: &Subject, name: &str, now: Timestamp) -> Option<Held<'_>> {
        let in_force = InForce {
            policy: &self.policy,
            orders: &self.orders,
            now,
        };
        let tier = in_force.tier(subject);
        let named = self.by_name.get(name).into_iter().flatten();
        let mut limits = named.map(|index| &self.policy.limits[*index]);
        let limit = limits.find(|limit| limit.pattern.accepts(subject) && limit.holds_in(tier))?;
        Some(in_force.held(limit, subject))
    }
}

/// The status of a refusal whose limit names none.
fn usual_status(window: Window) -> u16 {
    match window {
        Window::Wallet => PAYMENT_REQUIRED,
        _ => TOO_MANY_REQUESTS,
    }
}
