//! Certificates of a test's own: an authority, what it signs, and what others sign.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use bus::clock::{Clock, SystemClock};
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};

const DAY_SECONDS: i64 = 86_400;

/// A certificate with its key.
pub struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

/// How long something is valid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Valid {
    Now,
    UntilYesterday,
}

impl Identity {
    /// One that signs others.
    ///
    /// # Panics
    /// When OpenSSL does not make it.
    #[must_use]
    pub fn authority(name: &str) -> Self {
        issue(name, None, Valid::Now).expect("an authority")
    }

    /// One that this one signs, for a client of that name or a server at 127.0.0.1.
    ///
    /// # Panics
    /// When OpenSSL does not make it.
    #[must_use]
    pub fn sign(&self, name: &str, valid: Valid) -> Self {
        issue(name, Some(self), valid).expect("a certificate")
    }

    /// Writes `NAME.pem` and `NAME.key` to `folder`; gives their paths.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = self.certificate.to_pem().expect("PEM");
        let key = self.key.private_key_to_pem_pkcs8().expect("PEM");
        let to = |ending: &str| folder.join(format!("{name}.{ending}"));
        std::fs::write(to("pem"), certificate).expect("a certificate's file");
        std::fs::write(to("key"), key).expect("a key's file");
        (to("pem"), to("key"))
    }

    /// Writes the key encrypted to `folder`; gives its path.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn write_locked(&self, folder: &Path, name: &str, password: &str) -> PathBuf {
        let cipher = Cipher::aes_256_cbc();
        let key = self
            .key
            .private_key_to_pem_pkcs8_passphrase(cipher, password.as_bytes());
        let path = folder.join(format!("{name}.key"));
        std::fs::write(&path, key.expect("PEM")).expect("a key's file");
        path
    }

    /// Key and certificate in one text, as Kafka takes a key store.
    pub(crate) fn store(&self) -> String {
        let key = self.key.private_key_to_pem_pkcs8().expect("PEM");
        let certificate = self.certificate.to_pem().expect("PEM");
        String::from_utf8([key, certificate].concat()).expect("PEM is ASCII")
    }

    /// The certificate alone, as Kafka takes a trust store.
    pub(crate) fn public(&self) -> String {
        let certificate = self.certificate.to_pem().expect("PEM");
        String::from_utf8(certificate).expect("PEM is ASCII")
    }
}

fn issue(name: &str, issuer: Option<&Identity>, valid: Valid) -> Result<Identity, ErrorStack> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&curve)?)?;
    let subject = subject(name)?;
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let serial = BigNum::from_u32(rand::random())?;
    builder.set_serial_number(Asn1Integer::from_bn(&serial)?.as_ref())?;
    builder.set_subject_name(&subject)?;
    let by: &X509NameRef = issuer.map_or(&subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(by)?;
    builder.set_pubkey(&key)?;
    let now = SystemClock.now().as_micros() / 1_000_000;
    let end = match valid {
        Valid::Now => now + 365 * DAY_SECONDS,
        Valid::UntilYesterday => now - DAY_SECONDS,
    };
    builder.set_not_before(Asn1Time::from_unix(now - 2 * DAY_SECONDS)?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(end)?.as_ref())?;
    let signer = match issuer {
        Some(issuer) => {
            let here = Ipv4Addr::LOCALHOST.to_string();
            let context = builder.x509v3_context(Some(&issuer.certificate), None);
            let address = SubjectAlternativeName::new().ip(&here).build(&context)?;
            builder.append_extension(address)?;
            &issuer.key
        }
        None => {
            builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
            &key
        }
    };
    builder.sign(signer, MessageDigest::sha256())?;
    Ok(Identity {
        certificate: builder.build(),
        key,
    })
}

fn subject(name: &str) -> Result<X509Name, ErrorStack> {
    let mut subject = X509Name::builder()?;
    subject.append_entry_by_text("O", "Weir")?;
    subject.append_entry_by_text("CN", name)?;
    Ok(subject.build())
}
