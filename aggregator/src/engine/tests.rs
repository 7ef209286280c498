//! Engines, record by record.

mod policies;
mod sets;
mod sketches;
mod spans;
mod turns;
mod twins;

use schemas::policy::Stream;

use super::*;
use crate::config::RollupDimension;
use crate::counter::Direction;
use crate::event::{Amounts, Partial, Report};
use crate::model::{MINUTE, call, policy, reborn, settings, usage_engine};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// An engine that remembers its next offset, and what it said.
struct Shard {
    engine: Engine,
    offset: i64,
    out: Vec<Output>,
}

impl Shard {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            offset: 0,
            out: Vec::new(),
        }
    }

    fn under(limits: &str) -> Self {
        let mut shard = Self::new(usage_engine(0, 1));
        shard.policy(1, limits, 0);
        shard
    }

    fn step(&mut self, appended: i64, input: Input<'_>) -> Outcome {
        let place = Place {
            offset: self.offset,
            appended_at: at(appended),
        };
        self.offset += 1;
        self.engine.step(place, input, &mut self.out).unwrap()
    }

    fn policy(&mut self, version: i64, limits: &str, seconds: i64) {
        let policy = Box::new(policy(version, limits));
        let input = Input::Policy {
            policy,
            at: at(seconds),
        };
        assert_eq!(self.step(seconds, input), Outcome::Marker);
    }

    /// Crossings since the last call, as `up limit/level subject@at sum`.
    fn crossings(&mut self) -> Vec<String> {
        let crossings = self.out.drain(..).filter_map(|output| match output {
            Output::Crossing(crossing) => Some(crossing),
            _ => None,
        });
        let shown = crossings.map(|c| {
            let direction = match c.direction {
                Direction::Up => "up",
                Direction::Down => "down",
            };
            let at = c.at.second();
            format!(
                "{direction} {}/{} {}@{at} {}",
                c.limit, c.level, c.subject, c.sum
            )
        });
        shown.collect()
    }
}

const MINUTELY: &str = "tokens tenant/* tokens 80%=8 hard=10 : sliding 60s";

/// Runs a script under [`MINUTELY`]: `acme:10@3` is a call of acme's at second 3 that used 10 tokens, appended at that
/// second too, or with `/9` at second 9; `#x` gives it an id; `^9` is a tick appended at second 9.
#[track_caller]
fn check(script: &str, outcomes: &str, crossings: &[&str]) {
    let mut shard = Shard::under(MINUTELY);
    let mut seen = Vec::new();
    for (place, word) in script.split_ascii_whitespace().enumerate() {
        let outcome = if let Some(appended) = word.strip_prefix('^') {
            shard.step(appended.parse().unwrap(), Input::Tick)
        } else {
            let (word, id) = match word.split_once('#') {
                Some((word, id)) => (word, id.to_owned()),
                None => (word, place.to_string()),
            };
            let (tenant, rest) = word.split_once(':').unwrap();
            let (tokens, rest) = rest.split_once('@').unwrap();
            let (time, appended) = rest.split_once('/').unwrap_or((rest, rest));
            let time = at(time.parse().unwrap());
            let event = call((tenant, "u"), &id, time, tokens.parse().unwrap());
            shard.step(appended.parse().unwrap(), Input::Event(event))
        };
        seen.push(match outcome {
            Outcome::Counted => "counted",
            Outcome::Late => "late",
            Outcome::Duplicate => "duplicate",
            Outcome::Dead(_) => "dead",
            Outcome::Misplaced { .. } => "misplaced",
            Outcome::Marker => "marker",
        });
    }
    assert_eq!(seen.join(" "), outcomes);
    assert_eq!(shard.crossings(), crossings);
    assert!(shard.engine.ledger().is_balanced());
}

#[test]
fn each_event_is_one_of_four_things() {
    check(
        "a:1@1000#x a:1@1000#x b:1@1000#x",
        "counted duplicate counted",
        &[],
    );
    check("a:1@1000 a:1@400 a:1@399", "counted counted late", &[]);
    check("a:1@1300/1000 a:1@1301/1000", "counted dead", &[]);
    // Late ones were seen too.
    check(
        "a:1@1000 a:1@399#x a:1@399#x",
        "counted late duplicate",
        &[],
    );
    // What was dead may come again with a right time.
    check("a:1@1301/1000#x a:1@1000#x", "dead counted", &[]);
}

