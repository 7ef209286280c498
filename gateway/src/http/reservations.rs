//! Reservations: reserve, then commit or release.

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::time::timeout;

use super::refusal::Refusal;
use super::{App, json_body, may_ask};
use crate::handle::NotHeld;
use crate::ledger::Ending;
use crate::reservation::Reservation;
use crate::{ask, headers, json, layer};

/// Holds room: 201, or the refusal with its own status.
pub(super) async fn reserve(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let answered = app.reserve(&headers, body).await;
    app.counted(answered)
}

/// Counts what was spent. Answers 200 when the log has it.
pub(super) async fn commit(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let answered = app.commit(&id, &headers, body).await;
    app.counted(answered)
}

/// Gives back what is held.
pub(super) async fn release(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let answered = app.release(&id, &headers).await;
    app.counted(answered)
}

impl App {
    async fn reserve(
        &self,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Response, Refusal> {
        let caller = self.caller(headers)?;
        let body = json_body(headers, body)?;
        let (ask, ttl) = ask::reservation_from_json(&body)?;
        may_ask(&caller, &ask)?;
        let held = match self.handle.reserve(ask, ttl).await {
            Ok(held) => held,
            Err(NotHeld::Refused(reply)) => return Ok(layer::refusal(&reply)),
            Err(NotHeld::Ended(ending)) => return Err(Refusal::Ended(ending)),
        };
        let token = held.reservation.token();
        let body = json::held(&token, held.reservation.expires_at, &held.reply);
        let mut response = answer(StatusCode::CREATED, body);
        headers::add(&held.reply, response.headers_mut());
        if let Ok(place) = HeaderValue::from_str(&format!("/v1/reservations/{token}")) {
            response.headers_mut().insert(LOCATION, place);
        }
        Ok(response)
    }

    async fn commit(
        &self,
        id: &str,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Response, Refusal> {
        let reservation = self.reservation(id, headers)?;
        let body = json_body(headers, body)?;
        let actual = ask::actual_from_json(&body)?;
        let committed = self.handle.commit(&reservation, &actual).await;
        let logged = committed.receipt.given();
        if timeout(self.logged_within, logged).await.is_err() {
            return Err(Refusal::NotLogged);
        }
        let ending = Ending::Committed(committed.commit);
        Ok(answer(StatusCode::OK, json::ended(id, ending)))
    }

    async fn release(&self, id: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        let reservation = self.reservation(id, headers)?;
        let ending = self.handle.release(&reservation).await;
        let ending = ending.ok_or(Refusal::Unknown)?;
        Ok(answer(StatusCode::OK, json::ended(id, ending)))
    }

    /// The reservation that `id` tells of, if the caller may speak for its tenant.
    fn reservation(&self, id: &str, headers: &HeaderMap) -> Result<Reservation, Refusal> {
        let caller = self.caller(headers)?;
        let reservation = Reservation::parse(id)?;
        may_ask(&caller, &reservation.ask)?;
        Ok(reservation)
    }
}

fn answer(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
