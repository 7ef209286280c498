//! Turns crossings into decisions, and owns the policy.

mod alert;
mod decide;
mod decision;
pub mod policy;
