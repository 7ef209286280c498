//! `GET /v1/alerts`: what was told, to whom, and how that went. The caller is found in the request, put there by
//! whoever authenticates the management plane.

mod operations;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use schemas::access::Caller;
use schemas::page::{self, Asked};
use schemas::problem::Problem;
use schemas::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::alert::Kind;
use crate::message::data_of;
use crate::store::{Cursor, Delivery, Filter, Listed, Store};

pub use operations::OPERATIONS;

/// Alerts on a page unless asked otherwise, and at most.
const PAGE_MAX: usize = 1_000;

pub(crate) fn router(store: Store) -> Router {
    Router::new()
        .route("/v1/alerts", get(list_alerts))
        .with_state(store)
}

/// The query of `GET /v1/alerts`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    subject: Option<String>,
    kind: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

async fn list_alerts(
    State(store): State<Store>,
    Extension(caller): Extension<Caller>,
    params: Result<Query<Params>, QueryRejection>,
) -> Response {
    match answer(&store, &caller, params).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(
    store: &Store,
    caller: &Caller,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Box<Problem>> {
    let Query(params) = params.map_err(|error| Problem::parameter("query", error.body_text()))?;
    let Some(filter) = filter(&params, caller)? else {
        return Ok(Json(json!([])).into_response());
    };
    let mut alerts = store.list(&filter).await.map_err(|error| {
        tracing::error!(error = %error, "alerts cannot be listed");
        let detail = "the store of alerts does not answer; try again later";
        Box::new(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_retry_after(5))
    })?;
    let size = filter.limit - 1;
    let more = size < alerts.len();
    alerts.truncate(size);
    alerts.retain(|listed| caller.may_see(&listed.alert.subject));
    let shown: Vec<Value> = alerts.iter().map(show).collect();
    let query = [
        ("subject", params.subject.as_deref()),
        ("kind", params.kind.as_deref()),
    ];
    let last = alerts.last().filter(|_| more);
    let next = last.and_then(|Listed { alert, .. }| {
        let place = (alert.at.as_micros(), alert.id.clone());
        page::next("/v1/alerts", &query, ("limit", size), &place)
    });
    Ok(page::with_next(Json(shown).into_response(), next))
}

/// What to read: one alert more than the page shows, to know whether there is another page. `None` where the caller
/// may not see the subject, which is as if there were no alerts about it.
fn filter(params: &Params, caller: &Caller) -> Result<Option<Filter>, Box<Problem>> {
    let (subject, after) = (params.subject.as_deref(), params.after.as_deref());
    let asked = Asked::read(caller, subject, after, (params.limit, PAGE_MAX))?;
    let unknown = || {
        let names = format!("use {}", Kind::any_of_them());
        Box::new(Problem::parameter("kind", names))
    };
    let kind = params.kind.as_deref();
    let kind = kind.map(|name| Kind::named(name).ok_or_else(unknown));
    let kind = kind.transpose()?.map(Kind::name);
    Ok(asked.map(|asked| Filter {
        subject: asked.subject.map(String::from),
        kind,
        tenant: caller.tenant.clone(),
        after: asked.after.map(|(at, id)| Cursor {
            at: Timestamp::from_micros(at),
            id,
        }),
        limit: asked.size + 1,
    }))
}

fn show(listed: &Listed) -> Value {
    let mut alert = data_of(&listed.alert);
    let deliveries: Vec<Value> = listed.deliveries.iter().map(show_delivery).collect();
    alert["deliveries"] = Value::from(deliveries);
    alert
}

fn show_delivery(delivery: &Delivery) -> Value {
    json!({
        "channel": delivery.channel,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_at": delivery.next_at.map(|at| at.to_string()),
        "done_at": delivery.done_at.map(|at| at.to_string()),
        "error": delivery.error,
        "digest": delivery.digest,
    })
}

#[cfg(test)]
mod tests {
    use schemas::record::Role;

    use super::*;

    fn caller(tenant: Option<&str>) -> Caller {
        Caller {
            key_id: "k".to_owned(),
            role: Role::Tenant,
            tenant: tenant.map(str::to_owned),
        }
    }

    #[track_caller]
    fn check(params: Params, tenant: Option<&str>, expected: Result<&str, (u16, &str)>) {
        let found = filter(&params, &caller(tenant));
        let found = found.map(|filter| match filter {
            None => "nothing".to_owned(),
            Some(filter) => format!("{:?} {:?} {}", filter.subject, filter.kind, filter.limit),
        });
        let expected = expected
            .map(str::to_owned)
            .map_err(|(status, detail)| (status, detail.to_owned()));
        assert_eq!(
            found.map_err(|problem| (problem.status, problem.detail)),
            expected
        );
    }

    #[test]
    fn reads_the_query() {
        let some = |text: &str| Some(text.to_owned());
        check(Params::default(), None, Ok("None None 1001"));
        let params = Params {
            limit: Some(5),
            kind: some("hard"),
            subject: some("tenant/acme"),
            after: None,
        };
        check(
            params,
            Some("acme"),
            Ok(r#"Some("tenant/acme") Some("hard") 6"#),
        );
        let params = Params {
            limit: Some(usize::MAX),
            ..Params::default()
        };
        check(params, None, Ok("None None 1001"));
    }

    #[test]
    fn says_what_is_wrong_with_the_query() {
        let some = |text: &str| Some(text.to_owned());
        let params = Params {
            limit: Some(0),
            ..Params::default()
        };
        check(params, None, Err((400, "limit: must be at least 1")));
        let params = Params {
            kind: some("loud"),
            ..Params::default()
        };
        check(
            params,
            None,
            Err((
                400,
                "kind: use soft, hard, lifted, csp_group, asked, answered or cleared",
            )),
        );
        let params = Params {
            after: some("%%"),
            ..Params::default()
        };
        check(
            params,
            None,
            Err((400, "after: not a cursor that an earlier page gave")),
        );
        let params = Params {
            subject: some("tenant/other"),
            ..Params::default()
        };
        check(params, Some("acme"), Ok("nothing"));
        let params = Params {
            subject: some("platform"),
            ..Params::default()
        };
        check(params, Some("acme"), Ok("nothing"));
    }
}
