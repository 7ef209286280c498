//! A real mail server (aiosmtpd) that keeps what it gets in a maildir.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::installed::PYTHON;
use crate::process::{Process, Signal, free_port, wait_for_port};

/// A mail server's place: its port is known before it runs, so that mail can be sent while it is down.
pub struct Smtp {
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl Smtp {
    /// A server that is down for now.
    ///
    /// # Panics
    /// When there is no room for its folder.
    #[must_use]
    pub fn down() -> Self {
        Self {
            port: free_port(),
            process: None,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it does not start, saying what is missing.
    pub async fn start(&mut self) {
        let mut server = Command::new(PYTHON);
        server.args([
            "-m",
            "aiosmtpd",
            "--nosetuid",
            "--class",
            "aiosmtpd.handlers.Mailbox",
        ]);
        server.arg(self.folder.path().join("maildir"));
        server.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        let log = self.folder.path().join("log");
        let mut process = Process::start("aiosmtpd", &mut server, &log, Signal::TERM);
        wait_for_port(&mut process, self.port).await;
        self.process = Some(process);
    }

    /// The mails that have arrived, whole, in no order.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("maildir/new")) else {
            return Vec::new();
        };
        entries
            .map(|entry| fs::read_to_string(entry.expect("a mail").path()).expect("text"))
            .collect()
    }
}
