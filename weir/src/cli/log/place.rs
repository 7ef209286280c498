//! Which log a tool looks at, and how it gets to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aggregator::{S3, SnapshotPlace};
use anyhow::{Context, bail};
use broker::Broker;
use bus::inspect::Inspector;
use clap::Args;

use crate::config::{Config, LogSection, Overrides};
use crate::folder::{self, Held};
use crate::process::{Listening, fsync};
use crate::supervise::{Stage, Supervisor};

/// Longer than any command takes: a tool's log neither deletes nor compacts while it is looked at.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long the tool's own log may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Which log.
#[derive(Debug, Args)]
pub(in crate::cli) struct Place {
    /// Data folder of the embedded log
    #[arg(
        long,
        value_name = "DIR",
        env = "WEIR_DATA",
        default_value = "weir-data"
    )]
    data: PathBuf,
    /// A Kafka cluster (host:port,…) instead
    #[arg(long, value_name = "BOOTSTRAP", env = "WEIR_KAFKA")]
    kafka: Option<String>,
    /// Configuration file (TOML), for how to reach the cluster
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
}

/// A log that a tool can look at.
pub(in crate::cli) struct Home {
    pub(in crate::cli) log: Inspector,
    /// The data folder, unless the log is a cluster.
    pub(super) data: Option<PathBuf>,
    /// Where the counters' snapshots are, if that is known, and how a bucket is reached.
    pub(super) snapshots: Option<SnapshotPlace>,
    pub(super) s3: S3,
    /// Nobody else can write to it.
    pub(super) is_ours: bool,
}

impl Home {
    /// The folder of a topic's files, where the log is embedded.
    pub(super) fn topic_folder(&self, topic: &str) -> Option<PathBuf> {
        let data = self.data.as_ref()?;
        Some(log_folder(data).join("topics").join(topic))
    }
}

impl Place {
    pub(in crate::cli) fn folder(data: PathBuf, config: Option<PathBuf>) -> Self {
        Self {
            data,
            kafka: None,
            config,
        }
    }

    pub(in crate::cli) fn cluster(bootstrap: String, config: Option<PathBuf>) -> Self {
        Self {
            data: PathBuf::new(),
            kafka: Some(bootstrap),
            config,
        }
    }

    /// Does `work` at this place, and leaves it as it was found.
    pub(in crate::cli) async fn visit<T>(
        &self,
        work: impl AsyncFnOnce(&Home) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let config = load(&self.data, self.config.as_deref(), self.kafka.clone())?;
        let aggregator::Config { snapshots, s3, .. } = config.aggregator;
        let Some(section) = &config.log else {
            let home = Home {
                log: Inspector::connect(config.bus).await?,
                data: None,
                snapshots,
                s3,
                is_ours: false,
            };
            return work(&home).await;
        };
        let snapshots = snapshots.unwrap_or_else(|| self.data.join("snapshots").into());
        let home = |log: Inspector, is_ours: bool| Home {
            log,
            data: Some(self.data.clone()),
            snapshots: Some(snapshots),
            s3,
            is_ours,
        };
        if !log_folder(&self.data).is_dir() {
            bail!(
                "{} holds no embedded log; name its data folder with --data, or its cluster with --kafka",
                self.data.display()
            );
        }
        let Ok(held) = folder::hold(&self.data) else {
            let bus = at(&config.bus, running_log(&self.data)?);
            let log = Inspector::connect(bus).await?;
            return work(&home(log, false)).await;
        };
        let own = OwnLog::open(&self.data, section, held).await?;
        let log = Inspector::connect(at(&config.bus, own.address.clone())).await?;
        own.during(work(&home(log, true))).await
    }
}

/// The configuration with which to reach a cluster (`kafka`), or a data folder's log.
pub(in crate::cli) fn load(
    data: &Path,
    file: Option<&Path>,
    kafka: Option<String>,
) -> anyhow::Result<Config> {
    Config::load(Overrides {
        data: data.to_owned(),
        file: file.map(Path::to_owned),
        kafka,
        ..Overrides::default()
    })
}

/// How to reach an embedded log: nothing that is meant for a cluster holds for it.
pub(super) fn at(cluster: &bus::Config, bootstrap: String) -> bus::Config {
    bus::Config {
        bootstrap,
        ready_within: cluster.ready_within,
        ..bus::Config::default()
    }
}

pub(super) fn log_folder(data: &Path) -> PathBuf {
    data.join("log")
}

/// The address of the log of the `weir up` that holds `data`.
fn running_log(data: &Path) -> anyhow::Result<String> {
    let shown = data.display();
    let listening = Listening::read(data).with_context(|| {
        format!("another process holds {shown} and is not ready; wait for it, or stop it")
    })?;
    listening.log.with_context(|| {
        format!("the weir that holds {shown} uses a Kafka cluster: name it with --kafka")
    })
}

/// The embedded log of a data folder that no process holds, opened for the time of a command.
pub(super) struct OwnLog {
    pub(super) address: String,
    supervisor: Supervisor,
    _held: Held,
}

impl OwnLog {
    /// Opens it on a free port of this machine.
    pub(super) async fn open(
        data: &Path,
        section: &LogSection,
        held: Held,
    ) -> anyhow::Result<Self> {
        let mut config = broker::Config::new(log_folder(data));
        config.fsync = fsync(section.fsync);
        config.upkeep_every = NEVER;
        let broker = Broker::open(config).await.context("cannot open the log")?;
        let address = broker.address().to_string();
        let mut supervisor = Supervisor::default();
        let stop = supervisor.token(Stage::Ground);
        supervisor.start(Stage::Ground, "log", broker.run(stop.cancelled_owned()));
        Ok(Self {
            address,
            supervisor,
            _held: held,
        })
    }

    /// Serves until `work` is done, then closes in order.
    pub(super) async fn during<T>(
        mut self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let outcome = tokio::select! {
            outcome = work => outcome,
            failure = self.supervisor.failure() => Err(failure),
        };
        let closed = self.supervisor.stop(CLOSE_WITHIN).await;
        let outcome = outcome?;
        closed.map(|()| outcome)
    }
}
