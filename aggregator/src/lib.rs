//! Counts events in exact windows and says when a limit is crossed. Keeps what was used per minute, and answers queries.
//!
//! # The path of one event
//!
//! 1. `run` gets a batch of one partition. Each (topic, partition) of the events and of the partials is a *shard*.
//! 2. `wire` reads each record: Avro, or a JSON CloudEvent. What nobody can read goes to `weir.dead.v1`.
//! 3. `engine`, a pure value, takes the record and says what became of it and what follows.
//! 4. `shard` hands what follows to the log: crossings and new groups of reports at once, sums for wider scopes with
//!    each batch, usage per minute a few times a second, sketches every few seconds.
//! 5. `snapshot` keeps the state and the next offset together, once the log has acknowledged all that was said before.
//! 6. `recorder` follows usage, sketches, crossings and refusals into the `store`, which `http` asks.
//!
//! # What holds
//!
//! **Results are a fold of the log.** An engine has no clock and does no I/O. Whatever changes results enters as a
//! record: events; a change of policy, as a marker in every partition; time, as the append time that the log gives each
//! record. So every run of one log says the same things with the same ids, however it is cut into batches and wherever
//! it was killed. Told values are absolute or have an id, so that hearing one twice changes nothing.
//!
//! **Every record is accounted for.** accepted = counted + late + duplicate + dead, in every shard, after every record
//! (asserted; on `/metrics`; kept by snapshots). In the order of the checks:
//! - *dead*: nobody can read it, or an event's time lies more than 5 min ahead of its append time;
//! - *moved* (not accepted here): its tenant belongs to another partition, where it is sent as it is;
//! - *duplicate*: its tenant, source and id were seen in the last 24 h of append time (`seen`);
//! - *late*: it lies more than 10 min behind its tenant's newest event. It changes no window and no total;
//! - *counted*: everything else.
//!
//! **Time is a tenant's own** (`owner`). Its newest event decides what is late. While nothing comes, its clock goes on
//! with append time, keeping the most that its events were ever ahead; what stands on its counters falls when the clock
//! has passed the moment by the lateness. One tenant's wrong clock, or a replay of old events, changes nobody else's
//! results. Where a partition is quiet and something is about to fall, the loop writes a tick, whose append time is all
//! it says: time passes by record, and never faster than it does.
//!
//! **Windows** (`window`), in integers throughout:
//! - *sliding*: slices of 1 s, 1 min or 1 h. The head slice H is the newest that the counter has seen, or to which time
//!   has passed; the slices H-n..=H count, n being the window's length, so that no span of that length ever holds
//!   more than the limit. An event before them counts in totals only; one among them is added where it belongs, and
//!   may cross.
//! - *bucket*: drains exactly, to the microsecond; what comes out of order is added where the bucket is.
//! - *calendar*: day, week from Monday or Sunday, month in the tenant's zone; days of 23 and 25 hours are what they are.
//!
//! **Crossings** (`counter`): a level stands from the event that takes the sum from below its threshold to it or
//! above, until the sum falls below. Up is told with the moment at which it falls if nothing more comes; down with the
//! moment at which it fell, as soon as a later event of the subject comes or the tenant's clock has passed it. A hard
//! level that comes to stand longer is told again under the same id, when that is by an eighth of what is left of what
//! was told, and before it ends: gateways block until then. All modes are counted alike.
//!
//! **A change of policy** holds from its marker on. Limits with the same pattern, meter and window share their counters
//! (`plan`), which outlive any other change. Levels that no longer stand go down and levels that now do go up, at the
//! policy's time, judged by what the clock, less the lateness, has left in the window; one that stands with another
//! threshold goes up again, since it falls at another moment now.
//!
//! **Scopes wider than a tenant** (`partial`): shards of events tell their sums per slice, absolute; the shard of the
//! scope replaces what it knew of each origin by what is newer, and counts the difference at the slice's start.
//!
//! **What is not exact says so** (`sketch`): how many different sources came with an account, accounts with a source and
//! users with a key, and who uses most, by hour of event time. Each has a stated error; none feeds a limit.
//!
//! **Memory is bounded by what can still change** (`engine::Engine::forget`), and by a number of bytes (`room`), which
//! decides alike in every run of one log. A minute's cell and a counter go when the tenant's time has passed them, which
//! changes nothing that is ever told. A tenant that is silent for a day has its newest minute closed. What stays is a
//! few hundred bytes for each tenant that ever came. Counters and cells lie in one piece of memory per tenant and shard,
//! packed (`dense`, `window`): a subject with one window takes some 140 bytes, and two more for each slice that does not
//! find room in them.

#[doc(hidden)]
pub mod bare;
mod config;
mod counter;
mod dense;
mod engine;
mod event;
mod groups;
mod http;
mod ledger;
mod metrics;
#[cfg(test)]
mod model;
mod owner;
mod partial;
mod past;
mod plan;
mod recorder;
mod replay;
mod rollup;
mod room;
mod rules;
mod run;
mod seen;
mod service;
mod shard;
mod sketch;
mod snapshot;
mod store;
mod window;
mod wire;

pub use config::{Config, ConfigError, RollupDimension, Sketched};
pub use http::OPERATIONS;
pub use ledger::Ledger;
pub use replay::{EVENT_TOPICS, Found, LevelSummary, RefusedSummary, Replay, ReplayError, Summary};
pub use service::{BuildError, Deps, RunError, Service};
pub use snapshot::{PlaceError, S3, S3Error, SnapshotPlace, SnapshotsError, snapshot_offsets};
