//! `weir log import` and `weir log export`: the whole log from one home to the other.
//!
//! **Offsets are kept**, because everything of an installation names them: the counters' snapshots, the origin of every
//! output, rows, the outbox. So the copy of a record lies in the same partition at the same offset, with the same time,
//! key, value and headers, and nothing else of the installation has to change or to be moved.
//!
//! - While it is being copied, a topic at the target deletes and compacts nothing and takes times from the one who writes
//!   (see [`plan`]). It gets its lasting settings once everything is compared. A service that is started before finds
//!   its compacted topics with another cleanup and refuses to run.
//! - Where the original has no record any more, the copy gets a [filler](bus::FILLER). Those before the original's
//!   first record are deleted again; those between its records go by compaction, or with the records around them.
//! - One idempotent producer writes, in order, and each record is held to the offset that the log acknowledges: nothing
//!   can be doubled, and the end of each partition says how much is there. A run that was killed goes on from there,
//!   once the newest records of both sides are seen to be equal.
//! - The original must be quiet. Its ends are looked at again before the copy is declared good; when they have moved the
//!   command says so, and another run copies the rest. So most of a large log can be copied while Weir still runs.
//! - At the end every record of both sides is compared, and one checksum a partition printed.

mod compare;
mod copy;
mod plan;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bus::inspect::{Inspector, TopicState};
use clap::Args;
use schemas::topic;
use serde_json::json;

use super::place::{OwnLog, at, load, log_folder};
use super::table::{Table, grouped};
use crate::cli::say;
use crate::folder;
use compare::{Compared, Comparer};
use copy::Copier;
use plan::Plan;

/// How long a cluster may take until a changed setting holds, and until what a killed run had on its way is there.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// The Kafka cluster to copy (host:port,…)
    #[arg(long, value_name = "BOOTSTRAP")]
    from: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// The Kafka cluster to copy to (host:port,…)
    #[arg(long, value_name = "BOOTSTRAP")]
    to: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// The data folder; no process may hold it
    #[arg(
        long,
        value_name = "DIR",
        env = "WEIR_DATA",
        default_value = "weir-data"
    )]
    data: PathBuf,
    /// Configuration file (TOML), for how to reach the cluster and how many copies its topics get
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
    /// One JSON object a partition
    #[arg(long)]
    json: bool,
}

pub(super) async fn import(args: ImportArgs) -> anyhow::Result<()> {
    let common = &args.common;
    let config = load(&common.data, common.config.as_deref(), Some(args.from))?;
    let cluster = Inspector::connect(config.bus.clone()).await?;
    let held = folder::hold(&common.data)?;
    let own = OwnLog::open(&common.data, &config.log.unwrap_or_default(), held).await?;
    let folder = Inspector::connect(at(&config.bus, own.address.clone())).await?;
    own.during(transfer(&cluster, &folder, common.json)).await
}

pub(super) async fn export(args: ExportArgs) -> anyhow::Result<()> {
    let common = &args.common;
    if !log_folder(&common.data).is_dir() {
        bail!(
            "{} holds no embedded log; name its data folder with --data",
            common.data.display()
        );
    }
    let config = load(&common.data, common.config.as_deref(), Some(args.to))?;
    let held = folder::hold(&common.data)?;
    let own = OwnLog::open(&common.data, &config.log.unwrap_or_default(), held).await?;
    let folder = Inspector::connect(at(&config.bus, own.address.clone())).await?;
    let cluster = Inspector::connect(config.bus).await?;
    own.during(transfer(&folder, &cluster, common.json)).await
}

/// Copies all of Weir's topics, and what groups have committed there.
async fn transfer(from: &Inspector, to: &Inspector, json: bool) -> anyhow::Result<()> {
    let names = topic::ALL.map(|spec| spec.name);
    let originals = from.topics(&names).await?;
    if originals.is_empty() {
        bail!("the log to copy has none of Weir's topics");
    }
    let plans = prepare(originals, to).await?;
    let mut comparer = Comparer::new(from, to)?;
    for plan in &plans {
        comparer.check_beginning(plan).await?;
    }
    let mut copier = Copier::new(from, to)?;
    for plan in &plans {
        let copied = copier.copy(plan).await?;
        if !json {
            say(&copied.to_string())?;
        }
    }
    check_quiet(from, &plans).await?;
    let mut compared = Vec::new();
    for plan in &plans {
        compared.extend(comparer.check_all(plan, to).await?);
    }
    let commits = copy_commits(from, to, &plans).await?;
    check_quiet(from, &plans).await?;
    for plan in &plans {
        to.set_settings(plan.topic(), &plan.lasting).await?;
    }
    tell(&compared, commits, json)
}

