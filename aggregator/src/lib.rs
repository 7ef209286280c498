//! Counts events in exact windows and says when a limit is crossed.
mod config;
mod counter;
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
mod plan;
mod recorder;
mod rollup;
mod run;
mod seen;
mod service;
mod shard;
mod snapshot;
mod store;
mod window;
mod wire;

pub use config::{Config, ConfigError};
pub use service::{BuildError, Deps, RunError, Service};
