//! The two HTTP planes. The data plane's routes ask for a key themselves; the management plane asks for a token in
//! one place, here, by the table of operations that the services declare, and hands its routes the caller.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bus::clock::SharedClock;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use schemas::access::{Caller, Denied, KeyRing};
use schemas::api::{Answer, Operation, Plane, openapi};
use schemas::problem::Problem;
use schemas::record::Role;

/// The keys that stand, shared by both planes.
pub type Keys = Arc<RwLock<KeyRing>>;
/// Whether one part of the process is ready to work.
pub type Ready = Box<dyn Fn() -> bool + Send + Sync>;

/// Every call that any service of Weir answers, whichever run in this process.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    let declared = [
        ingest::OPERATIONS,
        gateway::OPERATIONS,
        aggregator::OPERATIONS,
        enforcer::OPERATIONS,
        notifier::OPERATIONS,
        OPEN,
    ];
    declared.into_iter().flatten()
}

/// What the management plane tells everybody.
const OPEN: &[Operation] = &[
    Operation::get("/live", "Whether the process lives", &[]).answering(TEXT),
    Operation::get("/ready", "Whether every part is ready to work", &[])
        .answering(TEXT)
        .refusing(&[Answer::problem(503, "Some part is not; `detail` names it")]),
    Operation::get("/metrics", "Metrics, as OpenMetrics text", &[])
        .answering(&[Answer::OK.or(&["application/openmetrics-text"])]),
    Operation::get("/openapi.json", "This description", &[]),
];
const TEXT: &[Answer] = &[Answer::OK.or(&["text/plain"])];

/// The data plane: `routes`, and a plain answer for paths that are none.
pub fn data(routes: Router) -> Router {
    routes.fallback(no_such_path)
}

/// The management plane: `routes` behind a token, and what needs none (`/live`, `/ready`, `/metrics`).
pub fn management(routes: Router, keys: Keys, clock: SharedClock, status: Status) -> Router {
    let guarded = routes.layer(from_fn_with_state(Guard { keys, clock }, guard));
    let open = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(description))
        .with_state(status);
    guarded.merge(open).fallback(no_such_path)
}

#[derive(Clone)]
struct Guard {
    keys: Keys,
    clock: SharedClock,
}

async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map(MatchedPath::as_str).unwrap_or_default();
    let operation = match declared(path, request.method()) {
        Ok(operation) => operation,
        Err(undeclared) => return undeclared.response(path, request.method()),
    };
    let caller = guard.caller(request.headers(), operation);
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(denied) => refuse(denied),
    }
}

/// Why there is no operation at a route.
enum Undeclared {
    Path,
    /// There are others: these.
    Method(String),
}

/// The operation at a route.
fn declared(path: &str, method: &Method) -> Result<&'static Operation, Undeclared> {
    let here = || {
        operations()
            .filter(|operation| operation.plane == Plane::Management && operation.path == path)
    };
    // What can be read can be asked for its headers.
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    if let Some(operation) = here().find(|operation| operation.method == method.as_str()) {
        return Ok(operation);
    }
    let others: Vec<&str> = here().map(|operation| operation.method).collect();
    match others.as_slice() {
        [] => Err(Undeclared::Path),
        others => Err(Undeclared::Method(others.join(", "))),
    }
}

impl Undeclared {
    fn response(self, path: &str, method: &Method) -> Response {
        match self {
            Self::Path => {
                tracing::error!(path, "a route is not declared, and answers nobody");
                not_found(path)
            }
            Self::Method(others) => {
                let detail = format!("{path} takes {others}, not {method}");
                let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
                let mut response: Response = problem.into_response::<Body>();
                if let Ok(others) = HeaderValue::from_str(&others) {
                    response.headers_mut().insert(ALLOW, others);
                }
                response
            }
        }
    }
}

impl Guard {
    /// Who calls, if they may call `operation`. What no tenant's token may do, no token of one tenant may, whatever its
    /// role.
    fn caller(&self, headers: &HeaderMap, operation: &Operation) -> Result<Caller, Denied> {
        let header = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let now = self.clock.now();
        let caller = self.keys.read().authorize(header, operation.roles, now)?;
        let is_for_all = !operation.roles.contains(&Role::Tenant);
        if is_for_all && caller.tenant.is_some() {
            return Err(Denied::Role);
        }
        Ok(caller)
    }
}

