//! A small single-node log that speaks Kafka's protocol, for one process on one machine.
