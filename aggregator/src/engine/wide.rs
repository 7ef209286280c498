//! Scopes wider than a tenant: several shards of events tell their sums, in any order and more than once, and one
//! shard of partials puts them together.

use proptest::prelude::*;
use schemas::policy::Meter;
use schemas::subject::Subject;

use super::*;
use crate::counter::Direction;
use crate::event::PartialSum;
use crate::model::{call, cases, policy, reborn, settings, usage_engine};

const LIMITS: &str = "all platform tokens hard=50 : sliding 10s
    day platform tokens hard=200 : calendar day
    own tenant/* tokens hard=1000000 : sliding 10s";

const PARTITIONS: i32 = 3;

/// A tenant of partition `partition`.
fn tenant_in(partition: usize) -> String {
    let names = (0..).map(|n| format!("t{n}"));
    let mut here = names.filter(|n| partition_of(n.as_bytes(), PARTITIONS) as usize == partition);
    here.next().unwrap()
}

fn partials_engine() -> Engine {
    let shard = ShardId {
        kind: Kind::Partials,
        partition: 0,
        partitions: 1,
    };
    Engine::new(shard, settings())
}

fn marker(version: i64, limits: &str) -> Input<'static> {
    Input::Policy {
        policy: Box::new(policy(version, limits)),
        at: Timestamp::from_seconds(0),
    }
}

/// The shards of events, and what they told, in order.
struct Senders {
    engines: Vec<Engine>,
    offset: i64,
    told: Vec<(i32, PartialSum)>,
}

impl Senders {
    fn new() -> Self {
        let engines = (0..PARTITIONS).map(|partition| usage_engine(partition, PARTITIONS));
        let mut senders = Self {
            engines: engines.collect(),
            offset: 0,
            told: Vec::new(),
        };
        for partition in 0..PARTITIONS {
            senders.step(partition, 0, marker(1, LIMITS));
        }
        senders
    }

    fn step(&mut self, partition: i32, second: i64, input: Input<'_>) {
        let appended_at = Timestamp::from_seconds(second);
        let place = Place {
            offset: self.offset,
            appended_at,
        };
        self.offset += 1;
        let engine = &mut self.engines[partition as usize];
        let outcome = engine.step(place, input, &mut Vec::new()).unwrap();
        assert!(
            matches!(outcome, Outcome::Counted | Outcome::Marker),
            "{outcome:?}"
        );
    }

    fn call(&mut self, partition: usize, second: i64, tokens: i64) {
        let (id, tenant) = (self.offset.to_string(), tenant_in(partition));
        let at = Timestamp::from_seconds(second);
        let event = call((&tenant, "u"), &id, at, tokens);
        self.step(partition as i32, second, Input::Event(event));
    }

    fn flush(&mut self) {
        for (partition, engine) in (0..).zip(&mut self.engines) {
            let mut out = Vec::new();
            engine.flush_partials(&mut out);
            self.told.extend(out.into_iter().map(|output| match output {
                Output::Partial(partial) => (partition, partial),
                other => panic!("{other:?} is no partial"),
            }));
        }
    }
}

/// The shard of partials.
struct Receiver {
    engine: Engine,
    offset: i64,
    out: Vec<Output>,
}

impl Receiver {
    fn new() -> Self {
        Self {
            engine: partials_engine(),
            offset: 0,
            out: Vec::new(),
        }
    }

    fn step(&mut self, input: Input<'_>) -> Outcome {
        let place = Place {
            offset: self.offset,
            appended_at: Timestamp::from_seconds(100),
        };
        self.offset += 1;
        self.engine.step(place, input, &mut self.out).unwrap()
    }

    fn take(&mut self, (partition, sum): &(i32, PartialSum)) -> Outcome {
        self.step(Input::Partial(sum.told_by("weir.usage.v1", *partition)))
    }

    /// `up limit@second sum` of every crossing so far.
    fn crossings(&self) -> Vec<String> {
        let shown = self.out.iter().filter_map(|output| match output {
            Output::Crossing(c) => {
                let up = c.direction == Direction::Up;
                let direction = if up { "up" } else { "down" };
                Some(format!(
                    "{direction} {}@{} {}",
                    c.limit,
                    c.at.second(),
                    c.sum
                ))
            }
            Output::Prolonged(_) => None,
            other => panic!("{other:?} is no crossing"),
        });
        shown.collect()
    }
}

#[test]
fn parts_of_all_partitions_make_one_sum() {
    let (mut senders, mut receiver) = (Senders::new(), Receiver::new());
    receiver.step(marker(1, LIMITS));
    for partition in 0..3 {
        senders.call(partition, 90, 20);
    }
    senders.flush();
    // A sum for each width of slices: seconds for the sliding window, minutes for the calendar.
    assert_eq!(senders.told.len(), 6);
    for part in &senders.told {
        assert_eq!(receiver.take(part), Outcome::Counted);
    }
    assert_eq!(receiver.crossings(), ["up all@90 60"]);
    senders.call(0, 91, 140);
    senders.call(0, 91, 1);
    senders.flush();
    // Two events, one sum.
    assert_eq!(senders.told.len(), 8);
    for part in &senders.told {
        receiver.take(part);
    }
    assert_eq!(receiver.crossings(), ["up all@90 60", "up day@60 201"]);
    let ledger = receiver.engine.ledger();
    assert_eq!((ledger.counted, ledger.duplicate), (8, 6));
}

#[test]
fn a_limit_that_is_new_here_finds_what_was_told_before() {
    let (mut senders, mut receiver) = (Senders::new(), Receiver::new());
    senders.call(0, 90, 30);
    senders.call(1, 91, 30);
    senders.flush();
    for part in &senders.told {
        receiver.take(part);
    }
    assert_eq!(receiver.crossings(), [""; 0]);
    receiver.step(marker(1, LIMITS));
    assert_eq!(receiver.crossings(), ["up all@91 60"]);
}

#[test]
fn a_scope_that_two_patterns_name_is_told_once() {
    let limits = "a provider/* requests hard=2 : sliding 10s
        b provider/openai requests hard=2 : sliding 10s";
    let mut engine = usage_engine(0, 1);
    let appended_at = Timestamp::from_seconds(90);
    let place = |offset| Place {
        offset,
        appended_at,
    };
    engine
        .step(place(0), marker(1, limits), &mut Vec::new())
        .unwrap();
    let mut event = call(("acme", "u"), "1", appended_at, 5);
    event.identity.provider = Some("openai");
    engine
        .step(place(1), Input::Event(event), &mut Vec::new())
        .unwrap();
    let mut out = Vec::new();
    engine.flush_partials(&mut out);
    let expected = PartialSum {
        scope: Subject::parse("provider/openai").unwrap(),
        meter: Meter::Requests,
        slice: appended_at,
        slice_seconds: 1,
        sum: 1,
        offset: 1,
    };
    assert_eq!(out, [Output::Partial(expected)]);
}

/// What is told of a call at second 90 by the next record, when the batch has not ended in between.
#[track_caller]
fn check_told_first(second: i64, next: Input<'_>) {
    let (mut engine, mut out) = (usage_engine(0, 1), Vec::new());
    let mut step = |offset, second, input| {
        let appended_at = Timestamp::from_seconds(second);
        let place = Place {
            offset,
            appended_at,
        };
        out.clear();
        engine.step(place, input, &mut out).unwrap();
        out.clone()
    };
    step(0, 0, marker(1, LIMITS));
    let event = call(("acme", "u"), "1", Timestamp::from_seconds(90), 5);
    assert_eq!(step(1, 90, Input::Event(event)), []);
    let told = step(2, second, next)
        .into_iter()
        .map(|output| match output {
            Output::Partial(sum) => (sum.slice.second(), sum.slice_seconds, sum.sum),
            other => panic!("{other:?} is no partial"),
        });
    assert_eq!(told.collect::<Vec<_>>(), [(90, 1, 5), (60, 60, 5)]);
}

#[test]
fn sums_that_a_policy_ends_are_told_first() {
    check_told_first(
        91,
        marker(2, "own tenant/* tokens hard=1000000 : sliding 10s"),
    );
}

#[test]
fn sums_that_a_silent_day_ends_are_told_first() {
    let later = 91 + 86_400;
    let event = call(("acme", "u"), "2", Timestamp::from_seconds(later), 5);
    check_told_first(later, Input::Event(event));
}

#[test]
fn own_sums_outlive_a_restart_and_end_after_a_silent_day() {
    let day = 86_400;
    let mut senders = Senders::new();
    senders.call(0, 90, 5);
    senders.flush();
    for _ in 0..2 {
        senders.engines.iter_mut().for_each(Engine::forget);
        senders.engines = senders.engines.drain(..).map(reborn).collect();
    }
    senders.call(0, 90 + day, 5);
    senders.flush();
    senders.call(0, 90 + 2 * day + 1, 5);
    senders.flush();
    let minutes = senders
        .told
        .iter()
        .filter(|(_, sum)| sum.slice_seconds == 60);
    let sums: Vec<_> = minutes
        .map(|(_, sum)| (sum.slice.second(), sum.sum))
        .collect();
    assert_eq!(sums, [(60, 5), (60 + day, 5), (60 + 2 * day, 5)]);
}

proptest! {
    #![proptest_config(cases(500))]

    /// However parts are cut, ordered between partitions, told again and taken up after restarts: the sums at the
    /// end are those of all events.
    #[test]
    fn sums_end_where_all_events_say(
        calls in prop::collection::vec((0..3_usize, 60..70_i64, 1..30_i64, any::<bool>()), 1..40),
        turns in prop::collection::vec(0..PARTITIONS, 0..200),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        restart in any::<prop::sample::Index>(),
    ) {
        let (mut senders, mut receiver) = (Senders::new(), Receiver::new());
        receiver.step(marker(1, LIMITS));
        for (partition, second, tokens, flush) in &calls {
            senders.call(*partition, *second, *tokens);
            if *flush {
                senders.flush();
            }
        }
        senders.flush();
        let mut queues: Vec<Vec<_>> = (0..PARTITIONS)
            .map(|p| senders.told.iter().filter(|(from, _)| *from == p).rev().collect())
            .collect();
        let rest = (0..PARTITIONS).cycle().take(3 * senders.told.len());
        let turns: Vec<i32> = turns.into_iter().chain(rest).collect();
        let restart = restart.index(turns.len());
        for (number, turn) in turns.iter().enumerate() {
            if let Some(part) = queues[*turn as usize].pop() {
                receiver.take(part);
            }
            if number == restart {
                receiver.engine.forget();
                receiver.engine = reborn(receiver.engine);
            }
        }
        for index in again {
            let outcome = receiver.take(index.get(&senders.told));
            prop_assert_eq!(outcome, Outcome::Duplicate);
        }
        // All calls lie within one window and one day.
        let total: i64 = calls.iter().map(|(_, _, tokens, _)| tokens).sum();
        for (limit, hard) in [("all", 50), ("day", 200)] {
            let up = format!("up {limit}@");
            let ups = receiver.crossings().iter().filter(|c| c.starts_with(&up)).count();
            prop_assert_eq!(ups, usize::from(hard <= total));
        }
        let ledger = receiver.engine.ledger();
        prop_assert!(ledger.is_balanced());
    }
}
