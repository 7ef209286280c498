//! Pages of the trail of commands: which of them, and where the next one is.

use http::HeaderValue;
use schemas::access::Caller;
use schemas::page::{self, Asked};
use schemas::time::Timestamp;
use serde::Deserialize;

use super::Refused;
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
    let (subject, after) = (params.subject.as_deref(), params.after.as_deref());
    let asked = Asked::read(caller, subject, after, (params.limit, PAGE_MAX))?;
    Ok(asked.map(|asked| GivenFilter {
        subject: asked.subject.map(String::from),
        tenant: caller.tenant.clone(),
        kind: params.kind.as_ref().map(|kind| kind.replace('\0', "")),
        after: asked.after.map(|(at, id)| GivenCursor {
            at: Timestamp::from_micros(at),
            id,
        }),
        limit: asked.size + 1,
    }))
}

/// Where the page after `last` is found, with the parameters that this one was asked for with.
pub(super) fn next(
    path: &str,
    query: &[(&str, Option<&str>)],
    size: usize,
    last: &Given,
) -> Option<HeaderValue> {
    let place = (last.at.as_micros(), last.id.clone());
    page::next(path, query, ("limit", size), &place)
}
