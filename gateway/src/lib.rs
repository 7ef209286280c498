//! Decisions in memory and a local answer for each request.
//!
//! A check asks no one: it looks up the decisions that stand ([`cache`]) and the gateway's own exact count of what it
//! admitted ([`window`]), by the policy ([`plan`]) and what was ordered since (`orders`), and merges both ([`check`]). Around that pure core, from the outside in:
//!
//! - [`layer`]: a tower layer for Rust services. `http`: the check endpoints for all others, reading with [`ask`],
//!   answering with [`json`] and [`headers`].
//! - [`handle`]: one gateway, shared by all of them: remembers admissions by request id ([`recent`]) and leaves what
//!   it judged to be reported ([`reports`]).
//! - [`ledger`]: what is reserved and spent under limits in mode `strict`, with [`reservation`]s that say by their ids
//!   what they hold.
//! - `share`: how limits are shared with the other gateways on the log.
//! - `run`: follows decisions and policy from the log into memory, and reports. `redis`: mirrors decisions.
//!
//! [`DryRun`] is all of that without a log, on a clock that is told, for those who try a policy out.
//!
//! No check ever waits for the log, or fails because it is away: the answer says how old the view is instead.

pub mod ask;
pub mod cache;
pub mod check;
mod config;
mod dry_run;
pub mod handle;
pub mod hash;
pub mod headers;
mod http;
pub mod json;
pub mod layer;
pub mod ledger;
mod metrics;
mod orders;
mod place;
pub mod plan;
pub mod recent;
mod redis;
pub mod reply;
pub mod reports;
pub mod request;
pub mod reservation;
mod run;
mod share;
pub mod window;
mod wire;

pub use config::{Config, ConfigError};
pub use dry_run::DryRun;
pub use handle::Handle;
pub use http::OPERATIONS;
pub use layer::{CallBody, RequestId, WeirLayer};
pub use run::{BuildError, Deps, RunError, Service};
