//! Named tasks, started once, joined always. The first task that ends before its time stops the process; a stop goes
//! stage by stage, so that what takes events ends before what counts them, and the log ends last.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The order in which tasks stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// HTTP: no new work comes in.
    Front,
    /// Services: finish, write snapshots, leave their groups.
    Service,
    /// What services stand on: the log.
    Ground,
}

const STAGES: [Stage; 3] = [Stage::Front, Stage::Service, Stage::Ground];

/// All tasks of a process.
#[derive(Debug, Default)]
pub struct Supervisor {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, (Stage, &'static str)>,
    front: CancellationToken,
    service: CancellationToken,
    ground: CancellationToken,
}

impl Supervisor {
    /// Tells the tasks of `stage` to stop.
    #[must_use]
    pub fn token(&self, stage: Stage) -> CancellationToken {
        match stage {
            Stage::Front => self.front.clone(),
            Stage::Service => self.service.clone(),
            Stage::Ground => self.ground.clone(),
        }
    }

    /// Starts a task that is to run until its stage's token is cancelled.
    pub fn start<E>(
        &mut self,
        stage: Stage,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<anyhow::Error>,
    {
        let handle = self
            .tasks
            .spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), (stage, name));
    }

    /// Waits for a task to end before its time, which is an error that names it. Cancel safe.
    pub async fn failure(&mut self) -> anyhow::Error {
        match self.join().await {
            None => std::future::pending().await,
            Some((name, Ok(()))) => anyhow!("{name} stopped by itself, which it never should"),
            Some((name, Err(error))) => error.context(format!("{name} failed")),
        }
    }

    /// Stops every task, stage by stage, within `deadline` in all. What has not stopped by then is cut off and named.
    pub async fn stop(mut self, deadline: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + deadline;
        let mut first_error = None;
        for stage in STAGES {
            self.token(stage).cancel();
            while self.names.values().any(|(s, _)| *s <= stage) {
                let Ok(joined) = tokio::time::timeout_at(end, self.join()).await else {
                    let late: Vec<_> = self.names.values().map(|(_, name)| *name).collect();
                    self.tasks.abort_all();
                    return Err(anyhow!("not stopped in time: {}", late.join(", ")));
                };
                if let Some((name, Err(error))) = joined {
                    tracing::error!(
                        task = name,
                        error = format!("{error:#}"),
                        "did not stop well"
                    );
                    first_error.get_or_insert(error.context(format!("stopping {name}")));
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn join(&mut self) -> Option<(&'static str, anyhow::Result<()>)> {
        let (id, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(error).context("panicked")),
        };
        let name = self
            .names
            .remove(&id)
            .map_or("a task without a name", |(_, name)| name);
        Some((name, result))
    }
}

/// Waits for a person or system to ask for the end: SIGTERM or SIGINT.
pub async fn asked_to_stop() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Starts one task a stage that notes when it is told to stop.
    fn three(log: &Arc<Mutex<Vec<&'static str>>>) -> Supervisor {
        let mut supervisor = Supervisor::default();
        let named = [
            (Stage::Ground, "log"),
            (Stage::Service, "counter"),
            (Stage::Front, "http"),
        ];
        for (stage, name) in named {
            let (token, log) = (supervisor.token(stage), Arc::clone(log));
            supervisor.start(stage, name, async move {
                token.cancelled().await;
                log.lock().unwrap().push(name);
                anyhow::Ok(())
            });
        }
        supervisor
    }

    #[tokio::test]
    async fn stops_stage_by_stage() {
        let log = Arc::default();
        three(&log).stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["http", "counter", "log"]);
    }

    #[tokio::test]
    async fn a_task_that_ends_early_is_named() {
        let mut supervisor = three(&Arc::default());
        supervisor.start(Stage::Service, "weak", async { Err(anyhow!("disk full")) });
        assert_eq!(
            format!("{:#}", supervisor.failure().await),
            "weak failed: disk full"
        );
        supervisor.start(Stage::Service, "lazy", async { anyhow::Ok(()) });
        assert!(
            supervisor
                .failure()
                .await
                .to_string()
                .contains("lazy stopped by itself")
        );
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_named() {
        let mut supervisor = three(&Arc::default());
        supervisor.start(
            Stage::Service,
            "stuck",
            std::future::pending::<anyhow::Result<()>>(),
        );
        let error = supervisor
            .stop(Duration::from_millis(50))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("stuck"), "{error}");
    }
}
