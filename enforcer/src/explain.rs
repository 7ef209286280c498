//! Why somebody was refused, told from what the log said and nothing else. Pure: records come in, in the log's order.
//!
//! - [`Again`] decides once more what was decided, to find the decision of an id: `weir.decisions.v1` keeps only what
//!   stands.
//! - [`Evidence`] takes the events that a sum was made of.
//! - [`number_then`] says which number held, and whose order it was; [`touched_since`] and [`versions_since`] who has
//!   changed anything since.

mod again;
mod evidence;

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::calendar;
use schemas::orders::{InForce, Order, Orders, Series};
use schemas::policy::{Limit, Policy, Window};
use schemas::subject::{Named, Subject};
use schemas::time::Timestamp;

use crate::command::Command;
use crate::decide::Decider;
use crate::decision::{BLOCKED, Cause, Decision, Origin};
use crate::policy::{Version, diff};

pub(crate) use again::{Again, Ended};
pub(crate) use evidence::{Evidence, Happened, Seen};

/// Nothing is said again while it lasts.
const TTL: Duration = Duration::from_secs(u32::MAX as u64);

/// A command with its place in its partition, and when the log took it.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) command: Command,
    pub(crate) appended_at: Timestamp,
    pub(crate) offset: i64,
}

impl Placed {
    /// Where it lies, as far as commands of one partition are told apart by it.
    fn origin(&self) -> Origin {
        Origin {
            topic: String::new(),
            partition: 0,
            offset: self.offset,
        }
    }
}

/// The first moment that counts in a window in which something happened at `at`. A bucket of which `used` was told:
/// the time in which so much drains. A wallet:
/// all that ever was.
pub(crate) fn counts_from(
    window: Window,
    (policy, subject): (&Policy, &Subject),
    (at, used): (Timestamp, i128),
) -> Timestamp {
    match window {
        Window::Sliding { seconds } => {
            let slice = i64::from(window.slice_seconds().unwrap_or(1));
            let head = at.second().div_euclid(slice) * slice;
            Timestamp::from_seconds(head - i64::from(seconds))
        }
        Window::Bucket {
            amount, seconds, ..
        } => {
            let used = u64::try_from(used).unwrap_or(u64::MAX);
            let drains = used.saturating_mul(seconds.into()).div_ceil(amount.max(1));
            let drains = i64::try_from(drains).unwrap_or(i64::MAX);
            Timestamp::from_seconds(at.second().saturating_sub(drains))
        }
        Window::Wallet => Timestamp::from_seconds(0),
        // No event is counted of what is in flight.
        Window::Concurrent => at,
        Window::Calendar(period) => {
            let zone = policy.zone(subject.tenant_id().as_deref());
            calendar::bounds(period, zone, at).0
        }
    }
}

/// A limit as it held for a subject, and the order that its numbers were from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) limit: Limit,
    pub(crate) order: Option<Order>,
}

/// The limit of this name as `policy` and the commands before `at` have it for `subject`; `None` where there is none.
pub(crate) fn number_then(
    policy: &Policy,
    commands: &[Placed],
    (subject, limit): (&Subject, &str),
    at: Timestamp,
) -> Option<Number> {
    let orders = orders_at(commands, at);
    let in_force = InForce {
        policy,
        orders: &orders,
        now: at,
    };
    let mut held = in_force.limits_on(subject);
    let held = held.find(|held| held.limit.name == limit)?;
    Some(Number {
        order: held.order.cloned(),
        limit: held.limit.into_owned(),
    })
}

/// The orders that stood at `at`, by the commands of one partition in their order.
fn orders_at(commands: &[Placed], at: Timestamp) -> Orders {
    let mut decider = Decider::new(Policy::default(), TTL);
    let mut out = Vec::new();
    for placed in commands.iter().filter(|placed| placed.appended_at <= at) {
        let then = placed.appended_at;
        decider.end_orders(then, |_| true, &mut out);
        decider.command(&placed.command, &placed.origin(), then, &mut out);
        out.clear();
    }
    decider.orders().clone()
}

