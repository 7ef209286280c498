//! A Redis of a test's own.

use std::process::Command;

use tempfile::TempDir;
use testcontainers::core::WaitFor;

use crate::docker::{self, Container};
use crate::installed::program;
use crate::process::{Process, Signal, free_port, wait_for_port};

/// A running server. Dropped: stopped, its data gone.
pub struct Redis {
    port: u16,
    home: Home,
}

/// Dropped in order: the process first, then its folder.
enum Home {
    Installed(
        Process,
        #[expect(dead_code, reason = "held until the process has ended")] TempDir,
    ),
    Container(#[expect(dead_code, reason = "held for what dropping it does")] Box<Container>),
}

impl Redis {
    /// Starts one: in Docker where an engine answers, the installed one otherwise.
    ///
    /// # Panics
    /// When neither works, saying what is missing.
    pub async fn start() -> Self {
        let (home, port) = if docker::answers() {
            in_docker().await
        } else {
            installed_on(free_port()).await
        };
        Self { port, home }
    }

    /// Starts the installed one, which can be killed and come back.
    ///
    /// # Panics
    /// When it is not installed.
    pub async fn start_installed() -> Self {
        let (home, port) = installed_on(free_port()).await;
        Self { port, home }
    }

    /// Ends it at once, with all that it holds.
    ///
    /// # Panics
    /// When it runs in Docker.
    pub fn kill9(&mut self) {
        match &mut self.home {
            Home::Installed(process, _) => process.kill9(),
            Home::Container(_) => panic!("only an installed server is killed"),
        }
    }

    /// Starts it anew on its port, empty.
    pub async fn start_again(&mut self) {
        (self.home, _) = installed_on(self.port).await;
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// How a gateway keeps its ledger here: a section of its configuration.
    #[must_use]
    pub fn ledger(&self) -> String {
        format!("[gateway]\nledger_url = \"{}\"\n", self.url())
    }
}

async fn in_docker() -> (Home, u16) {
    let ready = WaitFor::message_on_stdout("Ready to accept connections");
    let (container, port) = docker::start(docker::image("redis", "7", 6379, ready), 6379).await;
    (Home::Container(Box::new(container)), port)
}

async fn installed_on(port: u16) -> (Home, u16) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Command::new(program("redis-server", &[]));
    server.args([
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--save",
        "",
    ]);
    server.arg("--dir").arg(folder.path());
    let log = folder.path().join("log");
    let mut process = Process::start("redis-server", &mut server, &log, Signal::TERM);
    wait_for_port(&mut process, port).await;
    (Home::Installed(process, folder), port)
}
