//! Pages of the management plane's lists: what is asked for, how a place in a list is told to whoever reads on from
//! there, and where that is (RFC 8288).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::LINK;
use http::{HeaderValue, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::access::Caller;
use crate::problem::Problem;
use crate::subject::Subject;

/// Where an entry stands in its list: what the list is ordered by, and then the entry's name.
pub type Place = (i64, String);

/// What the parameters say that most lists have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub subject: Option<Subject>,
    /// The place of the last entry of the page before.
    pub after: Option<Place>,
    /// Entries on the page.
    pub size: usize,
}

impl Asked {
    /// Reads `subject`, `after` and `limit`, of which the last is at most, and by default, `size_max`. `None` where the
    /// caller may not see the subject, which is as if there were nothing about it.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn read(
        caller: &Caller,
        subject: Option<&str>,
        after: Option<&str>,
        (limit, size_max): (Option<usize>, usize),
    ) -> Result<Option<Self>, Box<Problem>> {
        let size = limit.unwrap_or(size_max).min(size_max);
        if size == 0 {
            return Err(Problem::parameter("limit", "must be at least 1").into());
        }
        let subject = subject.map(Subject::parse).transpose();
        let subject = subject.map_err(|error| Problem::parameter("subject", error.to_string()))?;
        let after = after.map(|cursor| decode(cursor).ok_or_else(stale));
        let asked = Self {
            after: after.transpose()?,
            size,
            subject,
        };
        let is_hidden = |subject: &Subject| !caller.may_see(subject);
        Ok((!asked.subject.as_ref().is_some_and(is_hidden)).then_some(asked))
    }
}

/// The problem of a cursor that is none.
#[must_use]
pub fn stale() -> Box<Problem> {
    Problem::parameter("after", "not a cursor that an earlier page gave").into()
}

/// The cursor of a place, to be given back as it is.
#[must_use]
pub fn encode((order, name): &Place) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{order}.{name}"))
}

/// The place of a cursor. It never has a NUL, which PostgreSQL does not keep.
#[must_use]
pub fn decode(cursor: &str) -> Option<Place> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (order, name) = text.split_once('.')?;
    let name = Some(name).filter(|name| !name.contains('\0'))?;
    Some((order.parse().ok()?, name.to_owned()))
}

/// The `Link` to the page of the list at `path` after `last`, asked for with the same `query` and size.
#[must_use]
pub fn next(
    path: &str,
    query: &[(&str, Option<&str>)],
    (size_name, size): (&str, impl std::fmt::Display),
    last: &Place,
) -> Option<HeaderValue> {
    let mut link = format!("<{path}?{size_name}={size}&after={}", encode(last));
    for (name, value) in query {
        if let Some(value) = value {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            link.push_str(&format!("&{name}={value}"));
        }
    }
    link.push_str(">; rel=\"next\"");
    HeaderValue::from_str(&link).ok()
}

/// `page` with the way to the one after it, if there is one.
#[must_use]
pub fn with_next<B>(mut page: Response<B>, next: Option<HeaderValue>) -> Response<B> {
    if let Some(next) = next {
        page.headers_mut().insert(LINK, next);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        for place in [(-7, "a:b/c.d ü"), (0, "")] {
            let place = (place.0, place.1.to_owned());
            assert_eq!(decode(&encode(&place)), Some(place));
        }
        let with_nul = encode(&(1, "a\0".to_owned()));
        for cursor in ["", "!", "YQ", "YTpi", "YS5i", "AAAA", &with_nul] {
            assert_eq!(decode(cursor), None, "{cursor}");
        }
    }

    #[test]
    fn the_next_page_is_asked_for_as_this_one_was() {
        let query = [("subject", Some("tenant/a&b")), ("kind", None)];
        let link = next("/v1/commands", &query, ("limit", 5), &(9, "x".to_owned()));
        let expected = "</v1/commands?limit=5&after=OS54&subject=tenant%2Fa%26b>; rel=\"next\"";
        assert_eq!(link.unwrap(), expected);
    }
}