/// Makes what the target lacks, and keeps what it has from changing by itself.
async fn prepare(originals: Vec<TopicState>, to: &Inspector) -> anyhow::Result<Vec<Plan>> {
    let names = topic::ALL.map(|spec| spec.name);
    let there = to.topics(&names).await?;
    for original in &originals {
        if !there.iter().any(|copy| copy.name == original.name) {
            let settings = plan::while_copying(&plan::carried(original));
            let partitions = original.spans.len();
            to.create(&original.name, partitions, &settings).await?;
        }
    }
    let mut plans = plans(&originals, to).await?;
    let mut is_changed = false;
    for plan in plans.iter().filter(|plan| !plan.is_complete()) {
        let wanted = plan::while_copying(&plan.lasting);
        if plan.is_lasting {
            to.set_settings(plan.topic(), &wanted).await?;
            is_changed = true;
        }
    }
    if is_changed || plans.iter().any(Plan::is_interrupted) {
        tokio::time::sleep(SETTLES_WITHIN).await;
        let were_lasting: Vec<bool> = plans.iter().map(|plan| plan.is_lasting).collect();
        plans = self::plans(&originals, to).await?;
        for (plan, was_lasting) in plans.iter_mut().zip(were_lasting) {
            plan.is_lasting = was_lasting;
        }
    }
    Ok(plans)
}

async fn plans(originals: &[TopicState], to: &Inspector) -> anyhow::Result<Vec<Plan>> {
    let names: Vec<&str> = originals.iter().map(|o| o.name.as_str()).collect();
    let copies = to.topics(&names).await?;
    let plan = |original: &TopicState| {
        let copy = copies.iter().find(|copy| copy.name == original.name);
        let copy = copy.with_context(|| format!("the target lost {}", original.name))?;
        Plan::new(original.clone(), copy)
    };
    originals.iter().map(plan).collect()
}

/// Whether the original is as it was when the copy was planned.
async fn check_quiet(from: &Inspector, plans: &[Plan]) -> anyhow::Result<()> {
    for plan in plans {
        let spans = &plan.original.spans;
        let now = from.spans(plan.topic(), spans.len()).await?;
        let mut both = (0..).zip(spans.iter().zip(&now));
        let moved = both.find(|(_, (then, now))| then.end != now.end);
        if let Some((partition, (then, now))) = moved {
            let partition: i32 = partition;
            bail!(
                "{} partition {partition} went on from {} to {} while it was copied: stop what writes there, and run it \
                 again; it goes on where it was",
                plan.topic(),
                then.end,
                now.end
            );
        }
    }
    Ok(())
}

/// Gives the number of commits that were copied.
async fn copy_commits(from: &Inspector, to: &Inspector, plans: &[Plan]) -> anyhow::Result<usize> {
    let topics: Vec<TopicState> = plans.iter().map(|plan| plan.original.clone()).collect();
    let there = to.groups(&topics).await?;
    let mut count = 0;
    for group in from.groups(&topics).await? {
        if group.committed.is_empty() {
            continue;
        }
        count += group.committed.len();
        let is_same = |other: &&bus::inspect::GroupState| other.name == group.name;
        let known = there.iter().find(is_same);
        if known.is_none_or(|known| known.committed != group.committed) {
            to.commit(&group.name, &group.committed).await?;
        }
    }
    Ok(count)
}

fn tell(compared: &[Compared], commits: usize, json: bool) -> anyhow::Result<()> {
    if json {
        for one in compared {
            let shown = json!({
                "topic": one.topic,
                "partition": one.partition,
                "next": one.next,
                "records": one.records,
                "fillers": one.fillers,
                "checksum": one.checksum(),
            });
            say(&shown.to_string())?;
        }
        return Ok(());
    }
    let mut table = Table::new(&[
        "TOPIC",
        ">PARTITION",
        ">NEXT",
        ">RECORDS",
        "CHECKSUM (BOTH SIDES)",
    ]);
    for one in compared.iter().filter(|one| one.next != 0) {
        table.row([
            one.topic.clone(),
            one.partition.to_string(),
            grouped(one.next),
            grouped(one.records),
            one.checksum()[..16].to_owned(),
        ]);
    }
    table.print()?;
    let records: i64 = compared.iter().map(|one| one.records).sum();
    say(&format!(
        "{} records in {} partitions are equal on both sides; {commits} commits of groups were copied",
        grouped(records),
        compared.len()
    ))
}