fn refuse(denied: Denied) -> Response {
    let status = match denied {
        Denied::Missing | Denied::Unknown => StatusCode::UNAUTHORIZED,
        Denied::Role => StatusCode::FORBIDDEN,
    };
    let mut response: Response = Problem::new(status, denied.to_string()).into_response::<Body>();
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// What `/ready` and `/metrics` tell.
#[derive(Clone)]
pub struct Status(Arc<Inner>);

struct Inner {
    registry: Registry,
    parts: Vec<(&'static str, Ready)>,
}

impl Status {
    #[must_use]
    pub fn new(registry: Registry, parts: Vec<(&'static str, Ready)>) -> Self {
        Self(Arc::new(Inner { registry, parts }))
    }

    /// The parts that are not ready yet.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let waiting = self.0.parts.iter().filter(|(_, ready)| !ready());
        waiting.map(|(name, _)| *name).collect()
    }
}

async fn ready(State(status): State<Status>) -> Response {
    let waiting = status.waiting_for();
    if waiting.is_empty() {
        return Response::new(Body::from("ready\n"));
    }
    let detail = format!("not ready yet: {}", waiting.join(", "));
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .with_retry_after(1)
        .into_response()
}

async fn metrics(State(status): State<Status>) -> Response {
    let mut text = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &status.0.registry) {
        let detail = format!("cannot write the metrics: {error}");
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response();
    }
    let mut response = Response::new(Body::from(text));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The calls that this version of Weir answers; which of them this process does depends on the services in it.
async fn description() -> Response {
    Json(openapi::describe(operations(), env!("CARGO_PKG_VERSION"))).into_response()
}

async fn no_such_path(request: Request) -> Response {
    not_found(request.uri().path())
}

fn not_found(path: &str) -> Response {
    let detail = format!("there is nothing at {path}");
    Problem::new(StatusCode::NOT_FOUND, detail).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::Extension;
    use bus::clock::ManualClock;
    use schemas::access::hash_secret;
    use schemas::record::Key;
    use schemas::time::Timestamp;
    use tower::ServiceExt;

    use super::*;

    fn keys() -> Keys {
        let mut ring = KeyRing::default();
        let all = [
            ("op", Role::Operator, None),
            ("in", Role::Ingest, None),
            ("acme", Role::Tenant, Some("acme")),
            ("acme-op", Role::Operator, Some("acme")),
        ];
        for (id, role, tenant) in all {
            let key = Key {
                id: id.to_owned(),
                sha256: hash_secret(id),
                role,
                tenant: tenant.map(str::to_owned),
                created_at: Timestamp::default(),
                expires_at: None,
                revoked: false,
                note: String::new(),
            };
            ring.apply(id, Some(key));
        }
        Arc::new(RwLock::new(ring))
    }

    /// With two routes that are declared, and one that is not.
    fn plane(ready: bool) -> Router {
        let who = |Extension(caller): Extension<Caller>| async move { caller.key_id };
        let routes = Router::new()
            .route("/v1/alerts", get(who).post(who))
            .route("/v1/policy", get(who))
            .route("/v1/secret", get(who));
        let status = Status::new(
            Registry::default(),
            vec![("gateway", Box::new(move || ready))],
        );
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        management(routes, keys(), clock, status)
    }

    /// `METHOD path`, or a path to be read.
    #[track_caller]
    fn check(call: &str, token: Option<&str>, status: u16, fragment: &str) {
        let (method, path) = call.split_once(' ').unwrap_or(("GET", call));
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (got, body) = runtime.block_on(async {
            let response = plane(false)
                .oneshot(request.body(Body::empty()).unwrap())
                .await
                .unwrap();
            let (head, body) = response.into_parts();
            (
                head.status.as_u16(),
                axum::body::to_bytes(body, 1 << 20).await.unwrap(),
            )
        });
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(got, status, "{body}");
        assert!(body.contains(fragment), "{body}");
    }

    #[test]
    fn asks_for_a_token_where_one_is_needed() {
        check("/v1/alerts", Some("op"), 200, "op");
        check("HEAD /v1/alerts", Some("op"), 200, "");
        check("/v1/alerts", Some("acme"), 200, "acme");
        check("/v1/alerts", None, 401, "no key");
        check("/v1/alerts", Some("nobody"), 401, "unknown");
        check("/v1/alerts", Some("in"), 403, "another role");
        check("/v1/policy", Some("op"), 200, "op");
        check("/v1/policy", Some("acme"), 403, "another role");
        check("/v1/policy", Some("acme-op"), 403, "another role");
        check("/live", None, 200, "live");
        check("/ready", None, 503, "not ready yet: gateway");
        check("/metrics", None, 200, "# EOF");
        check("/openapi.json", None, 200, "/v1/alerts");
        check("/v1/nothing", Some("op"), 404, "nothing at /v1/nothing");
    }

    #[test]
    fn what_is_not_declared_answers_nobody() {
        check("/v1/secret", Some("op"), 404, "nothing at /v1/secret");
        check("POST /v1/alerts", Some("op"), 405, "takes GET, not POST");
        check("POST /v1/alerts", None, 405, "takes GET, not POST");
    }

    #[test]
    fn every_call_is_declared_once_with_what_its_path_holds() {
        let mut seen = BTreeSet::new();
        for operation in operations() {
            let call = (
                operation.plane == Plane::Data,
                operation.method,
                operation.path,
            );
            assert!(seen.insert(call), "twice: {call:?}");
            let in_path = operation.path.matches('{').count();
            let declared = operation
                .parameters
                .iter()
                .filter(|parameter| operation.path.contains(&format!("{{{}}}", parameter.name)));
            assert_eq!(declared.count(), in_path, "{call:?}");
        }
    }

    #[tokio::test]
    async fn is_ready_when_all_parts_are() {
        let request = Request::get("/ready").body(Body::empty()).unwrap();
        let response = plane(true).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}
