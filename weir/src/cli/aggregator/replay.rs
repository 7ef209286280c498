//! `weir aggregator replay` and `weir policy simulate`: the dry run of a policy.

mod file;
mod history;
mod show;

pub(in crate::cli) use file::encode;

use std::path::{Path, PathBuf};

use aggregator::{Found, Replay};
use anyhow::bail;
use bus::clock::{Clock as _, SystemClock};
use bus::{Partition, Record};
use clap::Args;
use schemas::policy::Policy;
use schemas::time::Timestamp;

use crate::cli::log::place::{Place, load};
use crate::cli::policy::read_policy;
use crate::cli::say;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    past: Past,
    /// The draft: a policy file (TOML)
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
}

/// Which past events.
#[derive(Debug, Args)]
pub(in crate::cli) struct Past {
    /// Past events: a data folder (also one that a `weir up` holds), a Kafka cluster, or a file with one CloudEvent a
    /// line as /v1/events takes them
    ///
    /// In a file the events' own times stand for the times at which a log would have taken them.
    #[arg(long, value_name = "DIR|HOST:PORT,…|FILE")]
    from: String,
    /// Configuration file (TOML), for how the aggregator counts and how to reach a cluster
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
    /// Only what the log took from this time (like 2026-11-21T10:00:00Z) on; in a file, what happened from then on
    ///
    /// Counting begins there: windows are empty, and nothing from before is known as a duplicate.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only what the log took before this time; in a file, what happened before
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// What is shown of a dry run.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) enum Shows {
    /// Every crossing, and what each level came to.
    Crossings,
    /// Who would have been refused, and when.
    Refused,
}

fn time(text: &str) -> Result<Timestamp, &'static str> {
    Timestamp::parse(text).ok_or("no time like 2026-11-21T10:00:00Z")
}

/// Where past events are.
enum Source {
    File(PathBuf),
    Log(Place),
}

impl Source {
    fn find(from: &str, config: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = Path::new(from);
        if path.is_dir() {
            return Ok(Self::Log(Place::folder(path.to_owned(), config)));
        }
        if path.exists() {
            return Ok(Self::File(path.to_owned()));
        }
        let is_address = |part: &str| {
            let port = part.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            matches!(port, Some(Ok(_)))
        };
        if !from.split(',').all(is_address) {
            bail!(
                "{from} is no data folder, no file, and no address of a Kafka cluster (host:port,…)"
            );
        }
        Ok(Self::Log(Place::cluster(from.to_owned(), config)))
    }
}

pub(super) async fn replay(args: ReplayArgs) -> anyhow::Result<()> {
    let (_, policy) = read_policy(&args.policy)?;
    run(&args.past, policy, Shows::Crossings).await
}

/// Counts past events as if `policy` had held.
pub(in crate::cli) async fn run(past: &Past, policy: Policy, shows: Shows) -> anyhow::Result<()> {
    let config = load(Path::new(""), past.config.as_deref(), None)?;
    let is_embedded = config.log.is_some();
    let config = config.aggregator;
    let draft = Draft { policy, config };
    let show = |places| show::Show {
        json: past.json,
        places,
        shows,
    };
    match Source::find(&past.from, past.config.clone())? {
        Source::File(path) => {
            let mut run = DryRun::new(&draft, |_| 1, show(show::Places::Lines))?;
            file::fold(&path, past, &mut run)?;
            run.finish()
        }
        Source::Log(_) if !is_embedded && Path::new(&past.from).is_dir() => {
            bail!(
                "the configuration names a Kafka cluster: give its address to --from, or leave --config out"
            )
        }
        Source::Log(place) => {
            place
                .visit(async |home| {
                    let events = history::History::open(home, past).await?;
                    let partitions = |spec: schemas::topic::TopicSpec| events.partitions(spec.name);
                    let show = show(show::Places::Offsets);
                    let mut run = DryRun::new(&draft, partitions, show)?;
                    events.fold(&mut run).await?;
                    let now = SystemClock.now();
                    run.pass(past.until.map_or(now, |until| until.min(now)))?;
                    run.finish()
                })
                .await
        }
    }
}

/// A policy, and how the aggregator counts.
struct Draft {
    policy: Policy,
    config: aggregator::Config,
}

/// A dry run and how it is shown.
struct DryRun {
    replay: Replay,
    show: show::Show,
    found: Vec<Found>,
}

impl DryRun {
    fn new(
        draft: &Draft,
        partitions: impl Fn(schemas::topic::TopicSpec) -> i32,
        show: show::Show,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            replay: Replay::new(&draft.config, &draft.policy, partitions)?,
            show,
            found: Vec::new(),
        })
    }

    fn take(&mut self, partition: Partition, record: &Record) -> anyhow::Result<()> {
        self.replay.take(partition, record, &mut self.found)?;
        self.tell()
    }

    fn take_unreadable(&mut self, place: (Partition, i64), reason: String) -> anyhow::Result<()> {
        let found = &mut self.found;
        self.replay.take_unreadable(place, reason, found)?;
        self.tell()
    }

    fn pass(&mut self, at: Timestamp) -> anyhow::Result<()> {
        self.replay.pass(at, &mut self.found)?;
        self.tell()
    }

    fn tell(&mut self) -> anyhow::Result<()> {
        for found in self.found.drain(..) {
            if let Some(line) = self.show.found(&found) {
                say(&line)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        let lines = self.show.lines(&self.replay.finish());
        lines.iter().try_for_each(|line| say(line))
    }
}
