//! Tells people. Alerts come from `weir.alerts.v1`, are placed in an outbox in the store, and leave it as signed
//! webhooks and mail.
//!
//! The path of one alert:
//! 1. `wire` reads the record; one that nobody can read goes to `weir.dead.v1`.
//! 2. `route` says, per channel, whether it is sent, folded into a digest, or suppressed as too old.
//! 3. `store` keeps the alert and one row per channel in one transaction; only then is the offset committed. An
//!    alert that is known already changes nothing, so that one crossing is told once.
//! 4. The loop in `run` leases rows that are due, `deliver` carries them, and the row is settled as sent, as
//!    failed for good, or as due again at the time that `retry` gives.
//!
//! A crash between a delivery and its settling sends a message again. Receivers tell by the `webhook-id` header (or
//! the mail's `Message-ID`), which is the same in every try.
//!
//! Pure: `alert`, `message`, `route`, `retry`, `deliver::signature`.

mod alert;
mod config;
mod courier;
mod deliver;
mod desk;
mod http;
mod message;
mod metrics;
mod retry;
mod route;
mod run;
mod store;
mod wire;

pub use config::{ChannelConfig, ChannelKind, Config, ConfigError, Secret, Tls};
pub use http::OPERATIONS;
pub use run::{BuildError, Deps, RunError, Service};

#[cfg(test)]
mod tests;
