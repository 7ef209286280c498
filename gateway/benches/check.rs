//! One check beside `governor`'s keyed check, with 2 k, 100 k and 1 M keys in random order, one thread, in two
//! groups: with the clock that each reads in use (the wall clock here, the processor's counter there), and with the
//! time given, as the pure core takes it.
//!
//! Ours hashes the tenant's id, asks for decisions (1,000 stand, for others), counts exactly in a sliding window of
//! 60 slices, and makes the whole answer with what is left and until when. `governor` keeps one number a key (GCRA).

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use bus::clock::{Clock, SystemClock};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gateway::cache::{Standing, Verdict};
use gateway::check::{Feed, Freshness, Gate};
use gateway::request::{Consume, Request};
use governor::clock::FakeRelativeClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use schemas::policy::{HARD, Level, Limit, Mode, Policy, Stale};
use schemas::subject::{Identity, Pattern, Subject};
use schemas::time::Timestamp;

const KEYS: [usize; 3] = [2_000, 100_000, 1_000_000];
const DECISIONS: usize = 1_000;
const WINDOWS_BYTES_MAX: usize = 1 << 30;

fn keys(count: usize) -> Vec<String> {
    let mut keys: Vec<String> = (0..count).map(|n| format!("tenant-{n:09}")).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for i in (1..keys.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        keys.swap(i, (state % (i as u64 + 1)) as usize);
    }
    keys
}

static ONE_REQUEST: Consume = Consume::ONE_REQUEST;

fn limit() -> Limit {
    Limit {
        name: "rate".to_owned(),
        pattern: Pattern::parse("tenant/*").expect("a pattern"),
        meter: "requests".parse().expect("a meter"),
        window: "sliding 60s".parse().expect("a window"),
        levels: vec![Level {
            name: HARD.to_owned(),
            threshold: 1 << 60,
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

fn decision(subject: Subject) -> Standing {
    Standing {
        id: subject.to_string(),
        subject,
        verdict: Verdict::Block,
        causes: Vec::new(),
        status: 429,
        until: None,
        terminal: false,
        seq: 1,
        issued_at: Timestamp::MIN,
        fresh_until: Timestamp::MAX,
    }
}

fn gate() -> Gate {
    let freshness = Freshness::new(SystemClock.now(), Duration::from_secs(30));
    freshness.caught_up(Feed::Decisions);
    freshness.caught_up(Feed::Policies);
    let gate = Gate::new([3, 4], WINDOWS_BYTES_MAX, freshness);
    gate.set_policy(Policy {
        version: 1,
        limits: vec![limit()],
        ..Policy::default()
    });
    for n in 0..DECISIONS {
        let standing = decision(Subject::tenant(&format!("blocked-{n}")));
        gate.put(standing, 0, Timestamp::MIN);
    }
    gate
}

fn check(gate: &Gate, tenant: &str, now: Timestamp) -> bool {
    let request = Request {
        identity: Identity {
            tenant: Some(tenant),
            ..Identity::default()
        },
        tier: None,
        consume: &ONE_REQUEST,
    };
    let view = gate.view(now);
    let answer = gate.check(&view, &request, now);
    !black_box(&answer).verdict().refuses()
}

fn quota() -> Quota {
    Quota::per_second(NonZeroU32::new(1_000_000_000).expect("not zero"))
}

fn with_clock(c: &mut Criterion) {
    let mut group = c.benchmark_group("check-with-clock");
    group.warm_up_time(Duration::from_secs(1));
    for count in KEYS {
        let keys = keys(count);
        let mut next = keys.iter().cycle();
        let gate = gate();
        keys.iter()
            .for_each(|key| assert!(check(&gate, key, SystemClock.now())));
        group.bench_function(BenchmarkId::new("weir", count), |b| {
            b.iter(|| {
                check(
                    &gate,
                    black_box(next.next().expect("a cycle")),
                    SystemClock.now(),
                )
            });
        });
        drop(gate);
        let limiter = RateLimiter::keyed(quota());
        keys.iter()
            .for_each(|key| assert!(limiter.check_key(key).is_ok()));
        group.bench_function(BenchmarkId::new("governor", count), |b| {
            b.iter(|| {
                limiter
                    .check_key(black_box(next.next().expect("a cycle")))
                    .is_ok()
            });
        });
    }
}

fn at_a_given_time(c: &mut Criterion) {
    let mut group = c.benchmark_group("check");
    group.warm_up_time(Duration::from_secs(1));
    let now = SystemClock.now();
    for count in KEYS {
        let keys = keys(count);
        let mut next = keys.iter().cycle();
        let gate = gate();
        keys.iter().for_each(|key| assert!(check(&gate, key, now)));
        group.bench_function(BenchmarkId::new("weir", count), |b| {
            b.iter(|| {
                check(
                    &gate,
                    black_box(next.next().expect("a cycle")),
                    black_box(now),
                )
            });
        });
        drop(gate);
        let limiter: RateLimiter<String, DashMapStateStore<String>, _, NoOpMiddleware<Nanos>> =
            RateLimiter::new(
                quota(),
                DashMapStateStore::default(),
                FakeRelativeClock::default(),
            );
        keys.iter()
            .for_each(|key| assert!(limiter.check_key(key).is_ok()));
        group.bench_function(BenchmarkId::new("governor", count), |b| {
            b.iter(|| {
                limiter
                    .check_key(black_box(next.next().expect("a cycle")))
                    .is_ok()
            });
        });
    }
}

criterion_group!(benches, at_a_given_time, with_clock);
criterion_main!(benches);
