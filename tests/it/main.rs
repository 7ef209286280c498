//! End-to-end tests: one target, linked once.

mod harness;
