//! What an answer says in HTTP headers.
//!
//! `RateLimit` and `RateLimit-Policy` follow draft-ietf-httpapi-ratelimit-headers-10: lists of structured fields
//! (RFC 9651), one item a limit, named after it. Quotas of other things than requests name their unit in `qu`; money
//! is told in millionths of a dollar, since the fields' integers end at 15 digits. Calendar windows have no fixed
//! length and so no `w`; what is in flight has none at all.

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use schemas::policy::{Meter, Window};

use crate::reply::{Left, Reply};

pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `false` where a retry within a minute cannot help; several SDKs obey it.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The id of the decision that the answer rests on.
pub const DECISION: HeaderName = HeaderName::from_static("x-weir-decision");
/// For how many seconds the gateway's view has been out of date.
pub const STALE: HeaderName = HeaderName::from_static("x-weir-stale");
/// What to report tokens and cost of this call under.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-weir-request-id");

/// The largest integer of a structured field.
const INTEGER_MAX: i128 = 999_999_999_999_999;

const PICO_PER_MICRO: i128 = 1_000_000;

/// Limits that one answer's headers tell of; the tightest come first.
const LIMITS_MAX: usize = 8;

/// Adds the headers of `reply` to those of an answer, and takes the place of any that were there.
pub fn add(reply: &Reply, headers: &mut HeaderMap) {
    let told = reply.limits.iter().filter(|left| left.limit.headers);
    let mut limits: Vec<&Left> = told.collect();
    limits.sort_by_key(|left| share_left(left));
    limits.truncate(LIMITS_MAX);
    if !limits.is_empty() {
        insert(headers, RATE_LIMIT, &list(&limits, write_left));
        insert(headers, RATE_LIMIT_POLICY, &list(&limits, write_policy));
    }
    if let Some(seconds) = reply.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if reply.is_final() {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(decision) = &reply.decision {
        insert(headers, DECISION, decision);
    }
    if let Some(seconds) = reply.stale_s {
        headers.insert(STALE, HeaderValue::from(seconds));
    }
    insert(headers, REQUEST_ID, &reply.request_id);
}

/// A value that no header can hold (it came from outside) is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

/// How much is left, in millionths of the whole.
fn share_left(left: &Left) -> i128 {
    let (remaining, max) = (left.limit.remaining, left.limit.max.max(1));
    match remaining.checked_mul(1_000_000) {
        Some(scaled) => scaled / max,
        None => remaining / (max / 1_000_000).max(1),
    }
}

fn list(limits: &[&Left], write: impl Fn(&mut String, &Left)) -> String {
    let mut text = String::new();
    for left in limits {
        if !text.is_empty() {
            text.push_str(", ");
        }
        push_string(&mut text, &left.limit.name);
        write(&mut text, left);
    }
    text
}

/// `"name";r=…;t=…`
fn write_left(text: &mut String, left: &Left) {
    let limit = &left.limit;
    push_parameter(text, "r", units(&limit.meter, limit.remaining));
    if let Some(seconds) = left.reset_s {
        push_parameter(text, "t", seconds.into());
    }
}

/// `"name";q=…;qu="…";w=…`
fn write_policy(text: &mut String, left: &Left) {
    let limit = &left.limit;
    push_parameter(text, "q", units(&limit.meter, limit.max));
    match &limit.meter {
        Meter::Requests if limit.window == Window::Concurrent => {
            text.push_str(";qu=\"concurrent-requests\"");
        }
        Meter::Requests => {}
        Meter::Cost => text.push_str(";qu=\"micro-usd\""),
        meter => {
            text.push_str(";qu=");
            push_string(text, meter.name());
        }
    }
    if let Some(seconds) = length_seconds(limit.window) {
        push_parameter(text, "w", seconds.into());
    }
}

/// How long a window is; a bucket, how long it takes to drain.
fn length_seconds(window: Window) -> Option<u64> {
    match window {
        Window::Sliding { seconds } => Some(seconds.into()),
        Window::Bucket {
            amount,
            seconds,
            burst,
        } => {
            let drained = u128::from(burst) * u128::from(seconds);
            u64::try_from(drained.div_ceil(amount.max(1).into())).ok()
        }
        Window::Calendar(_) | Window::Wallet | Window::Concurrent => None,
    }
}

fn units(meter: &Meter, amount: i128) -> i128 {
    match meter {
        Meter::Cost => amount / PICO_PER_MICRO,
        _ => amount,
    }
}

fn push_parameter(text: &mut String, name: &str, value: i128) {
    let value = value.clamp(0, INTEGER_MAX);
    let written = write!(text, ";{name}={value}");
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

/// A string of RFC 9651: printable ASCII in quotes. Anything else in a name becomes `?`.
fn push_string(text: &mut String, content: &str) {
    text.push('"');
    for character in content.chars() {
        match character {
            '"' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text.push('"');
}

#[cfg(test)]
pub(crate) mod tests {
    use schemas::subject::Subject;

    use super::*;
    use crate::cache::Verdict;
    use crate::check::LimitOf;

    pub(crate) fn reply() -> Reply {
        Reply {
            request_id: "r-1".to_owned(),
            verdict: Verdict::Allow,
            status: 200,
            retry_after_s: None,
            decision: None,
            causes: Vec::new(),
            limits: Vec::new(),
            stale_s: None,
            closed: false,
            policy_version: 5,
        }
    }

    pub(crate) fn refused(status: u16, retry_after_s: Option<u64>) -> Reply {
        Reply {
            verdict: Verdict::Block,
            status,
            retry_after_s,
            decision: Some("d-1".to_owned()),
            ..reply()
        }
    }

    fn left(text: &str, max: i128, remaining: i128, reset_s: Option<u64>) -> Left {
        let (name, rest) = text.split_once(' ').unwrap();
        let (meter, window) = rest.split_once(' ').unwrap();
        Left {
            limit: LimitOf {
                name: name.to_owned(),
                subject: Subject::tenant("acme"),
                meter: meter.parse().unwrap(),
                window: window.parse().unwrap(),
                max,
                remaining,
                reset_at: None,
                headers: true,
            },
            reset_s,
        }
    }

    #[track_caller]
    fn check(reply: &Reply, expected: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        add(reply, &mut headers);
        let mut told: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        told.retain(|(name, _)| *name != "x-weir-request-id");
        told.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn tells_what_is_left() {
        let limits = |limits: Vec<Left>| Reply { limits, ..reply() };
        check(&reply(), &[]);
        check(
            &limits(vec![left("rate requests sliding 60s", 100, 40, Some(51))]),
            &[
                ("ratelimit", "\"rate\";r=40;t=51"),
                ("ratelimit-policy", "\"rate\";q=100;w=60"),
            ],
        );
        check(
            &limits(vec![left("places requests concurrent", 10, 4, None)]),
            &[
                ("ratelimit", "\"places\";r=4"),
                (
                    "ratelimit-policy",
                    "\"places\";q=10;qu=\"concurrent-requests\"",
                ),
            ],
        );
        // The tightest first, in units of their own.
        check(
            &limits(vec![
                left("rate requests bucket 10/s burst 45", 45, 45, None),
                left(
                    "b\"\\\u{fc} cost calendar month",
                    20_000_000_000_000,
                    5_000_000_000_000,
                    Some(9),
                ),
                left(
                    "tokens tokens sliding 1h",
                    i128::MAX,
                    i128::MAX / 2,
                    Some(3),
                ),
            ]),
            &[
                (
                    "ratelimit",
                    "\"b\\\"\\\\?\";r=5000000;t=9, \"tokens\";r=999999999999999;t=3, \"rate\";r=45",
                ),
                (
                    "ratelimit-policy",
                    "\"b\\\"\\\\?\";q=20000000;qu=\"micro-usd\", \"tokens\";q=999999999999999;qu=\"tokens\";w=3600, \"rate\";q=45;w=5",
                ),
            ],
        );
    }

    #[test]
    fn is_silent_of_limits_that_want_it() {
        let mut hidden = left("hidden requests sliding 60s", 100, 1, Some(51));
        hidden.limit.headers = false;
        let shown = left("shown requests sliding 60s", 100, 40, Some(51));
        let told = [
            ("ratelimit", "\"shown\";r=40;t=51"),
            ("ratelimit-policy", "\"shown\";q=100;w=60"),
        ];
        let limits = |limits: Vec<Left>| Reply { limits, ..reply() };
        check(&limits(vec![hidden.clone(), shown]), &told);
        check(&limits(vec![hidden]), &[]);
    }

    #[test]
    fn tells_when_to_come_back() {
        let decision = ("x-weir-decision", "d-1");
        let never = ("x-should-retry", "false");
        check(&refused(429, Some(60)), &[("retry-after", "60"), decision]);
        check(
            &refused(429, Some(61)),
            &[("retry-after", "61"), never, decision],
        );
        check(
            &refused(402, Some(5)),
            &[("retry-after", "5"), never, decision],
        );
        check(&refused(403, None), &[never, decision]);
    }

    #[test]
    fn tells_that_the_view_is_stale() {
        let stale = Reply {
            stale_s: Some(31),
            ..reply()
        };
        check(&stale, &[("x-weir-stale", "31")]);
    }

    #[test]
    fn leaves_out_what_no_header_can_hold() {
        let broken = Reply {
            decision: Some("a\nb".to_owned()),
            ..refused(429, Some(5))
        };
        check(&broken, &[("retry-after", "5")]);
    }
}
