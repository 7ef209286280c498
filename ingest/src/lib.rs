//! Takes events over HTTP and puts them in the log.
