//! End-to-end tests: one target, linked once.
