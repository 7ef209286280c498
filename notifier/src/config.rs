//! What an operator may set, and its check before anything runs.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::alert::Kind;
use crate::retry::Backoff;
use crate::route::{Listener, Rules, TenantPattern};

/// The section `[notifier]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who is told. Without any, alerts are kept for `GET /v1/alerts` and nobody is told.
    pub channel: Vec<ChannelConfig>,
    /// An alert whose event time is older than this is recorded as suppressed and not sent.
    pub alert_age_max_s: u64,
    /// The span in which a channel's `messages_max` counts.
    pub flood_window_s: u64,
    /// Deliveries that one channel has on the way at once.
    pub in_flight_max: u32,
    /// Longest time that one try may take.
    pub delivery_timeout_s: u64,
    /// Upper bound of the wait after the first failed try; it doubles with each further one.
    pub retry_base_ms: u64,
    /// Where that doubling ends.
    pub retry_max_s: u64,
    /// After this a message that could not be delivered has failed for good.
    pub give_up_after_s: u64,
    /// How often the outbox is looked through for what is due.
    pub poll_interval_ms: u64,
    /// How long deliveries on the way may take to end when the service stops.
    pub drain_s: u64,
    /// Alerts and their deliveries are forgotten after this many days.
    pub keep_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channel: Vec::new(),
            alert_age_max_s: 86_400,
            flood_window_s: 3_600,
            in_flight_max: 4,
            delivery_timeout_s: 10,
            retry_base_ms: 1_000,
            retry_max_s: 60,
            give_up_after_s: 3 * 86_400,
            poll_interval_ms: 500,
            drain_s: 5,
            keep_days: 30,
        }
    }
}

/// One `[[notifier.channel]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelConfig {
    /// Names it in the outbox and in metrics; a channel that is renamed is a new one.
    pub name: String,
    pub kind: ChannelKind,
    /// Ids of tenants, prefixes such as `acme-*`, or `*` for all and for what is wider than a tenant.
    /// Empty is the same as `["*"]`.
    pub tenants: Vec<String>,
    /// Some of `soft`, `hard`, `lifted`, `csp_group`, `asked`, `answered`, `cleared`; empty is all.
    pub kinds: Vec<String>,
    /// Messages about one tenant within `flood_window_s`; what goes beyond is folded into one digest. 20 if absent.
    pub messages_max: Option<usize>,
    /// Webhook: where to.
    pub url: Option<String>,
    /// Webhook: the secret that signs, as `whsec_` and base64.
    pub secret: Option<Secret>,
    /// Webhook: plain HTTP to a host that is not this machine.
    pub allow_http: bool,
    /// Mail: `host` or `host:port` of the SMTP server.
    pub smtp: Option<String>,
    /// Mail: how the connection is protected. Absent: `none` to this machine, `tls` on port 465, else `starttls`.
    pub tls: Option<Tls>,
    /// Mail: whom the server is to authenticate.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Mail: the sender, such as `Weir <weir@example.com>`.
    pub from: Option<String>,
    /// Mail: the receivers.
    pub to: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    #[default]
    Webhook,
    Mail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    None,
    Starttls,
    Tls,
}

/// A text that no log shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("notifier.channel {0}: give it a name of letters, digits, `-` and `_`")]
    Name(usize),
    #[error("notifier.channel `{0}`: there are two channels of this name")]
    Twice(String),
    #[error("notifier.channel `{channel}`: {reason}")]
    Channel { channel: String, reason: String },
    #[error("notifier.{0} must be greater than 0")]
    Zero(&'static str),
}

