//! What the aggregator answers on the management plane.

use schemas::api::{
    AFTER, Answer, Kind, LIMIT, LISTED, Operation, Parameter, READERS, ROWS_AWAY, SUBJECT,
};

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    Operation::get("/v1/usage", "Sums of usage, by time and dimension", READERS)
        .with(&[
            SUBJECT,
            METER,
            FROM,
            TO,
            Parameter::query(
                "step",
                Kind::Text,
                "Width of a point: a span such as `60s`, `5m`, `1h`, `1d`",
                "60s",
            ),
            Parameter::query(
                "group_by",
                Kind::Text,
                "Dimensions to tell apart, with commas between them",
                "key,model",
            ),
        ])
        .answering(&[Answer::OK.or(&["application/json", "text/csv"])])
        .refusing(&[ROWS_AWAY]),
    Operation::get(
        "/v1/limits",
        "Each limit that applies to a subject: used, max, mode, reset, where it comes from, and when it is reached; of a wallet its balance",
        READERS,
    )
    .with(&[SUBJECT.required()])
    .refusing(&[ROWS_AWAY]),
    Operation::get(
        "/v1/signals",
        "Crossings as published, oldest first",
        READERS,
    )
    .with(&[
        SUBJECT,
        Parameter::query("limit", Kind::Text, "A limit's name", "tokens-a-minute"),
        Parameter::query(
            "level",
            Kind::Text,
            "A level's name: `hard`, or a soft one as the policy has it",
            "hard",
        ),
        Parameter::query(
            "direction",
            Kind::OneOf(&["up", "down"]),
            "Which way the sum went",
            "up",
        ),
        Parameter::query("page_size", Kind::Whole, "Entries of a page, at most", "10"),
        AFTER,
    ])
    .answering(&[LISTED])
    .refusing(&[ROWS_AWAY]),
    Operation::get(
        "/v1/spread",
        "How many different ids came with another, the most first, counted with a stated error",
        READERS,
    )
    .with(&[
        Parameter::query(
            "of",
            Kind::OneOf(&["source", "account", "user"]),
            "What is counted",
            "source",
        )
        .required(),
        Parameter::query(
            "per",
            Kind::OneOf(&["account", "source", "key"]),
            "For each of which",
            "account",
        )
        .required(),
        FROM,
        TO,
        SUBJECT,
        LIMIT,
        AFTER,
    ])
    .answering(&[LISTED])
    .refusing(&[ROWS_AWAY]),
    Operation::get("/v1/top", "Who uses most, with a stated error", READERS)
        .with(&[
            Parameter::query("by", Kind::OneOf(&["user", "source"]), "Who", "user").required(),
            Parameter::query(
                "meter",
                Kind::OneOf(&["requests", "cost"]),
                "Of what",
                "requests",
            )
            .required(),
            FROM,
            TO,
            SUBJECT,
            LIMIT,
            AFTER,
        ])
        .answering(&[LISTED])
        .refusing(&[ROWS_AWAY]),
    Operation::get(
        "/v1/refusals",
        "What gateways refused, newest first",
        READERS,
    )
    .with(&[SUBJECT, LIMIT, AFTER])
    .answering(&[LISTED])
    .refusing(&[ROWS_AWAY]),
    Operation::get(
        "/v1/csp/groups",
        "Violations by directive and blocked host",
        READERS,
    )
    .with(&[SUBJECT, LIMIT, AFTER])
    .answering(&[LISTED])
    .refusing(&[ROWS_AWAY]),
];

const METER: Parameter = Parameter::query(
    "meter",
    Kind::Text,
    "What is summed: `requests`, `tokens`, `cost` (pico-dollars), …, or a unit of your own",
    "requests",
)
.required();
const FROM: Parameter =
    Parameter::query("from", Kind::Time, "From then on", "2026-11-21T00:00:00Z");
const TO: Parameter = Parameter::query(
    "to",
    Kind::Time,
    "Until before then",
    "2026-11-22T00:00:00Z",
);
