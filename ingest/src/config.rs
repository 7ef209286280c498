use std::collections::BTreeMap;

use serde::Deserialize;

/// Bounds on what one client may ask, and how browsers' reports find their tenant.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest body as it comes over the wire.
    pub body_bytes_max: usize,
    /// The largest body once inflated.
    pub inflated_bytes_max: usize,
    /// The most events in one request.
    pub batch_events_max: usize,
    /// How far an event's time may be ahead of Weir's clock.
    pub future_seconds_max: u64,
    /// How far an event's time may be behind Weir's clock.
    pub past_seconds_max: u64,
    /// Memory for the bodies of all requests in progress; more are refused with 503.
    pub in_flight_bytes_max: usize,
    /// The largest report from a browser.
    pub csp_body_bytes_max: usize,
    /// Reports a second that one tenant's browsers may send, on average; more are refused with 429.
    pub csp_reports_per_second_max: u32,
    /// Whose reports a token in `/v1/csp/{token}` marks. When empty, a token is the tenant's own id.
    pub csp_tokens: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            inflated_bytes_max: 32 << 20,
            batch_events_max: 10_000,
            future_seconds_max: 5 * 60,
            past_seconds_max: 10 * 365 * 86_400,
            in_flight_bytes_max: 256 << 20,
            csp_body_bytes_max: 64 << 10,
            csp_reports_per_second_max: 100,
            csp_tokens: BTreeMap::new(),
        }
    }
}
