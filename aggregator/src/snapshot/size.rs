//! How long large snapshots take, to make and to read: `SNAPSHOT_KEYS` sets how many keys four partitions hold together
//! (2,000 unless it does), and the figures are printed.

use std::time::Duration;

use bus::clock::Stopwatch;
use schemas::partition::partition_of;
use schemas::time::Timestamp;

use super::*;
use crate::event::{Input, Place};
use crate::model::{call, policy, settings};
use crate::plan::Kind;
use crate::seen::SeenBounds;

const PARTITIONS: i32 = 4;
const TENANTS: usize = 100;
const KEYS: usize = 2_000;

fn all_seen() -> Settings {
    let seen = SeenBounds {
        entries_max: 10_000_000,
        ..settings().seen
    };
    Settings { seen, ..settings() }
}

fn partition(index: i32) -> Partition {
    Partition {
        topic: "weir.usage.v1",
        index,
    }
}

/// One partition's share of `keys`, each of which was used once.
fn counted(index: i32, keys: usize) -> Engine {
    let shard = ShardId {
        kind: Kind::Events(schemas::policy::Stream::Usage),
        partition: index,
        partitions: PARTITIONS,
    };
    let mut engine = Engine::new(shard, all_seen());
    let mut out = Vec::new();
    let mut step = |offset: usize, input: Input<'_>| {
        let place = Place {
            offset: i64::try_from(offset).unwrap(),
            appended_at: Timestamp::from_seconds(100),
        };
        engine.step(place, input, &mut out).unwrap();
    };
    let at = Timestamp::from_seconds(100);
    let policy = Box::new(policy(
        1,
        "calls tenant/*/user/* requests hard=2 : sliding 60m",
    ));
    step(0, Input::Policy { policy, at });
    for key in 0..keys {
        let (tenant, user) = (format!("t{}", key % TENANTS), format!("u{key}"));
        if partition_of(tenant.as_bytes(), PARTITIONS) == index {
            let id = format!("0192d5c8-{key}");
            step(key + 1, Input::Event(call((&tenant, &user), &id, at, 5)));
        }
    }
    engine.flush(&mut out);
    engine
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let since = Stopwatch::start();
    let done = work();
    (done, since.elapsed())
}

#[expect(
    clippy::print_stderr,
    reason = "the figures are what the larger run is for"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_large_one_is_made_and_read() {
    let asked = std::env::var("SNAPSHOT_KEYS").ok();
    let keys = asked.map_or(KEYS, |keys| keys.parse().unwrap());
    let engines: Vec<Engine> = (0..PARTITIONS).map(|index| counted(index, keys)).collect();
    let (encoded, encoding) = timed(|| {
        let encode = |engine: &Engine| encode(partition(engine.shard().partition), engine);
        engines.iter().map(encode).collect::<Result<Vec<_>, _>>()
    });
    let encoded = encoded.unwrap();
    let bytes: usize = encoded.iter().map(Vec::len).sum();
    let (decoded, decoding) = timed(|| {
        let both = engines.iter().zip(&encoded);
        let decode = |(engine, bytes): (&Engine, &Vec<u8>)| {
            let shard = engine.shard();
            decode(bytes, partition(shard.partition), shard, all_seen())
        };
        both.map(decode).collect::<Result<Vec<_>, _>>()
    });
    for (engine, decoded) in engines.iter().zip(&decoded.unwrap()) {
        assert!(engine.state() == decoded.state());
    }
    let ((), dropping) = timed(|| drop(engines));
    eprintln!(
        "{keys} keys, {bytes} bytes: encoded in {encoding:.2?}, decoded in {decoding:.2?}, dropped in {dropping:.2?}"
    );
}
