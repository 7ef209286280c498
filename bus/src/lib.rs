//! The log as Weir's services see it: typed producer, batch consumer, follower, topics and the clock.
//!
//! - [`Bus::connect`] waits for the log, makes and checks every topic of [`schemas::topic::ALL`].
//! - [`producer`]: one idempotent producer; a send resolves at the log's acknowledgement.
//! - [`consumer`]: batches of the partitions that a group gave this member, with a clean hand-over.
//! - [`follow`]: a compacted topic from its start to now, and on.
//! - [`inspect`]: the log as tools see it: any topic, as it is.
//! - [`clock`]: the only reader of the wall clock. [`metrics`]: what all of it counts.
//!
//! What holds for all of it:
//!
//! - A record is in the log only once its [`Delivery`] says so. One that timed out may be there as well, so every
//!   record needs an id, or an absolute value, by which a second copy does no harm.
//! - Reading is at least once. [`Start::Stored`] lets a service keep offsets beside its state, which makes it exactly
//!   once; an offset that the log does not have ends the reader instead of skipping or counting twice.
//! - When the log is away everything waits, is bounded, and goes on by itself; [`Bus::available`] and
//!   [`Followed::Lost`] say so meanwhile.
//! - A right that the log withholds is told once, shown by [`Bus::denials`] while it lasts, and found again by itself.
//!   What the client library cannot get over comes out of [`Bus::failure`], and the process must end.
//! - No text, `Debug` or log line shows a password.
//! - What ends a reader comes as its last event. What passes by itself is logged and counted.
//!
//! The only crate that names `rdkafka`. Its `StreamConsumer` is not used (it can stop waking); every reader has a
//! thread of its own that polls.

mod access;
pub mod clock;
mod config;
mod connect;
pub mod consumer;
mod error;
mod filler;
pub mod follow;
mod health;
pub mod inspect;
mod layout;
mod logging;
pub mod metrics;
pub mod producer;
mod record;
mod statistics;

pub use access::{Denial, Right};
pub use config::{Compression, Config, Mechanism, Sasl, Secret, Settings, Tls};
pub use connect::Bus;
pub use consumer::{Assigned, Consumer, Event, Revoked, Start, Subscription};
pub use error::{BusError, SendError};
pub use filler::FILLER;
pub use follow::{Followed, Follower};
pub use metrics::Metrics;
pub use producer::{Delivery, Producer};
pub use record::{Batch, Headers, Partition, Position, RawRecord, Record};
