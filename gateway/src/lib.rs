//! Decisions in memory and a local answer for each request.
