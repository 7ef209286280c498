//! What the notifier answers on the management plane.

use schemas::api::{AFTER, Answer, JSON, Kind, LIMIT, Operation, Parameter, READERS, SUBJECT};

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
        Kind::OneOf(&["soft", "hard", "lifted", "csp_group"]),
        "Of one kind only",
        "hard",
    ),
    LIMIT,
    AFTER,
])
.answering(&[Answer {
    status: 200,
    media_types: JSON,
    what: "One page; a `Link` header with `rel=\"next\"` leads to the next",
}])
.refusing(&[Answer::problem(
    503,
    "Rows cannot be read now; `Retry-After` says when to try again",
)])];
