//! Webhooks as <https://www.standardwebhooks.com> describes them.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use schemas::time::Timestamp;

use super::signature::Signer;
use super::{DeliverError, is_loopback};
use crate::config::{ChannelConfig, ConfigError};
use crate::message::Message;
use crate::retry::parse_retry_after;

/// One receiver.
pub(crate) struct Webhook {
    client: Client,
    url: Url,
    signer: Signer,
    timeout: Duration,
}

impl Webhook {
    pub(super) fn build(channel: &ChannelConfig, timeout: Duration) -> Result<Self, ConfigError> {
        let wrong = |reason: &dyn std::fmt::Display| ConfigError::channel(&channel.name, reason);
        let url = channel.url.as_deref();
        let url = url.ok_or_else(|| wrong(&"a webhook needs `url`"))?;
        let url = Url::parse(url).map_err(|error| wrong(&format_args!("`url`: {error}")))?;
        let host = url.host_str().unwrap_or_default();
        match url.scheme() {
            "https" => {}
            "http" if channel.allow_http || is_loopback(host) => {}
            "http" => {
                let reason = "`url` is plain http; use https, or set `allow_http = true`";
                return Err(wrong(&reason));
            }
            other => {
                return Err(wrong(&format_args!(
                    "`url`: `{other}` is not http or https"
                )));
            }
        }
        let secret = channel.secret.as_ref();
        let secret = secret.ok_or_else(|| wrong(&"a webhook needs `secret`"))?;
        let signer = Signer::new(secret.expose()).map_err(|error| wrong(&error))?;
        let client = Client::builder()
            .redirect(Policy::none())
            .timeout(timeout)
            .user_agent("weir-notifier")
            .build()
            .map_err(|error| wrong(&format_args!("no HTTP client can be made: {error:?}")))?;
        Ok(Self {
            client,
            url,
            signer,
            timeout,
        })
    }

    pub(super) async fn deliver(
        &self,
        message: &Message,
        now: Timestamp,
    ) -> Result<(), DeliverError> {
        let body = message.to_json();
        let signature = self.signer.sign(&message.id, now.second(), &body);
        let answer = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", now.second())
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await
            .map_err(|error| self.explain(error))?;
        judge(&answer, now)
    }

    /// The error without the address, which may hold a secret.
    fn explain(&self, error: reqwest::Error) -> DeliverError {
        if error.is_timeout() {
            return DeliverError::TimedOut(self.timeout);
        }
        let error = error.without_url();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        DeliverError::Unreached(text)
    }
}

/// Any 2xx is a delivery, 410 asks to stop, all others are tried again: a receiver that is misconfigured for an hour
/// should not lose what it was to hear.
fn judge(answer: &Response, now: Timestamp) -> Result<(), DeliverError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    if status.as_u16() == 410 {
        return Err(DeliverError::Gone);
    }
    let header = answer.headers().get(RETRY_AFTER);
    let retry_after = header
        .and_then(|value| value.to_str().ok())
        .and_then(|text| parse_retry_after(text, now));
    Err(DeliverError::Answered {
        status: status.as_u16(),
        retry_after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[track_caller]
    fn check(url: &str, secret: &str, allow_http: bool, expected: Result<(), &str>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let channel = ChannelConfig {
            name: "ops".to_owned(),
            url: (!url.is_empty()).then(|| url.to_owned()),
            secret: (!secret.is_empty()).then(|| Secret::new(secret)),
            allow_http,
            ..ChannelConfig::default()
        };
        let built = Webhook::build(&channel, Duration::from_secs(10));
        let found = built.map(|_| ()).map_err(|error| error.to_string());
        let expected = expected.map_err(|reason| format!("notifier.channel `ops`: {reason}"));
        assert_eq!(found, expected, "{url}");
    }

    #[test]
    fn takes_https_and_http_to_this_machine() {
        check("https://example.com/hook", SECRET, false, Ok(()));
        check("http://127.0.0.1:9/hook", SECRET, false, Ok(()));
        check("http://localhost/hook", SECRET, false, Ok(()));
        check("http://example.com/hook", SECRET, true, Ok(()));
    }

    #[test]
    fn refuses_what_cannot_work_or_is_not_safe() {
        let plain = "`url` is plain http; use https, or set `allow_http = true`";
        check("http://example.com/hook", SECRET, false, Err(plain));
        check("http://169.254.169.254/", SECRET, false, Err(plain));
        check(
            "ftp://example.com",
            SECRET,
            true,
            Err("`url`: `ftp` is not http or https"),
        );
        check("", SECRET, false, Err("a webhook needs `url`"));
        check(
            "https://example.com",
            "",
            false,
            Err("a webhook needs `secret`"),
        );
        check(
            "https://example.com",
            "whsec_*",
            false,
            Err("a webhook's secret is `whsec_` and base64"),
        );
        check(
            "nowhere",
            SECRET,
            false,
            Err("`url`: relative URL without a base"),
        );
    }
}
