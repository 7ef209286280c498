//! Whole engines against a naive one, made of lists and loops that forget nothing: random events of several tenants,
//! out of order and twice, changes of policy, silence, and restarts from a snapshot at any point.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::policy::{HARD, Limit, Policy};
use schemas::subject::{Identity, Subject};

use super::*;
use crate::counter::Direction;
use crate::event::{Amounts, Crossing};
use crate::model::{NaiveCounter, Told, policy, reborn, settings, usage_engine};
use crate::window::Terms;

const POLICIES: [&str; 5] = [
    "",
    "a tenant/* tokens half=10 hard=20 : sliding 10s",
    "a tenant/* tokens half=15 hard=30 : sliding 10s
     b tenant/*/user/* tokens hard=12 : sliding 1s
     c tenant/* requests hard=5 : calendar day",
    "renamed tenant/* tokens hard=20 : sliding 10s
     b tenant/*/user/* tokens hard=8 : sliding 20m
     d tenant/t1 tokens hard=20 : bucket 1/s burst 20",
    "a tenant/* tokens half=10 hard=20 : sliding 10s
     d tenant/* tokens hard=15 : bucket 1/s burst 15
     c tenant/* requests most=4 hard=8 : calendar day",
];

const TENANTS: [&str; 3] = ["t1", "t2", "t3"];
const USERS: [&str; 2] = ["u1", "u2"];

#[derive(Clone, Debug)]
enum Op {
    Call {
        tenant: usize,
        user: usize,
        /// Events of one tenant with one id are one.
        id: u8,
        /// Before its append time; below zero: ahead of it.
        behind_us: i64,
        tokens: i64,
    },
    Policy(usize),
    Tick,
    /// So much append time passes.
    Silence {
        seconds: u64,
    },
    Restart,
    Forget,
    Flush,
}

fn op() -> impl Strategy<Value = Op> {
    let behind = prop_oneof![
        6 => 0..3_000_000_i64,
        2 => 0..15_000_000_i64,
        1 => -400_000_000..900_000_000_i64,
    ];
    let call = (0..3_usize, 0..2_usize, any::<u8>(), behind, 0..9_i64);
    let call = call.prop_map(|(tenant, user, id, behind_us, tokens)| Op::Call {
        tenant,
        user,
        id,
        behind_us,
        tokens,
    });
    prop_oneof![
        20 => call,
        1 => (0..POLICIES.len()).prop_map(Op::Policy),
        2 => Just(Op::Tick),
        4 => (0..5_u64).prop_map(|seconds| Op::Silence { seconds }),
        1 => (0..2_000_u64).prop_map(|seconds| Op::Silence { seconds }),
        1 => Just(Op::Restart),
        1 => Just(Op::Forget),
        1 => Just(Op::Flush),
    ]
}

#[derive(Default)]
struct Tenant {
    newest: Timestamp,
    /// Time minus append time of every event that was counted.
    leads: Vec<i64>,
}

impl Tenant {
    /// To where its time has passed at append time `now`.
    fn passed(&self, now: Timestamp) -> Timestamp {
        let clock = now.as_micros() + self.leads.iter().max().unwrap();
        Timestamp::from_micros(clock).minus(settings().patience.lateness)
    }
}

/// The reference. Remembers everything, looks at everything each time.
#[derive(Default)]
struct Naive {
    policy: Policy,
    seen: BTreeSet<(usize, u8)>,
    tenants: BTreeMap<&'static str, Tenant>,
    /// By pattern, meter and window, and subject.
    counters: BTreeMap<(String, Subject), NaiveCounter>,
    /// By tenant, user and second.
    sums: BTreeMap<(&'static str, &'static str, i64), (i64, i128)>,
}

fn series(limit: &Limit) -> String {
    format!("{} {} {}", limit.pattern, limit.meter.name(), limit.window)
}

/// The limits that look at the counter of `name` for `tenant`.
fn limits_of<'p>(policy: &'p Policy, name: &str, tenant: &str) -> Vec<&'p Limit> {
    let here = policy.limits.iter().filter(|limit| series(limit) == name);
    here.filter(|limit| policy.tier_allows(limit, Some(tenant)))
        .collect()
}

type Crossings = Vec<(Subject, Told)>;

impl Naive {
    fn call(&mut self, op: &Op, now: Timestamp, out: &mut Crossings) -> Outcome {
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
        let at = Timestamp::from_micros(now.as_micros() - behind_us);
        if now.plus(settings().ahead_max) < at {
            let appended_at = now;
            return Outcome::Dead(Cause::TooFarAhead { at, appended_at });
        }
        if !self.seen.insert((tenant, id)) {
            return Outcome::Duplicate;
        }
        let (name, user_name) = (TENANTS[tenant], USERS[user]);
        let known = self.tenants.get(name);
        let lateness = settings().patience.lateness;
        if known.is_some_and(|tenant| at < tenant.newest.minus(lateness)) {
            return Outcome::Late;
        }
        let tenant = self.tenants.entry(name).or_insert_with(|| Tenant {
            newest: at,
            leads: Vec::new(),
        });
        tenant.newest = tenant.newest.max(at);
        tenant.leads.push(-behind_us);
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
        for (limit, subject) in self.policy.limits_of(&identity) {
            let amount = amounts.of(&limit.meter);
            if amount == 0 || !done.insert(series(limit)) {
                continue;
            }
            let terms = Terms {
                window: limit.window,
                zone: self.policy.zone(Some(name)),
            };
            let counter = self.counters.entry((series(limit), subject.clone()));
            let counter = counter.or_insert_with(|| NaiveCounter::new(terms, at));
            let mut told = Vec::new();
            let limits = limits_of(&self.policy, &series(limit), name);
            counter.add(&limits, at, amount, &mut told);
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
            counter.fall(&limits_of(&self.policy, name, &tenant), by, &mut told);
            out.extend(told.into_iter().map(|told| (subject.clone(), told)));
        }
    }

    /// When each hard level that stands falls if nothing more comes.
    fn until(&self) -> BTreeMap<(Subject, String), Timestamp> {
        let mut until = BTreeMap::new();
        for ((name, subject), counter) in &self.counters {
            let tenant = subject.tenant_id().unwrap();
            for limit in limits_of(&self.policy, name, &tenant) {
                if counter
                    .standing
                    .contains(&(limit.name.clone(), HARD.to_owned()))
                {
                    let falls_at = counter.falls_below(limit.hard()).unwrap();
                    until.insert((subject.clone(), limit.name.clone()), falls_at);
                }
            }
        }
        until
    }

    fn reform(&mut self, new: Policy, at: Timestamp, out: &mut Crossings) {
        let old = std::mem::replace(&mut self.policy, new);
        let (new, tenants) = (&self.policy, &self.tenants);
        self.counters.retain(|(name, subject), counter| {
            let tenant = subject.tenant_id().unwrap();
            let (before, after) = (
                limits_of(&old, name, &tenant),
                limits_of(new, name, &tenant),
            );
            let mut told = Vec::new();
            let zone = new.zone(Some(&tenant));
            let passed = tenants[tenant.as_str()].passed(at);
            counter.reform((&before, &after), zone, (at, passed), &mut told);
            out.extend(told.into_iter().map(|told| (subject.clone(), told)));
            !after.is_empty()
        });
    }
}

fn told(crossing: &Crossing) -> (Subject, Told) {
    let c = crossing.clone();
    (
        c.subject,
        (c.limit, c.level, c.direction, c.at, c.sum, c.falls_at),
    )
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

/// What the engine's rollups told last of each second: events and tokens.
#[derive(Default)]
struct Store {
    seconds: BTreeMap<(String, String, i64), (i64, i128)>,
    /// When each hard level that stands falls, by subject and limit, as was told last.
    until: BTreeMap<(Subject, String), Timestamp>,
}

impl Store {
    fn note(&mut self, crossing: &Crossing) {
        if crossing.level == HARD {
            let key = (crossing.subject.clone(), crossing.limit.clone());
            match crossing.falls_at {
                Some(falls_at) => self.until.insert(key, falls_at),
                None => self.until.remove(&key),
            };
        }
    }

    fn apply(&mut self, out: &mut Vec<Output>) -> Crossings {
        let mut crossings = Vec::new();
        for output in out.drain(..) {
            match output {
                Output::Crossing(crossing) => {
                    self.note(&crossing);
                    crossings.push(told(&crossing));
                }
                Output::Rollup(rollup) => {
                    for (second, sums) in rollup.seconds {
                        let user = rollup.dims.ids[1].as_deref().unwrap();
                        let second = rollup.minute.second() + i64::from(second);
                        let key = (rollup.dims.tenant.to_string(), user.to_owned(), second);
                        self.seconds.insert(key, (sums.events, sums.input_tokens));
                    }
                }
                Output::Prolonged(prolonged) => self.note(&prolonged.crossing),
                other => panic!("{other:?} was not asked for"),
            }
        }
        crossings
    }
}

/// An engine and its reference, side by side.
struct Pair {
    engine: Engine,
    naive: Naive,
    store: Store,
    out: Vec<Output>,
    now: Timestamp,
    version: i64,
}

impl Pair {
    fn new() -> Self {
        Self {
            engine: usage_engine(0, 1),
            naive: Naive::default(),
            store: Store::default(),
            out: Vec::new(),
            now: Timestamp::parse("2018-02-17T23:30:00Z").unwrap(),
            version: 0,
        }
    }

    fn play(&mut self, offset: i64, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Call { .. } | Op::Policy(_) | Op::Tick => return self.record(offset, op),
            Op::Silence { seconds } => self.now = self.now.plus(Duration::from_secs(*seconds)),
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
        let (now, mut expected) = (self.now, Vec::new());
        self.naive.pass(now, None, &mut expected);
        let (input, outcome, id);
        match op {
            Op::Call {
                tenant,
                user,
                id: number,
                behind_us,
                tokens,
            } => {
                id = number.to_string();
                let at = Timestamp::from_micros(now.as_micros() - behind_us);
                let who = (TENANTS[*tenant], USERS[*user]);
                input = Input::Event(crate::model::call(who, &id, at, *tokens));
                outcome = self.naive.call(op, now, &mut expected);
            }
            Op::Policy(which) => {
                self.version += 1;
                let policy = policy(self.version, POLICIES[*which]);
                self.naive.reform(policy.clone(), now, &mut expected);
                let policy = Box::new(policy);
                (input, outcome) = (Input::Policy { policy, at: now }, Outcome::Marker);
            }
            _ => (input, outcome) = (Input::Tick, Outcome::Marker),
        }
        let place = Place {
            offset,
            appended_at: now,
        };
        let engine = self.engine.step(place, input, &mut self.out).unwrap();
        prop_assert_eq!(engine, outcome);
        let crossings = self.store.apply(&mut self.out);
        prop_assert_eq!(sorted(crossings), sorted(expected), "record {}", offset);
        self.ends_agree()
    }

    /// Whether the end of every block was told, to the second.
    fn ends_agree(&self) -> Result<(), TestCaseError> {
        let (until, told) = (self.naive.until(), &self.store.until);
        prop_assert!(until.keys().eq(told.keys()), "{until:?} {told:?}");
        for (falls_at, told) in until.values().zip(told.values()) {
            let most = told.plus(Duration::from_secs(1));
            prop_assert!(
                told <= falls_at && *falls_at < most,
                "{told} for {falls_at}"
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
        prop_assert!(self.engine.ledger().is_balanced());
        Ok(())
    }
}

proptest! {
    #[test]
    fn engines_agree_with_lists_and_loops(ops in prop::collection::vec(op(), 1..120)) {
        let mut pair = Pair::new();
        for (offset, op) in (0..).zip(&ops) {
            pair.play(offset, op)?;
        }
        pair.end()?;
    }
}
