//! What the enforcer answers on the management plane.

use schemas::api::{
    AFTER, Answer, Body, JSON, Kind, LIMIT, LISTED, LOG_AWAY, OPERATORS, OVERSEERS, Operation,
    Parameter, READERS, ROWS_AWAY, SUBJECT,
};

use schemas::record::Role;

use crate::command::KINDS;

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
    .answering(&[LISTED])
    .refusing(&[ROWS_AWAY]),
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
        ROWS_AWAY,
    ]),
    Operation::get(
        "/v1/decisions/{id}/explanation",
        "Why it was decided, from the log alone: by which number of which version, on which events, and who touched it since",
        READERS,
    )
    .with(&[
        Parameter::path("id", "Its id", "1b4e28ba-2fa1-5d3b-883f-0016d3cca427"),
        Parameter::query("events", Kind::Whole, "Events shown of each cause, at most; 20 unless given, up to 1000", "20"),
    ])
    .refusing(&[
        Answer::problem(404, "There is none of this id that the caller may see"),
        Answer::problem(410, "The log no longer has what it came of"),
        LOG_AWAY,
    ]),
    Operation::get(
        "/v1/commands",
        "What was ordered, by whom, when and why, newest first",
        READERS,
    )
    .with(&[
        SUBJECT,
        Parameter::query(
            "kind",
            Kind::OneOf(&KINDS),
            "Only commands of this kind",
            "raise",
        ),
        LIMIT,
        AFTER,
    ])
    .answering(&[LISTED])
    .refusing(&[ROWS_AWAY]),
    Operation::get(
        "/v1/commands",
        "Orders something about one subject, and answers with it once the log has it",
        OPERATORS,
    )
    .with(&[Parameter::query(
        "Idempotency-Key",
        Kind::Text,
        "The sender's own id for the command, as `id` in the body: sent again, it is still one",
        "launch-1",
    )
    .in_header()])
    .taking(
        "POST",
        Some(Body {
            media_types: JSON,
            what: "`{\"kind\": \"raise\", \"subject\": \"tenant/acme\", \"limit\": \"tokens-a-minute\", \"hard\": 120000, \"for\": \"2h\", \"reason\": \"…\"}`, \
                   `{\"kind\": \"clear\", \"subject\": \"tenant/acme\", \"limit\": \"tokens-a-minute\", \"reason\": \"…\"}`, \
                   `{\"kind\": \"top_up\", \"subject\": \"tenant/acme/user/u_9\", \"amount\": \"5 USD\", \"id\": \"invoice-7\", \"reason\": \"…\"}`",
        }),
    )
    .answering(&[Answer::json(201, "The command, with its id")])
    .refusing(&[
        Answer::problem(409, "Another command has this id"),
        Answer::problem(
            422,
            "Nothing that can be ordered; `errors` says what is wrong, and where",
        ),
        LOG_AWAY,
    ]),
    Operation::get(
        "/v1/requests",
        "What tenants asked for, and what they were answered, newest first",
        READERS,
    )
    .with(&[
        SUBJECT,
        Parameter::query(
            "state",
            Kind::OneOf(&["open", "approved", "declined"]),
            "Only requests of which this has come",
            "open",
        ),
        LIMIT,
        AFTER,
    ])
    .answering(&[LISTED])
    .refusing(&[ROWS_AWAY]),
    Operation::get(
        "/v1/requests",
        "Asks that a limit have another number; one that is open already and asks for the same is answered again",
        &[Role::Operator, Role::Tenant],
    )
    .taking(
        "POST",
        Some(Body {
            media_types: JSON,
            what: "`{\"subject\": \"tenant/acme\", \"limit\": \"tokens-a-minute\", \"hard\": 120000, \"for\": \"2h\", \"reason\": \"…\"}`",
        }),
    )
    .answering(&[Answer::json(201, "The request, with its id")])
    .refusing(&[
        Answer::problem(
            422,
            "Nothing that can be asked for; `errors` says what is wrong, and where",
        ),
        Answer::problem(429, "Too many requests of the tenant wait for an answer"),
        LOG_AWAY,
    ]),
    Operation::get(
        "/v1/policy",
        "The policy in force, and the last edit of the file that was refused",
        OVERSEERS,
    )
    .answering(AS_TOML),
    Operation::get(
        "/v1/policy",
        "Makes the body the next version of the policy, and answers with it once the log has it",
        OPERATORS,
    )
    .with(&[
        Parameter::query("reason", Kind::Text, "Why it is changed", "launch day").required(),
        IF_MATCH,
    ])
    .taking(
        "PUT",
        Some(Body {
            media_types: &["application/toml", "application/json"],
            what: "The policy, as in its file; JSON has the same shape, and is kept as TOML",
        }),
    )
    .refusing(CHANGED),
    Operation::get(
        "/v1/policy/versions",
        "Each version of the policy, newest first",
        OVERSEERS,
    )
    .with(&[
        LIMIT,
        Parameter::query(
            "after",
            Kind::Whole,
            "The last version of the page before",
            "2",
        ),
    ])
    .answering(&[LISTED]),
    Operation::get(
        "/v1/policy/versions/{version}",
        "A version of the policy",
        OVERSEERS,
    )
    .with(&[Parameter::path("version", "Its number", "1")])
    .answering(AS_TOML)
    .refusing(&[
        Answer::problem(404, "There is none of this number"),
        LOG_AWAY,
    ]),
    Operation::get(
        "/v1/policy/diff",
        "What changed between two versions of the policy",
        OVERSEERS,
    )
    .with(&[
        Parameter::query(
            "from",
            Kind::Whole,
            "The older; the one before `to` when left out",
            "1",
        ),
        Parameter::query(
            "to",
            Kind::Whole,
            "The newer; the one in force when left out",
            "1",
        ),
    ])
    .refusing(&[LOG_AWAY]),
    Operation::get(
        "/v1/policy/rollback",
        "Makes the text of an older version the next version of the policy",
        OPERATORS,
    )
    .with(&[IF_MATCH])
    .taking(
        "POST",
        Some(Body {
            media_types: JSON,
            what: "`{\"version\": 7, \"reason\": \"…\"}`",
        }),
    )
    .refusing(CHANGED),
];

const AS_TOML: &[Answer] = &[Answer::OK.or(&["application/json", "application/toml"])];
const IF_MATCH: Parameter = Parameter::query(
    "If-Match",
    Kind::Text,
    "The version in quotes that it was read at: another one in force by now is a 412",
    "\"7\"",
)
.in_header();
const CHANGED: &[Answer] = &[
    Answer::problem(412, "The policy in force is none of those in `If-Match`"),
    Answer::problem(415, "Neither TOML nor JSON"),
    Answer::problem(
        422,
        "The policy cannot be obeyed; `errors` says what is wrong, and where",
    ),
    LOG_AWAY,
];
