//! Turns crossings into decisions, and owns the policy.
//!
//! - [`policy`]: the file that people write, read whole or refused with every mistake in it. Pure.
//! - `decide`: what stands for each subject, from crossings, policy and time; `alert`: what people are told. Pure.
//! - `watch`, `file`: edits of the file while running. `tell`: writing to the log until it has acknowledged.
//! - `run`: the loop that decides. `recorder`, `store`: the history of decisions, kept beside it.
//! - `explain`: why somebody was refused, from what the log said (pure); `look_back`: reading that.
//! - [`DryRun`]: deciding without a log, for those who try a policy out.
//! - `http`: `/v1/decisions`, `/v1/policy`; `proposal`: a policy on its way from there to the loop. `wire`: records of the log to our own types and back.

mod alert;
mod command;
mod config;
mod decide;
mod decision;
mod dry_run;
mod explain;
mod file;
mod http;
mod look_back;
mod metrics;
pub mod policy;
mod proposal;
mod recorder;
mod run;
mod service;
mod store;
mod tell;
mod watch;
mod wire;

pub use config::{Config, ConfigError};
pub use dry_run::{DryRun, Said};
pub use http::OPERATIONS;
pub use service::{BuildError, Deps, Refusal, RunError, Service};
