//! Parameters that several queries share, read and checked.

use schemas::access::Caller;
use schemas::page;
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
        page::decode(cursor).ok_or_else(|| Refusal::Bad {
            parameter: "after",
            detail: "not a cursor that an earlier page gave".to_owned(),
        })
    });
    Ok(Page {
        after: after.transpose()?,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
