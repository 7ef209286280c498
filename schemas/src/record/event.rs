use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Amount, Origin};
use crate::policy::Meter;
use crate::subject::{Identity, Subject};
use crate::time::Timestamp;

/// What one call used. One event is one by `event_source` and `event_id`, within its tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "Usage")]
pub struct UsageOf<T> {
    pub event_source: T,
    pub event_id: T,
    pub tenant: T,
    /// When it happened.
    pub at: Timestamp,
    /// When Weir took it.
    pub received_at: Timestamp,
    pub key: Option<T>,
    pub user: Option<T>,
    pub route: Option<T>,
    pub provider: Option<T>,
    pub model: Option<T>,
    /// The client's address: IPv4, or the /64 of an IPv6.
    pub source: Option<T>,
    pub fingerprint: Option<T>,
    pub action: Option<T>,
    pub request_id: Option<T>,
    pub reservation: Option<T>,
    /// The HTTP status that the call ended with.
    pub status: Option<i32>,
    pub latency_ms: Option<i64>,
    pub requests: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// Pico-dollars.
    pub cost: i64,
    /// Meters of the user's own.
    pub units: BTreeMap<String, i64>,
}

/// A usage event that owns its text.
pub type Usage = UsageOf<String>;

/// One whose text is that of the bytes that it was read from, as far as it stands there as it is: most of what reading
/// costs is else that every id is copied.
pub type UsageRef<'a> = UsageOf<Cow<'a, str>>;

impl<T: AsRef<str>> UsageOf<T> {
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            tenant: Some(self.tenant.as_ref()),
            key: self.key.as_ref().map(T::as_ref),
            user: self.user.as_ref().map(T::as_ref),
            account: None,
            source: self.source.as_ref().map(T::as_ref),
            fingerprint: self.fingerprint.as_ref().map(T::as_ref),
            action: self.action.as_ref().map(T::as_ref),
            provider: self.provider.as_ref().map(T::as_ref),
            model: self.model.as_ref().map(T::as_ref),
            route: self.route.as_ref().map(T::as_ref),
        }
    }

    /// What this event adds to `meter`.
    #[must_use]
    pub fn amount(&self, meter: &Meter) -> i128 {
        match meter {
            Meter::Requests => self.requests.into(),
            Meter::InputTokens => self.input_tokens.into(),
            Meter::OutputTokens => self.output_tokens.into(),
            Meter::Tokens => i128::from(self.input_tokens) + i128::from(self.output_tokens),
            Meter::Cost => self.cost.into(),
            Meter::Failures | Meter::Violations => 0,
            Meter::Unit(name) => self.units.get(name).copied().unwrap_or(0).into(),
        }
    }
}

impl<T> UsageOf<T> {
    /// The same event with its text held in another way.
    fn map<U>(self, text: impl Fn(T) -> U) -> UsageOf<U> {
        UsageOf {
            event_source: text(self.event_source),
            event_id: text(self.event_id),
            tenant: text(self.tenant),
            at: self.at,
            received_at: self.received_at,
            key: self.key.map(&text),
            user: self.user.map(&text),
            route: self.route.map(&text),
            provider: self.provider.map(&text),
            model: self.model.map(&text),
            source: self.source.map(&text),
            fingerprint: self.fingerprint.map(&text),
            action: self.action.map(&text),
            request_id: self.request_id.map(&text),
            reservation: self.reservation.map(&text),
            status: self.status,
            latency_ms: self.latency_ms,
            requests: self.requests,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cost: self.cost,
            units: self.units,
        }
    }
}

impl UsageRef<'_> {
    #[must_use]
    pub fn into_owned(self) -> Usage {
        self.map(Cow::into_owned)
    }
}

impl From<Usage> for UsageRef<'static> {
    fn from(usage: Usage) -> Self {
        usage.map(Cow::Owned)
    }
}

/// How a sign-in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Success,
    Failure,
}

/// One sign-in, or a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    pub event_source: String,
    pub event_id: String,
    pub tenant: String,
    pub at: Timestamp,
    pub received_at: Timestamp,
    pub account: Option<String>,
    /// The client's address: IPv4, or the /64 of an IPv6.
    pub source: Option<String>,
    pub outcome: Outcome,
    /// `web`, `api`, …
    pub surface: Option<String>,
    pub reason: Option<String>,
}

impl Auth {
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            tenant: Some(&self.tenant),
            account: self.account.as_deref(),
            source: self.source.as_deref(),
            ..Identity::default()
        }
    }
}

/// One report of a content security policy's violation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Csp {
    pub event_source: String,
    pub event_id: String,
    pub tenant: String,
    pub at: Timestamp,
    pub received_at: Timestamp,
    /// The page, without query and fragment.
    pub document_uri: String,
    /// The directive that was violated, such as `script-src-elem`.
    pub directive: String,
    /// What was blocked, without query and fragment; or a keyword such as `inline`, `eval`, `data`.
    pub blocked_uri: String,
    /// The host of `blocked_uri`, or the keyword: what reports are grouped by.
    pub blocked_host: String,
    /// `enforce` or `report`.
    pub disposition: Option<String>,
    pub source_file: Option<String>,
    pub line: Option<i32>,
    /// The first characters of the offending script or style, when the browser sends them.
    pub sample: Option<String>,
}

/// One partition's sum in one slice of a scope wider than a tenant: absolute, so that the newest replaces all before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    pub scope: Subject,
    pub meter: Meter,
    /// Start of the slice.
    pub slice: Timestamp,
    /// Width of the slice.
    pub slice_seconds: i32,
    pub sum: Amount,
    /// The event that changed it last, and so whose partition's sum it is.
    pub origin: Origin,
}
