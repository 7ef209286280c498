//! Counts events in exact windows and says when a limit is crossed.
mod counter;
mod engine;
mod event;
mod groups;
mod http;
mod ledger;
#[cfg(test)]
mod model;
mod owner;
mod partial;
mod plan;
mod recorder;
mod rollup;
mod seen;
mod store;
mod window;
