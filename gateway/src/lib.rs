//! Decisions in memory and a local answer for each request.

pub mod cache;
pub mod calendar;
pub mod check;
pub mod hash;
pub mod plan;
pub mod request;
pub mod window;
