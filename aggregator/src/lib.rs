//! Counts events in exact windows and says when a limit is crossed.