/// Whether an order has cleared what a cause was counted of, where `policy` held: its limit, or one that looks at the same
/// sums.
pub(crate) fn clears(order: &Order, cause: &Cause, (policy, subject): (&Policy, &Subject)) -> bool {
    let counted = |name: &str| -> Vec<Series<'_>> {
        let limits = policy.limits.iter().filter(|limit| {
            limit.name == name
                && (limit.window, &limit.meter) == (cause.window, &cause.meter)
                && limit.pattern.accepts(subject)
        });
        limits.map(Series::of).collect()
    };
    let of_cause = counted(&cause.limit);
    let cleared = order.clears().filter(|_| order.subject == *subject);
    cleared.is_some_and(|limit| counted(limit).iter().any(|own| of_cause.contains(own)))
}

/// The commands after `at` that may have changed what a decision rests on, oldest first.
pub(crate) fn touched_since<'c>(
    decision: &Decision,
    commands: &'c [Placed],
    at: Timestamp,
) -> Vec<&'c Command> {
    let concerns = |command: &Command| {
        let mut above = decision.subject.path_and_above();
        let is_other = |limit: &str| decision.causes.iter().all(|cause| cause.limit != limit);
        above.any(|path| path == command.subject.as_str())
            && !command.action.limit().is_some_and(is_other)
    };
    let since = commands.iter().filter(|placed| at < placed.appended_at);
    let commands = since.map(|placed| &placed.command);
    commands.filter(|command| concerns(command)).collect()
}

/// A version of the policy that changed something, and what, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed<'v> {
    pub(crate) version: &'v Version,
    pub(crate) lines: Vec<String>,
}

/// The versions after the one that a cause was counted by, as far as they changed its limit for `subject`, oldest
/// first.
pub(crate) fn versions_since<'v>(
    cause: &Cause,
    subject: &Subject,
    versions: &'v BTreeMap<u64, Version>,
) -> Vec<Changed<'v>> {
    if cause.limit == BLOCKED {
        return Vec::new();
    }
    let mut changed = Vec::new();
    let mut before = versions.get(&cause.policy_version);
    let next = cause.policy_version.saturating_add(1);
    for version in versions.range(next..).map(|(_, version)| version) {
        if let Some(before) = before {
            let lines = changes(&before.policy, &version.policy, (&cause.limit, subject));
            if !lines.is_empty() {
                changed.push(Changed { version, lines });
            }
        }
        before = Some(version);
    }
    changed
}

/// What changes of a limit for a subject: by its tenant where the policy names that, as for all others else.
fn changes(from: &Policy, to: &Policy, (limit, subject): (&str, &Subject)) -> Vec<String> {
    let diff = diff(from, to);
    let tenant = subject.tenant_id();
    let own = diff.tenants.iter().find(|change| change.tenant == tenant);
    let is_of_tenant = |policy: &Policy| {
        let id = tenant.as_deref().unwrap_or_default();
        policy.tenants.contains_key(id)
    };
    let others = || diff.tenants.iter().find(|change| change.tenant.is_none());
    let (settings, limits) = match (&tenant, own) {
        (None, _) => (&[][..], &diff.limits[..]),
        (Some(_), Some(own)) => (&own.settings[..], &own.limits[..]),
        (Some(_), None) if is_of_tenant(from) || is_of_tenant(to) => (&[][..], &[][..]),
        (Some(_), None) => others().map_or((&[][..], &[][..]), |o| (&o.settings, &o.limits)),
    };
    let limits = limits.iter().filter(|change| change.name == limit);
    let overrides = diff.overrides.iter();
    let overrides = overrides.filter(|own| own.limit == limit && own.subject == *subject);
    let named = subject.parts();
    let is_named = |set: &str| {
        let mut named = named.iter();
        named.any(|(_, own)| matches!(own, Named::Set(name) if name == set))
    };
    let sets = diff.sets.iter().filter(|change| is_named(&change.name));
    let settings = settings.iter().map(ToString::to_string);
    let sets = sets.map(ToString::to_string);
    let limits = limits.map(ToString::to_string);
    let overrides = overrides.map(ToString::to_string);
    let policy = settings.chain(sets).chain(limits);
    policy.chain(overrides).collect()
}

#[cfg(test)]
mod tests;
