//! `weir`: every service in one binary.
fn main() {}
