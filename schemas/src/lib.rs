//! Weir's words and wire: what every service agrees on, and nothing that does work.
//!
//! - [`time`], [`money`]: exact values.
//! - [`subject`]: what a limit or a decision is about, and the patterns that name many of them.
//! - [`policy`]: limits, windows, levels and modes, checked once and trusted after.
//! - [`orders`]: what commands changed of them for single subjects, and which numbers hold for whom.
//! - [`topic`]: every topic as a typed constant; [`partition`] says where a key lives.
//! - [`record`]: the records of each topic, one Avro schema each; [`codec`] turns them into bytes and back.
//! - [`cloudevents`]: JSON events from outside, read into records.
//! - [`access`]: keys and callers. [`api`]: every call over HTTP, who may make it, and its OpenAPI description. [`address`]: one form for client addresses. [`problem`]: errors as HTTP answers tell them.
//!
//! No tokio, no I/O, no clock. `apache-avro` is named here and nowhere else.

pub mod access;
pub mod address;
pub mod api;
pub mod calendar;
pub mod cloudevents;
pub mod codec;
pub mod money;
pub mod orders;
pub mod page;
pub mod partition;
pub mod policy;
pub mod problem;
pub mod record;
pub mod subject;
pub mod time;
pub mod topic;
