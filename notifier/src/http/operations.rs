//! What the notifier answers on the management plane.

use schemas::api::{AFTER, Kind, LIMIT, LISTED, Operation, Parameter, READERS, ROWS_AWAY, SUBJECT};

use crate::alert;

/// All of them.
pub const OPERATIONS: &[Operation] = &[Operation::get(
    "/v1/alerts",
    "What was told to people, newest first, and whether it arrived",
    READERS,
)
.with(&[
    SUBJECT,
    Parameter::query(
        "kind",
        Kind::OneOf(&alert::Kind::NAMES),
        "Of one kind only",
        "hard",
    ),
    LIMIT,
    AFTER,
])
.answering(&[LISTED])
.refusing(&[ROWS_AWAY])];
