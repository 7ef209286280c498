//! The policy, made ready for checks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::policy::{Limit, Meter, Mode, Policy, Stream, Window};
use schemas::subject::{Dimension, IdSet, Identity, Subject};
use schemas::time::Timestamp;

use crate::hash::{Hasher, Hashes, SetId, Shape};
use crate::orders::Ordered;
use crate::window::Rule;

/// The longest window that gateways share.
const SHARED_SECONDS_MAX: u32 = 3_600;

/// One limit, ready.
#[derive(Clone, Debug)]
pub struct Planned {
    pub limit: Limit,
    pub rule: Rule,
    pub(crate) shape: Shape,
    /// The sets that its subjects name.
    sets: Box<[SetId]>,
    /// Tells its counters from those of others.
    pub(crate) hash: u128,
    /// Of the limit's name: tells its orders from those of others.
    name: u128,
    /// Whether requests are counted under it here: sign-ins and reports of browsers are not requests, and what is left
    /// in a wallet only its aggregator knows.
    pub(crate) counts_requests: bool,
    /// Whether its pattern asks for more than having the dimensions.
    names_ids: bool,
    depends_on_tier: bool,
    /// How long what is admitted may count, where gateways share its number.
    pub(crate) span: Option<Duration>,
}

impl AsRef<Rule> for Planned {
    fn as_ref(&self) -> &Rule {
        &self.rule
    }
}

impl Planned {
    /// With other numbers, for the same counters.
    pub(crate) fn with(&self, limit: Limit) -> Self {
        Self {
            rule: Rule::new(limit.window, limit.hard()),
            span: span(&limit),
            limit,
            ..self.clone()
        }
    }
}

/// One version of the policy, ready.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    policy: Policy,
    limits: Vec<Planned>,
    /// By their hashes.
    sets: HashMap<u128, Arc<IdSet>, foldhash::fast::RandomState>,
    /// The dimensions that any limit asks for.
    pub(crate) dimensions: Shape,
}

impl Plan {
    #[must_use]
    pub fn new(policy: Policy, hasher: &Hasher) -> Self {
        let limits: Vec<Planned> = policy.limits.iter().map(|l| planned(l, hasher)).collect();
        let dimensions = limits
            .iter()
            .fold(Shape::PLATFORM, |all, planned| all.with(planned.shape));
        let sets = policy.sets.iter();
        let sets = sets.map(|(name, set)| {
            let id = hasher.set(set.dimension(), name);
            (id.hash, Arc::clone(set))
        });
        Self {
            sets: sets.collect(),
            policy,
            limits,
            dimensions,
        }
    }

    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Limits in mode `strict`.
    pub fn strict(&self) -> impl Iterator<Item = &Planned> {
        let limits = self.limits.iter();
        limits.filter(|planned| planned.limit.mode == Mode::Strict && planned.counts_requests)
    }

    /// How long what is admitted may count under any limit that gateways share.
    pub(crate) fn span_max(&self) -> Option<Duration> {
        self.limits.iter().filter_map(|planned| planned.span).max()
    }

    #[must_use]
    pub fn has_strict(&self) -> bool {
        self.strict().next().is_some()
    }

    pub(crate) fn limits(&self) -> &[Planned] {
        &self.limits
    }

    /// Whether a request of `identity` is in a set. Nothing is in one that the policy does not have.
    pub(crate) fn is_in(&self, set: SetId, identity: &Identity<'_>) -> bool {
        let id = identity.get(set.dimension());
        let set = self.sets.get(&set.hash);
        set.zip(id).is_some_and(|(set, id)| set.contains(id))
    }

    /// The limits that a request falls under, by what was ordered, with the hash of its subject there. `tier` stands in
    /// for what the policy says of its tenant; an order for its subject goes before it.
    pub(crate) fn limits_of<'p>(
        &'p self,
        identity: &Identity<'_>,
        tier: Option<&str>,
        hashes: &Hashes,
        ordered: (&'p Ordered, Timestamp),
    ) -> impl Iterator<Item = (&'p Planned, u128)> {
        let whose = (identity.tenant, tier);
        self.limits.iter().enumerate().filter_map(move |here| {
            let (_, planned) = here;
            let found = match planned.sets.is_empty() {
                true => self.limit_at(here, whose, hashes, ordered),
                false => self.limit_at(here, whose, &hashes.with(&planned.sets), ordered),
            };
            found.filter(|_| !planned.names_ids || accepts(planned, identity))
        })
    }

