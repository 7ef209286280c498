//! The routes: events from apps and gateways, reports from browsers.

mod operations;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CONTENT_TYPE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bus::{Delivery, SendError};
use bytes::Bytes;
use schemas::access;
use schemas::cloudevents::{Event, read_csp_reports};
use schemas::record::Recorded;
use schemas::subject::ID_BYTES_MAX;
use schemas::topic::{AUTH, CSP, USAGE};
use serde::Serialize;

use crate::admit::{Form, admit};
use crate::body::{self, Bounds};
use crate::budget::Share;
use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::run::App;

pub use operations::OPERATIONS;

/// Bodies above this are read on a thread of their own: parsing one takes longer than a request may hold a worker.
const LARGE_BODY_BYTES: usize = 128 << 10;
/// For how long a browser may remember the answer to its preflight.
const PREFLIGHT_SECONDS: &str = "86400";

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/events", post(events))
        .route("/v1/csp/{token}", post(reports).options(preflight))
        .with_state(app)
}

#[derive(Serialize)]
struct Accepted {
    accepted: usize,
}

/// Takes a request's events whole or refuses it whole; answers 202 once the log has acknowledged every record.
async fn events(
    State(app): State<App>,
    Caller(caller): Caller,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), Refusal> {
    let _in_progress = app.metrics.enter();
    match take_events(&app, caller, request).await {
        Ok(accepted) => Ok((StatusCode::ACCEPTED, Json(Accepted { accepted }))),
        Err(refusal) => {
            app.metrics.refused(refusal.reason(), 1);
            Err(refusal)
        }
    }
}

async fn take_events(
    app: &App,
    caller: access::Caller,
    request: Request,
) -> Result<usize, Refusal> {
    let (head, body) = request.into_parts();
    let form = Form::of(&head.headers)?;
    if !app.bus.available() {
        return Err(Refusal::LogAway(None));
    }
    let bounds = Bounds {
        body_bytes_max: app.config.body_bytes_max,
        inflated_bytes_max: app.config.inflated_bytes_max,
    };
    let mut share = Share::default();
    let body = body::read(&head.headers, body, bounds, &app.budget, &mut share).await?;
    app.metrics.read(body.len());
    let events = parse(app, form, body, caller).await?;
    write(app, events).await
}

async fn parse(
    app: &App,
    form: Form,
    body: Bytes,
    caller: access::Caller,
) -> Result<Vec<Event>, Refusal> {
    let rules = app.rules(app.clock.now());
    if body.len() < LARGE_BODY_BYTES {
        return admit(&form, &body, &caller, &rules);
    }
    let parsed = tokio::task::spawn_blocking(move || admit(&form, &body, &caller, &rules)).await;
    parsed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Puts every event in the log and waits for all acknowledgements. When some fail, the client is told to send all of
/// them again, which is safe: an event is one by its source and id.
async fn write(app: &App, events: Vec<Event>) -> Result<usize, Refusal> {
    let mut deliveries = Vec::with_capacity(events.len());
    for event in events {
        deliveries.push(enqueue(app, event)?);
    }
    let mut counts = [("usage", 0_u64), ("auth", 0), ("csp", 0)];
    let accepted = deliveries.len();
    for (stream, delivery) in deliveries {
        delivery.await?;
        counts[stream].1 += 1;
    }
    for (stream, events) in counts.into_iter().filter(|(_, events)| *events != 0) {
        app.metrics.accepted(stream, events);
    }
    Ok(accepted)
}

/// Sends one event on its way; with it, which of the three streams it went to.
fn enqueue(app: &App, event: Event) -> Result<(usize, Delivery), SendError> {
    let tenant = event.tenant().to_owned();
    let producer = &app.producer;
    match event {
        Event::Usage(usage) => producer
            .enqueue(&USAGE, &tenant, &Recorded::Event(usage))
            .map(|sent| (0, sent)),
        Event::Auth(auth) => producer
            .enqueue(&AUTH, &tenant, &Recorded::Event(auth))
            .map(|sent| (1, sent)),
        Event::Csp(csp) => producer
            .enqueue(&CSP, &tenant, &Recorded::Event(csp))
            .map(|sent| (2, sent)),
    }
}

/// Takes what browsers report by themselves. Browsers of any page may: nothing secret is answered.
async fn reports(State(app): State<App>, Path(token): Path<String>, request: Request) -> Response {
    let _in_progress = app.metrics.enter();
    let mut response = match take_reports(&app, &token, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => {
            app.metrics.refused(refusal.reason(), 1);
            refusal.into_response()
        }
    };
    let any = HeaderValue::from_static("*");
    response
        .headers_mut()
        .insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}

async fn take_reports(app: &App, token: &str, request: Request) -> Result<(), Refusal> {
    let tenant = tenant_of(app, token)?;
    let (head, body) = request.into_parts();
    check_report_type(&head.headers)?;
    if !app.bus.available() {
        return Err(Refusal::LogAway(None));
    }
    let bytes_max = app.config.csp_body_bytes_max;
    let bounds = Bounds {
        body_bytes_max: bytes_max,
        inflated_bytes_max: bytes_max,
    };
    let mut share = Share::default();
    let body = body::read(&head.headers, body, bounds, &app.budget, &mut share).await?;
    let now = app.clock.now();
    let read = read_csp_reports(&body, &tenant, &app.rules(now))?;
    app.metrics.refused("bad_report", read.bad as u64);
    if read.reports.is_empty() && read.bad != 0 {
        return Err(Refusal::BadReports {
            errors: read.errors,
        });
    }
    let count = u32::try_from(read.reports.len()).unwrap_or(u32::MAX);
    app.throttle
        .lock()
        .take(&tenant, count, now)
        .map_err(|wait| Refusal::TooManyReports {
            retry_after_seconds: wait.as_secs() + u64::from(wait.subsec_nanos() != 0),
        })?;
    write(app, read.reports.into_iter().map(Event::Csp).collect()).await?;
    Ok(())
}

/// The tenant that a token marks: by the configuration, or, where that names none, the token is the tenant's id.
fn tenant_of(app: &App, token: &str) -> Result<String, Refusal> {
    let known = &app.config.csp_tokens;
    let tenant = match known.is_empty() {
        true => Some(token).filter(|id| is_tenant_id(id)),
        false => known.get(token).map(String::as_str),
    };
    tenant
        .map(str::to_owned)
        .ok_or_else(|| Refusal::UnknownToken(token.to_owned()))
}

/// Whether `id` can be a tenant's.
pub(crate) fn is_tenant_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control)
}

/// The two types that browsers use; which of them it is, the body's shape tells better.
fn check_report_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let value = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    let value = String::from_utf8_lossy(value);
    match value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "application/csp-report" | "application/reports+json" => Ok(()),
        _ => Err(Refusal::ReportType(value.into_owned())),
    }
}

/// Lets a browser send reports from any page.
async fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
    ];
    for (name, value) in allowed {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
