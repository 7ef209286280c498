//! From a configuration as written to one that is ready to use: secrets read, certificates looked at.

use schemas::time::Timestamp;

use super::security::{self, Pair};
use super::{Config, Sasl, Secret, Tls};
use crate::error::BusError;

/// What the environment may say: secrets need not stand in a file.
const FROM_ENVIRONMENT: [&str; 3] = [USERNAME, PASSWORD, KEY_PASSWORD];
const USERNAME: &str = "WEIR_KAFKA_SASL_USERNAME";
const PASSWORD: &str = "WEIR_KAFKA_SASL_PASSWORD";
const KEY_PASSWORD: &str = "WEIR_KAFKA_TLS_KEY_PASSWORD";

impl Config {
    /// Takes `WEIR_KAFKA_SASL_USERNAME`, `WEIR_KAFKA_SASL_PASSWORD` and `WEIR_KAFKA_TLS_KEY_PASSWORD` from
    /// `environment`; they win over what the sections `tls` and `sasl` say, and mean nothing without them.
    pub fn take_environment(&mut self, environment: impl Fn(&str) -> Option<String>) {
        for name in FROM_ENVIRONMENT {
            let Some(value) = environment(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            match (name, &mut self.sasl, &mut self.tls) {
                (USERNAME, Some(sasl), _) => sasl.username = value,
                (PASSWORD, Some(sasl), _) => {
                    sasl.password = Some(Secret::new(value));
                    sasl.password_file = None;
                }
                (KEY_PASSWORD, _, Some(tls)) => {
                    tls.key_password = Some(Secret::new(value));
                    tls.key_password_file = None;
                }
                _ => {}
            }
        }
    }

    /// Reads the files that hold secrets, and tells everything that Weir cannot work with before anything is
    /// connected.
    pub(crate) fn prepare(mut self, now: Timestamp) -> Result<Self, BusError> {
        if let Some(tls) = &mut self.tls {
            tls.load()?;
        }
        if let Some(sasl) = &mut self.sasl {
            sasl.load()?;
        }
        self.check()?;
        if let Some(tls) = &self.tls {
            tls.check(now)?;
        }
        self.warn_of_plain_text();
        Ok(self)
    }

    /// Whom the servers know this client as, unless they have rules of their own for that.
    pub(crate) fn principal(&self) -> String {
        let signed_in = self.sasl.as_ref().map(|sasl| sasl.username.clone());
        let certified = || self.tls.as_ref().and_then(Tls::subject);
        match signed_in.or_else(certified) {
            Some(name) => format!("User:{name}"),
            None if self.protocol().is_none() => "User:ANONYMOUS".to_owned(),
            None => "User:…".to_owned(),
        }
    }

    /// Plain text is for one machine, and for a network that is trusted like one.
    fn warn_of_plain_text(&self) {
        let plain = self
            .protocol()
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("sasl_plaintext"));
        if plain && !security::is_local(&self.bootstrap) {
            tracing::warn!(
                bootstrap = self.bootstrap,
                "records and sign-in travel unencrypted, with PLAIN the password too: add a section [kafka.tls]"
            );
        }
    }

    /// The value of `security.protocol`, if there is one.
    fn protocol(&self) -> Option<&str> {
        let by_sections = security::protocol(self.tls.is_some(), self.sasl.is_some());
        by_sections.or_else(|| self.settings.get("security.protocol").map(String::as_str))
    }

