//! The enforcer on the embedded log, from outside: a policy file, signals in, decisions and alerts out.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

mod commands;
mod home;
mod policy;
mod signals;
mod versions;
