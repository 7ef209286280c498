//! `weir policy plan`, `apply` and `rollback`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use enforcer::policy::{Diff, diff};
use serde_json::{Value, json};

use super::client::Server;
use super::{parse, read_policy};
use crate::cli::say;

#[derive(Debug, Args)]
pub(in crate::cli) struct PlanArgs {
    /// The policy file (TOML)
    file: PathBuf,
    /// Compare with this file, and not with what a running Weir obeys
    #[arg(long, value_name = "FILE", conflicts_with_all = ["management", "token"])]
    against: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ApplyArgs {
    /// The policy file (TOML)
    file: PathBuf,
    /// Why, in a few words: kept with the version
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only if this version still holds, as a plan named it; without it, the one that holds now
    #[arg(long, value_name = "VERSION")]
    of: Option<u64>,
    #[command(flatten)]
    server: Server,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackArgs {
    /// The version whose text is to hold again
    #[arg(value_name = "VERSION")]
    to: u64,
    /// Why, in a few words: kept with the new version
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    server: Server,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn plan(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let (_, draft) = read_policy(&args.file)?;
    let (version, held) = match &args.against {
        Some(other) => (None, read_policy(other)?.1),
        None => {
            let stored = args.server.client()?.stored(None).await?;
            let name = format!("version {}", stored.version);
            (Some(stored.version), parse(&stored.source, &name)?)
        }
    };
    let plan = Plan {
        against: match (&args.against, version) {
            (Some(other), _) => other.display().to_string(),
            (None, version) => format!("version {}", version.unwrap_or_default()),
        },
        version,
        diff: diff(&held, &draft),
    };
    say(&if args.json {
        plan.json().to_string()
    } else {
        plan.text()
    })?;
    Ok(if plan.diff.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

pub(super) async fn apply(args: ApplyArgs) -> anyhow::Result<()> {
    let (source, draft) = read_policy(&args.file)?;
    let client = args.server.client()?;
    let stored = client.stored(args.of).await?;
    let held = parse(&stored.source, &format!("version {}", stored.version))?;
    let plan = Plan {
        against: format!("version {}", stored.version),
        version: Some(stored.version),
        diff: diff(&held, &draft),
    };
    if !args.json {
        say(&plan.text())?;
    }
    let now = client.apply(&source, stored.version, &args.reason).await?;
    tell(args.json, &plan, now)
}

pub(super) async fn roll_back(args: RollbackArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let held = client.stored(None).await?;
    let wanted = client.stored(Some(args.to)).await?;
    let name = |version: u64| format!("version {version}");
    let plan = Plan {
        against: name(held.version),
        version: Some(held.version),
        diff: diff(
            &parse(&held.source, &name(held.version))?,
            &parse(&wanted.source, &name(wanted.version))?,
        ),
    };
    if !args.json {
        say(&plan.text())?;
    }
    let back = client.roll_back(args.to, held.version, &args.reason);
    let now = back.await?;
    tell(args.json, &plan, now)
}

/// Tells what holds after a change.
fn tell(json: bool, plan: &Plan, now: u64) -> anyhow::Result<()> {
    if json {
        let mut shown = plan.json();
        shown["holds"] = now.into();
        return say(&shown.to_string());
    }
    if plan.version == Some(now) {
        return say(&format!("version {now} holds, as before"));
    }
    say(&format!("version {now} holds"))
}

/// What a draft changes.
struct Plan {
    /// What it is compared with, for people.
    against: String,
    /// The version that it is compared with, unless that is a file.
    version: Option<u64>,
    diff: Diff,
}

impl Plan {
    fn text(&self) -> String {
        let against = &self.against;
        if self.diff.is_empty() {
            format!("changes nothing against {against}")
        } else {
            format!("changes against {against}:\n{}", self.diff)
        }
    }

    fn json(&self) -> Value {
        let mut shown = json!({ "version": self.version, "changes": !self.diff.is_empty() });
        if let (Value::Object(shown), Ok(Value::Object(diff))) =
            (&mut shown, serde_json::to_value(&self.diff))
        {
            shown.extend(diff);
        }
        shown
    }
}
