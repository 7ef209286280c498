//! The harness of the end-to-end tests: real servers, a real `weir`, and the clients that look at them.
//!
//! Every server belongs to the test that started it, listens on loopback only, and is stopped by its process id (or as
//! a container) when its handle is dropped, also when the test fails. Where a Docker engine answers, servers run as
//! containers; where none does, the installed ones run. What is neither is named by a panic with the command that
//! installs it: no test is ever skipped.

pub mod certificates;
pub mod churn;
pub mod client;
pub mod conformance;
pub mod disorder;
pub mod docker;
pub mod embedded;
pub mod events;
pub mod eventually;
pub mod figures;
pub mod installed;
pub mod kafka;
pub mod metrics;
pub mod pipelined;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod role;
pub mod s3;
pub mod scene;
pub mod setting;
pub mod smtp;
pub mod trace;
pub mod traffic;
pub mod waits;
pub mod wall_clock;
pub mod weir;

pub use eventually::eventually;
pub use setting::setting;
