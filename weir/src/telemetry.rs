//! Structured logs to standard error. `RUST_LOG` wins over the configuration's filter.

use std::io::IsTerminal;

use anyhow::Context;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `text` for people, `json` for collectors.
    pub format: Format,
    /// Which logs: `info`, `warn`, `aggregator=debug,info`, …
    pub filter: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Text,
            filter: "info".to_owned(),
        }
    }
}

/// Starts logging for the whole process; once.
pub fn start(config: &Config) -> anyhow::Result<()> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(filter) => filter,
        Err(_) => config.filter.clone(),
    };
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("`{filter}` is no log filter; write for example `info`"))?;
    // The client library's own crate logs each close as a failure; `bus` tells what matters in words of its own.
    let quiet = "rdkafka=off".parse().context("a directive of our own")?;
    let filter = filter.add_directive(quiet);
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for eyes: in a file they are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match config.format {
        Format::Text => logs.try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging is started already: {error}"))
}
