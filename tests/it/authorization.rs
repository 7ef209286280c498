//! Who may call what: every call of the management plane that the description has, with every kind of token, about one's
//! own subject and another tenant's.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Answer, Client, send};
use tests::events::{failed_sign_in, usage};
use tests::eventually;
use tests::weir::{Options, Weir};

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 10m"
hard = 1000
"#;
const SOON: Duration = Duration::from_secs(30);

/// A Weir with something about acme in everything that can be asked for.
async fn start() -> (Weir, Client) {
    let config = "[aggregator]\nsketches = [\"auth\", \"usage\"]\nranking_interval_s = 1\n";
    let weir = Weir::start(Options::up(POLICY).with_config(config)).await;
    let client = weir.client();
    let used = json!({ "key": "k_1", "user": "u_1", "input_tokens": 1000, "cost_usd": "0.10" });
    let mut events = vec![usage("acme", &used)];
    events.extend(["192.0.2.1", "192.0.2.2"].map(|source| failed_sign_in("acme", "alice", source)));
    client.post(&events).await;
    let report = json!({ "csp-report": {
        "document-uri": "https://shop.example/", "blocked-uri": "https://evil.example/a.js",
        "effective-directive": "script-src-elem", "violated-directive": "script-src-elem",
    } });
    let request = client.data(Method::POST, "/v1/csp/acme");
    let request = request.header("content-type", "application/csp-report");
    let answer = send(request.body(report.to_string())).await;
    assert_eq!(answer.expect("an answer").status, 204);
    let raise = json!({ "kind": "raise", "subject": "tenant/acme", "limit": "tokens", "hard": 1000, "reason": "test" });
    client.ordered(&raise).await;
    let ask =
        json!({ "subject": "tenant/acme", "limit": "tokens", "hard": 2000, "reason": "test" });
    assert_eq!(client.submit("/v1/requests", &ask).await.status, 201);
    eventually("the refusal", SOON, async || {
        match client.forward_auth("acme").await.status {
            429 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    (weir, client)
}

/// One call as it is described.
#[derive(Clone, Debug)]
struct Call {
    method: Method,
    path: String,
    described: Value,
}

impl Call {
    fn parameters(&self, place: &str) -> Vec<&Value> {
        let all = self.described["parameters"].as_array().expect("a list");
        all.iter().filter(|p| p["in"] == place).collect()
    }

    fn takes(&self, name: &str) -> bool {
        self.parameters("query").iter().any(|p| p["name"] == name)
    }

    fn is_for(&self, role: &str) -> bool {
        let roles = self.described["x-weir-roles"].as_array().expect("a list");
        roles.iter().any(|own| own == role)
    }

    /// Makes it, with examples for what it cannot be without, and `query` besides.
    async fn make(&self, client: &Client, query: &[(&str, &str)]) -> Answer {
        let mut path = self.path.clone();
        for parameter in self.parameters("path") {
            let (name, example) = (text(parameter, "name"), text(parameter, "example"));
            path = path.replace(&format!("{{{name}}}"), example);
        }
        let needed = self
            .parameters("query")
            .into_iter()
            .filter(|p| p["required"] == true && query.iter().all(|(name, _)| p["name"] != *name));
        let needed = needed.map(|p| (text(p, "name"), text(p, "example")));
        let query: Vec<(&str, &str)> = needed.chain(query.iter().copied()).collect();
        let mut request = client.management(self.method.clone(), &path).query(&query);
        if self.described["requestBody"].is_object() {
            // Nothing that any call takes: who may call is decided before.
            request = request.json(&json!({ "nonsense": true }));
        }
        send(request).await.expect("an answer")
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// Every call of the management plane.
async fn calls(client: &Client) -> Vec<Call> {
    let described = client.get("/openapi.json", &[]).await;
    let paths = described["paths"].as_object().expect("paths");
    let calls = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        methods.iter().map(|(method, described)| Call {
            method: method.to_uppercase().parse().expect("a method"),
            path: path.clone(),
            described: described.clone(),
        })
    });
    let calls: Vec<Call> = calls
        .filter(|call| call.described["tags"] == json!(["management plane"]))
        .collect();
    assert!(10 < calls.len(), "{calls:#?}");
    calls
}

#[tokio::test]
async fn every_call_with_every_kind_of_token() {
    let (weir, client) = start().await;
    let revoked = weir.create_key("operator", None).await;
    weir.revoke_key(&revoked).await;
    // A token, its role, and whether it speaks for the whole platform.
    let tokens = [
        ("nonsense".to_owned(), None, true),
        (revoked, None, true),
        (client.operator_token().to_owned(), Some("operator"), true),
        (client.ingest_key().to_owned(), Some("ingest"), true),
        (
            weir.create_key("gateway", None).await,
            Some("gateway"),
            true,
        ),
        (
            weir.create_key("auditor", None).await,
            Some("auditor"),
            true,
        ),
        (
            weir.create_key("tenant", Some("acme")).await,
            Some("tenant"),
            false,
        ),
        (
            weir.create_key("operator", Some("acme")).await,
            Some("operator"),
            false,
        ),
        (
            weir.create_key("auditor", Some("acme")).await,
            Some("auditor"),
            false,
        ),
    ];
    for call in calls(&client).await {
        for (token, role, is_for_all) in &tokens {
            let status = call.make(&client.with_secret(token), &[]).await.status;
            let is_open = call.described["security"] == json!([]);
            let is_theirs = role.is_some_and(|role| call.is_for(role))
                && (*is_for_all || call.is_for("tenant"));
            let is_right = match (is_open || is_theirs, role) {
                (true, _) => status != 401 && status != 403,
                (false, None) => status == 401,
                (false, Some(_)) => status == 403,
            };
            let (method, path) = (&call.method, &call.path);
            assert!(
                is_right,
                "{method} {path} by {role:?}, for all {is_for_all}: {status}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_anothers_is_as_though_it_did_not_exist() {
    let (weir, client) = start().await;
    let acme = client.with_secret(&weir.create_key("tenant", Some("acme")).await);
    let other = client.with_secret(&weir.create_key("tenant", Some("other")).await);
    let theirs = [("subject", "tenant/acme")];
    for call in calls(&client).await {
        if call.method != Method::GET || !call.is_for("tenant") {
            continue;
        }
        let path = &call.path;
        if call.takes("subject") {
            // There is something to be seen, by those who may.
            eventually(path, SOON, async || {
                let own = call.make(&acme, &theirs).await;
                let is_told = own.status == 200 && holds_something(&own.json());
                is_told.then_some(()).ok_or_else(|| own.text())
            })
            .await;
            let seen = call.make(&other, &theirs).await;
            let nobodys = call.make(&other, &[("subject", "tenant/nobody")]).await;
            assert_eq!(seen.status, nobodys.status, "{path}");
            assert_eq!(
                seen.text().replace("acme", "nobody"),
                nobodys.text(),
                "{path}"
            );
            let parameters = call.parameters("query");
            let subject = parameters.iter().find(|p| p["name"] == "subject");
            if subject.is_some_and(|subject| subject["required"] == false) {
                let all = call.make(&other, &[]).await;
                assert_eq!(all.status, 200, "{path}: {}", all.text());
                assert!(!all.text().contains("acme"), "{path}: {}", all.text());
            }
        }
    }
    let decisions = client.list("/v1/decisions", &theirs).await;
    let path = format!("/v1/decisions/{}", text(&decisions[0], "id"));
    let seen = async |client: &Client, path: &str| {
        let answer = send(client.management(Method::GET, path)).await;
        answer.expect("an answer")
    };
    assert_eq!(seen(&acme, &path).await.status, 200);
    let (hidden, none) = (
        seen(&other, &path).await,
        seen(&other, "/v1/decisions/none").await,
    );
    assert_eq!((hidden.status, hidden.text()), (404, none.text()));
}

/// Whether an answer tells anything beside what was asked.
fn holds_something(answer: &Value) -> bool {
    let listed = match answer {
        Value::Object(fields) => fields.get("entries").or(fields.get("series")),
        list => Some(list),
    };
    listed
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty())
}

#[tokio::test]
async fn a_call_takes_what_is_described_and_nothing_else() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    for call in calls(&client).await {
        let parameters = call.parameters("query");
        if call.method != Method::GET || parameters.is_empty() {
            continue;
        }
        let path = &call.path;
        let examples = parameters
            .iter()
            .map(|p| (text(p, "name"), text(p, "example")));
        let examples: Vec<(&str, &str)> = examples.filter(|(_, e)| !e.is_empty()).collect();
        let answer = call.make(&client, &examples).await;
        // What an example of a path names is not there.
        let expected = match call.parameters("path").is_empty() {
            true => 200,
            false => 404,
        };
        let text = answer.text();
        assert_eq!(answer.status, expected, "{path} {examples:?}: {text}");
        let answer = call.make(&client, &[("nonsense", "1")]).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
}
