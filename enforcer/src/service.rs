//! Building the enforcer: its policy stands in the log, and marks every partition of events, before it is built.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bus::clock::SharedClock;
use bus::{Bus, BusError, SendError};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use schemas::policy::Policy;
use schemas::time::Timestamp;
use sqlx::AnyPool;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::policy::{self, FILE, Head, Problem, Version, file_is_news};
use crate::proposal::{PROPOSALS_MAX, Proposal};
use crate::store::{Store, StoreError};
use crate::tell::{Teller, Told};
use crate::{file, http, recorder, run, wire};

/// What the enforcer needs from outside.
pub struct Deps {
    pub bus: Bus,
    pub clock: SharedClock,
    /// SQLite or PostgreSQL. The pool's drivers must be installed.
    pub store: AnyPool,
    /// The policy file.
    pub policy: PathBuf,
}

/// Why an enforcer cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "the policy {path} {reason}; write one with at least one [[limit]], or name another file"
    )]
    PolicyFile { path: PathBuf, reason: String },
    #[error("the policy cannot be obeyed:\n{0}")]
    Policy(Refusal),
    #[error("the enforcer's store cannot be used: {0}")]
    Store(String),
    #[error("the policy in the log cannot be read: {0}")]
    Read(#[from] BusError),
    #[error("the policy cannot be published: {0}")]
    Publish(#[from] SendError),
}

/// Why a running enforcer stopped.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("the enforcer can no longer read the log: {0}")]
    Read(#[from] BusError),
    #[error("the enforcer can no longer write to the log: {0}")]
    Write(#[from] SendError),
}

/// Everything that is wrong with a policy file, a line each, as compilers tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) lines: Vec<String>,
}

impl Refusal {
    pub(crate) fn of(path: &Path, problems: &[Problem]) -> Self {
        let path = path.display();
        Self {
            lines: problems
                .iter()
                .map(|problem| format!("{path}:{problem}"))
                .collect(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

/// The policy as the management plane shows it.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) in_force: Version,
    /// Every version that the log keeps, by its number.
    pub(crate) versions: BTreeMap<u64, Head>,
    /// The newest edit of the file, if it was refused, and when.
    pub(crate) refused: Option<(Timestamp, Refusal)>,
}

/// What all parts of a running enforcer share.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) bus: Bus,
    pub(crate) clock: SharedClock,
    pub(crate) store: Store,
    pub(crate) policy: PathBuf,
    pub(crate) metrics: Metrics,
    pub(crate) board: Arc<RwLock<Board>>,
    pub(crate) ready: Arc<AtomicBool>,
}

/// An enforcer that is ready to run.
pub struct Service {
    parts: Parts,
    /// The policy file's text as it was read.
    text: String,
    propose: mpsc::Sender<Proposal>,
    proposals: mpsc::Receiver<Proposal>,
}

impl Service {
    /// Reads the policy file, publishes it where it is new, and writes its marker into every partition of events;
    /// returns once the log has acknowledged that, so that what is counted from then on is counted by it.
    ///
    /// # Errors
    /// When the policy is missing or wrong: somebody is there to read it, so nothing starts. The text names every
    /// mistake with its line and column.
    pub async fn build(
        config: Config,
        deps: Deps,
        registry: &mut Registry,
    ) -> Result<Self, BuildError> {
        config.check()?;
        let path = deps.policy;
        let text = file::read(&path)
            .await
            .map_err(|reason| BuildError::PolicyFile {
                path: path.clone(),
                reason,
            })?;
        let policy = policy::read(&text)
            .map_err(|problems| BuildError::Policy(Refusal::of(&path, &problems)))?;
        let store = Store::open(deps.store).await;
        let store = store.map_err(|error: StoreError| BuildError::Store(error.to_string()))?;
        let teller = Teller {
            bus: deps.bus.clone(),
            metrics: Metrics::register(registry),
            stop: CancellationToken::new(),
        };
        let board = enact(&teller, policy, &text, deps.clock.now()).await?;
        let (propose, proposals) = mpsc::channel(PROPOSALS_MAX);
        let parts = Parts {
            config,
            bus: deps.bus,
            clock: deps.clock,
            store,
            policy: path,
            metrics: teller.metrics,
            board: Arc::new(RwLock::new(board)),
            ready: Arc::new(AtomicBool::new(false)),
        };
        Ok(Self {
            parts,
            text,
            propose,
            proposals,
        })
    }

    /// `/v1/decisions`, `/v1/commands`, `/v1/policy` and what is below them, for the management plane.
    pub fn router(&self) -> axum::Router {
        let parts = &self.parts;
        http::router(http::Shared {
            store: parts.store.clone(),
            clock: Arc::clone(&parts.clock),
            board: Arc::clone(&parts.board),
            bus: parts.bus.clone(),
            propose: self.propose.clone(),
            explaining: Arc::default(),
        })
        .merge(http::commands::router(http::commands::Shared {
            bus: parts.bus.clone(),
            store: parts.store.clone(),
            clock: Arc::clone(&parts.clock),
            board: Arc::clone(&parts.board),
            recent: Arc::default(),
        }))
    }

    /// Whether signals become decisions: a partition was given to this process, and what stands is known.
    pub fn readiness(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let ready = Arc::clone(&self.parts.ready);
        move || ready.load(Ordering::Relaxed)
    }

    /// Decides, watches the policy file, and keeps the history, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self {
            parts,
            text,
            proposals,
            ..
        } = self;
        let ended = tokio::try_join!(
            run::enforce(&parts, text, proposals, shutdown.clone()),
            recorder::record(&parts, shutdown),
        );
        parts.ready.store(false, Ordering::Relaxed);
        ended.map(|_| ())
    }
}

/// Makes `policy`, as the file has it, the one in force where the file says something new, and writes the markers of
/// what holds in any case, since a process may have stopped between the two.
async fn enact(
    teller: &Teller,
    policy: Policy,
    text: &str,
    now: Timestamp,
) -> Result<Board, BuildError> {
    let held = wire::versions(&teller.bus).await?;
    let kept: Vec<&Version> = held.kept.values().collect();
    let version = match held.in_force.clone() {
        Some(in_force) if !file_is_news(&kept, Some(&in_force), text, &policy) => in_force,
        in_force => {
            let last = in_force.map_or(0, |held| held.policy.version);
            let last = held.kept.keys().copied().fold(last, u64::max);
            let version = Version {
                policy: Policy {
                    version: last + 1,
                    ..policy
                },
                at: now,
                author: FILE.to_owned(),
                reason: "read at start".to_owned(),
                source: text.to_owned(),
            };
            all(teller.version(&version).await?);
            version
        }
    };
    all(teller.markers(&version).await?);
    let (number, limits) = (version.policy.version, version.policy.limits.len());
    let author = &version.author;
    tracing::info!(version = number, limits, author, "the policy is in force");
    let heads = held
        .kept
        .iter()
        .map(|(number, kept)| (*number, kept.head()));
    let mut versions: BTreeMap<u64, Head> = heads.collect();
    versions.insert(number, version.head());
    Ok(Board {
        in_force: version,
        versions,
        refused: None,
    })
}

/// Nobody stops a process that is being built through the teller.
fn all(told: Told) {
    assert_eq!(told, Told::All, "a teller that is never stopped tells all");
}
