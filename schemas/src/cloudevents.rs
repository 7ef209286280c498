//! JSON CloudEvents 1.0 from outside, read into records.
