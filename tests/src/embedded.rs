//! The embedded log on its own: in this process, or in one that can be killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use broker::{Broker, Config};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::installed::project;
use crate::process::{Process, Signal};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A log on a thread of its own. Dropped: shut down in order, its data gone.
pub struct Embedded {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Embedded {
    /// Starts one whose background work is frequent.
    ///
    /// # Panics
    /// When it cannot open.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(folder.path());
        config.upkeep_every = Duration::from_millis(300);
        let (stop, stopped) = oneshot::channel();
        let (opened, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let broker = Broker::open(config).await.expect("the log opens");
                opened
                    .send(broker.address())
                    .expect("the test waits for it");
                let stopped = async { stopped.await.unwrap_or(()) };
                broker.run(stopped).await.expect("the log closes");
            });
        });
        let address = address.recv().expect("the log opened");
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// The value for `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            assert!(std::thread::panicking(), "the log has panicked");
        }
    }
}

/// A log in a process of its own, on a folder and a port that it keeps when it is restarted.
pub struct LogProcess {
    folder: PathBuf,
    fsync: &'static str,
    port: u16,
    process: Process,
}

impl LogProcess {
    /// Starts one on `folder`; `fsync` is `always`, `never` or a number of milliseconds.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(folder: &Path, fsync: &'static str) -> Self {
        let (process, port) = begin(folder, fsync, 0).await;
        Self {
            folder: folder.to_owned(),
            fsync,
            port,
            process,
        }
    }

    /// The value for `bootstrap.servers`; the same after a restart.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The id of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        self.process.signal(Signal::INT);
        let ended = self.process.wait(READY_WITHIN);
        assert!(ended.is_some(), "the log does not end");
    }

    /// Ends it with no chance to write anything more.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn restart(&mut self) {
        (self.process, _) = begin(&self.folder, self.fsync, self.port).await;
    }

    /// All that the present process has logged.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// Starts the process and waits for the line that tells its address.
async fn begin(folder: &Path, fsync: &str, port: u16) -> (Process, u16) {
    let log = folder.with_extension("log");
    let _ = std::fs::remove_file(&log);
    let mut command = Command::new(binary());
    command.arg(folder).args([&port.to_string(), fsync]);
    let mut process = Process::start("the log", &mut command, &log, Signal::INT);
    let port = crate::eventually("the log is ready", READY_WITHIN, async || {
        if let Some(status) = process.ended() {
            panic!("the log ended at its start: {status}\n{}", process.output());
        }
        let output = process.output();
        let ready = output
            .lines()
            .find_map(|line| serde_json::from_str::<Value>(line).ok());
        let address = ready.and_then(|r| r["address"].as_str()?.parse::<SocketAddr>().ok());
        address.map(|a| a.port()).ok_or(output)
    })
    .await;
    (process, port)
}

/// The log's example program, in the profile of whoever asks: built by cargo when first asked for, which is quick
/// when it is up to date.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "broker",
            "--example",
            "broker",
        ]);
        command.arg("--message-format=json");
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        let output = command.current_dir(project()).output().expect("cargo runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the log does not build:\n{errors}");
        let messages = String::from_utf8_lossy(&output.stdout);
        let executable = messages.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            Some(PathBuf::from(message["executable"].as_str()?))
        });
        executable.expect("cargo names the program it built")
    })
}
