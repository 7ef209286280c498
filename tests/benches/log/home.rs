//! The two logs under the bench: each a process whose time and memory can be read.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::embedded::LogProcess;
use tests::kafka::Kafka;
use tests::process;

/// A log in a process of its own.
pub(crate) enum Home {
    /// With its defaults: a sync every 50 ms.
    Embedded(
        LogProcess,
        #[expect(dead_code, reason = "kept until the end")] TempDir,
    ),
    /// With its defaults: no sync, a heap of 1 GiB.
    Kafka(Box<Kafka>),
}

impl Home {
    pub(crate) async fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = LogProcess::start(&folder.path().join("data"), "50").await;
        Self::Embedded(log, folder)
    }

    pub(crate) async fn kafka() -> Self {
        Self::Kafka(Box::new(Kafka::start_as_shipped().await))
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Embedded(..) => "embedded log",
            Self::Kafka(_) => "Kafka",
        }
    }

    pub(crate) fn bootstrap(&self) -> String {
        match self {
            Self::Embedded(log, _) => log.bootstrap(),
            Self::Kafka(kafka) => kafka.bootstrap(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Embedded(log, _) => log.id(),
            Self::Kafka(kafka) => kafka.id().expect("a process from the jars"),
        }
    }

    /// Ends it, in order or not, and starts it again: how long until it answers.
    pub(crate) async fn reopen(&mut self, killed: bool) -> Duration {
        match (&mut *self, killed) {
            (Self::Embedded(log, _), true) => log.kill9(),
            (Self::Embedded(log, _), false) => log.stop(),
            (Self::Kafka(kafka), true) => kafka.kill9().await,
            (Self::Kafka(kafka), false) => kafka.stop(),
        }
        let start = now();
        match self {
            Self::Embedded(log, _) => log.restart().await,
            Self::Kafka(kafka) => kafka.restart().await,
        }
        start.elapsed()
    }

    pub(crate) fn cpu_time(&self) -> Duration {
        process::cpu_time(self.pid())
    }

    pub(crate) fn resident_mib(&self) -> f64 {
        process::resident_mib(self.pid())
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures wall time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