    /// Whether what travels is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        let protocol = self.protocol().unwrap_or_default();
        protocol.to_ascii_lowercase().ends_with("ssl")
    }

    /// What the sections `tls` and `sasl` mean to the client library.
    pub(super) fn security(&self) -> Vec<Pair> {
        let protocol = security::protocol(self.tls.is_some(), self.sasl.is_some());
        let protocol = protocol.map(|protocol| ("security.protocol", protocol.to_owned()));
        let tls = self.tls.iter().flat_map(Tls::settings);
        let sasl = self.sasl.iter().flat_map(Sasl::settings);
        protocol.into_iter().chain(tls).chain(sasl).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mechanism;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn named() -> Config {
        Config {
            bootstrap: "kafka:9093".to_owned(),
            ..Config::default()
        }
    }

    fn with_sasl() -> Config {
        let sasl = Sasl {
            mechanism: Mechanism::ScramSha512,
            username: "weir".to_owned(),
            password: Some(Secret::new("hunter2")),
            password_file: None,
        };
        Config {
            sasl: Some(sasl),
            ..named()
        }
    }

    #[track_caller]
    fn check(config: Config, expected: &[(&str, Option<&str>)]) {
        let config = config.prepare(NOW).unwrap();
        for client in [config.producer(), config.consumer("g"), config.admin()] {
            for (name, value) in expected {
                assert_eq!(client.get(name), *value, "{name}");
            }
        }
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }

    #[test]
    fn every_client_is_secured_alike() {
        check(named(), &[("security.protocol", None)]);
        check(
            with_sasl(),
            &[
                ("security.protocol", Some("SASL_PLAINTEXT")),
                ("sasl.mechanism", Some("SCRAM-SHA-512")),
                ("sasl.username", Some("weir")),
                ("sasl.password", Some("hunter2")),
            ],
        );
        let tls = Some(Tls::default());
        check(
            Config { tls, ..with_sasl() },
            &[
                ("security.protocol", Some("SASL_SSL")),
                ("ssl.ca.location", None),
            ],
        );
        let tls = Some(Tls::default());
        check(
            Config { tls, ..named() },
            &[("security.protocol", Some("SSL"))],
        );
    }

    #[track_caller]
    fn check_refused(config: Config, parts: &[&str]) {
        let error = config.prepare(NOW).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn says_what_is_missing_or_given_twice() {
        let mut config = with_sasl();
        config
            .settings
            .insert("sasl.mechanisms".into(), "PLAIN".into());
        check_refused(config, &["`sasl.mechanisms`", "keep one of them"]);
        let mut config = with_sasl();
        config
            .settings
            .insert("sasl.password".into(), "hunter2".into());
        check_refused(config, &["`sasl.password`", "keep one of them"]);
        let mut config = with_sasl();
        config.sasl.as_mut().unwrap().password = None;
        check_refused(config, &["`sasl.password`", "WEIR_KAFKA_SASL_PASSWORD"]);
        let mut config = with_sasl();
        config.sasl.as_mut().unwrap().username.clear();
        check_refused(config, &["`sasl.username`", "WEIR_KAFKA_SASL_USERNAME"]);
        let tls = |certificate: Option<&str>, key: Option<&str>| Config {
            tls: Some(Tls {
                certificate: certificate.map(Into::into),
                key: key.map(Into::into),
                ..Tls::default()
            }),
            ..named()
        };
        check_refused(tls(Some("a.pem"), None), &["`tls.key`", "missing"]);
        check_refused(tls(None, Some("a.key")), &["`tls.certificate`", "missing"]);
        check_refused(
            tls(Some("/no/a.pem"), Some("a.key")),
            &["`tls.certificate`", "/no/a.pem"],
        );
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let environment = |name: &str| match name {
            USERNAME => Some("other".to_owned()),
            PASSWORD => Some("set".to_owned()),
            _ => None,
        };
        let mut config = with_sasl();
        config.take_environment(environment);
        let sasl = config.sasl.as_ref().unwrap();
        assert_eq!(
            (sasl.username.as_str(), &sasl.password),
            ("other", &Some(Secret::new("set")))
        );
        assert_eq!(config.principal(), "User:other");
        let mut without = named();
        without.take_environment(environment);
        assert_eq!(without, named());
        assert_eq!(without.principal(), "User:ANONYMOUS");
    }
}
