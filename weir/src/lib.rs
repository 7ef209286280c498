//! The parts of the `weir` binary.
