//! The parts of the `weir` binary: command line, configuration, supervision, HTTP planes and the demo. Everything
//! that counts or decides lives in the services; this crate starts them, joins them and stops them in order.

pub mod cli;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod folder;
pub mod plane;
pub mod process;
pub mod serve;
pub mod store;
pub mod supervise;
pub mod telemetry;
