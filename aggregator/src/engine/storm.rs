//! Whole engines against a naive one, made of lists and loops that forget nothing: random events of several tenants,
//! out of order, late, twice and from clocks that are wrong by minutes or decades; changes of limits, tiers and zones,
//! and orders on tenants and their users; silence of seconds or days, append times that go back, sums told at any moment, and restarts from a snapshot at any
//! point.

mod cleared;
mod ops;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::orders::{InForce, Order, Orders};
use schemas::policy::{HARD, Limit, Policy};
use schemas::subject::{Identity, Subject};

use super::*;
use crate::counter::Direction;
use crate::event::Amounts;
use crate::model::{MINUTE, NaiveCounter, Told, cases, policy, reborn, settings, usage_engine};
use crate::window::Terms;
use ops::{Op, POLICIES, TENANTS, USERS, op};
use store::Store;

#[derive(Default)]
struct Tenant {
    /// Append time and time of every event that was counted.
    events: Vec<(Timestamp, Timestamp)>,
    /// The hours before it are closed for want of events.
    first_open: i64,
    /// Requests of each user by hour, as lists of those who come most have them.
    requests: BTreeMap<i64, BTreeMap<&'static str, u128>>,
}

impl Tenant {
    /// To where its time has passed at append time `now`.
    fn passed(&self, now: Timestamp) -> Timestamp {
        let leads = self.events.iter();
        let leads = leads.map(|(appended, at)| at.as_micros() - appended.as_micros());
        let clock = now.as_micros() + leads.max().unwrap();
        Timestamp::from_micros(clock).minus(settings().patience.lateness)
    }

    /// What is before this is late at append time `now`.
    fn floor(&self, now: Timestamp) -> Timestamp {
        let (mut floor, mut newest) = (Timestamp::MIN, Timestamp::MIN);
        let following = self.events[1..].iter().map(|(appended, _)| *appended);
        for ((appended, at), next) in self.events.iter().zip(following.chain([now])) {
            newest = newest.max(*at);
            // Nothing came for longer than a day: the minute of the newest is closed.
            if settings().patience.idle < next.since(*appended) {
                let minute = newest.second().div_euclid(60);
                floor = floor.max(Timestamp::from_seconds(60 * minute + 60));
            }
        }
        floor.max(newest.minus(settings().patience.lateness))
    }
}

/// The reference. Remembers everything, looks at everything each time.
#[derive(Default)]
struct Naive {
    policy: Policy,
    orders: Orders,
    /// When each event was taken for new, by tenant and id.
    seen: BTreeMap<(usize, u8), Timestamp>,
    tenants: BTreeMap<&'static str, Tenant>,
    /// By pattern, meter and window, and subject.
    counters: BTreeMap<(String, Subject), NaiveCounter>,
    /// By tenant, user and second.
    sums: BTreeMap<(&'static str, &'static str, i64), (i64, i128)>,
}

/// The hour since 1970.
fn hour(at: Timestamp) -> i64 {
    at.second().div_euclid(3_600)
}

fn series(limit: &Limit) -> String {
    format!("{} {} {}", limit.pattern, limit.meter.name(), limit.window)
}

/// The limits that look at the counter of `name` for `subject`, with their numbers there.
fn limits_of(policy: &Policy, orders: &Orders, name: &str, subject: &Subject) -> Vec<Limit> {
    let in_force = InForce {
        policy,
        orders,
        now: Timestamp::MIN,
    };
    let limits = in_force
        .limits_on(subject)
        .map(|held| held.limit.into_owned());
    limits.filter(|limit| series(limit) == name).collect()
}

fn refs(limits: &[Limit]) -> Vec<&Limit> {
    limits.iter().collect()
}

type Crossings = Vec<(Subject, Told)>;

