//! A tower layer for Rust services: refuses what the gateway refuses, and tells all others what is left.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::handle::Handle;
use crate::reply::Reply;
use crate::request::Ask;
use crate::{headers, json};

pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Under which id an admitted request was counted, as an extension of the request: report its tokens and cost under
/// the same, with `requests: 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// Puts a gateway before a service. `extractor` says of each request who is asking, for what: from what the service
/// itself knows to be true (a checked token), never from what a client merely claims. `None` lets a request pass
/// without asking.
#[derive(Clone)]
pub struct WeirLayer<E> {
    handle: Handle,
    extractor: E,
}

impl<E> WeirLayer<E> {
    pub fn new(handle: Handle, extractor: E) -> Self {
        Self { handle, extractor }
    }
}

impl<S, E: Clone> Layer<S> for WeirLayer<E> {
    type Service = Weir<S, E>;

    fn layer(&self, inner: S) -> Weir<S, E> {
        Weir {
            handle: self.handle.clone(),
            extractor: self.extractor.clone(),
            inner,
        }
    }
}

/// A service behind a gateway.
#[derive(Clone)]
pub struct Weir<S, E> {
    handle: Handle,
    extractor: E,
    inner: S,
}

impl<S, E, B, R> Service<Request<B>> for Weir<S, E>
where
    S: Service<Request<B>, Response = Response<R>>,
    E: Fn(&Request<B>) -> Option<Ask>,
    R: From<Vec<u8>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Answering<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(ask) = (self.extractor)(&request) else {
            return Answering::Passed {
                inner: Box::pin(self.inner.call(request)),
                reply: None,
            };
        };
        let reply = self.handle.decide(ask);
        if reply.is_refused() {
            return Answering::Refused(Some(Box::new(refusal(&reply))));
        }
        let id = RequestId(reply.request_id.as_str().into());
        request.extensions_mut().insert(id);
        Answering::Passed {
            inner: Box::pin(self.inner.call(request)),
            reply: Some(reply),
        }
    }
}

/// The answer to come.
pub enum Answering<F, R> {
    /// Ready at once; empty after it was given.
    Refused(Option<Box<Response<R>>>),
    Passed {
        inner: Pin<Box<F>>,
        reply: Option<Arc<Reply>>,
    },
}

impl<F, R, E> Future for Answering<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answering::Refused(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(*response)),
                None => Poll::Pending,
            },
            Answering::Passed { inner, reply } => inner.as_mut().poll(cx).map_ok(|mut response| {
                if let Some(reply) = reply {
                    headers::add(reply, response.headers_mut());
                }
                response
            }),
        }
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
