//! Signatures of Standard Webhooks, version 1: HMAC-SHA256 over `id.timestamp.body`. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// A secret's size in bytes: what the standard recommends.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum SecretError {
    #[error("a webhook's secret is `whsec_` and base64")]
    NotBase64,
    #[error(
        "a webhook's secret has 24 to 64 bytes before base64; make one with `openssl rand -base64 32`"
    )]
    Size,
}

/// Signs with one secret.
pub(crate) struct Signer(Hmac<Sha256>);

impl Signer {
    /// `secret`: base64, with or without `whsec_` before it.
    pub(crate) fn new(secret: &str) -> Result<Self, SecretError> {
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        let key = BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| SecretError::NotBase64)?;
        if !SECRET_BYTES.contains(&key.len()) {
            return Err(SecretError::Size);
        }
        let mac = Hmac::new_from_slice(&key).map_err(|_| SecretError::Size)?;
        Ok(Self(mac))
    }

    /// The value of the header `webhook-signature`. `timestamp` in seconds since 1970.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        debug_assert!(!id.contains('.'), "the dot ends an id");
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signature that the reference libraries of Standard Webhooks check in their own tests.
    #[test]
    fn agrees_with_the_reference_libraries() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            signer.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn refuses_what_is_no_secret() {
        let check = |secret: &str, expected| {
            assert_eq!(Signer::new(secret).err(), expected, "{secret}");
        };
        check("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None);
        check("whsec_!", Some(SecretError::NotBase64));
        check("whsec_", Some(SecretError::Size));
        check("whsec_c2hvcnQ=", Some(SecretError::Size));
    }

    #[test]
    fn every_part_is_signed() {
        let signer = Signer::new("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signer.sign("a", 1, b"x");
        assert_eq!(signature, signer.sign("a", 1, b"x"));
        for other in [
            signer.sign("b", 1, b"x"),
            signer.sign("a", 2, b"x"),
            signer.sign("a", 1, b"y"),
        ] {
            assert_ne!(signature, other);
        }
    }
}