    /// The limit of this name that is counted for `subject` itself, by what was ordered, with the hash of the subject.
    pub(crate) fn limit_on<'p>(
        &'p self,
        subject: &Subject,
        name: &str,
        hasher: &Hasher,
        ordered: (&'p Ordered, Timestamp),
    ) -> Option<(&'p Planned, u128)> {
        let (tenant, hashes) = (subject.tenant_id(), hasher.named(subject));
        let limits = self.limits.iter().enumerate();
        let mut named = limits.filter(|(_, planned)| {
            planned.limit.name == name && planned.limit.pattern.accepts(subject)
        });
        named.find_map(|here| self.limit_at(here, (tenant.as_deref(), None), &hashes, ordered))
    }

    /// The limit at a place as it is for the subject there of what has these `hashes`, with the subject's; `None` where
    /// there is no such subject, or its tier has another limit instead.
    fn limit_at<'p>(
        &'p self,
        (place, planned): (usize, &'p Planned),
        (tenant, tier): (Option<&str>, Option<&str>),
        hashes: &Hashes,
        (ordered, now): (&'p Ordered, Timestamp),
    ) -> Option<(&'p Planned, u128)> {
        let subject = hashes.subject(planned.shape)?;
        let holds = || {
            let ordered = ordered.tier(planned.shape, hashes, now);
            self.holds(planned, tenant, ordered.or(tier))
        };
        (!planned.depends_on_tier || holds()).then(|| {
            let special = ordered.special(place, hashes, now, planned.name);
            (special.unwrap_or(planned), subject)
        })
    }

    fn holds(&self, planned: &Planned, tenant: Option<&str>, tier: Option<&str>) -> bool {
        match tier {
            None => self.policy.tier_allows(&planned.limit, tenant),
            tier => planned.limit.holds_in(tier),
        }
    }
}

impl Planned {
    /// What its counters are told by from those of others.
    pub(crate) fn counter(&self) -> String {
        counter(&self.limit)
    }
}

/// Not the tier: a tenant that moves to another keeps what it has used under this name.
fn counter(limit: &Limit) -> String {
    format!("{}\n{}\n{}", limit.name, limit.meter.name(), limit.window)
}

fn planned(limit: &Limit, hasher: &Hasher) -> Planned {
    let dimensions: Vec<Dimension> = limit.pattern.dimensions().collect();
    let any_ids: Vec<String> = dimensions
        .iter()
        .map(|dimension| format!("{}/*", dimension.name()))
        .collect();
    Planned {
        limit: limit.clone(),
        rule: Rule::new(limit.window, limit.hard()),
        shape: Shape::of(dimensions.iter().copied()),
        sets: limit
            .pattern
            .sets()
            .map(|(dimension, name)| hasher.set(dimension, name))
            .collect(),
        hash: hasher.limit(&counter(limit)),
        name: hasher.name(&limit.name),
        counts_requests: limit.meter.stream() == Stream::Usage && limit.window != Window::Wallet,
        names_ids: !dimensions.is_empty() && limit.pattern.as_str() != any_ids.join("/"),
        depends_on_tier: limit.tier.is_some() || !limit.replaced_in.is_empty(),
        span: span(limit),
    }
}

/// Gateways share what each counts whole before it admits. A bucket drains at each of them, and a longer window would
/// keep the part of one that is gone out of use for too long: these stay with what decisions say of the others.
fn span(limit: &Limit) -> Option<Duration> {
    let Window::Sliding { seconds } = limit.window else {
        return None;
    };
    let shared = limit.mode == Mode::Block
        && limit.meter == Meter::Requests
        && seconds <= SHARED_SECONDS_MAX;
    // The oldest slice counts in full.
    let slice = limit.window.slice_seconds().unwrap_or(1);
    shared.then(|| Duration::from_secs(u64::from(seconds) + u64::from(slice)))
}

fn accepts(planned: &Planned, identity: &Identity<'_>) -> bool {
    thread_local! {
        /// Grown once, so that a check does not allocate.
        static PATH: RefCell<String> = const { RefCell::new(String::new()) };
    }
    PATH.with_borrow_mut(|path| planned.limit.pattern.write_subject(identity, path))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use schemas::policy::{HARD, Level, Overrides, Stale, TenantSettings};
    use schemas::subject::{Pattern, Sets};

    use super::*;

    /// `name pattern meter hard window`, in mode `block`.
    pub(crate) fn limit(text: &str) -> Limit {
        limit_with(text, &Sets::default())
    }

    pub(crate) fn limit_with(text: &str, sets: &Sets) -> Limit {
        let words: Vec<&str> = text.splitn(5, ' ').collect();
        Limit {
            name: words[0].to_owned(),
            pattern: Pattern::parse_with(&words[1].replace('_', " "), sets).unwrap(),
            meter: words[2].parse().unwrap(),
            window: words[4].parse().unwrap(),
            levels: vec![Level {
                name: HARD.to_owned(),
                threshold: words[3].parse().unwrap(),
            }],
            keep: 0,
            mode: Mode::Block,
            stale: Stale::LastKnown,
            tier: None,
            replaced_in: Vec::new(),
            status: None,
            headers: true,
        }
    }

    /// Each `name dimension id…`.
    pub(crate) fn sets(texts: &[&str]) -> Sets {
        let mut sets = Sets::default();
        for text in texts {
            let mut words = text.split(' ');
            let name = words.next().unwrap().to_owned();
            let dimension = words.next().and_then(Dimension::named).unwrap();
            let mut set = IdSet::new(dimension);
            words.for_each(|id| set.add(id).unwrap());
            assert!(sets.add(name, set));
        }
        sets
    }

    pub(crate) fn plan(limits: Vec<Limit>) -> Plan {
        plan_with(limits, Overrides::default())
    }

    pub(crate) fn plan_with(limits: Vec<Limit>, overrides: Overrides) -> Plan {
        let settings = TenantSettings {
            tier: Some("pro".to_owned()),
            zone: None,
        };
        let policy = Policy {
            version: 3,
            limits,
            overrides,
            tenants: BTreeMap::from([("paying".to_owned(), settings)]),
            ..Policy::default()
        };
        Plan::new(policy, &Hasher::new([1, 2]))
    }

    #[track_caller]
    fn check(limits: &[Limit], identity: Identity<'_>, tier: Option<&str>, expected: &[&str]) {
        let plan = plan(limits.to_vec());
        let hashes = Hasher::new([1, 2]).identity(&identity, plan.dimensions);
        let now = Timestamp::default();
        let names: Vec<String> = plan
            .limits_of(&identity, tier, &hashes, (&Ordered::default(), now))
            .map(|(p, _)| format!("{} {}", p.limit.name, p.limit.hard()))
            .collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_request_falls_under_the_limits_of_its_ids() {
        let limits = [
            limit("all platform requests 1 sliding 60s"),
            limit("tenant tenant/* requests 2 sliding 60s"),
            limit("acme tenant/acme requests 3 sliding 60s"),
            limit("user tenant/*/user/* tokens 4 sliding 60s"),
            limit("chat tenant/*/route/POST_/chat/* requests 5 sliding 60s"),
        ];
        let none = Identity::default();
        let acme = Identity {
            tenant: Some("acme"),
            route: Some("POST /chat/x"),
            ..none
        };
        let other = Identity {
            tenant: Some("other"),
            user: Some("u"),
            route: Some("GET /chat/x"),
            ..none
        };
        check(&limits, none, None, &["all 1"]);
        check(
            &limits,
            acme,
            None,
            &["all 1", "tenant 2", "acme 3", "chat 5"],
        );
        check(&limits, other, None, &["all 1", "tenant 2", "user 4"]);
    }

    #[test]
    fn a_tier_has_limits_of_its_own() {
        let general = Limit {
            replaced_in: vec!["pro".to_owned()],
            ..limit("rate tenant/* requests 1 sliding 60s")
        };
        let pro = Limit {
            tier: Some("pro".to_owned()),
            ..limit("rate tenant/* requests 9 sliding 60s")
        };
        let limits = [general, pro];
        let tenant = |id| Identity {
            tenant: Some(id),
            ..Identity::default()
        };
        check(&limits, tenant("paying"), None, &["rate 9"]);
        check(&limits, tenant("other"), None, &["rate 1"]);
        check(&limits, tenant("other"), Some("pro"), &["rate 9"]);
        check(&limits, tenant("paying"), Some("free"), &["rate 1"]);
    }
}
