//! How the servers and this client know one another: `[kafka.tls]` and `[kafka.sasl]`.

use std::path::{Path, PathBuf};

use schemas::time::Timestamp;
use serde::Deserialize;

use super::certificate;
use super::secret::Secret;
use crate::error::BusError;

/// Travel encrypted. The section may be empty: the servers' certificates are then checked against those that the
/// system trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// File (PEM) of the certificates that may have signed the servers'.
    pub ca: Option<PathBuf>,
    /// File (PEM) of this client's certificate, and of those between it and the one that the servers know.
    pub certificate: Option<PathBuf>,
    /// File (PEM) of the certificate's private key.
    pub key: Option<PathBuf>,
    /// The private key's password, where it has one.
    pub key_password: Option<Secret>,
    /// The file that holds it.
    pub key_password_file: Option<PathBuf>,
}

/// Sign in by a name and a password.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    pub mechanism: Mechanism,
    /// Absent: from the environment.
    #[serde(default)]
    pub username: String,
    /// Absent: from `password_file`, or from the environment.
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
}

/// How a password is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// By saying it.
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A setting of the client library.
pub(super) type Pair = (&'static str, String);

impl Tls {
    /// Reads `key_password_file`.
    pub(super) fn load(&mut self) -> Result<(), BusError> {
        let name = "tls.key_password";
        load(name, &mut self.key_password, self.key_password_file.take())
    }

    /// Looks at the files as the client library will see them.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), BusError> {
        if let Some(ca) = &self.ca {
            certificate::check_authorities(ca, now)?;
        }
        match (&self.certificate, &self.key) {
            (None, None) => Ok(()),
            (Some(certificate), Some(key)) => {
                let password = self.key_password.as_ref().map_or("", Secret::reveal);
                certificate::check_own((certificate, key), password, now)
            }
            (Some(_), None) => Err(wrong("tls.key", "is missing beside `certificate`")),
            (None, Some(_)) => Err(wrong("tls.certificate", "is missing beside `key`")),
        }
    }

    /// The name in this client's certificate, if it has one that can be read.
    pub(super) fn subject(&self) -> Option<String> {
        certificate::subject(self.certificate.as_deref()?)
    }

    pub(super) fn settings(&self) -> Vec<Pair> {
        let files = [
            ("ssl.ca.location", &self.ca),
            ("ssl.certificate.location", &self.certificate),
            ("ssl.key.location", &self.key),
        ];
        let named = files.into_iter().filter_map(|(name, path)| {
            let path = path.as_ref()?;
            Some((name, path.display().to_string()))
        });
        let password = self.key_password.as_ref();
        let password = password.map(|secret| ("ssl.key.password", secret.reveal().to_owned()));
        named.chain(password).collect()
    }
}

impl Sasl {
    /// Reads `password_file`.
    pub(super) fn load(&mut self) -> Result<(), BusError> {
        let name = "sasl.password";
        load(name, &mut self.password, self.password_file.take())
    }

    pub(super) fn check(&self) -> Result<(), BusError> {
        if self.username.is_empty() {
            let reason = "is missing: set it, or WEIR_KAFKA_SASL_USERNAME";
            return Err(wrong("sasl.username", reason));
        }
        if self.password.as_ref().is_none_or(|p| p.reveal().is_empty()) {
            let reason = "is missing: set it, `password_file`, or WEIR_KAFKA_SASL_PASSWORD";
            return Err(wrong("sasl.password", reason));
        }
        Ok(())
    }

    pub(super) fn settings(&self) -> Vec<Pair> {
        let password = self.password.as_ref().map_or("", Secret::reveal);
        vec![
            ("sasl.mechanism", self.mechanism.name().to_owned()),
            ("sasl.username", self.username.clone()),
            ("sasl.password", password.to_owned()),
        ]
    }
}

/// The value of `security.protocol` that these sections mean; none when neither is there.
pub(super) const fn protocol(tls: bool, sasl: bool) -> Option<&'static str> {
    match (tls, sasl) {
        (false, false) => None,
        (true, false) => Some("SSL"),
        (false, true) => Some("SASL_PLAINTEXT"),
        (true, true) => Some("SASL_SSL"),
    }
}

/// Whether every server of a `bootstrap` is this machine.
pub(super) fn is_local(bootstrap: &str) -> bool {
    bootstrap.split(',').all(|server| {
        let host = server
            .trim()
            .rsplit_once(':')
            .map_or(server, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// Takes a secret from its file, without the line's end.
fn load(name: &str, secret: &mut Option<Secret>, file: Option<PathBuf>) -> Result<(), BusError> {
    let Some(file) = file else { return Ok(()) };
    if secret.is_some() {
        let reason = format!("is given twice, also as `{name}_file`; keep one of them");
        return Err(wrong(name, &reason));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| unreadable(name, &file, &error))?;
    *secret = Some(Secret::new(text.trim_end_matches(['\r', '\n'])));
    Ok(())
}

pub(super) fn wrong(name: &str, reason: &str) -> BusError {
    BusError::Setting {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}

pub(super) fn unreadable(name: &str, file: &Path, error: &std::io::Error) -> BusError {
    let reason = format!("cannot read {} ({error})", file.display());
    wrong(name, &reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_machine() {
        for (bootstrap, expected) in [
            ("127.0.0.1:9092", true),
            ("localhost:9092", true),
            ("[::1]:9092", true),
            ("127.0.0.1:9092, 127.0.0.2:9092", true),
            ("127.0.0.1:9092,kafka:9092", false),
            ("10.0.0.1:9092", false),
            ("localhost.example.com:9092", false),
            ("[2001:db8::1]:9092", false),
        ] {
            assert_eq!(is_local(bootstrap), expected, "{bootstrap}");
        }
    }

    #[test]
    fn a_password_is_found_in_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\r\n").unwrap();
        let mut secret = None;
        load("sasl.password", &mut secret, Some(file.clone())).unwrap();
        assert_eq!(secret, Some(Secret::new("hunter2")));
        let twice = load("sasl.password", &mut secret, Some(file)).unwrap_err();
        let text = twice.to_string();
        assert!(
            text.contains("given twice") && !text.contains("hunter2"),
            "{text}"
        );
        let missing = Some(folder.path().join("missing"));
        let error = load("sasl.password", &mut None, missing)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("missing") && error.contains("`sasl.password`"),
            "{error}"
        );
    }
}
