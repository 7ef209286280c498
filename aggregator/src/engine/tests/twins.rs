//! Two engines read one log, as bytes. They take it in batches of their own, tell changed sums at moments of their own,
//! and one is killed again and again: it goes on from its newest snapshot, and what it had said since may be lost. What
//! both said is the same, byte for byte, once what was told twice at one position is dropped.

use std::collections::{BTreeMap, BTreeSet};

use bus::{Partition, Record};
use bytes::Bytes;
use proptest::prelude::*;
use schemas::codec::Wire;
use schemas::record::{
    Csp, CspRecord, Marker, PolicyVersion, Recorded, Signal, Sketch, Usage, UsageRecord,
};
use schemas::topic::{CSP, PARTIALS, USAGE};

use super::*;
use crate::model::cases;
use crate::snapshot::{self, Snapshots};
use crate::wire::{self, Outgoing};

const POLICIES: [&str; 4] = [
    "a tenant/* tokens half=10 hard=20 : sliding 10s
     b tenant/*/user/* tokens hard=8 : bucket 1/s burst 8
     all platform tokens hard=60 : sliding 20m
     csp tenant/* violations hard=5 : sliding 60s",
    "a tenant/* tokens half=15 hard=25 : sliding 10s
     all platform tokens hard=40 : sliding 20m
     each provider/* requests hard=6 : sliding 10s
     csp tenant/* violations hard=4 : calendar day
     all zone=Europe/Berlin",
    "c tenant/* requests hard=9 : calendar week from sunday
     each provider/* requests hard=6 : sliding 10s
     day platform requests hard=30 : calendar day",
    "",
];
const START: &str = "2026-03-28T22:30:00Z";

/// What is in the log, and how long after the record before.
#[derive(Clone, Debug)]
struct Entry {
    wait_ms: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Event {
        who: (usize, usize),
        id: u8,
        behind_ms: i64,
        amount: i64,
    },
    Policy(usize),
    Tick,
    Garbage,
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let behind = prop_oneof![
        6 => 0..3_000_i64,
        2 => 0..700_000_i64,
        1 => -400_000..0_i64,
    ];
    let event = ((0..3_usize, 0..2_usize), any::<u8>(), behind, 0..9_i64);
    let event = event.prop_map(|(who, id, behind_ms, amount)| What::Event {
        who,
        id,
        behind_ms,
        amount,
    });
    let what = prop_oneof![
        30 => event,
        2 => (0..POLICIES.len()).prop_map(What::Policy),
        1 => Just(What::Tick),
        1 => Just(What::Garbage),
    ];
    let wait =
        prop_oneof![8 => 0..2_000_u64, 1 => 0..900_000_u64, 1 => Just(0), 1 => 0..100_000_000_u64];
    let entry = (wait, what).prop_map(|(wait_ms, what)| Entry { wait_ms, what });
    prop::collection::vec(entry, 1..100)
}

/// A batch, and what comes after it.
#[derive(Clone, Debug)]
struct Turn {
    records: usize,
    then: Then,
}

#[derive(Clone, Debug)]
enum Then {
    Nothing,
    Flush,
    Snapshot,
    /// Of what was said since the snapshot, this part arrived.
    Kill {
        percent: usize,
    },
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let then = prop_oneof![
        2 => Just(Then::Nothing),
        2 => Just(Then::Flush),
        2 => Just(Then::Snapshot),
        1 => (0..=100_usize).prop_map(|percent| Then::Kill { percent }),
    ];
    let turn = (1..30_usize, then).prop_map(|(records, then)| Turn { records, then });
    prop::collection::vec(turn, 0..40)
}

fn encoded(value: &impl Wire) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes).unwrap();
    bytes
}

fn recorded<E>(value: Recorded<E>) -> Vec<u8>
where
    Recorded<E>: Wire,
{
    encoded(&value)
}

fn marker(what: &What, version: i64, now: Timestamp) -> Marker {
    let policy = match what {
        What::Policy(which) => Some(PolicyVersion {
            at: now,
            ..PolicyVersion::from(&policy(version, POLICIES[*which]))
        }),
        _ => None,
    };
    Marker {
        tick: policy.is_none().then_some(now),
        policy,
        order: None,
    }
}

fn usage(who: (usize, usize), id: u8, at: Timestamp, amount: i64) -> Usage {
    Usage {
        event_source: "app".to_owned(),
        event_id: id.to_string(),
        tenant: format!("t{}", who.0),
        at,
        received_at: at,
        user: Some(format!("u{}", who.1)),
        key: Some("k".to_owned()),
        provider: Some(["openai", "anthropic"][who.1].to_owned()),
        requests: 1,
        input_tokens: amount,
        ..Usage::default()
    }
}

fn csp(who: (usize, usize), id: u8, at: Timestamp, amount: i64) -> Csp {
    Csp {
        event_source: "browser".to_owned(),
        event_id: id.to_string(),
        tenant: format!("t{}", who.0),
        at,
        received_at: at,
        document_uri: "https://shop.example/".to_owned(),
        directive: "script-src".to_owned(),
        blocked_host: format!("{amount}.example"),
        ..Csp::default()
    }
}

/// The records of a topic of events.
fn log(topic: &str, entries: &[Entry]) -> Vec<Record> {
    let mut now = Timestamp::parse(START).unwrap();
    let numbered = (0..).zip(entries);
    let records = numbered.map(|(offset, entry)| {
        now = now.plus(Duration::from_millis(entry.wait_ms));
        let value = match &entry.what {
            What::Event {
                who,
                id,
                behind_ms,
                amount,
            } => {
                let at = Timestamp::from_micros(now.as_micros() - 1_000 * behind_ms);
                match topic == USAGE.name() {
                    true => recorded(UsageRecord::Event(usage(*who, *id, at, *amount))),
                    false => recorded(CspRecord::Event(csp(*who, *id, at, *amount))),
                }
            }
            What::Garbage => b"{no event".to_vec(),
            marks => {
                let marker = marker(marks, offset + 1, now);
                match topic == USAGE.name() {
                    true => recorded(UsageRecord::Marker(marker)),
                    false => recorded(CspRecord::Marker(marker)),
                }
            }
        };
        record(offset, now, value)
    });
    records.collect()
}

fn record(offset: i64, appended_at: Timestamp, value: Vec<u8>) -> Record {
    Record {
        offset,
        appended_at,
        key: None,
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}

/// Something said: about what, by which record it came to be so, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    about: String,
    offset: i64,
    bytes: Vec<u8>,
}

impl Said {
    fn new(outgoing: &Outgoing) -> Self {
        let (about, offset, bytes) = match outgoing {
            Outgoing::Signal { signal, .. } => {
                let (about, origin) = match &**signal {
                    Signal::Crossing(c) => (format!("crossing {}", c.id), &c.origin),
                    Signal::CspGroup(g) => (
                        format!("group {} {} {}", g.tenant, g.directive, g.blocked_host),
                        &g.origin,
                    ),
                    Signal::Cleared(c) => (format!("cleared {}", c.id), &c.origin),
                };
                (about, origin.offset, encoded(&**signal))
            }
            Outgoing::Rollup(rollup) => {
                let dims = (&rollup.tenant, &rollup.user, &rollup.provider);
                let about = format!("rollup {dims:?} {}", rollup.minute);
                (about, rollup.origin.offset, encoded(&**rollup))
            }
            Outgoing::Sketch { sketch, .. } => {
                let (what, tenant, kind, hour, origin) = match &**sketch {
                    Sketch::Spread(s) => ("spread", &s.tenant, &s.id, s.hour, &s.origin),
                    Sketch::Ranking(r) => ("ranking", &r.tenant, &r.by, r.hour, &r.origin),
                };
                let about = format!("{what} {tenant} {kind} {hour}");
                (about, origin.offset, encoded(&**sketch))
            }
            Outgoing::Partial { partial, .. } => {
                let Recorded::Event(sum) = &**partial else {
                    panic!("an engine writes no markers");
                };
                let slice = (sum.slice, sum.slice_seconds);
                let about = format!("partial {} {} {slice:?}", sum.scope, sum.meter.name());
                (about, sum.origin.offset, encoded(&**partial))
            }
        };
        Self {
            about,
            offset,
            bytes,
        }
    }

    /// Whether it is said at once, and not whenever sums are told.
    fn is_prompt(&self) -> bool {
        self.about.starts_with("crossing") || self.about.starts_with("outcome")
    }
}

/// One engine on its way through a log, in a folder of its own.
struct Reader<'a> {
    shard: ShardId,
    partition: Partition,
    log: &'a [Record],
    engine: Engine,
    folder: tempfile::TempDir,
    said: Vec<Said>,
    /// How much was said before the newest snapshot.
    safe: usize,
}

impl<'a> Reader<'a> {
    fn new(topic: &'static str, log: &'a [Record]) -> Self {
        let shard = ShardId {
            kind: wire::kind_of(topic).unwrap(),
            partition: 0,
            partitions: 1,
        };
        Self {
            shard,
            partition: Partition { topic, index: 0 },
            log,
            engine: Engine::new(shard, settings()),
            folder: tempfile::tempdir().unwrap(),
            said: Vec::new(),
            safe: 0,
        }
    }

    fn say(&mut self, out: Vec<Output>) {
        let partition = self.partition;
        let said = out
            .into_iter()
            .map(|o| Said::new(&wire::outgoing(partition, o)));
        self.said.extend(said);
    }

    /// Takes a batch, as a shard does.
    fn take(&mut self, records: usize) {
        let next = usize::try_from(self.engine.next_offset()).unwrap();
        let end = self.log.len().min(next + records);
        let mut out = Vec::new();
        for record in &self.log[next..end] {
            let read = wire::read(self.shard.kind, record, settings().ahead_max);
            let input = read.as_ref().map_or(Input::Unreadable, |read| read.input());
            let place = Place {
                offset: record.offset,
                appended_at: record.appended_at,
            };
            let outcome = self.engine.step(place, input, &mut out).unwrap();
            self.say(std::mem::take(&mut out));
            self.said.push(Said {
                about: "outcome".to_owned(),
                offset: record.offset,
                bytes: format!("{outcome:?}").into_bytes(),
            });
        }
        self.engine.flush_partials(&mut out);
        self.say(out);
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        self.engine.flush(&mut out);
        self.say(out);
    }

    fn turn(&mut self, turn: &Turn) {
        self.take(turn.records);
        let snapshots = Snapshots::in_folder(self.folder.path().to_owned());
        match turn.then {
            Then::Nothing => {}
            Then::Flush => self.flush(),
            Then::Snapshot => {
                self.flush();
                self.engine.forget();
                let bytes = snapshot::encode(self.partition, &self.engine).unwrap();
                let next = self.engine.next_offset();
                snapshot::wait(snapshots.save(self.partition, next, bytes.into())).unwrap();
                self.safe = self.said.len();
            }
            Then::Kill { percent } => {
                let arrived = (self.said.len() - self.safe) * percent / 100;
                self.said.truncate(self.safe + arrived);
                let saved = snapshot::wait(snapshots.load(self.partition, self.shard, settings()));
                let new = || Engine::new(self.shard, settings());
                self.engine = saved.unwrap().unwrap_or_else(new);
            }
        }
    }

    /// Reads the log to its end, and returns what was said, in order, nothing twice.
    fn run(mut self, turns: &[Turn]) -> Result<Vec<Said>, TestCaseError> {
        for turn in turns {
            self.turn(turn);
        }
        self.take(self.log.len());
        self.flush();
        let mut positions: BTreeMap<(String, i64), Vec<u8>> = BTreeMap::new();
        let mut told = Vec::new();
        for said in self.said {
            let place = (said.about.clone(), said.offset);
            match positions.get(&place) {
                Some(before) => {
                    prop_assert_eq!(before, &said.bytes, "{:?} is told in two ways", place)
                }
                None => {
                    positions.insert(place, said.bytes.clone());
                    told.push(said);
                }
            }
        }
        Ok(told)
    }
}

/// What a consumer holds that applies only what is newer.
fn newest(said: &[Said]) -> BTreeMap<&str, &Said> {
    let mut newest: BTreeMap<&str, &Said> = BTreeMap::new();
    for said in said {
        let held = newest.entry(&said.about).or_insert(said);
        if held.offset < said.offset {
            *held = said;
        }
    }
    newest
}

/// Lets two engines read one log, and returns what the first said.
fn agree(
    topic: &'static str,
    log: &[Record],
    turns: [&[Turn]; 2],
) -> Result<Vec<Said>, TestCaseError> {
    let one = Reader::new(topic, log).run(turns[0])?;
    let other = Reader::new(topic, log).run(turns[1])?;
    let prompt = |said: &[Said]| -> Vec<Said> {
        let prompt = said.iter().filter(|said| said.is_prompt());
        prompt.cloned().collect()
    };
    prop_assert_eq!(prompt(&one), prompt(&other));
    prop_assert_eq!(newest(&one), newest(&other));
    let places = |said: &[Said]| -> BTreeMap<(String, i64), Vec<u8>> {
        let placed = said
            .iter()
            .map(|s| ((s.about.clone(), s.offset), s.bytes.clone()));
        placed.collect()
    };
    let (first, second) = (places(&one), places(&other));
    for (place, bytes) in &first {
        let there = second.get(place);
        prop_assert!(there.is_none_or(|there| there == bytes), "{:?}", place);
    }
    Ok(one)
}

/// The log of partials that comes of what a shard of events said, under a policy from the start.
fn partials_log(said: &[Said]) -> Vec<Record> {
    let now = Timestamp::parse(START).unwrap();
    let marker = marker(&What::Policy(1), 1, now);
    let marker = recorded(schemas::record::PartialRecord::Marker(marker));
    let sums = said.iter().filter(|said| said.about.starts_with("partial"));
    let values = std::iter::once(marker).chain(sums.map(|said| said.bytes.clone()));
    let numbered = (0_i64..).zip(values);
    let records = numbered.map(|(offset, value)| {
        let later = Duration::from_millis(700 * offset.unsigned_abs());
        record(offset, now.plus(later), value)
    });
    records.collect()
}

/// Fewer than of the models' cases: snapshots are written and synced as they are in earnest.
fn few() -> ProptestConfig {
    ProptestConfig::with_cases(cases(2_000).cases / 50)
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn engines_of_usage_say_the_same(
        entries in entries(),
        calm in turns(),
        wild in turns(),
        scopes in turns(),
    ) {
        let said = agree(USAGE.name(), &log(USAGE.name(), &entries), [&calm, &wild])?;
        agree(PARTIALS.name(), &partials_log(&said), [&[], &scopes])?;
    }

    #[test]
    fn engines_of_reports_say_the_same(entries in entries(), calm in turns(), wild in turns()) {
        agree(CSP.name(), &log(CSP.name(), &entries), [&calm, &wild])?;
    }
}

/// That a log of this kind makes engines say everything that there is to say.
#[test]
fn all_kinds_of_outputs_are_compared() {
    let event = |n: u8| Entry {
        wait_ms: 500,
        what: What::Event {
            who: (0, usize::from(n % 2)),
            id: n,
            behind_ms: 0,
            amount: 8,
        },
    };
    let marker = Entry {
        wait_ms: 0,
        what: What::Policy(0),
    };
    let entries: Vec<Entry> = [marker].into_iter().chain((0..20).map(event)).collect();
    let mut kinds = BTreeSet::new();
    for topic in [USAGE.name(), CSP.name()] {
        let log = log(topic, &entries);
        let said = Reader::new(topic, &log).run(&[]).unwrap();
        let kind = |said: &Said| said.about.split(' ').next().unwrap().to_owned();
        kinds.extend(said.iter().map(kind));
        let partials = partials_log(&said);
        let scopes = Reader::new(PARTIALS.name(), &partials).run(&[]).unwrap();
        let crossed = scopes.iter().any(|said| said.about.starts_with("crossing"));
        assert_eq!(crossed, topic == USAGE.name());
    }
    let all = [
        "crossing", "group", "outcome", "partial", "ranking", "rollup", "spread",
    ];
    assert!(kinds.iter().map(String::as_str).eq(all), "{kinds:?}");
}
