//! Pages of commands: which of them, and where the next one is.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemas::access::Caller;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde::Deserialize;

use super::{Refused, bad};
use crate::store::{Given, GivenCursor, GivenFilter};

/// Commands on a page unless asked otherwise, and at most.
pub(super) const PAGE_MAX: usize = 1_000;

/// The query of `GET /v1/commands`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    /// This subject and all below it.
    pub(super) subject: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) limit: Option<usize>,
    pub(super) after: Option<String>,
}

/// What to read, one more than the page shows. `None` where the caller may not see the subject, which is as if there
/// were no commands on it.
pub(super) fn filter(params: &Params, caller: &Caller) -> Result<Option<GivenFilter>, Refused> {
    if params.limit == Some(0) {
        return Err(bad("limit", "must be at least 1"));
    }
    let subject = params.subject.as_deref().map(Subject::parse).transpose();
    let subject = subject.map_err(|error| bad("subject", error.to_string()))?;
    if subject
        .as_ref()
        .is_some_and(|subject| !caller.may_see(subject))
    {
        return Ok(None);
    }
    let stale = || bad("after", "not a cursor that an earlier page gave");
    let after = params.after.as_deref();
    let after = after.map(|text| decode_cursor(text).ok_or_else(stale));
    Ok(Some(GivenFilter {
        subject: subject.map(String::from),
        tenant: caller.tenant.clone(),
        kind: params.kind.as_ref().map(|kind| kind.replace('\0', "")),
        after: after.transpose()?,
        limit: params.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX) + 1,
    }))
}

/// Where the page after `last` is found, with the parameters that this one was asked for with.
pub(super) fn next_link(
    path: &str,
    asked: [(&str, &Option<String>); 2],
    page_max: usize,
    last: &Given,
) -> String {
    let cursor = format!("{}.{}", last.at.as_micros(), last.id);
    let cursor = BASE64_URL_SAFE_NO_PAD.encode(cursor);
    let mut link = format!("<{path}?after={cursor}&limit={page_max}");
    for (name, value) in asked {
        if let Some(value) = value {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            link = format!("{link}&{name}={value}");
        }
    }
    format!("{link}>; rel=\"next\"")
}

fn decode_cursor(text: &str) -> Option<GivenCursor> {
    let plain = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (at, id) = plain.split_once('.')?;
    Some(GivenCursor {
        at: Timestamp::from_micros(at.parse().ok()?),
        id: id.replace('\0', ""),
    })
}

/// An answer that leads to the page after it, if there is one.
pub(super) fn response(page: impl IntoResponse, next_link: Option<String>) -> Response {
    let mut response = page.into_response();
    if let Some(link) = next_link.and_then(|link| link.parse().ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
