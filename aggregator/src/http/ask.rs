//! Parameters that several queries share, read and checked.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemas::access::Caller;
use schemas::policy::{Meter, MeterError};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use super::Refusal;
use crate::store::Page;

/// A subject that the caller may see; `None` for one that it may not, which is answered as one without anything.
pub(super) fn subject(text: &str, caller: &Caller) -> Result<Option<Subject>, Refusal> {
    let subject = Subject::parse(text).map_err(|error| Refusal::Bad {
        parameter: "subject",
        detail: error.to_string(),
    })?;
    Ok(Some(subject).filter(|subject| caller.may_see(subject)))
}

pub(super) fn meter(text: &str) -> Result<Meter, Refusal> {
    text.parse().map_err(|error: MeterError| Refusal::Bad {
        parameter: "meter",
        detail: error.to_string(),
    })
}

pub(super) fn time(parameter: &'static str, text: &str) -> Result<Timestamp, Refusal> {
    Timestamp::parse(text).ok_or_else(|| Refusal::Bad {
        parameter,
        detail: format!("`{text}` is no time as RFC 3339 has it, such as 2026-11-21T12:00:00Z"),
    })
}

/// A page's size and the cursor that the page before it gave.
pub(super) fn page(
    after: Option<&str>,
    size: Option<i64>,
    (size_name, size_max): (&'static str, i64),
) -> Result<Page, Refusal> {
    let limit = size.unwrap_or(size_max);
    if !(1..=size_max).contains(&limit) {
        let detail = format!("must be from 1 to {size_max}");
        return Err(Refusal::Bad {
            parameter: size_name,
            detail,
        });
    }
    let after = after.map(|cursor| {
        decode(cursor).ok_or_else(|| Refusal::Bad {
            parameter: "after",
            detail: "not a cursor that an earlier page gave".to_owned(),
        })
    });
    Ok(Page {
        after: after.transpose()?,
        limit,
    })
}

/// The `Link` to the page of a list after `place`; `query` is what the list was asked with.
pub(super) fn link(
    path: &str,
    query: &[(&str, &Option<String>)],
    (size_name, page): (&str, &Page),
    place: &(i64, String),
) -> Option<HeaderValue> {
    let (size, after) = (page.limit, encode(place));
    let mut link = format!("<{path}?{size_name}={size}&after={after}");
    for (name, value) in query {
        if let Some(value) = value {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            link.push_str(&format!("&{name}={value}"));
        }
    }
    link.push_str(">; rel=\"next\"");
    HeaderValue::from_str(&link).ok()
}

/// A place in a list, as a client may keep it.
fn encode((at, id): &(i64, String)) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{at}:{id}"))
}

fn decode(cursor: &str) -> Option<(i64, String)> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (at, id) = text.split_once(':')?;
    Some((at.parse().ok()?, id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let place = (-7, "a:b/c".to_owned());
        assert_eq!(decode(&encode(&place)), Some(place));
        for cursor in ["", "!", "YQ", "YTpi"] {
            assert_eq!(decode(cursor), None, "{cursor}");
        }
    }

    #[test]
    fn a_page_has_bounds() {
        let size = |size| page(None, size, ("limit", 100)).map(|page| page.limit).ok();
        assert_eq!(
            [size(None), size(Some(1)), size(Some(100))],
            [Some(100), Some(1), Some(100)]
        );
        assert_eq!(
            [size(Some(0)), size(Some(-1)), size(Some(101))],
            [None, None, None]
        );
    }
}
