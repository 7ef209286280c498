//! One configuration file (TOML) for every service. Each section is the service's own type; what is left out has its
//! default, what is misspelt is an error.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

use crate::telemetry;

/// What the command line says; it wins over the file.
#[derive(Debug, Default)]
pub struct Overrides {
    pub data: PathBuf,
    pub file: Option<PathBuf>,
    pub kafka: Option<String>,
    pub port_data: Option<u16>,
    pub port_management: Option<u16>,
    pub port_log: Option<u16>,
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    listen: Listen,
    store: StoreSection,
    telemetry: telemetry::Config,
    log: LogSection,
    kafka: bus::Config,
    ingest: ingest::Config,
    aggregator: aggregator::Config,
    enforcer: enforcer::Config,
    notifier: notifier::Config,
    gateway: gateway::Config,
}

/// Where the two planes and the embedded log listen.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Events and checks.
    pub data: SocketAddr,
    /// Queries and metrics, behind a token.
    pub management: SocketAddr,
    /// Connections that one plane holds at a time; more wait to be accepted.
    pub connections_max: usize,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            data: local(8080),
            management: local(8081),
            connections_max: 4096,
        }
    }
}

/// Where rows are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StoreSection {
    /// `sqlite://…` or `postgres://…`; absent: a SQLite file in the data folder.
    url: Option<String>,
}

/// The log in this process.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// Loopback only: the embedded log knows no passwords.
    pub listen: SocketAddr,
    /// `always`, `never`, or how many milliseconds apart: when what was written is forced to disk. A crash of the
    /// process loses nothing either way; this is about power cuts.
    pub fsync: Fsync,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            listen: local(9092),
            fsync: Fsync::default(),
        }
    }
}

/// When the embedded log forces what was written to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Fsync {
    Named(FsyncName),
    EveryMillis(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsyncName {
    Always,
    Never,
}

impl Default for Fsync {
    fn default() -> Self {
        Self::EveryMillis(1_000)
    }
}

/// Everything a process needs to know, checked.
#[derive(Debug)]
pub struct Config {
    pub data: PathBuf,
    pub listen: Listen,
    pub store_url: String,
    pub telemetry: telemetry::Config,
    /// The log in this process; absent when it is elsewhere.
    pub log: Option<LogSection>,
    pub bus: bus::Config,
    pub ingest: ingest::Config,
    pub aggregator: aggregator::Config,
    pub enforcer: enforcer::Config,
    pub notifier: notifier::Config,
    pub gateway: gateway::Config,
}

impl Config {
    pub fn load(overrides: Overrides) -> anyhow::Result<Self> {
        let file = match &overrides.file {
            None => File::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the configuration {}", path.display()))?;
                read(&text).with_context(|| format!("the configuration {}", path.display()))?
            }
        };
        check(file, overrides, |name| std::env::var(name).ok())
    }
}

/// The error names the line and what stands left of its `=`. What stands right of it may be a secret.
fn read(text: &str) -> anyhow::Result<File> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = &text.as_bytes()[..at];
        let number = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or_default();
        let name = line.split('=').next().unwrap_or_default().trim();
        anyhow!("line {number} (`{name}`): {}", error.message())
    })
}