impl Naive {
    /// Takes a call that was appended at `appended_at`, when `now` is the newest append time. In the hour after the
    /// span of duplicates one may be known or not: there `is_known` says what the engine made of it.
    fn call(
        &mut self,
        op: &Op,
        (appended_at, now): (Timestamp, Timestamp),
        is_known: bool,
        out: &mut Crossings,
    ) -> Outcome {
        let Op::Call {
            tenant,
            user,
            id,
            behind_us,
            tokens,
        } = *op
        else {
            panic!("{op:?} is no call");
        };
        let at = Timestamp::from_micros(appended_at.as_micros() - behind_us);
        if appended_at.plus(settings().ahead_max) < at {
            return Outcome::Dead(Cause::TooFarAhead { at, appended_at });
        }
        let age = self.seen.get(&(tenant, id)).map(|then| now.since(*then));
        let span = settings().seen.span;
        if age.is_some_and(|age| age <= span || age <= span + 60 * MINUTE && is_known) {
            return Outcome::Duplicate;
        }
        self.seen.insert((tenant, id), now);
        let (name, user_name) = (TENANTS[tenant], USERS[user]);
        let known = self.tenants.get(name);
        if known.is_some_and(|tenant| at < tenant.floor(now)) {
            return Outcome::Late;
        }
        let tenant = self.tenants.entry(name).or_default();
        let silence = tenant.events.last().map(|(then, _)| now.since(*then));
        if silence.is_some_and(|silence| settings().patience.idle < silence) {
            let newest = tenant.events.iter().map(|(_, at)| *at).max().unwrap();
            tenant.first_open = tenant.first_open.max(hour(newest) + 1);
        }
        if tenant.first_open <= hour(at) {
            let users = tenant.requests.entry(hour(at)).or_default();
            *users.entry(user_name).or_default() += 1;
        }
        tenant.events.push((now, at));
        let cell = self.sums.entry((name, user_name, at.second())).or_default();
        *cell = (cell.0 + 1, cell.1 + i128::from(tokens));
        let identity = Identity {
            tenant: Some(name),
            user: Some(user_name),
            ..Identity::default()
        };
        let amounts = Amounts {
            requests: 1,
            input_tokens: tokens,
            ..Amounts::default()
        };
        let mut done = BTreeSet::new();
        for limit in &self.policy.limits {
            let Some(subject) = limit.pattern.subject_of(&identity) else {
                continue;
            };
            let limits = limits_of(&self.policy, &self.orders, &series(limit), &subject);
            let amount = amounts.of(&limit.meter);
            if amount == 0 || limits.is_empty() || !done.insert(series(limit)) {
                continue;
            }
            let terms = Terms {
                window: limit.window,
                zone: self.policy.zone(Some(name)),
            };
            let counter = self.counters.entry((series(limit), subject.clone()));
            let counter = counter.or_insert_with(|| NaiveCounter::new(terms, at));
            let mut told = Vec::new();
            counter.add(&refs(&limits), at, amount, &mut told);
            out.extend(told.into_iter().map(|told| (subject.clone(), told)));
        }
        self.pass(now, Some(name), out);
        Outcome::Counted
    }

    /// Lets fall what falls by append time `now`, everywhere or with one tenant.
    fn pass(&mut self, now: Timestamp, only: Option<&str>, out: &mut Crossings) {
        for ((name, subject), counter) in &mut self.counters {
            let tenant = subject.tenant_id().unwrap();
            if only.is_some_and(|only| only != tenant) {
                continue;
            }
            let by = self.tenants[tenant.as_str()].passed(now);
            let mut told = Vec::new();
            let limits = limits_of(&self.policy, &self.orders, name, subject);
            counter.fall(&refs(&limits), by, &mut told);
            out.extend(told.into_iter().map(|told| (subject.clone(), told)));
        }
    }

    /// When each hard level that stands falls if nothing more comes, and what its tenant's clock shows at append time
    /// `now`.
    fn until(&self, now: Timestamp) -> BTreeMap<(Subject, String), (Timestamp, Timestamp)> {
        let mut until = BTreeMap::new();
        for ((name, subject), counter) in &self.counters {
            let tenant = subject.tenant_id().unwrap();
            let passed = self.tenants[tenant.as_str()].passed(now);
            let clock = passed.plus(settings().patience.lateness);
            for limit in limits_of(&self.policy, &self.orders, name, subject) {
                if counter
                    .standing
                    .contains(&(limit.name.clone(), HARD.to_owned()))
                {
                    // A wallet's never falls by itself.
                    let Some(falls_at) = counter.falls_below(limit.hard()) else {
                        continue;
                    };
                    until.insert((subject.clone(), limit.name.clone()), (falls_at, clock));
                }
            }
        }
        until
    }

