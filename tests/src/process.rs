//! A process that a test started, and its end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread::{self, panicking};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

const STEP: Duration = Duration::from_millis(20);
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// As much of a log as a failed test shows.
const SHOWN_LINES: usize = 80;

/// A running process whose output goes to a file. Stopped by its id when dropped; the end of its log is shown when
/// that happens because a test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stop: Signal,
}

impl Process {
    /// Starts `command` with its output appended to `log`; `stop` is the signal that ends it in order.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, log: &Path, stop: Signal) -> Self {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let errors = output.try_clone().expect("the log file twice");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
            stop,
        }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).expect("a signal to a child of ours");
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child of ours")
    }

    /// Waits for its end, but no longer than `within`.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let steps = within.as_millis() / STEP.as_millis();
        for _ in 0..steps {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            thread::sleep(STEP);
        }
        self.ended()
    }

    /// Ends it without a chance to do anything about it.
    pub fn kill9(&mut self) {
        self.child.kill().expect("kill a child of ours");
        self.child.wait().expect("the end of a child of ours");
    }

    /// All that it has written so far; nothing, when its log is gone.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[expect(
        clippy::print_stderr,
        reason = "the test's runner shows this when the test fails"
    )]
    fn show(&self) {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        eprintln!(
            "--- the end of what {} wrote ---\n{}\n---",
            self.name,
            shown.join("\n")
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.stop);
        if self.wait(STOP_PATIENCE).is_none() {
            self.kill9();
        }
        if panicking() {
            self.show();
        }
    }
}

/// Time of a process on the processor so far, as user and as kernel.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn cpu_time(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("/proc");
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Duration::from_secs_f64((ticks(11) + ticks(12)) as f64 / per_second)
}

/// What a process holds in memory, in MiB.
///
/// # Panics
/// When there is no such process, or it has ended.
#[must_use]
pub fn resident_mib(id: u32) -> f64 {
    resident_mib_unless_ended(id).expect("VmRSS")
}

/// As [`resident_mib`]; `None` when it has ended and nobody has asked how.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn resident_mib_unless_ended(id: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Some(kib? / 1024.0)
}

/// A port of this machine that nobody listens on at the moment, and that nobody else was given by this process.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let mut given = GIVEN.lock().expect("nobody panics with it");
        if given.insert(port) {
            return port;
        }
    }
}

/// Waits until somebody listens on `port`.
///
/// # Panics
/// When `process` ends first, or nobody does within a minute.
pub async fn wait_for_port(process: &mut Process, port: u16) {
    let name = process.name.clone();
    crate::eventually(&name, Duration::from_secs(60), async || {
        if let Some(status) = process.ended() {
            panic!("{} ended at its start: {status}", process.name);
        }
        reach(port).map(drop).map_err(|error| error.to_string())
    })
    .await;
}

fn reach(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
}
