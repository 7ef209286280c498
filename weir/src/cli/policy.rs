use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Say what is wrong with a policy file, or what it limits
    Check {
        /// The policy file (TOML)
        file: PathBuf,
    },
}

impl PolicyCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Check { file } = self;
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read the policy {}", file.display()))?;
        match enforcer::policy::read(&text) {
            Ok(policy) => {
                let limits = policy.limits.len();
                super::say(&format!("{}: good, {limits} limits", file.display()))
            }
            Err(problems) => {
                for problem in &problems {
                    super::say(&format!("{}:{problem}", file.display()))?;
                }
                bail!("{} problems in {}", problems.len(), file.display())
            }
        }
    }
}
