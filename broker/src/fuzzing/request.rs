//! What a client sends.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiKey, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::Decodable;
use tempfile::TempDir;

use super::{mend, until_it_waits};
use crate::api;
use crate::config::{Config, Fsync};
use crate::core::Core;
use crate::log::batch::Header;
use crate::log::read;
use crate::offsets::{Committed, Place};
use crate::topics::Partition;

/// Asked for by a request of a few bytes, and each costs the fuzzer a folder.
const PARTITIONS_MAX: usize = 8;
const GROUPS_MAX: usize = 3;
/// More cost time and try nothing new.
const FRAMES_MAX: usize = 16;
const PRODUCE: [u8; 2] = [0, 0];
/// Of the request ApiVersions itself.
const API_VERSIONS: RangeInclusive<i16> = 0..=3;

/// All that one connection sends: frames, each after its length in four bytes, the last perhaps cut short.
///
/// # Panics
/// If a request is misunderstood, hangs, or gets an answer that its sender cannot read; if what was stored cannot be
/// read back, also after a restart; or if anything is written outside the data folder.
pub fn request(bytes: &[u8]) {
    let around = TempDir::new().expect("a folder");
    let data = around.path().join("data");
    let core = open(&data);
    for (name, policy) in [("t", "delete"), ("c", "compact")] {
        let overrides = [("cleanup.policy".to_owned(), policy.to_owned())].into();
        let made = core.topics.create(name, 1, overrides, false);
        made.expect("a topic");
    }
    let core = Arc::new(core);
    for frame in frames(bytes).take(FRAMES_MAX) {
        ask(&core, &frame);
    }
    let before = State::of(&core);
    core.close().expect("the log closes");
    drop(core);
    assert_eq!(State::of(&open(&data)), before, "after a restart");
    let entries = fs::read_dir(around.path()).expect("the folder around it");
    assert_eq!(entries.count(), 1, "something lies beside the data folder");
}

fn open(data: &Path) -> Core {
    fs::create_dir_all(data).expect("a data folder");
    let mut config = Config::new(data);
    config.fsync = Fsync::Never;
    config.join_delay = Duration::ZERO;
    config.partitions_max = PARTITIONS_MAX;
    config.groups_max = GROUPS_MAX;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9092));
    Core::open(config, address, true).expect("the log opens")
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = usize::try_from(bytes.try_get_u32().ok()?).unwrap_or(usize::MAX);
        let (frame, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        Some(match frame.starts_with(&PRODUCE) {
            true => mend::produced(frame).into(),
            false => Bytes::copy_from_slice(frame),
        })
    })
}

fn ask(core: &Arc<Core>, frame: &Bytes) {
    // A request that waits for other members, or for records, is left alone, as by a client that goes.
    let Some(answered) = until_it_waits(api::answer(core, frame.clone())) else {
        return;
    };
    let answer = match answered {
        Ok(Some(answer)) => answer,
        Ok(None) => return,
        Err(api::RequestError::Encode {
            api,
            version,
            reason,
        }) => {
            panic!("no answer to {api:?} {version}: {reason}")
        }
        Err(_) => return,
    };
    let mut head = frame.clone();
    let api = ApiKey::try_from(head.get_i16()).expect("an API that was answered");
    let version = head.get_i16();
    check_answer(answer, api, version, head.get_i32());
}

fn check_answer(mut answer: Bytes, api: ApiKey, version: i16, correlation_id: i32) {
    assert_eq!(answer.get_u32() as usize, answer.len());
    // A client that is too new is answered in version 0.
    let is_refused = api == ApiKey::ApiVersions && !API_VERSIONS.contains(&version);
    let version = if is_refused { 0 } else { version };
    let header = ResponseHeader::decode(&mut answer, api.response_header_version(version));
    let header = header.expect("an answer's header");
    assert_eq!(header.correlation_id, correlation_id);
    let response = ResponseKind::decode(api, &mut answer, version);
    response.unwrap_or_else(|e| panic!("the answer to {api:?} {version}: {e:#}"));
    assert_eq!(answer.len(), 0, "the answer to {api:?} {version} says more");
}

/// All that must be the same after a restart.
#[derive(Debug, PartialEq)]
struct State {
    partitions: BTreeMap<(String, usize), Contents>,
    committed: BTreeMap<String, BTreeMap<Place, Committed>>,
}

impl State {
    fn of(core: &Core) -> State {
        let mut partitions = BTreeMap::new();
        for topic in core.topics.all() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                partitions.insert((topic.name.clone(), index), contents(partition));
            }
        }
        let groups = core.offsets.groups().into_iter();
        let committed = groups.map(|group| (group.clone(), core.offsets.all(&group)));
        State {
            partitions,
            committed: committed.collect(),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Contents {
    start: i64,
    end: i64,
    /// The first and last offset of each.
    batches: Vec<(i64, i64)>,
}

fn contents(partition: &Partition) -> Contents {
    let (start, end) = {
        let log = partition.log.lock();
        (log.start(), log.visible_end())
    };
    let mut from = start;
    let mut batches = vec![];
    while from < end {
        let bytes = read::read(&partition.log, from, end, 1 << 20).expect("what was stored");
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = Header::checked(rest).expect("a batch as it was stored");
            batches.push((header.base_offset, header.last_offset()));
            assert!(header.next_offset() > from, "offsets go back");
            from = header.next_offset();
            rest = &rest[header.bytes..];
        }
        assert!(!bytes.is_empty(), "nothing at {from} before the end {end}");
    }
    Contents {
        start,
        end,
        batches,
    }
}
