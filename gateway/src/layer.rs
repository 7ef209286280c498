//! A tower layer for Rust services: refuses what the gateway refuses, and tells all others what is left.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tower::{Layer, Service};

use crate::ask::TTL_SECONDS_MAX;
use crate::handle::{Entered, Flight, Handle};
use crate::reply::Reply;
use crate::request::Ask;
use crate::{headers, json};

pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// For how long a call holds its places under limits on what is in flight, if its end is never seen.
const LASTS_AT_MOST: Duration = Duration::from_secs(600);

/// Under which id an admitted request was counted, as an extension of the request: report its tokens and cost under
/// the same, with `requests: 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// Puts a gateway before a service. `extractor` says of each request who is asking, for what: from what the service
/// itself knows to be true (a checked token), never from what a client merely claims. `None` lets a request pass
/// without asking.
///
/// A call is in flight until its response's body has ended, or was dropped.
#[derive(Clone)]
pub struct WeirLayer<E> {
    handle: Handle,
    extractor: E,
    lasts_at_most: Duration,
}

impl<E> WeirLayer<E> {
    pub fn new(handle: Handle, extractor: E) -> Self {
        Self {
            handle,
            extractor,
            lasts_at_most: LASTS_AT_MOST,
        }
    }

    /// How long a call may take, 10 minutes unless told otherwise and an hour at most. A longer one is not held to limits
    /// on what is in flight any more; the places of a process that died come back after so long.
    #[must_use]
    pub fn lasting_at_most(self, span: Duration) -> Self {
        let lasts_at_most = span.min(Duration::from_secs(TTL_SECONDS_MAX));
        Self {
            lasts_at_most,
            ..self
        }
    }
}

impl<S, E: Clone> Layer<S> for WeirLayer<E> {
    type Service = Weir<S, E>;

    fn layer(&self, inner: S) -> Weir<S, E> {
        Weir {
            layer: self.clone(),
            inner,
        }
    }
}

/// A service behind a gateway.
#[derive(Clone)]
pub struct Weir<S, E> {
    layer: WeirLayer<E>,
    inner: S,
}

impl<S, E, B, R> Service<Request<B>> for Weir<S, E>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    E: Fn(&Request<B>) -> Option<Ask>,
    B: Send + 'static,
    R: From<Vec<u8>>,
{
    type Response = Response<CallBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready: its clone may not be.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let ask = (self.layer.extractor)(&request);
        let (handle, lasts_at_most) = (self.layer.handle.clone(), self.layer.lasts_at_most);
        Box::pin(async move {
            let Some(ask) = ask else {
                let response = inner.call(request).await?;
                return Ok(response.map(|body| CallBody::new(body, None)));
            };
            let Entered { reply, flight } = handle.enter(ask, lasts_at_most).await;
            if reply.is_refused() {
                return Ok(refusal(&reply).map(|body| CallBody::new(body, None)));
            }
            let id = RequestId(reply.request_id.as_str().into());
            request.extensions_mut().insert(id);
            let mut response = inner.call(request).await?;
            headers::add(&reply, response.headers_mut());
            Ok(response.map(|body| CallBody::new(body, flight)))
        })
    }
}

/// The body of a response. Its call is in flight until it has ended, or is dropped.
pub struct CallBody<R> {
    inner: Pin<Box<R>>,
    flight: Option<Flight>,
}

impl<R> CallBody<R> {
    fn new(inner: R, flight: Option<Flight>) -> Self {
        Self {
            inner: Box::pin(inner),
            flight,
        }
    }
}

impl<R: HttpBody> HttpBody for CallBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.flight = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The whole refusal: status, headers, problem details.
pub(crate) fn refusal<R: From<Vec<u8>>>(reply: &Reply) -> Response<R> {
    let mut response = Response::new(R::from(json::problem(reply)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::FORBIDDEN);
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
    headers::add(reply, response.headers_mut());
    response
}
