//! `weir policy diff`, `history` and `show`.

use clap::Args;
use enforcer::policy;
use serde_json::Value;

use super::client::Server;
use super::parse;
use crate::cli::log::table::Table;
use crate::cli::say;

/// Versions asked for at once.
const PAGE: usize = 100;

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// The older version; without it, the one before --to
    #[arg(long, value_name = "VERSION")]
    from: Option<u64>,
    /// The newer version; without it, the one that holds
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
    #[command(flatten)]
    server: Server,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    server: Server,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Which one; without it, the one that holds
    #[arg(long, value_name = "VERSION")]
    version: Option<u64>,
    #[command(flatten)]
    server: Server,
    /// What it was read as, with when, by whom and why, as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn diff(args: DiffArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let named = [("from", args.from), ("to", args.to)];
    let query = named
        .into_iter()
        .filter_map(|(name, version)| Some(format!("{name}={}", version?)));
    let query = query.collect::<Vec<_>>().join("&");
    let shown = client.get(&format!("/v1/policy/diff?{query}")).await?;
    if args.json {
        return say(&shown.to_string());
    }
    let mut versions = Vec::new();
    for end in ["from", "to"] {
        let stored = client.stored(shown[end].as_u64()).await?;
        versions.push(parse(
            &stored.source,
            &format!("version {}", stored.version),
        )?);
    }
    say(&format!(
        "from version {} to {}:",
        shown["from"], shown["to"]
    ))?;
    let diff = policy::diff(&versions[0], &versions[1]);
    if diff.is_empty() {
        return say("nothing changes");
    }
    say(&diff.to_string())
}

pub(super) async fn history(args: HistoryArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let mut listed: Vec<Value> = Vec::new();
    while listed.len() < args.limit {
        let size = PAGE.min(args.limit - listed.len());
        let mut path = format!("/v1/policy/versions?limit={size}");
        if let Some(last) = listed.last() {
            path = format!("{path}&after={}", last["version"]);
        }
        let page = client.get(&path).await?;
        let page = page.as_array().cloned().unwrap_or_default();
        let is_last = page.len() < size;
        listed.extend(page);
        if is_last {
            break;
        }
    }
    if args.json {
        return listed
            .iter()
            .try_for_each(|version| say(&version.to_string()));
    }
    let mut table = Table::new(&[">VERSION", "AT", "AUTHOR", "REASON"]);
    for version in &listed {
        let text = |field: &str| version[field].as_str().unwrap_or_default().to_owned();
        let number = version["version"].to_string();
        table.row([number, text("at"), text("author"), text("reason")]);
    }
    table.print()
}

pub(super) async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    if args.json {
        return say(&client.described(args.version).await?.to_string());
    }
    let source = client.stored(args.version).await?.source;
    say(source.strip_suffix('\n').unwrap_or(&source))
}
