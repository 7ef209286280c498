//! What a log must do to be Kafka to its clients: named cases that run against any bootstrap address.
//!
//! A case that holds on one home only says why. Cases make their own topics and groups, under names that no other run
//! uses, and leave them behind.

mod admin;
mod cleanup;
mod groups;
mod lab;
mod proxy;
mod raw;
mod reading;
mod writing;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

pub use lab::Lab;

/// A log that the suite runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Embedded,
    Kafka,
}

/// Where a case holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Everywhere,
    /// By design, for this reason.
    Only(Home, &'static str),
}

/// One thing that a log must do.
pub struct Case {
    pub name: &'static str,
    pub holds: Holds,
    run: fn(&Lab) -> anyhow::Result<()>,
}

const fn case(name: &'static str, run: fn(&Lab) -> anyhow::Result<()>) -> Case {
    Case {
        name,
        holds: Holds::Everywhere,
        run,
    }
}

const fn only(
    home: Home,
    why: &'static str,
    name: &'static str,
    run: fn(&Lab) -> anyhow::Result<()>,
) -> Case {
    Case {
        name,
        holds: Holds::Only(home, why),
        run,
    }
}

const NO_TRANSACTIONS: &str = "the embedded log has no transactions: nothing of ours needs them";
const NO_KIP_848: &str = "the embedded log has classic groups only, which are librdkafka's default";
const PRODUCER_COMPRESSES: &str = "the embedded log never recompresses, and says so";

/// All cases. Long ones first: several run at a time.
pub const CASES: &[Case] = &[
    case("retention drops what is old", cleanup::retention),
    case("compaction keeps the last of each key", cleanup::compaction),
    case(
        "a static member that dies loses its partitions",
        groups::static_member_dies,
    ),
    case("two members share by range", groups::range),
    case("two members share cooperatively", groups::cooperative),
    case(
        "a static member keeps its partitions over a restart",
        groups::static_member_returns,
    ),
    case("lost replies lead to no duplicates", writing::lost_replies),
    case(
        "eight producers at once keep their order",
        writing::concurrent_producers,
    ),
    case("every codec, idempotent", writing::codecs),
    case("a waiting reader is woken by a write", reading::woken),
    case("metadata names the broker and the cluster", admin::metadata),
    case("topics are created once", admin::create),
    case("wrong topics are refused", admin::create_refused),
    case("topic configuration is described", admin::describe_configs),
    case("topic configuration is altered", admin::alter_configs),
    case("a wrong alteration changes nothing", admin::alter_refused),
    case("partitions are added and never taken away", admin::grow),
    case("a deleted topic comes back empty", admin::delete),
    case("records are deleted up to an offset", admin::delete_records),
    case(
        "a compacted topic refuses deletion of records",
        admin::delete_records_refused,
    ),
    case("a group is deleted with its offsets", admin::delete_group),
    case(
        "an unknown topic is not made by writing to it",
        writing::unknown_topic,
    ),
    case(
        "timestamps, headers, tombstones, null and empty keys",
        writing::shapes,
    ),
    case(
        "a message over the limit is refused, the next is not",
        writing::too_large,
    ),
    case(
        "a compacted topic refuses a record without a key",
        writing::keyless,
    ),
    case("the log can stamp records itself", writing::append_time),
    case("watermarks and seeking to any record", reading::seek),
    case("a position out of range resets", reading::out_of_range),
    case("offsets for times", reading::times),
    case(
        "committed offsets are kept and resumed from",
        reading::commit,
    ),
    case("committed offsets carry metadata", reading::commit_metadata),
    case("a group is listed while it has members", groups::listed),
    case(
        "a stranger may not commit for a group with members",
        groups::stranger,
    ),
    case(
        "too new a version of ApiVersions is told what there is",
        raw::versions,
    ),
    case(
        "an unknown request closes the connection only",
        raw::unknown,
    ),
    case("garbage closes the connection only", raw::garbage),
    case("half a request disturbs nobody", raw::half),
    only(
        Home::Kafka,
        NO_TRANSACTIONS,
        "transactions",
        writing::transactions,
    ),
    only(
        Home::Embedded,
        NO_TRANSACTIONS,
        "transactions are refused",
        writing::no_transactions,
    ),
    only(
        Home::Kafka,
        NO_KIP_848,
        "groups of KIP-848",
        groups::kip_848,
    ),
    only(
        Home::Embedded,
        NO_KIP_848,
        "groups of KIP-848 are refused",
        groups::no_kip_848,
    ),
    only(
        Home::Kafka,
        PRODUCER_COMPRESSES,
        "compression by the broker",
        admin::compression,
    ),
    only(
        Home::Embedded,
        PRODUCER_COMPRESSES,
        "compression.type is refused",
        admin::no_compression,
    ),
];

/// Cases at a time: most of them wait most of their time.
const AT_ONCE: usize = 6;
/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run went.
#[derive(Debug, Default)]
pub struct Report {
    pub passed: Vec<&'static str>,
    pub failed: Vec<(&'static str, String)>,
    /// By design; with the reason.
    pub left_out: Vec<(&'static str, &'static str)>,
}

/// Runs every case whose name contains `only` and that holds on this home.
///
/// # Panics
/// When a thread cannot be started.
#[must_use]
pub fn run(bootstrap: &str, home: Home, only: &str) -> Report {
    let mut report = Report::default();
    let mut waiting = VecDeque::new();
    for case in CASES.iter().filter(|case| case.name.contains(only)) {
        match case.holds {
            Holds::Only(other, why) if other != home => report.left_out.push((case.name, why)),
            _ => waiting.push_back(case),
        }
    }
    let (waiting, report) = (Mutex::new(waiting), Mutex::new(report));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no panic while held").pop_front();
                    let Some(case) = next else { break };
                    let result = try_case(bootstrap, case);
                    let mut report = report.lock().expect("no panic while held");
                    match result {
                        Ok(()) => report.passed.push(case.name),
                        Err(reason) => report.failed.push((case.name, reason)),
                    }
                }
            });
        }
    });
    report.into_inner().expect("no panic while held")
}

/// Runs one case; a panic or a hang is a failure like any other.
fn try_case(bootstrap: &str, case: &'static Case) -> Result<(), String> {
    let (done, result) = std::sync::mpsc::channel();
    let lab = Lab::new(bootstrap);
    thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| (case.run)(&lab)));
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked: see above")));
        let _ = done.send(result.map_err(|e| format!("{e:#}")));
    });
    result
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err(format!("no end within {PATIENCE:?}")))
}
