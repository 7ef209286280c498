//! An S3 server of a test's own: Versity's gateway, which keeps each bucket as a folder and each object as a file.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::installed::{program, project};
use crate::process::{Process, Signal, free_port, wait_for_port};

const ACCESS_KEY_ID: &str = "weir";
const SECRET_ACCESS_KEY: &str = "only-for-tests";

/// A running server with one bucket. Dropped: stopped, its data gone.
pub struct S3 {
    process: Process,
    folder: TempDir,
    port: u16,
}

impl S3 {
    /// The bucket that it has from the start.
    pub const BUCKET: &str = "weir";

    /// Starts one.
    ///
    /// # Panics
    /// When it is not installed, with what to do.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["buckets", "described"] {
            std::fs::create_dir(folder.path().join(part)).expect("a folder");
        }
        std::fs::create_dir(folder.path().join("buckets").join(Self::BUCKET)).expect("a bucket");
        let port = free_port();
        let process = begin(&folder, port).await;
        Self {
            process,
            folder,
            port,
        }
    }

    /// Ends it: whoever asks it anything finds nobody.
    pub fn stop(&mut self) {
        self.process.kill9();
    }

    /// Starts it again where it was, with what it had.
    pub async fn start_again(&mut self) {
        self.process = begin(&self.folder, self.port).await;
    }

    /// How a weir reaches it with the right key: a section of its configuration.
    #[must_use]
    pub fn section(&self) -> String {
        self.section_with(SECRET_ACCESS_KEY)
    }

    /// The same with this secret.
    #[must_use]
    pub fn section_with(&self, secret: &str) -> String {
        let port = self.port;
        format!(
            "[aggregator.s3]\nendpoint = \"http://127.0.0.1:{port}\"\n\
             access_key_id = \"{ACCESS_KEY_ID}\"\nsecret_access_key = \"{secret}\"\n"
        )
    }

    /// The folder in which the bucket's objects lie.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join("buckets").join(Self::BUCKET)
    }
}

async fn begin(folder: &TempDir, port: u16) -> Process {
    let mut server = Command::new(program("versitygw", &[project().join(".cache/bin")]));
    server.args(["--port", &format!("127.0.0.1:{port}")]);
    server.args(["--access", ACCESS_KEY_ID, "--secret", SECRET_ACCESS_KEY]);
    // What it knows about objects beside them: not every file system keeps that with a file.
    let described = folder.path().join("described");
    server
        .args(["--quiet", "posix", "--sidecar"])
        .arg(described);
    server.arg(folder.path().join("buckets"));
    let log = folder.path().join("log");
    let mut process = Process::start("versitygw", &mut server, &log, Signal::TERM);
    wait_for_port(&mut process, port).await;
    process
}
