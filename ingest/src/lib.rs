//! Takes events over HTTP and puts them in the log.
//!
//! One request: who is calling (`caller`) → its body, bounded and inflated (`body`) → events, all good or none
//! (`admit`, pure) → one record each, and 202 once the log has acknowledged every one of them (`http`). What stands
//! in the way of that is a `refusal::Refusal`, which alone knows status codes.
//!
//! Nothing is kept here: a crash between acknowledgement and answer makes the client send again, and events are one by
//! `source` and `id`.

mod admit;
mod body;
mod budget;
mod caller;
mod config;
mod http;
mod metrics;
mod refusal;
mod run;
#[cfg(test)]
mod tests;
mod throttle;

pub use config::Config;
pub use http::OPERATIONS;
pub use run::{Deps, Service};
