//! How a message leaves: one transport per channel.

mod mail;
mod signature;
mod webhook;

use std::time::Duration;

use schemas::time::Timestamp;
use thiserror::Error;

use crate::config::{ChannelConfig, ChannelKind, ConfigError};
use crate::message::Message;

use mail::Mail;
#[cfg(test)]
pub(crate) use signature::Signer;
use webhook::Webhook;

/// Why a try failed.
#[derive(Debug, Error)]
pub(crate) enum DeliverError {
    #[error("the receiver answered {status}")]
    Answered {
        status: u16,
        retry_after: Option<Duration>,
    },
    #[error("the receiver answered 410: it wants no more messages here")]
    Gone,
    #[error("the receiver refused the message for good: {0}")]
    Refused(String),
    #[error("the receiver could not be reached: {0}")]
    Unreached(String),
    #[error("the receiver did not answer within {0:?}")]
    TimedOut(Duration),
    #[error("the message could not be written: {0}")]
    Unwritable(String),
}

impl DeliverError {
    /// Whether trying again cannot help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Gone | Self::Refused(_) | Self::Unwritable(_))
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

pub(crate) enum Transport {
    Webhook(Box<Webhook>),
    Mail(Box<Mail>),
}

impl Transport {
    /// Checks everything that can be checked without a connection.
    pub(crate) fn build(channel: &ChannelConfig, timeout: Duration) -> Result<Self, ConfigError> {
        match channel.kind {
            ChannelKind::Webhook => {
                Webhook::build(channel, timeout).map(|webhook| Self::Webhook(Box::new(webhook)))
            }
            ChannelKind::Mail => {
                Mail::build(channel, timeout).map(|mail| Self::Mail(Box::new(mail)))
            }
        }
    }

    /// One try.
    pub(crate) async fn deliver(
        &self,
        message: &Message,
        now: Timestamp,
    ) -> Result<(), DeliverError> {
        match self {
            Self::Webhook(webhook) => webhook.deliver(message, now).await,
            Self::Mail(mail) => mail.deliver(message, now).await,
        }
    }
}

/// Whether `host` is this machine, by name or address.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_machine() {
        for (host, expected) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("[::1]", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("localhost.example.com", false),
            ("169.254.169.254", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
