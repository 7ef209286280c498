//! What one shard's engine costs: CPU time of one event and memory of one counter, by how many keys there are.
//!
//! `cargo bench -p aggregator --bench engine` prints a table and two charts in Markdown. `KEYS` names other numbers of keys than
//! 10,000 and 1,000,000, with commas between them. Each line is a process of its own, so that none has another's memory.
#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use aggregator::bare::{Bare, Call};
use aggregator::{Config, Sketched};
use schemas::policy::{Mode, Policy, Stale};
use schemas::record::{Amount, LimitRecord, PolicyVersion};
use schemas::subject::Identity;
use schemas::time::Timestamp;

/// Of event time, which is the log's too.
const EVENTS_PER_SECOND: usize = 20_000;
const FROM_SECONDS: i64 = 1_760_000_000;
/// So many seconds fill the slices of a minute's window.
const WARM_UP_SECONDS: usize = 65;
const EVENTS: usize = 1_000_000;
const BATCH: usize = 10_000;
const FLOOD_KEYS: usize = 10_000_000;
const FLOOD_BYTES_MAX: u64 = 64 << 20;
/// From one telling of rows to the next: half a second of event time.
const FLUSH_EVENTS: usize = EVENTS_PER_SECOND / 2;

/// What is counted, and told apart in rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// One sliding minute of each key; a row per tenant and minute; few duplicates are known.
    Memory,
    /// The same, with a million duplicates known.
    OneLimit,
    /// The same, with a row for each key and one of a million users in each minute.
    Users,
    /// As one limit, with sketches: users of each key, and which users come most.
    Sketches,
    /// Four subjects of an event, in six windows each.
    Many,
}

impl Scene {
    const ALL: [(Self, &str); 5] = [
        (Self::Memory, "memory"),
        (Self::OneLimit, "one-limit"),
        (Self::Users, "users"),
        (Self::Sketches, "sketches"),
        (Self::Many, "many"),
    ];

    fn limits(self) -> Vec<LimitRecord> {
        let subjects = match self {
            Self::Many => &[
                "tenant/*",
                "tenant/*/key/*",
                "tenant/*/user/*",
                "tenant/*/route/*",
            ][..],
            _ => &["tenant/*/key/*"],
        };
        let windows = match self {
            Self::Many => &[
                "sliding 60s",
                "sliding 5m",
                "sliding 1h",
                "sliding 1d",
                "calendar day",
                "calendar month",
            ][..],
            _ => &["sliding 60s"],
        };
        let pairs = subjects
            .iter()
            .flat_map(|s| windows.iter().map(move |w| (s, w)));
        pairs
            .enumerate()
            .map(|(n, (s, w))| limit(n, s, w))
            .collect()
    }

    fn config(self) -> Config {
        let all = Config::default();
        Config {
            rollup_by: match self {
                Self::Users => all.rollup_by.clone(),
                _ => Vec::new(),
            },
            duplicates_max: match self {
                Self::Memory => 1_000,
                _ => all.duplicates_max,
            },
            sketches: match self {
                Self::Sketches => vec![Sketched::Usage],
                _ => Vec::new(),
            },
            state_bytes_max: 1 << 36,
            ..all
        }
    }

    /// Rows of a tenant are no part of what a key takes.
    fn keys_of_a_tenant(self, keys: usize) -> usize {
        match self {
            Self::Memory => keys / 10,
            _ => 100,
        }
    }

    fn users(self) -> usize {
        match self {
            Self::Users | Self::Sketches => 1_000_000,
            _ => 1_000,
        }
    }
}

/// A limit that nothing reaches.
fn limit(number: usize, subject: &str, window: &str) -> LimitRecord {
    LimitRecord {
        name: format!("l{number}"),
        subject: subject.to_owned(),
        meter: "tokens".parse().expect("a meter"),
        window: window.parse().expect("a window"),
        soft: Vec::new(),
        hard: Amount(1_000_000_000_000),
        keep: None,
        mode: Mode::Block,
        stale: Stale::LastKnown,
        tier: None,
        status: None,
        headers: true,
    }
}

fn policy(limits: Vec<LimitRecord>) -> Policy {
    let record = PolicyVersion {
        version: 1,
        at: Timestamp::from_seconds(0),
        author: String::new(),
        reason: String::new(),
        source: String::new(),
        limits,
        tenants: BTreeMap::new(),
        overrides: Vec::new(),
        default_tier: None,
        default_zone: None,
        weights: Vec::new(),
        sets: Vec::new(),
    };
    Policy::try_from(&record).expect("a policy")
}

/// A number from 0 up to `below`, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// The strings of an event.
struct Made {
    id: String,
    tenant: String,
    key: String,
    user: String,
    at: Timestamp,
    tokens: i64,
}

impl Made {
    fn new(number: usize, (key, tenant): (usize, usize), user: usize) -> Self {
        let micros = number * (1_000_000 / EVENTS_PER_SECOND);
        Self {
            id: format!("{number:x}"),
            tenant: format!("t{tenant}"),
            key: format!("k{key}"),
            user: format!("u{user}"),
            at: Timestamp::from_micros(FROM_SECONDS * 1_000_000 + micros as i64),
            tokens: 1 + (number % 4_000) as i64,
        }
    }

    fn call(&self) -> Call<'_> {
        Call {
            id: &self.id,
            identity: Identity {
                tenant: Some(&self.tenant),
                key: Some(&self.key),
                user: Some(&self.user),
                route: Some("POST /v1/chat/completions"),
                model: Some("gpt-4o"),
                ..Identity::default()
            },
            at: self.at,
            input_tokens: self.tokens,
        }
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: Option<usize> = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    pages.expect("a number") * 4_096
}

