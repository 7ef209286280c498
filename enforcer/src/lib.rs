//! Turns crossings into decisions, and owns the policy.

pub mod policy;
