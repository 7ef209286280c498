//! `weir policy simulate`: who would have been refused by a draft.

use std::path::PathBuf;

use clap::Args;

use super::read_policy;
use crate::cli::aggregator::replay::{Past, Shows, run};

#[derive(Debug, Args)]
pub(in crate::cli) struct SimulateArgs {
    /// The draft: a policy file (TOML)
    file: PathBuf,
    #[command(flatten)]
    past: Past,
}

pub(super) async fn simulate(args: SimulateArgs) -> anyhow::Result<()> {
    let (_, policy) = read_policy(&args.file)?;
    run(&args.past, policy, Shows::Refused).await
}
