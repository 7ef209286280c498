//! The two HTTP planes. The data plane's routes ask for a key themselves; the management plane asks for a token in
//! one place, here, and hands its routes the caller.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use bus::clock::SharedClock;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use schemas::access::{Denied, KeyRing};
use schemas::problem::Problem;
use schemas::record::Role;

/// The keys that stand, shared by both planes.
pub type Keys = Arc<RwLock<KeyRing>>;
/// Whether one part of the process is ready to work.
pub type Ready = Box<dyn Fn() -> bool + Send + Sync>;

/// Roles that may use the management plane at all; each route narrows by what the caller may see.
const MANAGEMENT_ROLES: [Role; 3] = [Role::Operator, Role::Auditor, Role::Tenant];

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
        .with_state(status);
    guarded.merge(open).fallback(no_such_path)
}

#[derive(Clone)]
struct Guard {
    keys: Keys,
    clock: SharedClock,
}

async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let now = guard.clock.now();
    let caller = guard.keys.read().authorize(header, &MANAGEMENT_ROLES, now);
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(denied) => refuse(denied),
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

async fn no_such_path(request: Request) -> Response {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, detail).into_response()
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use bus::clock::ManualClock;
    use schemas::access::{Caller, hash_secret};
    use schemas::record::Key;
    use schemas::time::Timestamp;
    use tower::ServiceExt;

    use super::*;

    fn keys() -> Keys {
        let mut ring = KeyRing::default();
        for (id, role) in [("op", Role::Operator), ("in", Role::Ingest)] {
            let key = Key {
                id: id.to_owned(),
                sha256: hash_secret(id),
                role,
                tenant: None,
                created_at: Timestamp::default(),
                expires_at: None,
                revoked: false,
                note: String::new(),
            };
            ring.apply(id, Some(key));
        }
        Arc::new(RwLock::new(ring))
    }

    fn plane(ready: bool) -> Router {
        let who = |Extension(caller): Extension<Caller>| async move { caller.key_id };
        let routes = Router::new().route("/v1/who", get(who));
        let status = Status::new(
            Registry::default(),
            vec![("gateway", Box::new(move || ready))],
        );
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        management(routes, keys(), clock, status)
    }

    #[track_caller]
    fn check(path: &str, token: Option<&str>, status: u16, fragment: &str) {
        let mut request = Request::get(path);
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
        check("/v1/who", Some("op"), 200, "op");
        check("/v1/who", None, 401, "no key");
        check("/v1/who", Some("nobody"), 401, "unknown");
        check("/v1/who", Some("in"), 403, "another role");
        check("/live", None, 200, "live");
        check("/ready", None, 503, "not ready yet: gateway");
        check("/metrics", None, 200, "# EOF");
        check("/v1/nothing", Some("op"), 404, "nothing at /v1/nothing");
    }

    #[tokio::test]
    async fn is_ready_when_all_parts_are() {
        let request = Request::get("/ready").body(Body::empty()).unwrap();
        let response = plane(true).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}
