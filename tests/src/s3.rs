//! An S3 server of a test's own: Versity's gateway, which keeps each bucket as a folder and each object as a file.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::certificates::{Identity, Valid};
use crate::installed::{program, project};
use crate::process::{Process, Signal, free_port, wait_for_port};

pub(crate) const ACCESS_KEY_ID: &str = "weir";
pub(crate) const SECRET_ACCESS_KEY: &str = "only-for-tests";
/// Names of certificates' files.
const AUTHORITY: &str = "authority";
const SERVER: &str = "server";

/// A running server with one bucket. Dropped: stopped, its data gone.
pub struct S3 {
    process: Process,
    folder: TempDir,
    port: u16,
    is_secure: bool,
}

impl S3 {
    /// The bucket that it has from the start.
    pub const BUCKET: &str = "weir";

    /// Starts one.
    ///
    /// # Panics
    /// When it is not installed, with what to do.
    pub async fn start() -> Self {
        Self::start_as(false).await
    }

    /// As [`S3::start`], one that speaks TLS, with a certificate that [`S3::authority`] vouches for.
    pub async fn start_secure() -> Self {
        Self::start_as(true).await
    }

    async fn start_as(is_secure: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["buckets", "described"] {
            std::fs::create_dir(folder.path().join(part)).expect("a folder");
        }
        std::fs::create_dir(folder.path().join("buckets").join(Self::BUCKET)).expect("a bucket");
        if is_secure {
            let authority = Identity::authority("S3 test authority");
            authority.write(folder.path(), AUTHORITY);
            authority
                .sign("s3", Valid::Now)
                .write(folder.path(), SERVER);
        }
        let port = free_port();
        let process = begin(&folder, port, is_secure).await;
        Self {
            process,
            folder,
            port,
            is_secure,
        }
    }

    /// Ends it: whoever asks it anything finds nobody.
    pub fn stop(&mut self) {
        self.process.kill9();
    }

    /// Starts it again where it was, with what it had.
    pub async fn start_again(&mut self) {
        self.process = begin(&self.folder, self.port, self.is_secure).await;
    }

    /// How a weir reaches it with the right key: a section of its configuration.
    #[must_use]
    pub fn section(&self) -> String {
        self.section_with(SECRET_ACCESS_KEY)
    }

    /// The same with this secret.
    #[must_use]
    pub fn section_with(&self, secret: &str) -> String {
        let server = self.server_section();
        format!("{server}access_key_id = \"{ACCESS_KEY_ID}\"\nsecret_access_key = \"{secret}\"\n")
    }

    /// The same without a key.
    #[must_use]
    pub fn server_section(&self) -> String {
        let port = self.port;
        let (scheme, ca) = match self.is_secure {
            true => (
                "https",
                format!("ca = \"{}\"\n", self.authority().display()),
            ),
            false => ("http", String::new()),
        };
        format!("[aggregator.s3]\nendpoint = \"{scheme}://127.0.0.1:{port}\"\n{ca}")
    }

    /// The certificate of who signed the server's, where it has one.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join(format!("{AUTHORITY}.pem"))
    }

    /// The folder in which the bucket's objects lie.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join("buckets").join(Self::BUCKET)
    }
}

async fn begin(folder: &TempDir, port: u16, is_secure: bool) -> Process {
    let mut server = Command::new(program("versitygw", &[project().join(".cache/bin")]));
    server.args(["--port", &format!("127.0.0.1:{port}")]);
    server.args(["--access", ACCESS_KEY_ID, "--secret", SECRET_ACCESS_KEY]);
    if is_secure {
        let file = |ending: &str| folder.path().join(format!("{SERVER}.{ending}"));
        server.arg("--cert").arg(file("pem"));
        server.arg("--key").arg(file("key"));
    }
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
