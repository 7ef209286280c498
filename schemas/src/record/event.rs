use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Amount, Origin};
use crate::policy::Meter;
use crate::subject::{Identity, Subject};
use crate::time::Timestamp;

/// What one call used. One event is one by `event_source` and `event_id`, within its tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub event_source: String,
    pub event_id: String,
    pub tenant: String,
    /// When it happened.
    pub at: Timestamp,
    /// When Weir took it.
    pub received_at: Timestamp,
    pub key: Option<String>,
    pub user: Option<String>,
    pub route: Option<String>,
    pub provider: Option<String>,
    pub model: Option<String>,
    /// The client's address: IPv4, or the /64 of an IPv6.
    pub source: Option<String>,
    pub fingerprint: Option<String>,
    pub action: Option<String>,
    pub request_id: Option<String>,
    pub reservation: Option<String>,
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

impl Usage {
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            tenant: Some(&self.tenant),
            key: self.key.as_deref(),
            user: self.user.as_deref(),
            account: None,
            source: self.source.as_deref(),
            fingerprint: self.fingerprint.as_deref(),
            action: self.action.as_deref(),
            provider: self.provider.as_deref(),
            model: self.model.as_deref(),
            route: self.route.as_deref(),
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

/// A [`Usage`] whose text is that of the bytes that it was read from, as far as it stands there as it is: most of what
/// reading costs is else that every id is copied. Has the same fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRef<'a> {
    pub event_source: Cow<'a, str>,
    pub event_id: Cow<'a, str>,
    pub tenant: Cow<'a, str>,
    pub at: Timestamp,
    pub received_at: Timestamp,
    pub key: Option<Cow<'a, str>>,
    pub user: Option<Cow<'a, str>>,
    pub route: Option<Cow<'a, str>>,
    pub provider: Option<Cow<'a, str>>,
    pub model: Option<Cow<'a, str>>,
    pub source: Option<Cow<'a, str>>,
    pub fingerprint: Option<Cow<'a, str>>,
    pub action: Option<Cow<'a, str>>,
    pub request_id: Option<Cow<'a, str>>,
    pub reservation: Option<Cow<'a, str>>,
    pub status: Option<i32>,
    pub latency_ms: Option<i64>,
    pub requests: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub cost: i64,
    pub units: BTreeMap<String, i64>,
}

impl UsageRef<'_> {
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            tenant: Some(&self.tenant),
            key: self.key.as_deref(),
            user: self.user.as_deref(),
            account: None,
            source: self.source.as_deref(),
            fingerprint: self.fingerprint.as_deref(),
            action: self.action.as_deref(),
            provider: self.provider.as_deref(),
            model: self.model.as_deref(),
            route: self.route.as_deref(),
        }
    }

    #[must_use]
    pub fn into_owned(self) -> Usage {
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        Usage {
            event_source: self.event_source.into_owned(),
            event_id: self.event_id.into_owned(),
            tenant: self.tenant.into_owned(),
            at: self.at,
            received_at: self.received_at,
            key: owned(self.key),
            user: owned(self.user),
            route: owned(self.route),
            provider: owned(self.provider),
            model: owned(self.model),
            source: owned(self.source),
            fingerprint: owned(self.fingerprint),
            action: owned(self.action),
            request_id: owned(self.request_id),
            reservation: owned(self.reservation),
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

impl From<Usage> for UsageRef<'static> {
    fn from(usage: Usage) -> Self {
        let owned = |text: Option<String>| text.map(Cow::Owned);
        Self {
            event_source: usage.event_source.into(),
            event_id: usage.event_id.into(),
            tenant: usage.tenant.into(),
            at: usage.at,
            received_at: usage.received_at,
            key: owned(usage.key),
            user: owned(usage.user),
            route: owned(usage.route),
            provider: owned(usage.provider),
            model: owned(usage.model),
            source: owned(usage.source),
            fingerprint: owned(usage.fingerprint),
            action: owned(usage.action),
            request_id: owned(usage.request_id),
            reservation: owned(usage.reservation),
            status: usage.status,
            latency_ms: usage.latency_ms,
            requests: usage.requests,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost: usage.cost,
            units: usage.units,
        }
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