impl ConfigError {
    pub(crate) fn channel(channel: &str, reason: impl fmt::Display) -> Self {
        Self::Channel {
            channel: channel.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl Config {
    /// What each channel hears, once all names and bounds are found good.
    pub(crate) fn rules(&self) -> Result<Rules, ConfigError> {
        let bounds = [
            ("flood_window_s", self.flood_window_s),
            ("in_flight_max", self.in_flight_max.into()),
            ("delivery_timeout_s", self.delivery_timeout_s),
            ("poll_interval_ms", self.poll_interval_ms),
            ("keep_days", self.keep_days.into()),
        ];
        if let Some((name, _)) = bounds.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(name));
        }
        let mut names = BTreeSet::new();
        let mut listeners = Vec::new();
        for (index, channel) in self.channel.iter().enumerate() {
            if !is_name(&channel.name) {
                return Err(ConfigError::Name(index));
            }
            if !names.insert(&channel.name) {
                return Err(ConfigError::Twice(channel.name.clone()));
            }
            listeners.push(channel.listener()?);
        }
        Ok(Rules {
            listeners,
            alert_age_max: Duration::from_secs(self.alert_age_max_s),
            flood_window: Duration::from_secs(self.flood_window_s),
        })
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff {
            base: Duration::from_millis(self.retry_base_ms),
            max: Duration::from_secs(self.retry_max_s),
            give_up_after: Duration::from_secs(self.give_up_after_s),
        }
    }

    pub(crate) fn delivery_timeout(&self) -> Duration {
        Duration::from_secs(self.delivery_timeout_s)
    }

    /// Outlasts any try, so that two notifiers do not both carry one message.
    pub(crate) fn lease(&self) -> Duration {
        self.delivery_timeout() + Duration::from_secs(20)
    }
}

impl ChannelConfig {
    fn listener(&self) -> Result<Listener, ConfigError> {
        let mut kinds = Vec::new();
        for name in &self.kinds {
            let unknown = || {
                let reason = format!("`{name}` is no kind; use {}", Kind::any_of_them());
                ConfigError::channel(&self.name, reason)
            };
            kinds.push(Kind::named(name).ok_or_else(unknown)?);
        }
        if kinds.is_empty() {
            kinds.extend(Kind::ALL);
        }
        let mut tenants: Vec<_> = self
            .tenants
            .iter()
            .map(|t| TenantPattern::parse(t))
            .collect();
        if tenants.is_empty() {
            tenants.push(TenantPattern::Any);
        }
        let messages_max = self.messages_max.unwrap_or(20);
        if messages_max == 0 {
            let reason = "messages_max must be greater than 0";
            return Err(ConfigError::channel(&self.name, reason));
        }
        Ok(Listener {
            channel: self.name.clone(),
            tenants,
            kinds,
            messages_max,
        })
    }
}

fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelConfig {
        ChannelConfig {
            name: name.to_owned(),
            ..ChannelConfig::default()
        }
    }

    #[track_caller]
    fn check(channels: Vec<ChannelConfig>, expected: Result<usize, &str>) {
        let config = Config {
            channel: channels,
            ..Config::default()
        };
        let found = config.rules().map(|rules| rules.listeners.len());
        assert_eq!(
            found.map_err(|e| e.to_string()),
            expected.map_err(str::to_owned)
        );
    }

    #[test]
    fn names_what_is_wrong() {
        check(vec![], Ok(0));
        check(vec![channel("ops"), channel("mail")], Ok(2));
        check(
            vec![channel("ops"), channel("ops")],
            Err("notifier.channel `ops`: there are two channels of this name"),
        );
        check(
            vec![channel("ops"), channel("a b")],
            Err("notifier.channel 1: give it a name of letters, digits, `-` and `_`"),
        );
        let shout = ChannelConfig {
            kinds: vec!["shout".to_owned()],
            ..channel("ops")
        };
        check(
            vec![shout],
            Err(
                "notifier.channel `ops`: `shout` is no kind; use soft, hard, lifted, csp_group, asked, answered or cleared",
            ),
        );
        let silent = ChannelConfig {
            messages_max: Some(0),
            ..channel("ops")
        };
        check(
            vec![silent],
            Err("notifier.channel `ops`: messages_max must be greater than 0"),
        );
    }

    #[test]
    fn a_bound_of_zero_is_refused() {
        let config = Config {
            in_flight_max: 0,
            ..Config::default()
        };
        assert_eq!(
            config.rules().unwrap_err(),
            ConfigError::Zero("in_flight_max")
        );
    }

    #[test]
    fn reads_toml_shaped_input_and_refuses_typos() {
        let good = serde_json::json!({ "channel": [{ "name": "ops", "kind": "mail", "tls": "starttls" }] });
        let config: Config = serde_json::from_value(good).unwrap();
        assert_eq!(config.channel[0].kind, ChannelKind::Mail);
        assert_eq!(config.keep_days, 30);
        let typo = serde_json::json!({ "channel": [{ "name": "ops", "ulr": "x" }] });
        assert!(serde_json::from_value::<Config>(typo).is_err());
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(
            format!("{:?}", Some(Secret::new("whsec_abc"))),
            "Some((secret))"
        );
    }
}
