//! What the gateway answers on the data plane.

use schemas::api::{Answer, Body, JSON, Kind, Operation, Parameter, Plane};
use schemas::record::Role;

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    Operation::get(
        "/v1/check",
        "Whether a call may be made; counts it when it may",
        ROLES,
    )
    .on(Plane::Data)
    .taking(
        "POST",
        Some(Body {
            media_types: JSON,
            what: "Who calls, and what the call will use; all may be left out but one identity",
        }),
    )
    .answering(&[Answer::json(200, "The verdict, whatever it is")])
    .refusing(&[
        Answer::problem(413, "The body is too large"),
        Answer::problem(415, "The body is not JSON"),
    ]),
    FORWARD_AUTH,
    Operation {
        method: "POST",
        ..FORWARD_AUTH
    },
    Operation::get(
        "/v1/reservations",
        "Holds an estimate under all limits of a call, or under none",
        ROLES,
    )
    .on(Plane::Data)
    .taking(
        "POST",
        Some(Body {
            media_types: JSON,
            what: "Who calls, as for a check, with `estimate` and `ttl_s`",
        }),
    )
    .answering(&[Answer::json(201, "It is held: its id, and until when")])
    .refusing(NOT_HELD),
    Operation::get(
        "/v1/reservations/{id}/commit",
        "Counts what was really used, in place of the estimate",
        ROLES,
    )
    .on(Plane::Data)
    .with(RESERVATION)
    .taking(
        "POST",
        Some(Body {
            media_types: JSON,
            what: "What was used: `{\"actual\": {\"tokens\": 500}}`",
        }),
    )
    .refusing(&[Answer::problem(
        503,
        "It is counted, and not yet in the log: commit again, it counts once",
    )]),
    Operation::get("/v1/reservations/{id}", "Gives back what is held", ROLES)
        .on(Plane::Data)
        .with(RESERVATION)
        .taking("DELETE", None)
        .refusing(&[Answer::problem(404, "There is none of this id here")]),
    Operation::get("/v1/key", "What this key is, may do, and when it ends", ALL).on(Plane::Data),
];

/// Who may ask for checks.
pub(super) const ROLES: &[Role] = &[Role::Ingest, Role::Gateway];
/// Whoever has a key may ask what it is.
const ALL: &[Role] = &[
    Role::Ingest,
    Role::Gateway,
    Role::Operator,
    Role::Auditor,
    Role::Tenant,
];

const FORWARD_AUTH: Operation = Operation::get(
    "/v1/forward-auth",
    "The same for proxies, by any method: answers as the call itself is to be answered",
    ROLES,
)
.on(Plane::Data)
.with(&[
    identity("X-Weir-Tenant", "acme"),
    identity("X-Weir-Key", "k_1"),
    identity("X-Weir-User", "u_9"),
    identity("X-Weir-Route", "POST /v1/chat"),
    identity("X-Weir-Provider", "openai"),
    identity("X-Weir-Model", "gpt-4o"),
    identity("X-Weir-Source", "203.0.113.7"),
    identity("X-Weir-Account", "alice"),
    identity("X-Weir-Action", "export"),
    Parameter::query(
        "deny_status",
        Kind::Whole,
        "The status of every refusal, for a proxy that knows few; the true one is in `X-Weir-Status`",
        "403",
    ),
])
.answering(&[Answer::empty(200, "It may be made")])
.refusing(&[
    Answer::problem(402, "A wallet is empty"),
    Answer::problem(403, "It is refused, or the key may not ask"),
    Answer::problem(429, "A limit is reached; `Retry-After` says for how long"),
    Answer::problem(503, "What is known is too old, and a limit chose to be closed then"),
]);

const fn identity(header: &'static str, example: &'static str) -> Parameter {
    Parameter::query(header, Kind::Text, "Who calls, or what is called", example).in_header()
}

const RESERVATION: &[Parameter] = &[Parameter::path("id", "Its id, as it was given", "…")];
const NOT_HELD: &[Answer] = &[
    Answer::problem(402, "A wallet is empty"),
    Answer::problem(403, "It is refused, or the key may not ask"),
    Answer::problem(409, "The reservation of this `request_id` has ended"),
    Answer::problem(429, "A limit is reached; `Retry-After` says for how long"),
    Answer::problem(503, "The ledger cannot be relied on now"),
];