    fn reform(&mut self, new: Policy, (at, now): (Timestamp, Timestamp), out: &mut Crossings) {
        let old = std::mem::replace(&mut self.policy, new);
        let (new, tenants, orders) = (&self.policy, &self.tenants, &self.orders);
        self.counters.retain(|(name, subject), counter| {
            let tenant = subject.tenant_id().unwrap();
            if counter.is_over(tenants[tenant.as_str()].floor(now)) {
                return false;
            }
            let (before, after) = (
                limits_of(&old, orders, name, subject),
                limits_of(new, orders, name, subject),
            );
            let mut told = Vec::new();
            // What is dropped ends in the zone in which it was counted.
            let zone = match after.is_empty() {
                true => counter.terms.zone,
                false => new.zone(Some(&tenant)),
            };
            let passed = tenants[tenant.as_str()].passed(now);
            counter.reform(
                (&refs(&before), &refs(&after)),
                zone,
                (at, passed),
                &mut told,
            );
            out.extend(told.into_iter().map(|told| (subject.clone(), told)));
            !after.is_empty()
        });
    }

    /// Obeys an order, or obeys it no more.
    fn order(
        &mut self,
        (order, ended): (Order, bool),
        (at, now): (Timestamp, Timestamp),
        out: &mut Crossings,
    ) {
        let old = self.orders.clone();
        let about = order.subject.clone();
        match ended {
            true => drop(self.orders.end(&order.key(), order.seq)),
            false => drop(self.orders.put(order)),
        }
        if self.orders == old {
            return;
        }
        let (policy, new, tenants) = (&self.policy, &self.orders, &self.tenants);
        self.counters.retain(|(name, subject), counter| {
            if !subject.path_and_above().any(|path| path == about.as_str()) {
                return true;
            }
            let tenant = &tenants[subject.tenant_id().unwrap().as_str()];
            if counter.is_over(tenant.floor(now)) {
                return false;
            }
            let before = limits_of(policy, &old, name, subject);
            let after = limits_of(policy, new, name, subject);
            let (zone, mut told) = (counter.terms.zone, Vec::new());
            let when = (at, tenant.passed(now));
            counter.reform((&refs(&before), &refs(&after)), zone, when, &mut told);
            out.extend(told.into_iter().map(|told| (subject.clone(), told)));
            !after.is_empty()
        });
    }
}

/// In an order that does not depend on which counter was looked at first.
fn sorted(mut crossings: Crossings) -> Crossings {
    crossings.sort_by_key(|(subject, told)| {
        let (limit, level, direction, at, sum, _) = told.clone();
        (
            subject.clone(),
            limit,
            at,
            direction == Direction::Up,
            level,
            sum,
        )
    });
    crossings
}

/// An engine and its reference, side by side.
struct Pair {
    engine: Engine,
    naive: Naive,
    store: Store,
    out: Vec<Output>,
    /// What the log's clock shows, and the most that it ever showed for a record.
    clock: Timestamp,
    now: Timestamp,
    version: i64,
    orders: i64,
    last_clearing: Option<Order>,
}

impl Pair {
    fn new() -> Self {
        Self {
            engine: usage_engine(0, 1),
            naive: Naive::default(),
            store: Store::default(),
            out: Vec::new(),
            clock: Timestamp::parse("2018-02-17T23:30:00Z").unwrap(),
            now: Timestamp::MIN,
            version: 0,
            orders: 0,
            last_clearing: None,
        }
    }

