//! Certificates, looked at before they are used: the client library tells of the same faults later, in less words.

use std::cmp::Ordering;
use std::path::Path;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509NameRef, X509Ref};
use schemas::time::Timestamp;

use super::security::{unreadable, wrong};
use crate::error::BusError;

const CA: &str = "tls.ca";
const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const DAY_SECONDS: i64 = 86_400;
/// A certificate that ends sooner than this is worth a warning at start.
const SOON_DAYS: i64 = 14;

/// The certificates of `file` are to vouch for servers: there must be one, and not all may have expired.
pub(super) fn check_authorities(file: &Path, now: Timestamp) -> Result<(), BusError> {
    let found = read(CA, file)?;
    let stands = |certificate: &X509| judge(CA, file, certificate, now);
    let mut first_error = None;
    for certificate in &found {
        match stands(certificate) {
            Ok(()) => return Ok(()),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// This client's certificate must be valid now, and its key must be its own.
pub(super) fn check_own(
    (file, key_file): (&Path, &Path),
    password: &str,
    now: Timestamp,
) -> Result<(), BusError> {
    let chain = read(CERTIFICATE, file)?;
    let Some(own) = chain.first() else {
        return Err(empty(CERTIFICATE, file));
    };
    judge(CERTIFICATE, file, own, now)?;
    let bytes = std::fs::read(key_file).map_err(|error| unreadable(KEY, key_file, &error))?;
    let shown = key_file.display();
    let key = PKey::private_key_from_pem_passphrase(&bytes, password.as_bytes()).map_err(|error| {
        let reason = reason(&error);
        let hint = if is_encrypted(&bytes) {
            "it is encrypted: correct `key_password`, `key_password_file` or WEIR_KAFKA_TLS_KEY_PASSWORD"
        } else {
            "it must be a private key in PEM"
        };
        wrong(KEY, &format!("cannot read the private key in {shown} ({reason}); {hint}"))
    })?;
    let fits = own.public_key().is_ok_and(|public| public.public_eq(&key));
    if !fits {
        let certificate = file.display();
        let reason =
            format!("the private key in {shown} is not that of the certificate in {certificate}");
        return Err(wrong(KEY, &reason));
    }
    Ok(())
}

/// Whom the first certificate of `file` is for.
pub(super) fn subject(file: &Path) -> Option<String> {
    let chain = read(CERTIFICATE, file).ok()?;
    let own = chain.first()?;
    Some(distinguished_name(own.subject_name()))
}

fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("ENCRYPTED")
}

fn read(name: &str, file: &Path) -> Result<Vec<X509>, BusError> {
    let bytes = std::fs::read(file).map_err(|error| unreadable(name, file, &error))?;
    let found = X509::stack_from_pem(&bytes).map_err(|error| {
        let (file, reason) = (file.display(), reason(&error));
        wrong(
            name,
            &format!("{file} holds no certificate in PEM that can be read ({reason})"),
        )
    })?;
    if found.is_empty() {
        return Err(empty(name, file));
    }
    Ok(found)
}

fn empty(name: &str, file: &Path) -> BusError {
    let file = file.display();
    wrong(
        name,
        &format!("{file} holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)"),
    )
}

/// Whether a certificate is valid now.
fn judge(name: &str, file: &Path, certificate: &X509Ref, now: Timestamp) -> Result<(), BusError> {
    let subject = distinguished_name(certificate.subject_name());
    let (from, to) = (certificate.not_before(), certificate.not_after());
    let seconds = now.as_micros().div_euclid(1_000_000);
    let file = file.display();
    if is_before(to, seconds) {
        let reason = format!("the certificate of {subject} in {file} expired at {to}; renew it");
        return Err(wrong(name, &reason));
    }
    if !is_before(from, seconds.saturating_add(1)) {
        let reason = format!(
            "the certificate of {subject} in {file} is valid only from {from}; is this machine's clock right?"
        );
        return Err(wrong(name, &reason));
    }
    if is_before(to, seconds.saturating_add(SOON_DAYS * DAY_SECONDS)) {
        tracing::warn!("the certificate of {subject} in {file} expires at {to}: renew it before");
    }
    Ok(())
}

fn is_before(time: &Asn1TimeRef, seconds: i64) -> bool {
    let compared = Asn1Time::from_unix(seconds).and_then(|other| time.compare(&other));
    matches!(compared, Ok(Ordering::Less))
}

/// What went wrong first, without the places in OpenSSL's sources.
fn reason(errors: &ErrorStack) -> String {
    let first = errors
        .errors()
        .first()
        .and_then(openssl::error::Error::reason);
    first.unwrap_or("not PEM").to_owned()
}

/// As RFC 2253 writes it and Kafka names a client: the last part first.
fn distinguished_name(name: &X509NameRef) -> String {
    let mut parts: Vec<String> = name
        .entries()
        .map(|entry| {
            let kind = entry.object().nid().short_name().unwrap_or("?");
            let value = entry.data().to_string().unwrap_or_default();
            format!("{kind}={}", escape(&value))
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if ",+\"\\<>;".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
