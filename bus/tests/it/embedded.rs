//! The embedded log, started and stopped by a test.
#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use broker::{Broker, RunError};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::checks::outage::Switch;

/// A running log. Stopping it keeps its folder, so that it can be started again.
pub(crate) struct Log {
    folder: TempDir,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    /// Ends with the test, also when the test fails.
    running: JoinSet<Result<(), RunError>>,
}

impl Log {
    /// An empty log on a free port.
    pub(crate) async fn start() -> Log {
        let folder = tempfile::tempdir().unwrap();
        let config = broker::Config::new(data(folder.path()));
        let mut log = Log {
            address: config.listen,
            folder,
            stop: None,
            running: JoinSet::new(),
        };
        log.open(config).await;
        log
    }

    pub(crate) async fn stop(mut self) {
        self.off().await;
    }

    async fn open(&mut self, config: broker::Config) {
        let broker = Broker::open(config).await.unwrap();
        self.address = broker.address();
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        self.running.spawn(broker.run(async {
            // A test that fails drops the sender, which stops the log as well.
            let _ = stopped.await;
        }));
    }
}

impl Switch for Log {
    fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    async fn off(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    async fn on(&mut self) {
        let mut config = broker::Config::new(data(self.folder.path()));
        config.listen = self.address;
        self.open(config).await;
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("log")
}
