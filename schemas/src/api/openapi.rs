//! The table of operations as an OpenAPI 3.1 description.

use serde_json::{Map, Value, json};

use super::{Answer, Body, Kind, Operation, Parameter, Place, Plane};

/// Describes `operations`. Each has `x-weir-roles`: whose keys may call it.
#[must_use]
pub fn describe<'a>(operations: impl IntoIterator<Item = &'a Operation>, version: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        let method = operation.method.to_ascii_lowercase();
        path[method] = of(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir",
            "version": version,
            "summary": "Counts usage, decides, and answers checks",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": tag(Plane::Data), "description": "Takes events and answers checks (127.0.0.1:8080 unless set otherwise)"},
            {"name": tag(Plane::Management), "description": "Queries, policy and orders (127.0.0.1:8081 unless set otherwise)"},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key or token, as `weir key create` makes it",
                },
            },
            "schemas": {"Problem": problem_schema()},
        },
    })
}

const fn tag(plane: Plane) -> &'static str {
    match plane {
        Plane::Data => "data plane",
        Plane::Management => "management plane",
    }
}

fn of(operation: &Operation) -> Value {
    let parameters = operation.parameters.iter().map(parameter);
    let roles = operation.roles.iter().map(|role| role.name());
    let mut described = json!({
        "operationId": operation_id(operation),
        "summary": operation.summary,
        "tags": [tag(operation.plane)],
        "x-weir-roles": roles.collect::<Vec<_>>(),
        "security": security(operation),
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": responses(operation),
    });
    if let Some(Body { media_types, what }) = operation.body {
        described["requestBody"] = json!({
            "required": true,
            "description": what,
            "content": content(media_types),
        });
    }
    described
}

/// `get_v1_decisions_id`: the same as long as method and path are.
fn operation_id(operation: &Operation) -> String {
    let words = operation.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!(
        "{}_{}",
        operation.method.to_ascii_lowercase(),
        words.join("_")
    )
}

fn security(operation: &Operation) -> Value {
    match operation.roles {
        [] => json!([]),
        _ => json!([{"key": []}]),
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let place = match parameter.place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    let schema = match parameter.kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Whole => json!({"type": "integer"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::OneOf(choices) => json!({"type": "string", "enum": choices}),
    };
    let mut described = json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.required,
        "description": parameter.what,
        "schema": schema,
    });
    if !parameter.example.is_empty() {
        described["example"] = parameter.example.into();
    }
    described
}

fn responses(operation: &Operation) -> Value {
    const BAD: Answer = Answer::problem(
        400,
        "Something in the request cannot be taken; `errors` says what",
    );
    const NO_KEY: Answer = Answer::problem(
        401,
        "No key, or one that is unknown, revoked or past its end",
    );
    const NOT_THIS_KEY: Answer = Answer::problem(403, "The key may not do this");
    let takes_something = !operation.parameters.is_empty() || operation.body.is_some();
    let asks = !operation.roles.is_empty();
    let implied = [(takes_something, BAD), (asks, NO_KEY), (asks, NOT_THIS_KEY)];
    let implied = implied.into_iter().filter(|(is_so, _)| *is_so);
    let own = operation.answers.iter().chain(operation.problems).copied();
    let mut responses = Map::new();
    // Its own word on a status comes last, and stays.
    for answer in implied.map(|(_, answer)| answer).chain(own) {
        let mut described = json!({"description": answer.what});
        if !answer.media_types.is_empty() {
            described["content"] = content(answer.media_types);
        }
        responses.insert(answer.status.to_string(), described);
    }
    Value::Object(responses)
}

fn content(media_types: &[&str]) -> Value {
    let described = media_types.iter().map(|media_type| {
        let schema = match *media_type {
            "application/problem+json" => json!({"$ref": "#/components/schemas/Problem"}),
            json if json.ends_with("json") => json!({}),
            _ => json!({"type": "string"}),
        };
        ((*media_type).to_owned(), json!({"schema": schema}))
    });
    Value::Object(described.collect())
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "Problem details (RFC 9457)",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::{READERS, SUBJECT};
    use super::*;

    const LIST: Operation = Operation::get("/v1/things/{id}", "A thing", READERS).with(&[
        Parameter::path("id", "Its id", "7"),
        SUBJECT,
        Parameter::query("sort", Kind::OneOf(&["up", "down"]), "In which order", "up"),
    ]);

    #[track_caller]
    fn check(operation: &Operation, pointer: &str, expected: Value) {
        let described = describe([operation], "1.0.0");
        let found = described.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{pointer} in {described:#}");
    }

    #[test]
    fn says_what_a_call_takes_and_answers() {
        let at = |rest: &str| format!("/paths/~1v1~1things~1{{id}}/{rest}");
        check(&LIST, &at("get/operationId"), "get_v1_things_id".into());
        check(&LIST, &at("get/parameters/0/in"), "path".into());
        check(&LIST, &at("get/parameters/0/required"), true.into());
        check(&LIST, &at("get/parameters/1/required"), false.into());
        check(
            &LIST,
            &at("get/parameters/2/schema/enum"),
            json!(["up", "down"]),
        );
        check(
            &LIST,
            &at("get/x-weir-roles"),
            json!(["operator", "auditor", "tenant"]),
        );
        check(&LIST, &at("get/security"), json!([{"key": []}]));
        check(
            &LIST,
            &at("get/responses/401/content/application~1problem+json/schema/$ref"),
            "#/components/schemas/Problem".into(),
        );
        check(&LIST, &at("get/requestBody"), Value::Null);
    }

    #[test]
    fn a_call_without_a_key_says_so() {
        let open = Operation::get("/live", "Whether it lives", &[]);
        check(&open, "/paths/~1live/get/security", json!([]));
        check(&open, "/paths/~1live/get/responses/401", Value::Null);
        let sends = open.taking(
            "POST",
            Some(Body {
                media_types: &["application/json", "application/x-ndjson"],
                what: "Events",
            }),
        );
        check(
            &sends,
            "/paths/~1live/post/requestBody/content",
            json!({"application/json": {"schema": {}}, "application/x-ndjson": {"schema": {}}}),
        );
    }
}
