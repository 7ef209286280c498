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
