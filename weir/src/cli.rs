//! The command line. Flags win over the environment, and both over the configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Overrides};
use crate::demo::{DemoArgs, demo};
use crate::process::{Parts, run};
use crate::telemetry;

mod aggregator;
mod command;
mod explain;
mod key;
mod log;
mod policy;

/// Weir keeps an API or AI platform safe from abuse and runaway cost: it counts what apps report in exact sliding
/// windows, decides, and hands every gateway the decisions to check in memory.
///
/// Try `weir demo` first; then `weir up --data ./weir-data --policy policy.toml`.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a real LLM trace, an attack and browsers' reports, in a temporary folder
    Demo(DemoArgs),
    /// Run everything in this process, with nothing else to install
    ///
    /// Keeps its log, rows and snapshots in one folder. With --kafka the log is a Kafka cluster instead.
    Up(UpArgs),
    /// Take events over HTTP and put them in the log
    Ingest(ServiceArgs),
    /// Count events in exact windows, say when a limit is crossed, keep usage per minute
    ///
    /// Or, as `replay`, tell what a draft policy would have made of past events.
    Aggregator(aggregator::AggregatorArgs),
    /// Own the policy, and turn crossings into decisions and alerts
    Enforcer(EnforcerArgs),
    /// Tell people by webhook and mail
    Notifier(ServiceArgs),
    /// Hold the decisions in memory and answer checks over HTTP
    Gateway(ServiceArgs),
    /// Make, list and revoke keys and tokens
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Look at a policy file before it is used, apply it, and go back to an older one
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Raise a limit for a subject, move it to a tier, block and unblock it; list who ordered what
    #[command(subcommand, name = "command")]
    Order(command::CommandCommand),
    /// Tell from the log why somebody was refused: by which number, on which events, and who touched it since
    Explain(explain::ExplainArgs),
    /// Look at the log, put dead records back, move the log to Kafka and back
    #[command(subcommand)]
    Log(log::LogCommand),
}

/// What each way of running a service takes.
#[derive(Debug, Args)]
struct CommonArgs {
    /// Folder for what this process keeps
    #[arg(
        long,
        value_name = "DIR",
        env = "WEIR_DATA",
        default_value = "weir-data"
    )]
    data: PathBuf,
    /// Configuration file (TOML); every setting has a default
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
    /// Port of the data plane (events, checks); 0 takes a free one
    #[arg(long, value_name = "N")]
    port_data: Option<u16>,
    /// Port of the management plane (queries, metrics); 0 takes a free one
    #[arg(long, value_name = "N")]
    port_management: Option<u16>,
}

impl CommonArgs {
    fn load(self, kafka: Option<String>, port_log: Option<u16>) -> anyhow::Result<Config> {
        Config::load(Overrides {
            data: self.data,
            file: self.config,
            kafka,
            port_data: self.port_data,
            port_management: self.port_management,
            port_log,
        })
    }
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Policy file (TOML): the limits; edits take effect while running
    #[arg(long, value_name = "FILE", env = "WEIR_POLICY")]
    policy: PathBuf,
    /// Use this Kafka cluster (host:port,…) instead of the log in this process
    #[arg(long, value_name = "BOOTSTRAP", env = "WEIR_KAFKA")]
    kafka: Option<String>,
    /// Port of the log in this process, for any Kafka client; 0 takes a free one
    #[arg(long, value_name = "N", conflicts_with = "kafka")]
    port_log: Option<u16>,
}

#[derive(Debug, Args)]
struct ServiceArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// The log: a Kafka cluster (host:port,…), or the log of a `weir up` on this machine
    #[arg(long, value_name = "BOOTSTRAP", env = "WEIR_KAFKA")]
    kafka: String,
}

#[derive(Debug, Args)]
struct EnforcerArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Policy file (TOML): the limits; edits take effect while running
    #[arg(long, value_name = "FILE", env = "WEIR_POLICY")]
    policy: PathBuf,
}

impl Cli {
    /// Does what was asked; gives the status to exit with.
    ///
    /// # Errors
    /// When it cannot be done.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let done = match self.command {
            Command::Demo(args) => demo(args).await,
            Command::Up(args) => {
                let config = args.common.load(args.kafka, args.port_log)?;
                start(config, Parts::all(args.policy)).await
            }
            Command::Ingest(args) => service(args, Parts::ingest()).await,
            Command::Aggregator(args) => args.run().await,
            Command::Enforcer(args) => service(args.service, Parts::enforcer(args.policy)).await,
            Command::Notifier(args) => service(args, Parts::notifier()).await,
            Command::Gateway(args) => service(args, Parts::gateway()).await,
            Command::Key(command) => command.run().await,
            Command::Policy(command) => return command.run().await,
            Command::Order(command) => command.run().await,
            Command::Explain(args) => args.run().await,
            Command::Log(command) => command.run().await,
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

async fn service(args: ServiceArgs, parts: Parts) -> anyhow::Result<()> {
    start(args.common.load(Some(args.kafka), None)?, parts).await
}

async fn start(config: Config, parts: Parts) -> anyhow::Result<()> {
    telemetry::start(&config.telemetry)?;
    run(config, parts).await
}

/// Prints one line for the person, or program, that asked.
fn say(line: &str) -> anyhow::Result<()> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_is_well_formed() {
        Cli::command().debug_assert();
    }
}
