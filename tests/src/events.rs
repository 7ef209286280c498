//! Events as apps write them.

use std::sync::atomic::{AtomicU64, Ordering};

use bus::clock::{Clock, SystemClock};
use schemas::time::Timestamp;
use serde_json::{Value, json};

/// Now, by the clock that Weir reads as well.
#[must_use]
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// A usage event of `tenant`, now, with an id that no other has.
#[must_use]
pub fn usage(tenant: &str, data: &Value) -> String {
    event("usage", tenant, data)
}

/// A failed sign-in to `account` of `tenant`, now.
#[must_use]
pub fn failed_sign_in(tenant: &str, account: &str, source: &str) -> String {
    event(
        "auth",
        tenant,
        &json!({ "account": account, "source": source, "outcome": "failure" }),
    )
}

fn event(kind: &str, tenant: &str, data: &Value) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    json!({
        "specversion": "1.0",
        "id": format!("e-{id}"),
        "source": "tests",
        "type": kind,
        "subject": tenant,
        "time": now().to_string(),
        "data": data,
    })
    .to_string()
}
