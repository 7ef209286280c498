//! Passwords and certificates.

use std::path::PathBuf;

use bus::{Config, Mechanism, Tls};
use tests::certificates::{Identity, Valid};
use tests::kafka::secure::{PASSWORD, Secure};
use tokio::task::JoinSet;

use super::rights::grant_all;
use super::{ca, check_text, config, connect, sasl, user};

const WRONG: &str = "unspeakable-77aa";

/// One case: how a client comes, and what the error says; nothing where it is let in.
struct Case {
    name: &'static str,
    config: Config,
    expected: &'static [&'static str],
}

const fn case(name: &'static str, config: Config, expected: &'static [&'static str]) -> Case {
    Case {
        name,
        config,
        expected,
    }
}

async fn check(case: Case) {
    let Case {
        name,
        config,
        expected,
    } = case;
    match connect(config).await {
        Ok(_) => assert!(expected.is_empty(), "{name}: let in"),
        Err(text) => {
            assert!(!expected.is_empty(), "{name}: {text}");
            check_text(name, &text, expected);
            assert!(!text.contains(WRONG), "{name}: a password in: {text}");
        }
    }
}

/// All at once: those that are not let in mostly wait.
pub(super) async fn who_is_let_in(kafka: &Secure) {
    grant_all(kafka, "User:weir");
    grant_all(kafka, "User:CN=weir,O=Weir");
    let mut cases = good(kafka);
    cases.extend(bad_passwords(kafka));
    cases.extend(bad_servers(kafka));
    cases.extend(bad_certificates(kafka));
    let mut checks: JoinSet<()> = cases.into_iter().map(check).collect();
    while let Some(checked) = checks.join_next().await {
        checked.expect("a case that holds");
    }
}

fn own(kafka: &Secure, (certificate, key): (PathBuf, PathBuf)) -> Tls {
    Tls {
        certificate: Some(certificate),
        key: Some(key),
        ..ca(kafka)
    }
}

fn good(kafka: &Secure) -> Vec<Case> {
    let with = |mechanism| sasl(mechanism, "weir", PASSWORD);
    let by = |mechanism| config(kafka.sasl(), Some(ca(kafka)), Some(with(mechanism)));
    let client = kafka.authority.sign("weir", Valid::Now);
    let files = client.write(kafka.folder(), "weir");
    let locked = Tls {
        key: Some(client.write_locked(kafka.folder(), "locked", PASSWORD)),
        key_password: Some(bus::Secret::new(PASSWORD)),
        ..own(kafka, files.clone())
    };
    let plain = with(Mechanism::ScramSha256);
    let mut raw = config(kafka.sasl(), None, None);
    for (name, value) in [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanisms", "PLAIN"),
        ("sasl.username", "weir"),
        ("sasl.password", PASSWORD),
        ("ssl.ca.location", &kafka.ca().display().to_string()),
    ] {
        raw.settings.insert(name.to_owned(), value.to_owned());
    }
    vec![
        case("PLAIN", by(Mechanism::Plain), &[]),
        case("SCRAM-SHA-256", by(Mechanism::ScramSha256), &[]),
        case("SCRAM-SHA-512", by(Mechanism::ScramSha512), &[]),
        case(
            "unencrypted",
            config(kafka.sasl_plain(), None, Some(plain)),
            &[],
        ),
        case(
            "a certificate",
            config(kafka.tls(), Some(own(kafka, files)), None),
            &[],
        ),
        case("a locked key", config(kafka.tls(), Some(locked), None), &[]),
        case("librdkafka's own names", raw, &[]),
    ]
}

fn bad_passwords(kafka: &Secure) -> Vec<Case> {
    let by = |mechanism, username| {
        let sasl = sasl(mechanism, username, WRONG);
        config(kafka.sasl(), Some(ca(kafka)), Some(sasl))
    };
    let expected = &[
        "do not trust one another",
        "SASL",
        "correct `mechanism`, `username` and `password`",
    ];
    let mut no_setting = user(kafka, "weir");
    no_setting
        .settings
        .insert("no.such".to_owned(), "1".to_owned());
    vec![
        case(
            "a wrong password, PLAIN",
            by(Mechanism::Plain, "weir"),
            expected,
        ),
        case(
            "a wrong password, SCRAM",
            by(Mechanism::ScramSha512, "weir"),
            expected,
        ),
        case(
            "an unknown user",
            by(Mechanism::ScramSha256, "who"),
            expected,
        ),
        case(
            "a setting that is none",
            no_setting,
            &["`no.such`", "No such configuration property"],
        ),
    ]
}

fn bad_servers(kafka: &Secure) -> Vec<Case> {
    let signed_in = || Some(sasl(Mechanism::Plain, "weir", PASSWORD));
    let other = Identity::authority("another").write(kafka.folder(), "another");
    let unknown = Tls {
        ca: Some(other.0),
        ..Tls::default()
    };
    let elsewhere = kafka.sasl().replace("127.0.0.1", "localhost");
    vec![
        case(
            "an unknown authority",
            config(kafka.sasl(), Some(unknown), signed_in()),
            &["their certificate: ", "set `ca` under [kafka.tls]"],
        ),
        case(
            "the authorities of the system",
            config(kafka.sasl(), Some(Tls::default()), signed_in()),
            &["their certificate: ", "set `ca` under [kafka.tls]"],
        ),
        case(
            "a wrong host name",
            config(elsewhere, Some(ca(kafka)), signed_in()),
            &[
                "their certificate: hostname mismatch",
                "advertised.listeners",
            ],
        ),
        case(
            "no TLS where there must be",
            config(kafka.tls(), None, None),
            &["they speak TLS", "add a section [kafka.tls]"],
        ),
        case(
            "TLS where there is none",
            config(kafka.admin(), Some(ca(kafka)), None),
            // By how far the handshake has come when they hang up, the library has other words for the rest.
            &["ssl://"],
        ),
    ]
}

fn bad_certificates(kafka: &Secure) -> Vec<Case> {
    let folder = kafka.folder();
    let with = |tls| config(kafka.tls(), Some(tls), None);
    let (fine, key) = kafka
        .authority
        .sign("fine", Valid::Now)
        .write(folder, "fine");
    let foreign = Identity::authority("foreign").write(folder, "foreign");
    let old = kafka
        .authority
        .sign("old", Valid::UntilYesterday)
        .write(folder, "old");
    let locked = kafka.authority.sign("shut", Valid::Now);
    let (shut, _) = locked.write(folder, "shut");
    let shut_key = locked.write_locked(folder, "shut", PASSWORD);
    let garbage = folder.join("garbage.pem");
    std::fs::write(&garbage, "no certificate").expect("a file");
    let authority = |path: PathBuf| Tls {
        ca: Some(path),
        ..Tls::default()
    };
    let wrong_password = Tls {
        key_password: Some(bus::Secret::new(WRONG)),
        ..own(kafka, (shut.clone(), shut_key.clone()))
    };
    let asked = &["do not trust one another", "set `certificate` and `key`"];
    vec![
        case("no certificate", with(ca(kafka)), asked),
        case("a foreign certificate", with(own(kafka, foreign)), asked),
        case(
            "an expired one",
            with(own(kafka, old)),
            &["CN=old,O=Weir", "expired at", "renew it"],
        ),
        case(
            "another's key",
            with(own(kafka, (fine, shut_key.with_file_name("weir.key")))),
            &["is not that of"],
        ),
        case(
            "a locked key",
            with(own(kafka, (shut, shut_key))),
            &["`tls.key`", "`key_password`"],
        ),
        case(
            "a wrong password for it",
            with(wrong_password),
            &["`tls.key`", "`key_password`"],
        ),
        case(
            "a key as certificate",
            with(own(kafka, (key.clone(), key))),
            &["`tls.certificate`", "PEM"],
        ),
        case(
            "no such file",
            with(authority(folder.join("none.pem"))),
            &["`tls.ca`", "none.pem"],
        ),
        case(
            "garbage",
            with(authority(garbage)),
            &["`tls.ca`", "garbage.pem", "PEM"],
        ),
    ]
}