/// Plays one scene, and gives nanoseconds of an event and bytes of a counter.
fn play(scene: Scene, keys: usize) -> (u128, usize) {
    let mut bare = Bare::new(policy(scene.limits()), &scene.config()).expect("its numbers fit");
    let mut random = Random(7);
    let warm_up = keys.max(WARM_UP_SECONDS * EVENTS_PER_SECOND);
    let (mut spent, mut before) = (Duration::ZERO, None);
    for first in (0..warm_up + EVENTS).step_by(BATCH) {
        let events = (first..first + BATCH).map(|number| {
            // Every key in turn at first, then any of them.
            let is_warm = warm_up <= number;
            let key = if is_warm {
                random.below(keys)
            } else {
                number % keys
            };
            let tenant = key / scene.keys_of_a_tenant(keys);
            Made::new(number, (key, tenant), random.below(scene.users()))
        });
        let events: Vec<Made> = events.collect();
        let calls: Vec<Call<'_>> = events.iter().map(Made::call).collect();
        // The events themselves are no part of it.
        before.get_or_insert_with(resident_bytes);
        let from = cpu();
        for call in &calls {
            assert!(bare.count(call), "all are counted");
        }
        if warm_up <= first {
            spent += cpu() - from;
        }
        if first % FLUSH_EVENTS == 0 {
            bare.flush();
        }
    }
    let bytes = resident_bytes().saturating_sub(before.unwrap_or_default());
    (spent.as_nanos() / EVENTS as u128, bytes / bare.counters())
}

/// Plays calls of ten million keys that are made up, and says what came of it.
fn flood() -> String {
    let config = Config {
        state_bytes_max: FLOOD_BYTES_MAX,
        duplicates_max: 100_000,
        sketches: Vec::new(),
        ..Config::default()
    };
    let policy = policy(Scene::OneLimit.limits());
    let mut bare = Bare::new(policy, &config).expect("its numbers fit");
    let mut resident = Vec::new();
    for number in 0..FLOOD_KEYS {
        let made = Made::new(number, (number, number % 100), number);
        assert!(bare.count(&made.call()), "all are counted");
        if number % FLUSH_EVENTS == 0 {
            bare.flush();
        }
        if number % (FLOOD_KEYS / 10) == FLOOD_KEYS / 10 - 1 {
            resident.push((resident_bytes() >> 20).to_string());
        }
    }
    let (bound, counters, refused) = (FLOOD_BYTES_MAX >> 20, bare.counters(), bare.refused());
    let resident = resident.join(", ");
    format!(
        "{FLOOD_KEYS} made-up keys under a bound of {bound} MiB: {counters} counters at the end, {refused} refused; \
         MiB resident after each tenth: {resident}"
    )
}

fn main() {
    let named = std::env::var("SCENE").ok();
    let keys = std::env::var("KEYS").unwrap_or_else(|_| "10000,1000000".to_owned());
    let keys: Vec<usize> = keys
        .split(',')
        .map(|n| n.trim().parse().expect("KEYS are numbers"))
        .collect();
    if named.as_deref() == Some("flood") {
        println!("{}", flood());
        return;
    }
    if let Some(named) = named {
        let scene = Scene::ALL.into_iter().find(|(_, name)| *name == named);
        let (scene, _) = scene.expect("SCENE is one of this file's");
        let (nanos, bytes) = play(scene, keys[0]);
        println!("{nanos} {bytes}");
        return;
    }
    println!(
        "| keys | bytes a key | one limit, ns an event | and a row per key and user | and sketches | four subjects in six windows |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut points = Vec::new();
    for keys in keys {
        let [memory, one, users, sketches, many] = Scene::ALL.map(|(_, name)| apart(name, keys));
        println!(
            "| {keys} | {} | {} | {} | {} | {} |",
            memory.1, one.0, users.0, sketches.0, many.0
        );
        points.push((keys, memory.1, one.0));
    }
    println!("\n{}", plots(&points));
    println!("{}", said("flood", 0).trim());
}

/// Bytes of a key and events of a second by the number of keys, as charts that Markdown draws (Mermaid).
fn plots(points: &[(usize, usize, u128)]) -> String {
    let list = |of: &dyn Fn(&(usize, usize, u128)) -> String| {
        let words: Vec<String> = points.iter().map(of).collect();
        words.join(", ")
    };
    let keys = list(&|(keys, ..)| keys.to_string());
    let bytes = list(&|(_, bytes, _)| bytes.to_string());
    let rates = list(&|(.., nanos)| (1_000_000 / nanos.max(&1)).to_string());
    let chart = |title: &str, unit: &str, values: &str| {
        format!(
            "```mermaid\nxychart-beta\n    title \"{title}\"\n    x-axis \"keys\" [{keys}]\n    y-axis \"{unit}\"\n    \
             bar [{values}]\n```\n"
        )
    };
    let memory = chart("Memory of a key", "bytes", &bytes);
    let speed = chart(
        "Events through one shard's engine",
        "thousands a CPU second",
        &rates,
    );
    format!("{memory}\n{speed}")
}

/// Plays a scene in a process of its own, and returns its figures.
fn apart(scene: &str, keys: usize) -> (u128, usize) {
    let said = said(scene, keys);
    let figures = said.trim().split_once(' ');
    let figures = figures.and_then(|(ns, bytes)| Some((ns.parse().ok()?, bytes.parse().ok()?)));
    figures.unwrap_or_else(|| panic!("{scene} of {keys} keys says {said:?}"))
}

/// What a process of its own says when it plays a scene.
fn said(scene: &str, keys: usize) -> String {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.env("SCENE", scene).env("KEYS", keys.to_string());
    let output = command.output().expect("it starts once more");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