    fn play(&mut self, offset: i64, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Call { .. } | Op::Policy(_) | Op::Order { .. } | Op::Clear { .. } | Op::Tick => {
                return self.record(offset, op);
            }
            Op::Silence { seconds } => {
                self.clock = self.clock.plus(Duration::from_secs(*seconds));
            }
            Op::Back { seconds } => self.clock = self.clock.minus(Duration::from_secs(*seconds)),
            Op::Restart => {
                let engine = std::mem::replace(&mut self.engine, usage_engine(0, 1));
                self.engine = reborn(engine);
            }
            Op::Forget => self.engine.forget(),
            Op::Flush => {
                self.engine.flush(&mut self.out);
                prop_assert!(self.store.apply(&mut self.out).is_empty());
            }
        }
        Ok(())
    }

    /// Gives both one record, and holds what they say of it against each other.
    fn record(&mut self, offset: i64, op: &Op) -> Result<(), TestCaseError> {
        let appended_at = self.clock;
        self.now = self.now.max(appended_at);
        let (now, mut expected) = (self.now, Vec::new());
        self.naive.pass(now, None, &mut expected);
        let place = Place {
            offset,
            appended_at,
        };
        let mut cleared = Vec::new();
        let (engine, out) = (&mut self.engine, &mut self.out);
        let (found, outcome) = match op {
            Op::Call {
                tenant,
                user,
                id,
                behind_us,
                tokens,
            } => {
                let id = id.to_string();
                let at = Timestamp::from_micros(appended_at.as_micros() - behind_us);
                let who = (TENANTS[*tenant], USERS[*user]);
                let event = crate::model::call(who, &id, at, *tokens);
                let found = engine.step(place, Input::Event(event), out).unwrap();
                let is_known = found == Outcome::Duplicate;
                let when = (appended_at, now);
                (found, self.naive.call(op, when, is_known, &mut expected))
            }
            Op::Policy(which) => {
                self.version += 1;
                let policy = policy(self.version, POLICIES[*which]);
                let when = (appended_at, now);
                self.naive.reform(policy.clone(), when, &mut expected);
                let (policy, at) = (Box::new(policy), appended_at);
                let found = engine
                    .step(place, Input::Policy { policy, at }, out)
                    .unwrap();
                (found, Outcome::Marker)
            }
            Op::Order { .. } => {
                self.orders += 1;
                let (order, ended) = (op.order(self.orders), op.ends());
                let when = (appended_at, now);
                self.naive
                    .order((order.clone(), ended), when, &mut expected);
                let (order, at) = (Box::new(order), appended_at);
                let input = Input::Order { order, ended, at };
                (engine.step(place, input, out).unwrap(), Outcome::Marker)
            }
            Op::Clear { .. } => {
                let order = op.clearing(&mut self.orders, &mut self.last_clearing, appended_at);
                cleared = self.naive.clear(&order, now, &mut expected);
                let (at, order) = (order.at, Box::new(order));
                let ended = false;
                let input = Input::Order { order, ended, at };
                (engine.step(place, input, out).unwrap(), Outcome::Marker)
            }
            _ => (
                engine.step(place, Input::Tick, out).unwrap(),
                Outcome::Marker,
            ),
        };
        prop_assert_eq!(found, outcome);
        let crossings = self.store.apply(&mut self.out);
        prop_assert_eq!(std::mem::take(&mut self.store.cleared), cleared);
        prop_assert_eq!(sorted(crossings), sorted(expected), "record {}", offset);
        self.ends_agree()
    }

    /// Whether the end of every block was told: to the second, or to an eighth of what is left of what was told.
    fn ends_agree(&self) -> Result<(), TestCaseError> {
        let (until, told) = (self.naive.until(self.now), &self.store.until);
        prop_assert!(until.keys().eq(told.keys()), "{until:?} {told:?}");
        for ((falls_at, clock), told) in until.values().zip(told.values()) {
            let short = falls_at.as_micros() - told.as_micros();
            let left = told.as_micros() - clock.as_micros();
            prop_assert!(
                0 <= short && (short < 1_000_000 || short * 8 < left),
                "{told} for {falls_at} at {clock}"
            );
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), TestCaseError> {
        self.engine.flush(&mut self.out);
        self.store.apply(&mut self.out);
        let sums = self.naive.sums.into_iter();
        let sums = sums.map(|((t, u, second), sums)| ((t.into(), u.into(), second), sums));
        prop_assert_eq!(self.store.seconds, sums.collect());
        let tenants = self.naive.tenants.iter();
        let requests = tenants.flat_map(|(name, tenant)| {
            let hours = tenant.requests.iter();
            hours.map(move |(hour, users)| {
                let users = users
                    .iter()
                    .map(|(user, count)| ((*user).to_owned(), *count));
                (((*name).to_owned(), *hour), users.collect())
            })
        });
        prop_assert_eq!(self.store.requests, requests.collect());
        prop_assert!(self.engine.ledger().is_balanced());
        Ok(())
    }
}

/// Plays on both sides whatever happens.
fn agree(ops: &[Op]) -> Result<(), TestCaseError> {
    let mut pair = Pair::new();
    for (offset, op) in (0..).zip(ops) {
        pair.play(offset, op)?;
    }
    pair.end()
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn engines_agree_with_lists_and_loops(ops in prop::collection::vec(op(), 1..120)) {
        agree(&ops)?;
    }
}
