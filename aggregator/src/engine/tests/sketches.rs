//! What is told of spreads and of those who come most, and that nothing but the log decides it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use schemas::policy::Stream;
use schemas::subject::{Dimension, Identity};

use super::*;
use crate::event::{Ranking, Spread};
use crate::model::cases;

const HOUR_S: i64 = 3_600;

/// An engine of one partition of a stream.
fn engine(stream: Stream, settings: Settings) -> Engine {
    let shard = ShardId {
        kind: Kind::Events(stream),
        partition: 0,
        partitions: 1,
    };
    Engine::new(shard, settings)
}

fn reborn(engine: &Engine) -> Engine {
    let bytes = postcard::to_allocvec(engine.state()).unwrap();
    let state = postcard::from_bytes(&bytes).unwrap();
    let orders = engine.orders().into_iter().cloned().collect();
    let held = (engine.policy().clone(), orders);
    Engine::restore(engine.shard(), engine.settings, held, state)
}

/// Counts an event that happened at the first time, and was appended at the second.
fn count(
    engine: &mut Engine,
    identity: Identity<'_>,
    (at, appended_at): (Timestamp, Timestamp),
    cost: i64,
) -> Outcome {
    let offset = engine.next_offset();
    let place = Place {
        offset,
        appended_at,
    };
    let id = offset.to_string();
    let event = Event {
        source: "app",
        id: &id,
        tenant: identity.tenant.unwrap(),
        identity,
        at,
        amounts: Amounts {
            requests: 1,
            cost,
            ..Amounts::default()
        },
        report: None,
    };
    engine
        .step(place, Input::Event(event), &mut Vec::new())
        .unwrap()
}

fn told(engine: &mut Engine) -> (Vec<Spread>, Vec<Ranking>) {
    let (mut out, mut spreads, mut rankings) = (Vec::new(), Vec::new(), Vec::new());
    engine.flush_spreads(&mut out);
    engine.flush_rankings(&mut out);
    for output in out {
        match output {
            Output::Spread(spread) => spreads.push(spread),
            Output::Ranking(ranking) => rankings.push(ranking),
            other => panic!("{other:?} is no sketch"),
        }
    }
    (spreads, rankings)
}

/// Counts sign-ins, written `second account source`, and compares the spreads that are told: `per id hour count`.
#[track_caller]
fn check_spreads(sign_ins: &[(i64, &str, &str)], expected: &[(Dimension, &str, i64, u64)]) {
    let mut engine = engine(Stream::Auth, settings());
    for (second, account, source) in sign_ins {
        let identity = Identity {
            tenant: Some("acme"),
            account: Some(account),
            source: Some(source),
            ..Identity::default()
        };
        count(&mut engine, identity, (at(*second), at(*second)), 0);
    }
    let (spreads, rankings) = told(&mut engine);
    let spreads = spreads.iter().map(|spread| {
        let hour = (spread.hour.second() - at(0).second()).div_euclid(HOUR_S);
        (spread.per, spread.id.as_str(), hour, spread.count)
    });
    assert_eq!(spreads.collect::<Vec<_>>(), expected);
    assert_eq!(rankings, []);
    assert_eq!(told(&mut engine), (Vec::new(), Vec::new()));
}

#[test]
fn sign_ins_tell_sources_of_accounts_and_accounts_of_sources() {
    use Dimension::{Account, Source};
    // One of each is no spread.
    check_spreads(&[(0, "bob", "s1"), (1, "bob", "s1")], &[]);
    check_spreads(
        &[(0, "bob", "s1"), (1, "bob", "s2"), (2, "ann", "s2")],
        &[(Account, "bob", 0, 2), (Source, "s2", 0, 2)],
    );
    // Hours are apart, also for what comes late.
    let late = [
        (3_500, "bob", "s1"),
        (3_700, "bob", "s2"),
        (3_500, "bob", "s3"),
        (3_700, "bob", "s1"),
    ];
    check_spreads(&late, &[(Account, "bob", 0, 2), (Account, "bob", 1, 2)]);
}