#[test]
fn a_tenants_wrong_clock_is_its_own() {
    check(
        "a:1@5000/5000 b:1@100/5000 b:1@200/5000",
        "counted counted counted",
        &[],
    );
    // b stands still at second 100 although a's events are an hour on.
    check(
        "b:10@100/100 a:1@3700/3700 b:1@101/3700 a:1@3701/3701",
        "counted counted counted counted",
        &[
            "up tokens/80% tenant/b@100 10",
            "up tokens/hard tenant/b@100 10",
            "down tokens/hard tenant/b@161 0",
            "down tokens/80% tenant/b@161 0",
        ],
    );
}

#[test]
fn what_stands_falls_when_time_has_passed() {
    let up = [
        "up tokens/80% tenant/a@100 10",
        "up tokens/hard tenant/a@100 10",
    ];
    let down = [
        "down tokens/hard tenant/a@161 0",
        "down tokens/80% tenant/a@161 0",
    ];
    let both = [up, down].concat();
    // 61 s of window and 600 s of lateness: nothing more can come for it.
    check("a:10@100 ^760", "counted marker", &up);
    check("a:10@100 ^761", "counted marker", &both);
    check("a:10@100 b:1@761", "counted counted", &both);
    check("a:10@100 a:1@161", "counted counted", &both);
    // a is always a minute behind.
    check("a:10@100/160 ^820", "counted marker", &up);
    check("a:10@100/160 ^821", "counted marker", &both);
    // A replay of old events runs at its own pace.
    check(
        "a:10@100/9000 a:0@200/9001 ^9562",
        "counted counted marker",
        &both,
    );
}

#[test]
fn a_silent_tenants_newest_minute_is_closed() {
    let day = 86_400;
    let script = |appended: i64| format!("a:1@100/100 a:1@115/{appended} a:1@130/{appended}");
    check(&script(100 + day), "counted counted counted", &[]);
    check(&script(101 + day), "counted late counted", &[]);
}

#[test]
fn a_record_in_the_wrong_partition_is_not_counted() {
    let place = partition_of(b"acme", 12);
    let mut shard = Shard::new(usage_engine((place + 1) % 12, 12));
    let event = call(("acme", "u"), "1", at(1), 1);
    let outcome = shard.step(1, Input::Event(event));
    assert_eq!(outcome, Outcome::Misplaced { partition: place });
    let ledger = shard.engine.ledger();
    assert_eq!((ledger.moved, ledger.accepted), (1, 0));
}

#[test]
fn records_are_taken_once() {
    let mut engine = usage_engine(0, 1);
    let mut step = |offset| {
        let appended_at = at(1);
        engine.step(
            Place {
                offset,
                appended_at,
            },
            Input::Tick,
            &mut Vec::new(),
        )
    };
    assert!(step(5).is_ok());
    assert!(step(7).is_ok());
    let error = step(7).unwrap_err();
    assert_eq!(
        error.to_string(),
        "record 7 comes after record 7 was taken: the log went back"
    );
}

#[test]
fn unreadable_records_and_ones_of_another_topic_are_dead() {
    let mut shard = Shard::under(MINUTELY);
    assert_eq!(
        shard.step(1, Input::Unreadable),
        Outcome::Dead(Cause::Unreadable)
    );
    let (scope, meter) = (
        schemas::subject::Subject::platform(),
        schemas::policy::Meter::Tokens,
    );
    let partial = Partial {
        scope: &scope,
        meter: &meter,
        slice: at(1),
        slice_seconds: 1,
        sum: 1,
        topic: "weir.usage.v1",
        partition: 0,
        offset: 1,
    };
    let outcome = shard.step(1, Input::Partial(partial));
    assert_eq!(outcome, Outcome::Dead(Cause::WrongTopic));
    assert_eq!(shard.engine.ledger().dead, 2);
}

