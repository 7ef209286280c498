//! What ingest answers on the data plane.

use schemas::api::{Answer, Body, Operation, Parameter, Plane};
use schemas::record::Role;

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    Operation::get("/v1/events", "Takes events whole or refuses them whole", &[Role::Ingest])
        .on(Plane::Data)
        .taking(
            "POST",
            Some(Body {
                media_types: &[
                    "application/cloudevents+json",
                    "application/cloudevents-batch+json",
                    "application/x-ndjson",
                    "application/json",
                ],
                what: "CloudEvents 1.0: one, a batch, one a line, or with `ce-` headers; `Content-Encoding: gzip` or `zstd`",
            }),
        )
        .answering(&[Answer::json(202, "How many were taken: the log has acknowledged each")])
        .refusing(&[
            Answer::problem(403, "The key may not report, or not for this tenant"),
            Answer::problem(413, "The body is too large"),
            Answer::problem(415, "None of the types that are taken"),
            Answer::problem(422, "An event cannot be taken, and so none was; `errors` names each and its field"),
            Answer::problem(503, "The log is away; `Retry-After` says when to try again"),
        ]),
    Operation::get("/v1/csp/{token}", "Takes a browser's reports of violations", &[])
        .on(Plane::Data)
        .with(&[Parameter::path("token", "Names the tenant; no secret", "acme")])
        .taking(
            "POST",
            Some(Body {
                media_types: &["application/csp-report", "application/reports+json"],
                what: "A report, or several of the Reporting API",
            }),
        )
        .answering(&[Answer::empty(204, "Taken")])
        .refusing(&[
            Answer::problem(404, "The token names no tenant"),
            Answer::problem(413, "The body is too large"),
            Answer::problem(415, "Neither of the two types"),
            Answer::problem(503, "The log is away; `Retry-After` says when to try again"),
        ]),
];