#[test]
fn usage_tells_users_of_keys_and_who_uses_most() {
    let mut engine = engine(Stream::Usage, settings());
    for n in 0..500_i64 {
        let (user, source) = (format!("u{}", n % 125), format!("s{}", n % 3));
        let identity = Identity {
            tenant: Some("acme"),
            key: Some("k_1"),
            user: Some(&user),
            source: Some(&source),
            ..Identity::default()
        };
        let cost = 10 * i64::from(n % 125 == 7);
        count(&mut engine, identity, (at(n), at(n)), cost);
    }
    let (spreads, rankings) = told(&mut engine);
    let [spread] = &spreads[..] else {
        panic!("{spreads:?} is not one");
    };
    assert_eq!((spread.id.as_str(), spread.of), ("k_1", Dimension::User));
    assert!((122..=128).contains(&spread.count), "{}", spread.count);
    assert_eq!(spread.missed_max, 0);
    let listed = rankings.iter().map(|ranking| {
        let first = &ranking.ranked.entries[0];
        let (len, sum) = (ranking.ranked.entries.len(), ranking.ranked.sum);
        let what = (ranking.by.name(), ranking.meter.name());
        (what, len, sum, first.id.as_str(), first.count)
    });
    let listed: Vec<_> = listed.collect();
    assert_eq!(listed[1], (("user", "cost"), 1, 40, "u7", 40));
    assert_eq!(listed[2], (("source", "requests"), 3, 500, "s0", 167));
    // More users than a list tells apart.
    let (what, len, sum, _, count) = listed[0];
    assert_eq!((what, len, sum), (("user", "requests"), 64, 500));
    assert!(count <= 500 / 64 + 4, "{count}");
    assert!(0 < engine.sizes().refused.displaced);
}

#[test]
fn nothing_is_kept_of_it_when_it_is_off() {
    let off = Settings {
        sketch_auth: false,
        ..settings()
    };
    let mut engine = engine(Stream::Auth, off);
    for source in ["s1", "s2", "s3"] {
        let identity = Identity {
            tenant: Some("acme"),
            account: Some("bob"),
            source: Some(source),
            ..Identity::default()
        };
        let outcome = count(&mut engine, identity, (at(0), at(0)), 0);
        assert_eq!(outcome, Outcome::Counted);
    }
    assert_eq!(told(&mut engine), (Vec::new(), Vec::new()));
    assert_eq!(engine.state().sketched, Sketched::default());
}

/// A tenant that says nothing for a day leaves nothing in memory, and what then comes for its last hour is in no sketch.
#[test]
fn a_silent_tenants_hours_are_closed() {
    let mut engine = engine(Stream::Usage, settings());
    let identity = |tenant: &'static str| Identity {
        tenant: Some(tenant),
        user: Some("u1"),
        ..Identity::default()
    };
    count(&mut engine, identity("silent"), (at(0), at(0)), 0);
    count(&mut engine, identity("other"), (at(0), at(0)), 0);
    assert_eq!(told(&mut engine).1.len(), 2);
    let (day, now) = (86_400, at(86_400 + 10));
    count(&mut engine, identity("other"), (now, now), 0);
    told(&mut engine);
    engine.forget();
    let patience = engine.settings.patience;
    let bytes = |engine: &Engine, name| engine.state.owners[name].sketch_bytes(now, patience);
    assert!(bytes(&engine, "silent") < bytes(&engine, "other") / 2);
    // A minute of its last hour is still open for sums.
    let place = Place {
        offset: engine.next_offset(),
        appended_at: at(day + 20),
    };
    let event = call(("silent", "u1"), "late", at(600), 1);
    let outcome = engine.step(place, Input::Event(event), &mut Vec::new());
    assert_eq!(outcome, Ok(Outcome::Counted));
    assert_eq!(told(&mut engine).1, []);
}

#[derive(Clone, Debug)]
struct Step {
    wait_s: u64,
    behind_s: u64,
    tenant: u8,
    per: u16,
    of: u16,
    /// What the other engine does besides.
    besides: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![20 => 0..5_u64, 2 => 0..2_000_u64, 1 => 80_000..90_000_u64];
    let few = || prop_oneof![0..4_u16, 0..200_u16];
    (wait, 0..700_u64, 0..2_u8, few(), few(), 0..20_u8).prop_map(
        |(wait_s, behind_s, tenant, per, of, besides)| Step {
            wait_s,
            behind_s,
            tenant,
            per,
            of,
            besides,
        },
    )
}

