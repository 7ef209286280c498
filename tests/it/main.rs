//! End-to-end tests: one target, linked once.

mod apart;
mod bad_input;
mod bus;
mod cluster;
mod conformance;
mod crash;
mod crash_log;
mod demo;
mod deploy;
mod disk_full;
mod dry_run;
mod faults;
mod gateway;
mod harness;
mod lifecycle;
mod limits;
mod log_tools;
mod notify;
mod pipeline;
mod policy;
mod queries;
mod rebalance;
mod secure;
mod snapshots;
mod tidy;
mod transfer;
