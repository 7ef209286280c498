//! `weir aggregator`, and what it does besides counting.

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{CommonArgs, ServiceArgs, log, service};
use crate::process::Parts;

pub(super) mod replay;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct AggregatorArgs {
    #[command(subcommand)]
    command: Option<AggregatorCommand>,
    #[command(flatten)]
    common: CommonArgs,
    /// The log: a Kafka cluster (host:port,…), or the log of a `weir up` on this machine
    #[arg(long, value_name = "BOOTSTRAP", env = "WEIR_KAFKA", required = true)]
    kafka: Option<String>,
}

#[derive(Debug, Subcommand)]
enum AggregatorCommand {
    /// Tell what a draft policy would have made of past events
    ///
    /// Counts what a log or a file holds, through the same engine, as if the draft had held from the first event on.
    /// Shows every crossing, then each limit's sum of them and what became of the events. Writes nothing to the log.
    Replay(replay::ReplayArgs),
}

impl AggregatorArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if let Some(AggregatorCommand::Replay(args)) = self.command {
            return log::unless_unheard(replay::replay(args).await);
        }
        let (common, kafka) = (self.common, self.kafka);
        let kafka = kafka.context("name the log with --kafka")?;
        service(ServiceArgs { common, kafka }, Parts::aggregator()).await
    }
}