proptest! {
    #![proptest_config(cases(200))]

    /// Whenever things are told and forgotten, and wherever it is restarted: an engine keeps the same and
    /// refuses the same.
    #[test]
    fn nothing_but_the_log_decides(
        steps in prop::collection::vec(step(), 1..250),
        stream in prop_oneof![Just(Stream::Usage), Just(Stream::Auth)],
        state_bytes_max in prop_oneof![Just(1 << 30), 8_000..60_000_usize],
    ) {
        let settings = Settings { state_bytes_max, ..settings() };
        let (mut one, mut other) = (engine(stream, settings), engine(stream, settings));
        let mut now = at(0);
        for step in steps {
            now = now.plus(Duration::from_secs(step.wait_s));
            let tenant = format!("t{}", step.tenant);
            let (per, of) = (format!("p{}", step.per), format!("o{}", step.of));
            let identity = Identity {
                tenant: Some(&tenant),
                key: Some(&per),
                account: Some(&per),
                user: Some(&of),
                source: Some(&of),
                ..Identity::default()
            };
            let at = now.minus(Duration::from_secs(step.behind_s));
            let outcome = count(&mut one, identity, (at, now), 1);
            prop_assert_eq!(count(&mut other, identity, (at, now), 1), outcome);
            match step.besides {
                0 => other = reborn(&other),
                1 | 2 => other.forget(),
                3..6 => {
                    told(&mut other);
                }
                _ => {}
            }
            prop_assert_eq!(one.state.room, other.state.room);
        }
        for engine in [&mut one, &mut other] {
            engine.flush(&mut Vec::new());
            engine.forget();
        }
        prop_assert_eq!(one.state(), other.state());
    }

    /// Whatever room there is: no spread has more than there were, and none lacks more than it says.
    #[test]
    fn spreads_lack_no_more_than_they_say(
        steps in prop::collection::vec(step(), 1..250),
        state_bytes_max in prop_oneof![Just(1 << 30), 6_000..30_000_usize],
    ) {
        let settings = Settings { state_bytes_max, ..settings() };
        let mut engine = engine(Stream::Usage, settings);
        let mut now = at(0);
        let mut exact: BTreeMap<(String, String, i64), BTreeSet<u16>> = BTreeMap::new();
        for step in steps {
            now = now.plus(Duration::from_secs(step.wait_s % 2_000));
            let tenant = format!("t{}", step.tenant);
            let (key, user) = (format!("k{}", step.per % 10), format!("u{}", step.of));
            let identity = Identity {
                tenant: Some(&tenant),
                key: Some(&key),
                user: Some(&user),
                ..Identity::default()
            };
            let at = now.minus(Duration::from_secs(step.behind_s));
            if count(&mut engine, identity, (at, now), 0) == Outcome::Counted {
                let hour = at.second().div_euclid(HOUR_S);
                exact.entry((tenant, key, hour)).or_default().insert(step.of);
            }
            if step.besides < 5 {
                for spread in told(&mut engine).0 {
                    let hour = spread.hour.second().div_euclid(HOUR_S);
                    let exact = exact[&(spread.tenant, spread.id, hour)].len() as u64;
                    let (count, missed_max) = (spread.count, spread.missed_max);
                    prop_assert!(count <= exact && exact <= count + missed_max);
                }
            }
        }
    }
}

/// Distinct counts grow up to the bound and no further.
#[test]
fn spreads_take_no_more_than_their_part_of_the_room() {
    let settings = Settings {
        state_bytes_max: 100_000,
        ..settings()
    };
    let mut engine = engine(Stream::Auth, settings);
    for n in 0..20_000 {
        let (account, source) = (format!("a{}", n % 100), format!("s{}", n / 100));
        let identity = Identity {
            tenant: Some("acme"),
            account: Some(&account),
            source: Some(&source),
            ..Identity::default()
        };
        // Half an hour, in which nothing is counted anew for the better.
        let at = at(n / 12);
        count(&mut engine, identity, (at, at), 0);
    }
    let sizes = engine.sizes();
    let without_seen = engine.state().room.bytes();
    assert!((40_000..100_000).contains(&without_seen), "{without_seen}");
    assert!(0 < sizes.refused.displaced);
}
