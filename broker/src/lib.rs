//! A small single-node log that speaks Kafka's protocol, for one process on one machine.
//!
//! Any Kafka client can produce to it and consume from it; its data is one folder of plain segment
//! files. It is what an application embeds so that nothing has to be installed, and what a Kafka
//! cluster replaces, without a change of code, when one machine is not enough.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = broker::Broker::open(broker::Config::new("/var/lib/app/log")).await?;
//! println!("bootstrap.servers={}", broker.address());
//! broker.run(async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await?;
//! # Ok(()) }
//! ```
//!
//! What it is not: replicated, clustered, encrypted or authenticated (so it listens on loopback
//! only), and it has no transactions. The README lists the supported APIs.

mod api;
mod broker;
mod clock;
mod config;
mod core;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod lock;
mod log;
mod offsets;
mod producers;
mod server;
mod topics;
mod trouble;
mod verify;

pub use broker::Broker;
pub use config::{Config, Fsync};
pub use error::{OpenError, RunError};
pub use verify::{Finding, PartitionState, Verification, verify};
