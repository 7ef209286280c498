//! What the enforcer answers on the management plane.

use schemas::api::{
    AFTER, Answer, JSON, Kind, LIMIT, OVERSEERS, Operation, Parameter, READERS, SUBJECT,
};

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    Operation::get(
        "/v1/decisions",
        "What stands and what stood, newest first",
        READERS,
    )
    .with(&[
        SUBJECT,
        Parameter::query(
            "standing",
            Kind::Flag,
            "Only what stands, or only what does not",
            "true",
        ),
        LIMIT,
        AFTER,
    ])
    .answering(&[Answer {
        status: 200,
        media_types: JSON,
        what: "One page; a `Link` header with `rel=\"next\"` leads to the next",
    }])
    .refusing(&[AWAY]),
    Operation::get(
        "/v1/decisions/{id}",
        "One decision, with its causes and their evidence",
        READERS,
    )
    .with(&[Parameter::path(
        "id",
        "Its id",
        "1b4e28ba-2fa1-5d3b-883f-0016d3cca427",
    )])
    .refusing(&[
        Answer::problem(404, "There is none of this id that the caller may see"),
        AWAY,
    ]),
    Operation::get(
        "/v1/policy",
        "The policy in force, and the last edit that was refused",
        OVERSEERS,
    ),
];

const AWAY: Answer = Answer::problem(
    503,
    "Rows cannot be read now; `Retry-After` says when to try again",
);
