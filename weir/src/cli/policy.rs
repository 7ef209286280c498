//! `weir policy`: a policy file before it is used, and the versions that a running Weir has obeyed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use schemas::policy::Policy;

use super::{log, say};

mod change;
pub(super) mod client;
mod look;
mod simulate;
mod test;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Say what is wrong with a policy file, or what it limits
    Check {
        /// The policy file (TOML)
        file: PathBuf,
    },
    /// Print the JSON Schema of a policy, by which editors complete and check one while it is written
    Schema {
        /// Print the reference of all fields instead, as Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Play cases through the parts that count, decide and answer, and compare what comes of them
    ///
    /// A case is events and checks in the order of their times, with the answers expected; it needs no running Weir.
    Test(test::TestArgs),
    /// Tell who would have been refused, and when, had a policy file held in the past
    ///
    /// Counts what a log or a file holds, as `weir aggregator replay` does. What would have been refused is counted all
    /// the same, as nobody knows what its sender would have done then. Writes nothing to the log.
    Simulate(simulate::SimulateArgs),
    /// Show what a policy file would change, and for whom; exits with 2 where it changes anything
    Plan(change::PlanArgs),
    /// Make a policy file the next version, after showing what it changes
    Apply(change::ApplyArgs),
    /// Make an older version the next one
    Rollback(change::RollbackArgs),
    /// Show what changed between two versions
    Diff(look::DiffArgs),
    /// List the versions, newest first: when, by whom, why
    History(look::HistoryArgs),
    /// Show a version's text
    #[command(disable_version_flag = true)]
    Show(look::ShowArgs),
}

impl PolicyCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let done = match self {
            Self::Check { file } => check(&file),
            Self::Schema { markdown: true } => say(enforcer::policy::reference().trim_end()),
            Self::Schema { markdown: false } => schema(),
            Self::Test(args) => test::test(&args),
            Self::Simulate(args) => simulate::simulate(args).await,
            Self::Plan(args) => return change::plan(args).await,
            Self::Apply(args) => change::apply(args).await,
            Self::Rollback(args) => change::roll_back(args).await,
            Self::Diff(args) => look::diff(args).await,
            Self::History(args) => look::history(args).await,
            Self::Show(args) => look::show(args).await,
        };
        log::unless_unheard(done).map(|()| ExitCode::SUCCESS)
    }
}

fn check(file: &Path) -> anyhow::Result<()> {
    let text = read_text(file)?;
    match enforcer::policy::read(&text) {
        Ok(policy) => {
            let limits = policy.limits.len();
            say(&format!("{}: good, {limits} limits", file.display()))
        }
        Err(problems) => {
            for problem in &problems {
                say(&format!("{}:{problem}", file.display()))?;
            }
            bail!("{} problems in {}", problems.len(), file.display())
        }
    }
}

fn schema() -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(
        &enforcer::policy::json_schema(),
    )?)
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file);
    text.with_context(|| format!("cannot read the policy {}", file.display()))
}

/// A policy file's text and what it says.
pub(in crate::cli) fn read_policy(file: &Path) -> anyhow::Result<(String, Policy)> {
    let text = read_text(file)?;
    let policy = parse(&text, &file.display().to_string())?;
    Ok((text, policy))
}

/// What a text says; `name` is where it is from.
fn parse(text: &str, name: &str) -> anyhow::Result<Policy> {
    enforcer::policy::read(text).map_err(|problems| {
        let lines = problems.iter().map(|problem| format!("{name}:{problem}"));
        anyhow::anyhow!("{}", lines.collect::<Vec<_>>().join("\n"))
    })
}