fn check(
    mut file: File,
    overrides: Overrides,
    environment: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Config> {
    set_port(&mut file.listen.data, overrides.port_data);
    set_port(&mut file.listen.management, overrides.port_management);
    set_port(&mut file.log.listen, overrides.port_log);
    if !file.log.listen.ip().is_loopback() {
        bail!(
            "[log] listen = \"{}\" is no loopback address: the embedded log knows no passwords and \
             serves this machine only; for other machines use a Kafka cluster with --kafka",
            file.log.listen
        );
    }
    if let Some(bootstrap) = overrides.kafka {
        file.kafka.bootstrap = bootstrap;
    }
    file.kafka.take_environment(&environment);
    file.aggregator.take_environment(&environment);
    let log = file.kafka.bootstrap.is_empty().then_some(file.log);
    // On the embedded log there is one gateway.
    file.gateway.share.get_or_insert(log.is_none());
    let store_url = file
        .store
        .url
        .unwrap_or_else(|| sqlite_url(&overrides.data));
    Ok(Config {
        data: overrides.data,
        listen: file.listen,
        store_url,
        telemetry: file.telemetry,
        log,
        bus: file.kafka,
        ingest: file.ingest,
        aggregator: file.aggregator,
        enforcer: file.enforcer,
        notifier: file.notifier,
        gateway: file.gateway,
    })
}

fn sqlite_url(data: &Path) -> String {
    format!("sqlite://{}?mode=rwc", data.join("weir.db").display())
}

fn set_port(address: &mut SocketAddr, port: Option<u16>) {
    if let Some(port) = port {
        address.set_port(port);
    }
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: Overrides) -> anyhow::Result<Config> {
        check(read(text)?, overrides, |_| None)
    }

    #[track_caller]
    fn check_error(text: &str, fragment: &str) {
        let error = load(text, Overrides::default()).unwrap_err().to_string();
        assert!(
            error.contains(fragment),
            "`{error}` does not say `{fragment}`"
        );
    }

    #[test]
    fn everything_has_a_default() {
        let config = load(
            "",
            Overrides {
                data: "d".into(),
                ..Overrides::default()
            },
        )
        .unwrap();
        assert_eq!(config.listen.data, local(8080));
        assert_eq!(config.store_url, "sqlite://d/weir.db?mode=rwc");
        assert_eq!(config.log.unwrap().listen, local(9092));
    }

    #[test]
    fn flags_win_over_the_file() {
        let text = "[listen]\ndata = \"127.0.0.1:1\"\nmanagement = \"127.0.0.1:2\"\n";
        let overrides = Overrides {
            port_data: Some(0),
            ..Overrides::default()
        };
        let config = load(text, overrides).unwrap();
        assert_eq!(config.listen.data, local(0));
        assert_eq!(config.listen.management, local(2));
    }

    #[test]
    fn with_kafka_there_is_no_log_of_our_own() {
        let kafka = Some("127.0.0.1:29092".to_owned());
        let config = load(
            "",
            Overrides {
                kafka,
                ..Overrides::default()
            },
        )
        .unwrap();
        assert!(config.log.is_none());
        assert_eq!(config.bus.bootstrap, "127.0.0.1:29092");
    }

    #[test]
    fn reads_how_to_reach_a_secured_cluster() {
        let text = r#"
            [kafka.tls]
            ca = "/etc/weir/ca.pem"
            [kafka.sasl]
            mechanism = "SCRAM-SHA-512"
            username = "weir"
            password = "written"
            [kafka.settings]
            "fetch.wait.max.ms" = 50
            socket.keepalive.enable = true
        "#;
        let from_environment =
            |name: &str| (name == "WEIR_KAFKA_SASL_PASSWORD").then(|| "set".to_owned());
        let file = read(text).unwrap();
        let bus = check(file, Overrides::default(), from_environment)
            .unwrap()
            .bus;
        assert_eq!(
            bus.sasl.as_ref().unwrap().password,
            Some(bus::Secret::new("set"))
        );
        assert_eq!(bus.settings["fetch.wait.max.ms"], "50");
        assert_eq!(bus.settings["socket.keepalive.enable"], "true");
        let shown = format!("{bus:?}");
        assert!(
            shown.contains("SCRAM") || shown.contains("Scram"),
            "{shown}"
        );
        assert!(
            !shown.contains("written") && !shown.contains("\"set\""),
            "{shown}"
        );
    }

    #[test]
    fn an_error_shows_no_secret() {
        for text in [
            "[kafka.sasl]\nmechanism = \"PLAIN\"\npasword = \"hunter2\"",
            "[kafka.sasl]\nmechanism = \"PLAIN\"\npassword = \"hunter2\" x",
            "[kafka.sasl]\nmechanism = \"PLAIN\"\npassword = \"hunter2",
            "[kafka.sasl]\npassword = [\"hunter2\"]",
            "[kafka.sasl]\npassword = \"hunter2\"",
            "[kafka.settings]\n\"sasl.password\" = [\"hunter2\"]",
            "[kafka.tls]\nkey_password = { a = \"hunter2\" }",
        ] {
            let error = format!("{:#}", load(text, Overrides::default()).unwrap_err());
            assert!(
                error.contains("line ") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn reads_every_way_to_force_to_disk() {
        let fsync = |value: &str| {
            let config = load(&format!("[log]\nfsync = {value}"), Overrides::default()).unwrap();
            config.log.unwrap().fsync
        };
        assert_eq!(fsync("\"always\""), Fsync::Named(FsyncName::Always));
        assert_eq!(fsync("\"never\""), Fsync::Named(FsyncName::Never));
        assert_eq!(fsync("250"), Fsync::EveryMillis(250));
    }

    #[test]
    fn says_what_is_wrong() {
        check_error("[listen]\nport = 1", "unknown field `port`");
        check_error("[lisen]", "unknown field `lisen`");
        check_error("[listen]\ndata = 8080", "data");
        check_error("[log]\nlisten = \"0.0.0.0:9092\"", "no loopback address");
    }
}
