//! `weir log verify`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use broker::{Finding, Verification};
use clap::Args;
use serde_json::{Value, json};

use super::place::log_folder;
use super::table::{Table, bytes, grouped};
use crate::cli::say;
use crate::folder;

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// Data folder of a `weir up` that does not run
    #[arg(
        long,
        value_name = "DIR",
        env = "WEIR_DATA",
        default_value = "weir-data"
    )]
    data: PathBuf,
    /// One JSON object in all
    #[arg(long)]
    json: bool,
}

pub(super) async fn verify(args: VerifyArgs) -> anyhow::Result<()> {
    let log = log_folder(&args.data);
    if !log.is_dir() {
        bail!(
            "{} holds no embedded log; name its data folder with --data",
            args.data.display()
        );
    }
    let _held = folder::hold(&args.data)?;
    let found = tokio::task::spawn_blocking(move || broker::verify(&log)).await?;
    let found = found.with_context(|| format!("cannot check {}", args.data.display()))?;
    match args.json {
        true => say(&as_json(&found).to_string())?,
        false => show(&found)?,
    }
    let lasting = found.all_findings().filter(|f| !f.mended_by_opening);
    match lasting.count() {
        0 => Ok(()),
        1 => bail!("1 thing is wrong that opening does not mend"),
        lasting => bail!("{lasting} things are wrong that opening does not mend"),
    }
}

fn show(found: &Verification) -> anyhow::Result<()> {
    let headings = [
        "TOPIC",
        ">PARTITION",
        ">FIRST",
        ">NEXT",
        ">RECORDS",
        ">BYTES",
        ">SEGMENTS",
        "STATE",
    ];
    let mut table = Table::new(&headings);
    for partition in &found.partitions {
        let is_mended = |finding: &Finding| finding.mended_by_opening;
        let state = match &partition.findings[..] {
            [] => "good",
            findings if findings.iter().all(is_mended) => "mended by opening",
            _ => "WRONG",
        };
        table.row([
            partition.topic.clone(),
            partition.partition.to_string(),
            grouped(partition.first_offset),
            grouped(partition.next_offset),
            partition.records.to_string(),
            bytes(partition.bytes),
            partition.segments.to_string(),
            state.to_owned(),
        ]);
    }
    table.print()?;
    for finding in found.all_findings() {
        let mended = match finding.mended_by_opening {
            true => "opening mends it",
            false => "WRONG",
        };
        let (path, position) = (finding.path.display(), finding.position);
        say(&format!(
            "{mended}: {path} at byte {position}: {}",
            finding.what
        ))?;
    }
    Ok(())
}

fn as_json(found: &Verification) -> Value {
    let partition = |partition: &broker::PartitionState| {
        json!({
            "topic": partition.topic,
            "partition": partition.partition,
            "first": partition.first_offset,
            "next": partition.next_offset,
            "records": partition.records,
            "bytes": partition.bytes,
            "batches": partition.batches,
            "segments": partition.segments,
        })
    };
    let finding = |finding: &Finding| {
        json!({
            "path": finding.path,
            "position": finding.position,
            "what": finding.what,
            "mended_by_opening": finding.mended_by_opening,
        })
    };
    json!({
        "partitions": found.partitions.iter().map(partition).collect::<Vec<_>>(),
        "findings": found.all_findings().map(finding).collect::<Vec<_>>(),
    })
}
