//! What is refused, with its reason, and leaves nothing behind.

use super::*;

/// One request that is refused, and nothing of it in the log.
struct Refused {
    what: &'static str,
    request: Request<Body>,
    status: u16,
    /// A part of the problem's detail, and a pointer among its errors.
    detail: &'static str,
    pointer: Option<&'static str>,
}

fn refused(
    what: &'static str,
    request: Request<Body>,
    status: u16,
    detail: &'static str,
) -> Refused {
    Refused {
        what,
        request,
        status,
        detail,
        pointer: None,
    }
}

/// A batch of a good event and a bad one.
fn bad(what: &'static str, data: Value, pointer: &'static str) -> Refused {
    let batch = json!([event("1", "acme", json!({})), event("2", "acme", data)]).to_string();
    let pointer = Some(pointer);
    Refused {
        what,
        request: post("all", BATCH, batch),
        status: 422,
        detail: "",
        pointer,
    }
}

/// The second of two events has an attribute that is not as it should be.
fn bad_attribute(what: &'static str, name: &str, value: Value, pointer: &'static str) -> Refused {
    let mut second = event("2", "acme", json!({}));
    second[name] = value;
    let batch = json!([event("1", "acme", json!({})), second]).to_string();
    let pointer = Some(pointer);
    Refused {
        what,
        request: post("all", BATCH, batch),
        status: 422,
        detail: "",
        pointer,
    }
}

/// A body of `chunks` chunks of a megabyte, made as it is read.
fn endless(chunks: usize) -> Body {
    let chunk = Bytes::from(vec![b' '; 1 << 20]);
    let frames = (0..chunks).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    Body::from_stream(futures_util::stream::iter(frames))
}

fn good_batch() -> String {
    json!([event("1", "acme", json!({}))]).to_string()
}

fn bad_callers() -> Vec<Refused> {
    let good = good_batch();
    let other = json!([
        event("1", "acme", json!({})),
        event("2", "other", json!({}))
    ])
    .to_string();
    let no_key = Request::post("/v1/events").header("content-type", BATCH);
    let no_key = no_key.body(good.clone().into()).unwrap();
    let others = refused("another's", post("acme", BATCH, other), 403, "another's");
    vec![
        refused("no key", no_key, 401, "no key"),
        refused(
            "unknown key",
            post("nobody", BATCH, good.clone()),
            401,
            "unknown",
        ),
        refused(
            "an operator's token",
            post("operator", BATCH, good),
            403,
            "another role",
        ),
        Refused {
            pointer: Some("/1/subject"),
            ..others
        },
    ]
}

async fn bad_bodies() -> Vec<Refused> {
    let good = good_batch();
    let half = gzip(good.as_bytes()).await[..20].to_vec();
    let bomb = vec![b' '; 20_000_000];
    vec![
        refused(
            "text",
            post("all", "text/plain", good.clone()),
            415,
            "text/plain",
        ),
        refused(
            "no ce-",
            post("all", "application/json", good.clone()),
            415,
            "ce-",
        ),
        refused(
            "deflate",
            encoded("deflate", good.clone().into()),
            415,
            "deflate",
        ),
        refused(
            "twice encoded",
            encoded("gzip, zstd", good.clone().into()),
            415,
            "gzip, zstd",
        ),
        refused("no gzip", encoded("gzip", good.clone().into()), 400, "gzip"),
        refused("half a gzip", encoded("gzip", half), 400, "gzip"),
        refused("no zstd", encoded("zstd", good.into()), 400, "zstd"),
        refused(
            "broken JSON",
            post("all", BATCH, "[{\"id\": }]"),
            400,
            "line 1, column",
        ),
        refused("cut JSON", post("all", BATCH, "[{\"id\""), 400, "line 1"),
        refused("no batch", post("all", BATCH, "{}"), 422, "array"),
        refused(
            "100 MB",
            post("all", BATCH, endless(100)),
            413,
            "100000 bytes",
        ),
        refused(
            "gzip bomb",
            encoded("gzip", gzip(&bomb).await),
            413,
            "inflates",
        ),
        refused(
            "zstd bomb",
            encoded("zstd", zstd(&bomb).await),
            413,
            "inflates",
        ),
    ]
}

fn bad_events() -> Vec<Refused> {
    vec![
        bad(
            "a word as a number",
            json!({ "input_tokens": "7" }),
            "/1/data/input_tokens",
        ),
        bad(
            "a negative number",
            json!({ "input_tokens": -1 }),
            "/1/data/input_tokens",
        ),
        bad(
            "a huge number",
            json!({ "output_tokens": 1e300 }),
            "/1/data/output_tokens",
        ),
        bad("a fraction", json!({ "requests": 0.5 }), "/1/data/requests"),
        bad(
            "negative money",
            json!({ "cost_usd": "-1" }),
            "/1/data/cost_usd",
        ),
        bad(
            "no money",
            json!({ "cost_usd": "free" }),
            "/1/data/cost_usd",
        ),
        bad(
            "a misspelt field",
            json!({ "prompt_tokens": 7 }),
            "/1/data/prompt_tokens",
        ),
        bad_attribute("no tenant", "subject", Value::Null, "/1/subject"),
        bad_attribute("an unknown type", "type", json!("invoice"), "/1/type"),
        bad_attribute(
            "the year 9999",
            "time",
            json!("9999-01-01T00:00:00Z"),
            "/1/time",
        ),
        bad_attribute("1970", "time", json!("1970-01-01T00:00:00Z"), "/1/time"),
        bad_attribute("no time", "time", json!("yesterday"), "/1/time"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_what_is_bad_and_takes_nothing_of_it() {
    let bench = Bench::start().await;
    for case in bad_callers()
        .into_iter()
        .chain(bad_bodies().await)
        .chain(bad_events())
    {
        let (status, body, headers) = bench.send(case.request).await;
        let what = case.what;
        assert_eq!(status, case.status, "{what}: {body}");
        assert_eq!(
            headers["content-type"], "application/problem+json",
            "{what}"
        );
        let said = body["detail"].as_str().unwrap().to_owned() + &body["errors"].to_string();
        assert!(said.contains(case.detail), "{what}: {body}");
        let pointers: Vec<_> = body["errors"].as_array().into_iter().flatten().collect();
        let found = |pointer| pointers.iter().any(|error| error["pointer"] == pointer);
        assert!(case.pointer.is_none_or(found), "{what}: {body}");
    }
    assert_eq!(bench.logged().await, []);
    bench.stop().await;
}
