//! What a shard keeps has a bound. What is refused then follows from the log alone, and nothing that is counted already
//! is lost. Keys that are idle leave, and come back with the same sums.

use std::collections::BTreeMap;

use proptest::prelude::*;
use schemas::subject::{Identity, Subject};

use super::*;
use crate::event::PartialSum;
use crate::model::{MINUTE, call, cases, policy, settings, usage_engine};
use crate::rollup::Sums;

const LIMITS: &str = "own tenant/* tokens half=20 hard=40 : sliding 60s
    user tenant/*/user/* tokens hard=8 : sliding 60s
    long tenant/*/user/* tokens hard=30 : sliding 20m
    day tenant/*/user/* requests hard=4 : calendar day
    all source/* requests hard=1000 : sliding 10s";
const TENANTS: [&str; 2] = ["t1", "t2"];
/// Holds some ten subjects of three counters each.
const SMALL: usize = 8_000;

fn engine(state_bytes_max: usize) -> Engine {
    let settings = Settings {
        state_bytes_max,
        sketch_usage: false,
        ..settings()
    };
    Engine::new(usage_engine(0, 1).shard(), settings)
}

/// As it is after its snapshot was written and read.
fn reborn(engine: &Engine) -> Engine {
    let bytes = postcard::to_allocvec(engine.state()).unwrap();
    let state = postcard::from_bytes(&bytes).unwrap();
    let orders = engine.orders().into_iter().cloned().collect();
    let held = (engine.policy().clone(), orders);
    Engine::restore(engine.shard(), engine.settings, held, state)
}

#[derive(Clone, Debug)]
enum Op {
    Call {
        tenant: usize,
        user: u16,
        behind_s: u64,
        tokens: i64,
    },
    Silence {
        seconds: u64,
    },
}

fn ops(silence_s: u64) -> impl Strategy<Value = Vec<Op>> {
    let call = (
        0..2_usize,
        prop_oneof![0..8_u16, 0..60_u16],
        0..20_u64,
        0..9_i64,
    );
    let call = call.prop_map(|(tenant, user, behind_s, tokens)| Op::Call {
        tenant,
        user,
        behind_s,
        tokens,
    });
    let silence = (0..silence_s).prop_map(|seconds| Op::Silence { seconds });
    prop::collection::vec(prop_oneof![8 => call, 1 => silence], 1..150)
}

/// What an engine is told to do besides, which must make no difference.
#[derive(Clone, Copy, Debug)]
enum Besides {
    Nothing,
    Forget,
    Flush,
    Restart,
}

fn besides() -> impl Strategy<Value = Vec<Besides>> {
    let besides = prop_oneof![
        4 => Just(Besides::Nothing),
        2 => Just(Besides::Forget),
        2 => Just(Besides::Flush),
        1 => Just(Besides::Restart),
    ];
    prop::collection::vec(besides, 150)
}

/// An engine, and what it said.
struct Run {
    engine: Engine,
    out: Vec<Output>,
    offset: i64,
    now: Timestamp,
    outcomes: Vec<Outcome>,
    crossings: Vec<Output>,
    /// The last that was told of each row, and of each slice of a wider scope.
    rows: BTreeMap<(String, Timestamp), Vec<(u8, Sums)>>,
    parts: BTreeMap<(String, Timestamp), PartialSum>,
}

impl Run {
    fn new(state_bytes_max: usize) -> Self {
        let mut run = Self {
            engine: engine(state_bytes_max),
            out: Vec::new(),
            offset: 0,
            now: Timestamp::parse("2026-03-28T22:30:00Z").unwrap(),
            outcomes: Vec::new(),
            crossings: Vec::new(),
            rows: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        let (policy, at) = (Box::new(policy(1, LIMITS)), run.now);
        run.step(Input::Policy { policy, at });
        run
    }

    fn step(&mut self, input: Input<'_>) {
        let place = Place {
            offset: self.offset,
            appended_at: self.now,
        };
        self.offset += 1;
        let outcome = self.engine.step(place, input, &mut self.out).unwrap();
        self.outcomes.push(outcome);
        self.listen();
    }

    fn listen(&mut self) {
        for output in self.out.drain(..) {
            match output {
                Output::Rollup(rollup) => {
                    let dims = format!("{:?}", rollup.dims);
                    self.rows.insert((dims, rollup.minute), rollup.seconds);
                }
                Output::Partial(part) => {
                    let key = (part.scope.to_string(), part.slice);
                    self.parts.insert(key, part);
                }
                said => self.crossings.push(said),
            }
        }
    }

    fn flush(&mut self) {
        self.engine.flush(&mut self.out);
        self.listen();
    }

    fn call(&mut self, (tenant, user): (&str, &str), at: Timestamp, tokens: i64) {
        let id = self.offset.to_string();
        let event = call((tenant, user), &id, at, tokens);
        // Each user comes from an address of its own.
        let identity = Identity {
            source: Some(user),
            ..event.identity
        };
        self.step(Input::Event(Event { identity, ..event }));
    }

    fn play(&mut self, op: &Op) {
        match op {
            Op::Call {
                tenant,
                user,
                behind_s,
                tokens,
            } => {
                let at = self.now.minus(Duration::from_secs(*behind_s));
                self.call((TENANTS[*tenant], &format!("u{user}")), at, *tokens);
            }
            Op::Silence { seconds } => self.now = self.now.plus(Duration::from_secs(*seconds)),
        }
    }

    fn besides(&mut self, besides: Besides) {
        match besides {
            Besides::Nothing => {}
            Besides::Forget => self.engine.forget(),
            Besides::Flush => self.flush(),
            Besides::Restart => self.engine = reborn(&self.engine),
        }
    }

    /// Events and tokens of each tenant and second, over all rows.
    fn totals(&self) -> BTreeMap<(String, i64), (i64, i128)> {
        let mut totals: BTreeMap<_, (i64, i128)> = BTreeMap::new();
        for ((dims, minute), seconds) in &self.rows {
            let tenant = TENANTS.iter().find(|tenant| dims.contains(**tenant));
            for (second, sums) in seconds {
                let key = (
                    tenant.unwrap().to_string(),
                    minute.second() + i64::from(*second),
                );
                let total = totals.entry(key).or_default();
                *total = (total.0 + sums.events, total.1 + sums.input_tokens);
            }
        }
        totals
    }

    /// What was said of tenants themselves, tenant by tenant: which of two comes first with one record can depend on what
    /// else is counted of them.
    fn own_crossings(&self) -> BTreeMap<&Subject, Vec<&Output>> {
        let mut own: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for output in &self.crossings {
            let crossing = match output {
                Output::Crossing(crossing) => crossing,
                Output::Prolonged(prolonged) => &prolonged.crossing,
                other => panic!("{other:?} was not asked for"),
            };
            if crossing.limit == "own" {
                own.entry(&crossing.subject).or_default().push(output);
            }
        }
        own
    }
}

proptest! {
    #![proptest_config(cases(500))]

    /// Whatever is dropped when, told when, and wherever it is restarted.
    #[test]
    fn every_run_refuses_the_same(ops in ops(2_000), besides in besides(), wild in besides()) {
        let (mut calm, mut other) = (Run::new(SMALL), Run::new(SMALL));
        for (op, (a, b)) in ops.iter().zip(besides.into_iter().zip(wild)) {
            calm.play(op);
            other.play(op);
            calm.besides(a);
            other.besides(b);
            prop_assert_eq!(calm.engine.state.room, other.engine.state.room);
        }
        calm.flush();
        other.flush();
        prop_assert_eq!(calm.outcomes, other.outcomes);
        prop_assert_eq!(calm.crossings, other.crossings);
        prop_assert_eq!(calm.rows, other.rows);
        prop_assert_eq!(calm.parts, other.parts);
    }

    /// Silences are short, so that no counter of a tenant is ever new again.
    #[test]
    fn what_is_counted_goes_on_being_counted(ops in ops(3), bytes_max in 2_000..30_000_usize) {
        let (mut small, mut large) = (Run::new(bytes_max), Run::new(1 << 30));
        for run in [&mut small, &mut large] {
            for tenant in TENANTS {
                run.call((tenant, "u0"), run.now, 1);
            }
            ops.iter().for_each(|op| run.play(op));
            run.flush();
        }
        let refused = small.engine.sizes().refused;
        prop_assert_eq!(&small.outcomes, &large.outcomes);
        prop_assert_eq!(small.totals(), large.totals());
        prop_assert_eq!(small.own_crossings(), large.own_crossings());
        if refused.counters == 0 {
            prop_assert_eq!(&small.crossings, &large.crossings);
        }
        if refused.details == 0 {
            prop_assert_eq!(&small.rows, &large.rows);
        }
        if refused.scopes == 0 {
            prop_assert_eq!(&small.parts, &large.parts);
        }
        // Detail is refused first.
        prop_assert!(refused.counters == 0 || refused.details != 0, "{:?}", refused);
    }
}

#[test]
fn a_flood_of_made_up_keys_stays_flat_and_is_counted() {
    let (bytes_max, keys) = (1 << 20, 30_000);
    let mut run = Run::new(bytes_max);
    run.call(("t1", "known"), run.now, 1);
    let mut held = Vec::new();
    for key in 0..keys {
        if key % 1_000 == 0 {
            held.push(run.engine.state.room.bytes());
            run.now = run.now.plus(Duration::from_secs(1));
        }
        run.call(("t1", &format!("made-up-{key}")), run.now, 1);
    }
    let slack = bytes_max / 50;
    assert!(held.iter().all(|bytes| *bytes <= bytes_max + slack));
    // Each has counters in three series, or is counted as refused.
    let sizes = run.engine.sizes();
    let counters = sizes.counters as u64 + sizes.refused.counters;
    assert_eq!(counters, 1 + 3 + 3 * keys);
    assert!(0 < sizes.refused.details && 0 < sizes.refused.scopes);
    // Who was known before is counted on, and crosses.
    run.crossings.clear();
    run.call(("t1", "known"), run.now, 7);
    let crossed = run.crossings.iter().any(|output| match output {
        Output::Crossing(c) => c.subject.as_str() == "tenant/t1/user/known" && c.sum == 8,
        _ => false,
    });
    assert!(crossed, "{:?}", run.crossings);
    // There is room again once the flood is over and its windows are.
    run.now = run.now.plus(48 * 60 * MINUTE);
    run.call(("t1", "later"), run.now, 9);
    run.now = run.now.plus(MINUTE);
    run.call(("t1", "later"), run.now, 9);
    let after = run.engine.sizes();
    assert!(after.bytes < bytes_max / 2, "{after:?}");
    assert_eq!(after.refused.counters, sizes.refused.counters);
}

#[test]
fn idle_keys_leave_and_come_back() {
    let mut run = Run::new(1 << 20);
    let users = ["u1", "u2", "u3"];
    let counters = |run: &mut Run| {
        run.engine.forget();
        run.engine.sizes().counters
    };
    for user in users {
        run.call(("t1", user), run.now, 5);
    }
    assert_eq!(counters(&mut run), 1 + 3 * 3);
    // Windows of a minute, of twenty, and of a day are over one after the other; the tenant's time goes on by others.
    for (minutes, expected) in [(12, 2 + 3 * 2 + 2), (20, 2 + 3 + 2), (24 * 60, 4)] {
        run.now = run.now.plus(minutes * MINUTE);
        run.call(("t1", "other"), run.now, 1);
        assert_eq!(counters(&mut run), expected, "after {minutes} min");
    }
    run.crossings.clear();
    run.call(("t1", "u1"), run.now, 7);
    run.call(("t1", "u1"), run.now, 1);
    let sums = run.crossings.iter().filter_map(|output| match output {
        Output::Crossing(c) => Some((c.limit.as_str(), c.sum)),
        _ => None,
    });
    assert_eq!(sums.collect::<Vec<_>>(), [("user", 8)]);
}