#[test]
fn limits_count_what_they_name() {
    let mut shard = Shard::under(
        "all tenant/* requests hard=3 : sliding 60s
         one tenant/*/user/u1 tokens hard=8 : sliding 60s
         each tenant/*/user/* tokens hard=10 : bucket 1/s burst 10
         other tenant/other tokens hard=1 : sliding 60s
         failed tenant/* failures hard=1 : sliding 60s",
    );
    for (id, user, tokens) in [("1", "u1", 9), ("2", "u2", 9), ("3", "u2", 1)] {
        shard.step(100, Input::Event(call(("acme", user), id, at(100), tokens)));
    }
    assert_eq!(
        shard.crossings(),
        [
            "up one/hard tenant/acme/user/u1@100 9",
            "up all/hard tenant/acme@100 3",
            "up each/hard tenant/acme/user/u2@100 10",
        ]
    );
}

#[test]
fn rollups_are_absolute_and_told_when_they_change() {
    let mut shard = Shard::under("");
    let tell = |shard: &mut Shard, calls: &[(&str, i64, i64)]| {
        for (id, second, tokens) in calls {
            let event = call(("acme", "u"), id, at(*second), *tokens);
            shard.step(*second, Input::Event(event));
        }
        shard.engine.flush_sums(&mut shard.out);
        let rollups = shard.out.drain(..).map(|output| match output {
            Output::Rollup(rollup) => {
                let second =
                    |(s, sums): &(u8, crate::rollup::Sums)| (*s, sums.events, sums.input_tokens);
                let seconds: Vec<_> = rollup.seconds.iter().map(second).collect();
                (rollup.minute.second(), seconds, rollup.offset)
            }
            other => panic!("{other:?} is no rollup"),
        });
        rollups.collect::<Vec<_>>()
    };
    let first = tell(
        &mut shard,
        &[("1", 61, 5), ("2", 61, 6), ("3", 119, 1), ("4", 120, 2)],
    );
    assert_eq!(
        first,
        [
            (60, vec![(1, 2, 11), (59, 1, 1)], 3),
            (120, vec![(0, 1, 2)], 4)
        ]
    );
    assert_eq!(tell(&mut shard, &[]), []);
    shard.engine.forget();
    let second = tell(&mut shard, &[("5", 60, 7), ("5", 60, 7)]);
    assert_eq!(second, [(60, vec![(0, 1, 7), (1, 2, 11), (59, 1, 1)], 5)]);
}

/// What is told of calls of one tenant by users and models, written `user/model`, when usage is told apart by these
/// dimensions: `user/model events` of each row.
#[track_caller]
fn check_rows(by: &[RollupDimension], calls: &[&str], expected: &[&str]) {
    let mut shard = Shard::new(usage_engine(0, 1));
    let settings = Settings {
        rollup_by: Breakdown::new(by),
        ..settings()
    };
    shard.engine = Engine::new(shard.engine.shard(), settings);
    for (place, who) in calls.iter().enumerate() {
        let (user, model) = who.split_once('/').unwrap();
        let id = place.to_string();
        let mut event = call(("acme", user), &id, at(61), 5);
        event.identity.model = Some(model);
        shard.step(61, Input::Event(event));
    }
    shard.engine.flush_sums(&mut shard.out);
    let rows = shard.out.iter().map(|output| match output {
        Output::Rollup(rollup) => {
            let [_, user, _, _, model, ..] = rollup.dims.ids();
            let events: i64 = rollup.seconds.iter().map(|(_, sums)| sums.events).sum();
            let (user, model) = (user.unwrap_or("-"), model.unwrap_or("-"));
            format!("{user}/{model} {events}")
        }
        other => panic!("{other:?} is no rollup"),
    });
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

#[test]
fn rollups_are_told_apart_by_what_is_asked_for() {
    let calls = ["u1/m1", "u2/m1", "u1/m2", "u1/m1"];
    check_rows(
        &RollupDimension::ALL,
        &calls,
        &["u1/m1 2", "u2/m1 1", "u1/m2 1"],
    );
    check_rows(&[RollupDimension::User], &calls, &["u1/- 3", "u2/- 1"]);
    check_rows(&[RollupDimension::Model], &calls, &["-/m1 3", "-/m2 1"]);
    check_rows(&[], &calls, &["-/- 4"]);
}

#[test]
fn cells_and_counters_are_dropped_when_they_can_change_no_more() {
    let mut shard = Shard::under(MINUTELY);
    let send = |shard: &mut Shard, id: &str, second| {
        shard.step(second, Input::Event(call(("acme", id), id, at(second), 1)));
        shard.engine.flush(&mut shard.out);
        shard.engine.forget();
        let sizes = shard.engine.sizes();
        (sizes.cells, sizes.counters)
    };
    let mut shard_by_user = Shard::under("l tenant/*/user/* tokens hard=10 : sliding 60s");
    assert_eq!(send(&mut shard, "1", 30), (1, 1));
    assert_eq!(send(&mut shard, "2", 659), (2, 1));
    assert_eq!(send(&mut shard, "3", 660), (2, 1));
    assert_eq!(send(&mut shard_by_user, "1", 30), (1, 1));
    assert_eq!(send(&mut shard_by_user, "2", 690), (1, 2));
    assert_eq!(send(&mut shard_by_user, "3", 691), (2, 2));
}

#[test]
fn reports_are_grouped() {
    let shard = ShardId {
        kind: Kind::Events(Stream::Csp),
        partition: 0,
        partitions: 1,
    };
    let mut shard = Shard::new(Engine::new(shard, settings()));
    let mut report = |id: &str, host: &str| {
        let event = Event {
            amounts: Amounts {
                violations: 1,
                ..Amounts::default()
            },
            report: Some(Report {
                directive: "script-src",
                blocked_host: host,
                document_uri: "https://shop.example/",
            }),
            ..call(("acme", "u"), id, at(100), 0)
        };
        shard.step(100, Input::Event(event));
        let groups = shard.out.drain(..).map(|output| match output {
            Output::Group(group) => (group.blocked_host, group.count, group.new),
            other => panic!("{other:?} is no group"),
        });
        groups.collect::<Vec<_>>()
    };
    let group = |host: &str, count, new| (host.to_owned(), count, new);
    assert_eq!(report("1", "a.example"), [group("a.example", 1, true)]);
    assert_eq!(report("2", "a.example"), []);
    assert_eq!(report("2", "a.example"), []);
    assert_eq!(report("3", "b.example"), [group("b.example", 1, true)]);
    assert_eq!(report("4", "c.example"), [group("c.example", 1, true)]);
    // Three are told apart, the rest is one.
    assert_eq!(report("5", "d.example"), [group("…other", 1, true)]);
    assert_eq!(report("6", "e.example"), []);
    assert_eq!(report("7", "a.example"), []);
    shard.engine.flush(&mut shard.out);
    let groups = shard.out.iter().filter_map(|output| match output {
        Output::Group(group) => Some((group.blocked_host.as_str(), group.count, group.new)),
        _ => None,
    });
    let groups: Vec<_> = groups.collect();
    assert_eq!(groups, [("a.example", 3, false), ("…other", 2, false)]);
}

#[test]
fn a_restored_engine_is_the_one_that_was_saved() {
    let mut shard = Shard::under(MINUTELY);
    shard.step(100, Input::Event(call(("acme", "u"), "1", at(100), 10)));
    shard.engine = reborn(shard.engine);
    assert_eq!(shard.engine.next_offset(), 2);
    assert_eq!(shard.engine.next_due(), Some(at(161).plus(10 * MINUTE)));
    let again = Input::Event(call(("acme", "u"), "1", at(100), 10));
    assert_eq!(shard.step(100, again), Outcome::Duplicate);
    shard.crossings();
    shard.step(761, Input::Tick);
    assert_eq!(
        shard.crossings(),
        [
            "down tokens/hard tenant/acme@161 0",
            "down tokens/80% tenant/acme@161 0"
        ]
    );
}

/// Plays calls of ten tokens under [`MINUTELY`] at these seconds, and shows what is said of the hard level:
/// `up@AT until FALLS`, `again@AT until FALLS`, `down@AT`.
#[track_caller]
fn check_block(script: &str, said: &str) {
    let mut shard = Shard::under(MINUTELY);
    for (place, word) in script.split_ascii_whitespace().enumerate() {
        let seconds: i64 = word.parse().unwrap();
        let id = place.to_string();
        shard.step(
            seconds,
            Input::Event(call(("a", "u"), &id, at(seconds), 10)),
        );
    }
    let mut crossed_by = None;
    let shown = shard.out.drain(..).filter_map(|output| {
        let (way, crossing) = match output {
            Output::Crossing(c) if c.level != "hard" => return None,
            Output::Crossing(c) if c.direction == Direction::Down => {
                return Some(format!("down@{}", c.at.second()));
            }
            Output::Crossing(c) => {
                crossed_by = Some(c.offset);
                ("up", c)
            }
            Output::Prolonged(prolonged) => {
                assert_eq!(Some(prolonged.crossed_by), crossed_by);
                ("again", prolonged.crossing)
            }
            _ => return None,
        };
        let until = crossing.falls_at.unwrap().second();
        Some(format!("{way}@{} until {until}", crossing.at.second()))
    });
    assert_eq!(shown.collect::<Vec<_>>().join(", "), said);
}

#[test]
fn a_block_lasts_as_long_as_the_sum() {
    check_block("100", "up@100 until 161");
    // In the same second nothing falls later.
    check_block("100 100", "up@100 until 161");
    // Three seconds more are told once no more than eight times as much is left, even if nothing comes by then.
    check_block("100 103", "up@100 until 161");
    check_block("100 103 136", "up@100 until 161, again@100 until 197");
    check_block(
        "100 103 137",
        "up@100 until 161, again@100 until 164, again@100 until 198",
    );
    check_block(
        "100 130 160",
        "up@100 until 161, again@100 until 191, again@100 until 221",
    );
    check_block(
        "100 130 200",
        "up@100 until 161, again@100 until 191, down@191, up@200 until 261",
    );
}
